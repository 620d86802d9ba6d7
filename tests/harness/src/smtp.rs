//! A real mail server in a process of its own: `aiosmtpd`, which `cargo xtask test` fetches. It keeps what it takes in a
//! mail box that tests read.

use std::{fs, net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use gantry::{config::Config, mail::Tls};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};

use crate::guests;

/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mail server on a port of its own. It ends with the test.
pub struct SmtpServer {
    pub port: u16,
    dir: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    /// With all headers.
    pub whole: String,
}

impl SmtpServer {
    /// A server that takes mail for everybody. Nothing if `cargo xtask test` could not get the program and has said so.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more options of the command line.
    pub async fn start_with(options: &[&str]) -> Option<Self> {
        program()?;
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut server = Self {
            port,
            dir: tempfile::tempdir().expect("a temporary folder"),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            child: None,
        };
        server.go_on().await;
        Some(server)
    }

    /// Starts the server (again), at the same address and with the same mail box.
    pub async fn go_on(&mut self) {
        let address = format!("127.0.0.1:{}", self.port);
        let child = Command::new(program().expect("it was there before"))
            .args(["-m", "aiosmtpd", "--nosetuid", "--listen", &address])
            .args(&self.options)
            .args(["--class", "aiosmtpd.handlers.Mailbox"])
            .arg(self.mail_box())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the interpreter is an executable");
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(&address).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the mail server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the server, whatever it is doing.
    pub async fn die(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ran");
        }
    }

    /// Lets a host send its mail here, and not wait long where people would.
    pub fn serve(&self, config: &mut Config) {
        config.mail.server = "127.0.0.1".to_owned();
        config.mail.port = self.port;
        config.mail.tls = Tls::None;
        config.mail.from = "Example <noreply@example.com>".to_owned();
        config.mail.retry_first_ms = 50;
        config.mail.retry_max_ms = 400;
    }

    /// Everything that has arrived so far.
    pub fn arrived(&self) -> Vec<Mail> {
        let Ok(files) = fs::read_dir(self.mail_box().join("new")) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        // `{seconds}.M{microseconds}P{process}Q{count}.{host}`, where microseconds have no leading zeros.
        files.sort_by_key(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let count = name.split_once('Q').map(|(_, rest)| rest.to_owned());
            count.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok())
        });
        let texts = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        texts.map(read).collect()
    }

    /// Everything that has arrived, as soon as there are so many.
    pub async fn wait_for(&self, count: usize) -> Vec<Mail> {
        let began = Instant::now();
        loop {
            let arrived = self.arrived();
            if arrived.len() >= count {
                return arrived;
            }
            let found = arrived.len();
            assert!(
                began.elapsed() < PATIENCE,
                "{found} of {count} messages arrived"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn mail_box(&self) -> PathBuf {
        self.dir.path().join("mail")
    }
}

impl Mail {
    /// The one-time code in it.
    pub fn code(&self) -> String {
        let (_, rest) = self.whole.split_once("gc_").expect("a code");
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c));
        format!("gc_{}", rest.split(is_end).next().unwrap_or_default())
    }
}

fn read(whole: String) -> Mail {
    let whole = match whole.contains("Content-Transfer-Encoding: quoted-printable") {
        true => readable(&whole),
        false => whole,
    };
    let header = |name: &str| {
        let line = whole.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    Mail {
        to: header("To:"),
        subject: header("Subject:"),
        whole,
    }
}

/// Quoted-printable, undone (RFC 2045, section 6.7); our texts are ASCII.
fn readable(text: &str) -> String {
    let text = text.replace("=\r\n", "").replace("=\n", "");
    let mut parts = text.split('=');
    let mut readable = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                readable.push(char::from(byte));
                readable.push_str(&part[2..]);
            }
            None => {
                readable.push('=');
                readable.push_str(part);
            }
        }
    }
    readable
}

/// Where the interpreter is that has the program. Tests that need it are left out only if that was said aloud.
fn program() -> Option<PathBuf> {
    const NAME: &str = "aiosmtpd";
    if guests::is_without(NAME) {
        return None;
    }
    let program = guests::root().join("target/tools/smtp/bin/python");
    assert!(
        program.exists(),
        "{NAME} is missing; `cargo xtask test` fetches it"
    );
    Some(program)
}
