//! A real S3-compatible server (`s3s-fs`: signatures of version 4, the protocol's XML, objects in a folder), which can be out of
//! reach for a while.

use std::{
    net::{Ipv4Addr, TcpListener as StdListener},
    path::PathBuf,
};

use gantry::services::blobs::{Config, S3Config, StoreKind};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

const ACCESS_KEY: &str = "GANTRYTEST";
const SECRET_KEY: &str = "not/a/secret+only/for/tests";
const BUCKET: &str = "files";

/// A server on a port of its own. It ends with the test.
pub struct S3Server {
    port: u16,
    dir: TempDir,
    service: S3Service,
    serving: Option<JoinHandle<()>>,
}

impl S3Server {
    /// A server with an empty bucket.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a bucket");
        let files = s3s_fs::FileSystem::new(dir.path()).expect("a folder for objects");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let free = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut server = Self {
            port: free.local_addr().expect("an address").port(),
            dir,
            service: service.build(),
            serving: None,
        };
        drop(free);
        server.go_on().await;
        server
    }

    /// Settings that keep files here. What fails is told soon.
    pub fn config(&self) -> Config {
        Config {
            store: StoreKind::S3,
            s3: S3Config {
                endpoint: format!("http://127.0.0.1:{}", self.port),
                bucket: BUCKET.to_owned(),
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned().into(),
                timeout_ms: 5000,
                retries_max: 1,
                ..S3Config::default()
            },
            ..Config::default()
        }
    }

    /// Where the bucket's objects lie.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }

    /// Cuts all connections and takes no more.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Takes connections again, on the same port.
    pub async fn go_on(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await;
        let listener = listener.expect("the port that was free");
        let service = self.service.clone();
        let serve = async move {
            // Goes with this task, and all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    return;
                };
                let service = service.clone();
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the server, which is aborted"
        )]
        let serving = tokio::spawn(serve);
        self.serving = Some(serving);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}
