//! Figures over HTTP.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;

use crate::{Figures, median};

/// One server in a process of its own. It ends with this.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(name: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program)
            .args(["serve", name])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().context("a server without output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        anyhow::ensure!(
            !address.trim().is_empty(),
            "the server `{name}` did not start"
        );
        Ok(Self {
            process,
            address: address.trim().to_owned(),
        })
    }

    /// Processor time used so far, in seconds.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))
            .unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        // utime and stime; a tick is 10 ms on every Linux this runs on.
        (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a lane posts.
#[derive(Clone, Copy)]
enum Post {
    /// A small JSON object.
    Name,
    /// 100 KB.
    Large,
}

/// What is asked of which server.
struct Lane {
    name: &'static str,
    server: usize,
    path: &'static str,
    /// What is posted; nothing means GET.
    body: Option<Post>,
    per_s: Vec<f64>,
    cpu_us: Vec<f64>,
}

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let (name, large) = (
        greet_script()?,
        script(
            "wrk.body = string.rep(\"x\", 100000)",
            "application/octet-stream",
        )?,
    );
    let servers = ["native", "gateway", "gantry"].map(Server::start);
    let servers: Vec<Server> = servers.into_iter().collect::<Result<_, _>>()?;
    let lane = |name, server, path, body| Lane {
        name,
        server,
        path,
        body,
        per_s: Vec::new(),
        cpu_us: Vec::new(),
    };
    let mut lanes = [
        lane("native", 0, "/bench/greet", Some(Post::Name)),
        lane(
            "gateway, native handler",
            1,
            "/bench/greet",
            Some(Post::Name),
        ),
        lane("plugin", 2, "/bench/greet", Some(Post::Name)),
        lane("wasi:http 0.2", 2, "/wasi/hello", None),
        lane("wasi:http 0.3", 2, "/wasi03/hello", None),
        lane(
            "native, 100 KB there and back",
            0,
            "/bench/echo",
            Some(Post::Large),
        ),
        lane(
            "plugin, 100 KB there and back",
            2,
            "/bench/echo",
            Some(Post::Large),
        ),
    ];
    let mut errors = 0.0;
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        for lane in &mut lanes {
            let server = &servers[lane.server];
            let before = server.cpu_s();
            let run = wrk_run(
                &format!("http://{}{}", server.address, lane.path),
                round,
                lane.body.map(|body| match body {
                    Post::Name => name.path(),
                    Post::Large => large.path(),
                }),
            )?;
            errors += run.errors;
            if index > 0 {
                lane.per_s.push(run.per_s);
                lane.cpu_us
                    .push((server.cpu_s() - before) * 1e6 / run.requests.max(1.0));
            }
        }
    }
    println!(
        "{:<32} {:>10} {:>24}",
        "", "requests/s", "server CPU µs/request"
    );
    let mut medians = Vec::new();
    for lane in &lanes {
        let (per_s, cpu_us) = (median(lane.per_s.clone()), median(lane.cpu_us.clone()));
        println!("{:<32} {per_s:>10.0} {cpu_us:>24.2}", lane.name);
        medians.push(per_s);
    }
    // The ratio of each round, because the machine's speed drifts between rounds.
    let ratio = |of: usize, to: usize| {
        median(
            lanes[of]
                .per_s
                .iter()
                .zip(&lanes[to].per_s)
                .map(|(of, to)| of / to)
                .collect(),
        )
    };
    figures.insert("http.fast.per_s".to_owned(), medians[2]);
    figures.insert("http.native.per_s".to_owned(), medians[0]);
    figures.insert("http.fast.ratio_to_native".to_owned(), ratio(2, 0));
    figures.insert("http.fast.ratio_to_gateway".to_owned(), ratio(2, 1));
    figures.insert("http.wasi02.ratio_to_native".to_owned(), ratio(3, 0));
    figures.insert("http.wasi03.ratio_to_native".to_owned(), ratio(4, 0));
    figures.insert("body_100kb.ratio_to_native".to_owned(), ratio(6, 5));
    figures.insert("errors".to_owned(), errors);
    Ok(())
}

/// A script that makes `wrk` post what the handler of the benchmarks expects.
pub(crate) fn greet_script() -> anyhow::Result<tempfile::NamedTempFile> {
    script("wrk.body = '{\"name\":\"gantry\"}'", "application/json")
}

/// A script that makes `wrk` post this.
pub(crate) fn script(body: &str, content_type: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    let text = format!(
        "wrk.method = \"POST\"\n{body}\nwrk.headers[\"content-type\"] = \"{content_type}\"\n"
    );
    std::fs::write(file.path(), text)?;
    Ok(file)
}

/// What `wrk` told.
pub(crate) struct Run {
    pub(crate) per_s: f64,
    requests: f64,
    pub(crate) errors: f64,
}

/// One run of `wrk` with one thread and 32 connections.
pub(crate) fn wrk_run(
    url: &str,
    round: Duration,
    script: Option<&std::path::Path>,
) -> anyhow::Result<Run> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c32", &format!("-d{}s", round.as_secs())]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str| {
        line.split_whitespace()
            .find_map(|word| word.trim_end_matches(',').parse::<f64>().ok())
    };
    let line = |needle: &str| text.lines().find(|line| line.contains(needle));
    let per_s = line("Requests/sec")
        .and_then(number)
        .context("wrk reported no rate")?;
    let requests = line("requests in").and_then(number).unwrap_or(0.0);
    let mut errors = line("Non-2xx")
        .and_then(|line| line.rsplit(':').next()?.trim().parse().ok())
        .unwrap_or(0.0);
    if let Some(sockets) = line("Socket errors") {
        errors += sockets.split(',').filter_map(number).sum::<f64>();
    }
    Ok(Run {
        per_s,
        requests,
        errors,
    })
}
