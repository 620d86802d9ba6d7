//! A real registry in a process of its own: Debian's `docker-registry`, which `cargo xtask test` finds or fetches.

use std::{fs, net::SocketAddr, path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::guests;

/// A registry on a free port, with nothing in it. It ends with the test.
pub struct OciRegistry {
    pub address: SocketAddr,
    dir: TempDir,
    _child: Child,
}

impl OciRegistry {
    /// A registry that everybody may use. Nothing if `cargo xtask test` could not get the program and has said so.
    pub async fn start() -> Option<Self> {
        Self::start_with("", &[]).await
    }

    /// A registry with these settings more, and these files beside them; `DIR` in the settings stands for their folder.
    pub async fn start_with(settings: &str, files: &[(&str, &str)]) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().display().to_string();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {path}/storage\n\
             http:\n  addr: 127.0.0.1:0\n{}\n",
            settings.replace("DIR", &path)
        );
        fs::write(dir.path().join("config.yml"), text).expect("a file");
        let mut child = Command::new(program)
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the registry is an executable");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut log = String::new();
        let address = loop {
            let Ok(Some(line)) = lines.next_line().await else {
                panic!("the registry does not start:\n{log}");
            };
            log.push_str(&line);
            log.push('\n');
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split('"').next().unwrap_or_default();
                break address.parse().expect("an address");
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the pipe")]
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self {
            address,
            dir,
            _child: child,
        })
    }

    /// Where something with this name and tag is: `oci://…`.
    pub fn place(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.address)
    }

    /// The file in which the registry keeps a blob.
    pub fn blob_file(&self, hex: &str) -> PathBuf {
        let blobs = "storage/docker/registry/v2/blobs/sha256";
        self.dir
            .path()
            .join(format!("{blobs}/{}/{hex}/data", &hex[..2]))
    }
}

/// Where the program is. Tests that need it are left out only if that was said aloud.
fn program() -> Option<PathBuf> {
    const NAME: &str = "docker-registry";
    if guests::is_without(NAME) {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = guests::root().join("target/tools/usr/bin");
    let found = std::env::split_paths(&path)
        .chain([fetched])
        .map(|folder| folder.join(NAME))
        .find(|program| program.is_file());
    assert!(
        found.is_some(),
        "{NAME} is missing; `cargo xtask test` fetches it, or install it"
    );
    found
}
