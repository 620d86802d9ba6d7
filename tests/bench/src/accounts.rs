//! Figures of accounts: how many refresh tokens a host exchanges in a second, over HTTP, with every exchange written to the
//! disk before it is answered.

use std::{
    net::SocketAddr,
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

use crate::{Figures, median, servers};

/// Clients that exchange at the same time, each with a session and a connection of its own.
const CLIENTS: usize = 64;
const PASSWORD: &str = "correct horse battery";

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
        let email = "ann@example.com".to_owned();
        let password = PASSWORD.to_owned();
        let new = NewUser {
            email,
            password,
            roles: Vec::new(),
        };
        app.auth.create_user(new).await?;
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
    })
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
    async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<()> {
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
        Ok(())
    }
}
