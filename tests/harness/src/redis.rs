//! A real shared server in a process of its own: Debian's `redis-server`, which `cargo xtask test` finds or fetches.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use gantry::config::Config;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

use crate::guests;

const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "redis-server";

/// A server on a port of its own, which keeps nothing when it dies. It ends with the test.
pub struct RedisServer {
    pub port: u16,
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// A server that takes everybody. Nothing if `cargo xtask test` could not get the program and has said so.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more options of the command line. `PORT` in them stands for its port, and `--port 0` among them for no
    /// port without TLS.
    pub async fn start_with(options: &[&str]) -> Option<Self> {
        program()?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut server = Self {
            port,
            dir: tempfile::tempdir().expect("a temporary folder"),
            options: options
                .iter()
                .map(|option| option.replace("PORT", &port.to_string()))
                .collect(),
            child: None,
        };
        server.go_on().await;
        Some(server)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Lets a host use it.
    pub fn serve(&self, config: &mut Config) {
        config.cluster.redis_url = self.url().into();
    }

    /// Starts the server (again), at the same address and with nothing in it.
    pub async fn go_on(&mut self) {
        let (program, libraries) = program().expect("it was there before");
        let mut command = Command::new(program);
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        if !self.options.iter().any(|option| option == "--port") {
            command.args(["--port", &self.port.to_string()]);
        }
        let child = command
            .args(&self.options)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server is an executable");
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .is_err()
        {
            assert!(began.elapsed() < PATIENCE, "{NAME} does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it with `SIGKILL`, with everything in it.
    pub async fn die(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ran");
        }
    }

    /// Stops it without ending it: connections stay, and nothing answers.
    pub async fn hang(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on after [`RedisServer::hang`].
    pub async fn wake(&self) {
        self.signal("CONT").await;
    }

    /// Empties it.
    pub async fn flush_all(&self) {
        self.run(&["FLUSHALL"]).await;
    }

    /// Runs one command, and gives the beginning of the answer as it comes over the wire.
    pub async fn run(&self, words: &[&str]) -> String {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        let mut stream = TcpStream::connect(address)
            .await
            .expect("a server that runs");
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let sent = stream.write_all(command.as_bytes()).await;
        sent.expect("a server that takes commands");
        let mut answer = vec![0; 64 << 10];
        let length = stream.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    async fn signal(&self, name: &str) {
        let id = self.child.as_ref().and_then(Child::id);
        let id = id.expect("a process that runs").to_string();
        let signal = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(signal.await.expect("`kill` is there").success());
    }
}

/// Where the program is, and where its libraries are if it is not installed. Tests that need it are left out only if that
/// was said aloud.
fn program() -> Option<(PathBuf, Option<PathBuf>)> {
    if guests::is_without(NAME) {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .map(|folder| folder.join(NAME))
        .find(|program| program.is_file());
    if let Some(program) = installed {
        return Some((program, None));
    }
    let folder = guests::root().join("target/tools/redis/usr");
    let program = folder.join("bin").join(NAME);
    assert!(
        program.is_file(),
        "{NAME} is missing; `cargo xtask test` fetches it, or install it"
    );
    let mut libraries = fs::read_dir(folder.join("lib"))
        .expect("its libraries")
        .filter_map(|entry| Some(entry.ok()?.path()));
    let libraries = libraries.find(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    Some((program, libraries))
}
