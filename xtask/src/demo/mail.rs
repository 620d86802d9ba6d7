//! A mail server for `--mail`: the program that the tests send to. It delivers nothing and keeps letters in a folder.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::server;
use crate::smtp;

/// Longest time until it takes mail.
const START_MAX: Duration = Duration::from_secs(20);

/// A running mail server. Dropped, it is killed.
pub(super) struct Mail {
    child: Child,
    port: u16,
}

impl Mail {
    /// Fetches it, if it is not there, and starts it; letters come into `mail/new` of the data folder.
    pub(super) fn start(data: &Path) -> anyhow::Result<Self> {
        if !smtp::prepare() {
            bail!("without a mail server there is no `--mail`");
        }
        server::make_folder(data)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let child = Command::new(crate::root().join("target/tools/smtp/bin/python"))
            .args(["-m", "aiosmtpd", "--nosetuid", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .args(["--class", "aiosmtpd.handlers.Mailbox"])
            .arg(data.join("mail"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the mail server")?;
        let server = Self { child, port };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if began.elapsed() > START_MAX {
                bail!("the mail server takes no mail");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// The settings with which Gantry sends its mail here and lets people open accounts with it.
    pub(super) fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("GANTRY_MAIL__SERVER", "127.0.0.1".to_owned()),
            ("GANTRY_MAIL__PORT", self.port.to_string()),
            ("GANTRY_MAIL__TLS", "none".to_owned()),
            (
                "GANTRY_MAIL__FROM",
                "TechPlus <noreply@example.com>".to_owned(),
            ),
            ("GANTRY_AUTH__REGISTRATION", "confirmed".to_owned()),
        ]
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
