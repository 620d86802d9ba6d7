//! The server as a process: the executable that the tests use, too.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::api::Api;
use crate::guests;

/// Longest time until the server takes requests.
const START_MAX: Duration = Duration::from_secs(60);
/// Longest time until it has stopped: longer than requests in progress may go on.
const STOP_MAX: Duration = Duration::from_secs(45);

/// A running server. Dropped, it is killed.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    api: Api,
}

/// The executable, as `cargo build` left it.
pub(crate) fn command() -> Command {
    let mut command = Command::new(guests::target_folder().join("debug/gantry"));
    command.current_dir(crate::root());
    command
}

/// Makes the data folder before the server does, for its owner only, as the server would: others write there, too.
pub(super) fn make_folder(data: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)?;
    Ok(())
}

impl Server {
    /// Starts it with the demo's settings and these, and waits until it takes requests.
    pub(super) fn start(
        address: SocketAddr,
        data: &Path,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        make_folder(data)?;
        let child = command()
            .args([
                "serve",
                "--quiet",
                "--listen",
                &address.to_string(),
                "--config",
                "plugins/techplus/demo/gantry.toml",
                "--data-dir",
            ])
            .arg(data)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env("GANTRY_ACCESS_LOG__FILE", data.join("access.log"))
            .spawn()
            .context("cannot start the server")?;
        let mut server = Self {
            child,
            address,
            api: Api::new(address, String::new()),
        };
        server.wait_until_ready()?;
        let key =
            fs::read_to_string(data.join("admin.key")).context("reading the first start's key")?;
        server.api = Api::new(address, key.trim().to_owned());
        Ok(server)
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until somebody stops it.
    pub(super) fn wait(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            bail!("the server ended: {status}")
        }
    }

    /// Stops it as an operator would, and fails if it does not end well.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .context("stopping the server")?;
        let began = Instant::now();
        while began.elapsed() < STOP_MAX {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended: {status}"),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("the server did not stop within {} s", STOP_MAX.as_secs())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_MAX {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the server ended before it took requests: {status}; is {} taken?",
                    self.address
                );
            }
            if self
                .api
                .send("GET", "/readyz", &[], b"")
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the server was not ready after {} s", START_MAX.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
