//! Figures of accounts: how many refresh tokens a host exchanges in a second, over HTTP, with every exchange written to the
//! disk before it is answered; how many people log in, and what others feel of it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use gantry::{app::App, auth::NewUser};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{Figures, median, neighbour, servers};

/// Clients that exchange at the same time, each with a session and a connection of its own.
const CLIENTS: usize = 64;
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut config = servers::config(&dir);
        config.gateway.login_limit.limit = 1_000_000;
        config.gateway.refresh_limit.limit = 1_000_000_000;
        config.auth.sessions_per_user_max = 1_000;
        // Logging in is not what is measured.
        config.auth.argon2_memory_kib = 16;
        let app = Box::pin(App::start(config)).await?;
        app.auth.create_user(ann()).await?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::log_in(app.address).await?);
        }
        let mut per_s = Vec::new();
        // A first round warms everything up and is not counted.
        for index in 0..=rounds {
            let began = Instant::now();
            let exchanged = clients
                .iter_mut()
                .map(|client| client.exchange_until(began + round));
            let exchanged: usize = try_join_all(exchanged).await?.into_iter().sum();
            if index > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                per_s.push(exchanged as f64 / began.elapsed().as_secs_f64());
            }
        }
        figures.insert("auth.refresh.per_s".to_owned(), median(per_s));
        app.stop().await;
        anyhow::Ok(())
    })?;
    measure_logins(rounds, round, figures)
}

/// Clients that log in at the same time, one login after the other.
const LOGGING_IN: usize = 4;

/// Logins with passwords hashed as they are by default, while others call a plugin.
fn measure_logins(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let app = threads.block_on(async {
        let mut config = servers::config(&dir);
        config.gateway.login_limit.limit = 1_000_000;
        config.auth.sessions_per_user_max = 1_000;
        let app = Box::pin(App::start(config)).await?;
        let bench = servers::manifest("bench", "1.0.0");
        servers::deploy(&app, bench, servers::component("examples/bench")?).await?;
        app.auth.create_user(ann()).await?;
        anyhow::Ok(app)
    })?;
    let clients = tokio::runtime::Runtime::new()?;
    let (mut per_s, mut ratios) = (Vec::new(), Vec::new());
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let quiet = neighbour::p99_us(app.address, round, |_| Ok(()))?;
        let (began, logins) = (Instant::now(), AtomicUsize::new(0));
        let busy = neighbour::p99_us(app.address, round, |is_over| {
            let log_in = || async {
                while !is_over.load(Relaxed) {
                    Client::log_in(app.address).await?;
                    logins.fetch_add(1, Relaxed);
                }
                anyhow::Ok(())
            };
            let all = (0..LOGGING_IN).map(|_| log_in());
            clients.block_on(try_join_all(all)).map(drop)
        })?;
        if index > 0 {
            println!("p99: quiet {quiet:.0} µs, during logins {busy:.0} µs");
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            per_s.push(logins.into_inner() as f64 / began.elapsed().as_secs_f64());
            ratios.push(busy / quiet);
        }
    }
    figures.insert("auth.login.per_s".to_owned(), median(per_s));
    let name = "auth.neighbour_p99_ratio_during_logins";
    figures.insert(name.to_owned(), median(ratios));
    threads.block_on(app.stop());
    Ok(())
}

/// The access token of a login.
pub(crate) async fn access_token(address: SocketAddr, email: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut client = Client {
        connection: BufReader::new(stream),
        refresh_token: String::new(),
    };
    let login = json!({ "email": email, "password": PASSWORD });
    let answer = client.post("/api/auth/login", &login).await?;
    let token = answer["access_token"].as_str();
    Ok(token.context("a login without a token")?.to_owned())
}

fn ann() -> NewUser {
    NewUser {
        email: "ann@example.com".to_owned(),
        password: PASSWORD.to_owned(),
        roles: Vec::new(),
    }
}

/// Somebody who is logged in, on a connection that stays open.
struct Client {
    connection: BufReader<TcpStream>,
    refresh_token: String,
}

impl Client {
    async fn log_in(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            connection: BufReader::new(stream),
            refresh_token: String::new(),
        };
        let login = json!({ "email": "ann@example.com", "password": PASSWORD });
        client.post("/api/auth/login", &login).await?;
        Ok(client)
    }

    /// How many exchanges until then.
    async fn exchange_until(&mut self, end: Instant) -> anyhow::Result<usize> {
        let mut count = 0;
        while Instant::now() < end {
            let body = json!({ "refresh_token": self.refresh_token });
            self.post("/api/auth/refresh", &body).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Sends a request and keeps the refresh token of the answer.
    async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.connection
            .get_mut()
            .write_all(request.as_bytes())
            .await?;
        let (mut length, mut line, mut status) = (0, String::new(), String::new());
        loop {
            line.clear();
            if self.connection.read_line(&mut line).await? == 0 {
                bail!("the host closed the connection");
            }
            if status.is_empty() {
                status = line.trim().to_owned();
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.connection.read_exact(&mut answer).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer["refresh_token"].as_str();
        self.refresh_token = token
            .with_context(|| format!("{status}: {answer}"))?
            .to_owned();
        Ok(answer)
    }
}
