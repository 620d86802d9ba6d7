//! What a plugin feels of its neighbours: how long its slowest requests take while another plugin runs for ever, and while
//! components are compiled.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use gantry::app::App;

use crate::{Figures, median, servers};

/// Connections on which the neighbour is asked, and those of the plugin that runs for ever.
const ASKING: usize = 2;
const LOOPING: usize = 4;
/// More than a machine deploys of a large component in a second.
const DEPLOYED_PER_S_MAX: usize = 10;
/// Between two requests of one connection: the machine is not full of them, so that what is seen comes from others.
const PAUSE: Duration = Duration::from_micros(500);

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let app = threads.block_on(start(&dir))?;
    let (mut bomb, mut compile) = (Vec::new(), Vec::new());
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let quiet = p99_us(app.address, round, |_| Ok(()))?;
        let looping = p99_us(app.address, round, |is_over| {
            loop_bomb(app.address, is_over)
        })?;
        let bundles = large_bundles(index, round)?;
        let compiling = p99_us(app.address, round, |is_over| {
            threads.block_on(deploy_all(&app, bundles, is_over))
        })?;
        if index > 0 {
            println!(
                "p99: quiet {quiet:.0} µs, loop bomb {looping:.0} µs, compiling {compiling:.0} µs"
            );
            bomb.push(looping / quiet);
            compile.push(compiling / quiet);
        }
    }
    let (bomb, compile) = (median(bomb), median(compile));
    figures.insert("neighbour.p99_ratio.loop_bomb".to_owned(), bomb);
    figures.insert("neighbour.p99_ratio.compile".to_owned(), compile);
    figures.insert("neighbour.p99_ratio".to_owned(), bomb.max(compile));
    threads.block_on(app.stop());
    Ok(())
}

/// A host with the plugin of the benchmarks on `/bench` and one on `/bomb` that never returns. Calls are not kept away from
/// it, as they would be: this is about what they do.
async fn start(dir: &tempfile::TempDir) -> anyhow::Result<App> {
    let mut config = servers::config(dir);
    config.plugins.breaker.enabled = false;
    let app = App::start(config).await?;
    let bench = servers::manifest("bench", "1.0.0");
    servers::deploy(&app, bench, servers::component("examples/bench")?).await?;
    let bomb = "schema = 1\n[plugin]\nname = \"bomb\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                [[route]]\nmethod = \"GET\"\npath = \"/\"\nauth = \"public\"\n";
    let component = servers::component("examples/loop_handler")?;
    servers::deploy(&app, bomb.to_owned(), component).await?;
    Ok(app)
}

/// The time within which 99 of 100 requests are answered, while `others` goes on until it is told that it is over.
pub(crate) fn p99_us(
    address: SocketAddr,
    round: Duration,
    others: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send,
) -> anyhow::Result<f64> {
    let is_over = AtomicBool::new(false);
    let mut taken = std::thread::scope(|scope| -> anyhow::Result<Vec<f64>> {
        let others = scope.spawn(|| others(&is_over));
        let asking: Vec<_> = (0..ASKING)
            .map(|_| scope.spawn(|| ask_for(address, round)))
            .collect();
        let mut taken = Vec::new();
        let mut failed = None;
        for asking in asking {
            match joined(asking.join()) {
                Ok(times) => taken.extend(times),
                Err(error) => failed = Some(error),
            }
        }
        is_over.store(true, Relaxed);
        joined(others.join())?;
        failed.map_or(Ok(taken), Err)
    })?;
    taken.sort_by(f64::total_cmp);
    let p99 = taken.get(taken.len() * 99 / 100);
    p99.copied().context("nothing was asked")
}

pub(crate) fn joined<T>(result: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
}

/// Asks one after the other on one connection. The microseconds that each took.
fn ask_for(address: SocketAddr, round: Duration) -> anyhow::Result<Vec<f64>> {
    let mut connection = Connection::open(address)?;
    let (began, mut taken) = (Instant::now(), Vec::new());
    let request =
        b"POST /bench/greet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                    content-length: 17\r\n\r\n{\"name\":\"gantry\"}";
    while began.elapsed() < round {
        let asked = Instant::now();
        let status = connection.ask(request)?;
        ensure!(status == 200, "the neighbour answered {status}");
        taken.push(asked.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(PAUSE);
    }
    Ok(taken)
}

/// Calls the plugin that never returns, again and again.
fn loop_bomb(address: SocketAddr, is_over: &AtomicBool) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let call = || -> anyhow::Result<()> {
            let mut connection = Connection::open(address)?;
            while !is_over.load(Relaxed) {
                let status = connection.ask(b"GET /bomb/ HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
                ensure!(status >= 500, "the loop answered {status}");
            }
            Ok(())
        };
        let calls: Vec<_> = (0..LOOPING).map(|_| scope.spawn(call)).collect();
        calls.into_iter().try_for_each(|call| joined(call.join()))
    })
}

/// Bundles of a large component that was never compiled before, more than a round can take. They are made before it: who
/// deploys makes them on a machine of their own.
fn large_bundles(index: usize, round: Duration) -> anyhow::Result<Vec<Bytes>> {
    let manifest = "schema = 1\n[plugin]\nname = \"large\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [[route]]\nmethod = \"GET\"\npath = \"/\"\nauth = \"public\"\n\
                    [capabilities]\nsql = [\"main\"]\n";
    let component = servers::component("techplus")?;
    let count = DEPLOYED_PER_S_MAX * round.as_secs_f64().ceil() as usize;
    (0..count)
        .map(|number| {
            let own = servers::own_component(&component, index * count + number)?;
            servers::pack(manifest, &own)
        })
        .collect()
}

/// Deploys one after the other.
async fn deploy_all(app: &App, bundles: Vec<Bytes>, is_over: &AtomicBool) -> anyhow::Result<()> {
    for bundle in bundles {
        if is_over.load(Relaxed) {
            return Ok(());
        }
        servers::upload(app, bundle).await?;
    }
    anyhow::ensure!(is_over.load(Relaxed), "there were too few bundles");
    Ok(())
}

/// One connection of HTTP/1.1 that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    /// Sends a request and reads the whole answer. Its status.
    fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.get_mut().write_all(request)?;
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the host hung up");
            let head = line.trim_end().to_ascii_lowercase();
            if head.is_empty() {
                break;
            }
            if let Some(rest) = head.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap_or_default().parse()?;
            } else if let Some(rest) = head.strip_prefix("content-length:") {
                length = rest.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(status)
    }
}
