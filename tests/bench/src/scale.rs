//! Figures of hosts with many plugins: how long they take to start, what they take of the memory, and whether the number of
//! routes is felt. Every plugin has a component of its own, because plugins that share one share its code, too.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::{TryStreamExt as _, stream};
use gantry::app::App;
use tempfile::TempDir;

use crate::{Figures, load, median, servers};

const ROUTES_PER_PLUGIN: usize = 10;
/// Starts of which the median is told.
const STARTS: usize = 5;
/// Deployments under way at once.
const AT_ONCE: usize = 4;
/// Longest time until a host is ready.
const START_MAX: Duration = Duration::from_secs(120);

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let (one, hundred, thousand) = (filled(1)?, filled(100)?, filled(1000)?);

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let _host = Host::start(&hundred)?;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
    }
    figures.insert("cold_start.ms.100_plugins".to_owned(), median(starts));

    let (few, many) = (Host::start(&one)?, Host::start(&thousand)?);
    figures.insert("idle.rss_mb.1_plugin".to_owned(), few.rss_mb()?);
    figures.insert("idle.rss_mb.1000_plugins".to_owned(), many.rss_mb()?);

    let greet = load::greet_script()?;
    let mut ratios = Vec::new();
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let per_s = |host: &Host, plugin: usize| {
            let url = format!("http://{}/p{plugin}/greet", host.address);
            load::wrk_run(&url, round, Some(greet.path()))
        };
        let (few, many) = (per_s(&few, 0)?, per_s(&many, 500)?);
        if few.errors + many.errors > 0.0 {
            bail!("not every request was answered");
        }
        if index > 0 {
            ratios.push(many.per_s / few.per_s);
        }
    }
    figures.insert("routes.ratio.10000_to_10".to_owned(), median(ratios));
    Ok(())
}

/// A data directory in which so many plugins are live and compiled.
fn filled(plugins: usize) -> anyhow::Result<TempDir> {
    let dir = tempfile::tempdir()?;
    let component = servers::component("examples/bench")?;
    let began = Instant::now();
    tokio::runtime::Runtime::new()?.block_on(async {
        let app = App::start(servers::config(&dir)).await?;
        stream::iter((0..plugins).map(anyhow::Ok))
            .try_for_each_concurrent(AT_ONCE, async |number| {
                let component = servers::own_component(&component, number)?;
                servers::deploy(&app, manifest(number), component).await?;
                Ok(())
            })
            .await?;
        app.stop().await;
        anyhow::Ok(())
    })?;
    println!(
        "{plugins} plugins compiled and deployed in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(dir)
}

fn manifest(number: usize) -> String {
    let mut text = servers::manifest(&format!("p{number}"), "1.0.0");
    let others = ROUTES_PER_PLUGIN - text.matches("[[route]]").count();
    for route in 0..others {
        text.push_str(&format!(
            "[[route]]\nmethod = \"GET\"\npath = \"/r{route}/{{id}}\"\nauth = \"public\"\n"
        ));
    }
    text
}

/// `gantry serve` on a data directory, ready to answer. It ends with this.
struct Host {
    process: Child,
    address: SocketAddr,
}

impl Host {
    fn start(dir: &TempDir) -> anyhow::Result<Self> {
        // A port that is free now; nobody else takes it in the moment until the host does.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let program = std::env::current_exe()?.with_file_name("gantry");
        let process = Command::new(&program)
            .args(["serve", "--quiet", "--listen", &address.to_string()])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .env("GANTRY_ACCESS_LOG__FILE", dir.path().join("access.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut host = Self { process, address };
        let began = Instant::now();
        while !host.is_ready() {
            if let Some(status) = host.process.try_wait()? {
                bail!("the host ended: {status}");
            }
            if began.elapsed() > START_MAX {
                bail!("the host is not ready after {START_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(host)
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.write_all(
                b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// What it takes of the memory, in 10⁶ bytes, before anybody has called a plugin.
    fn rss_mb(&self) -> anyhow::Result<f64> {
        // What the start needed for a moment is given back.
        std::thread::sleep(Duration::from_secs(2));
        let status = Path::new("/proc").join(self.process.id().to_string());
        let status = std::fs::read_to_string(status.join("status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: f64 = kib.context("no VmRSS")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
