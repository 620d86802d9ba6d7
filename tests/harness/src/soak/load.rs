//! What clients do: of each kind one goes on until the round is over.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Round, Tally, ask::Ask};
use crate::{Client, guests::has_extism_examples};

/// What each kind of client asks, one after the other.
pub(super) fn kinds() -> Vec<Vec<Ask>> {
    const MIB: usize = 1 << 20;
    const TRAP: &[&str] = &["502 plugin.trapped"];
    let mut all = vec![
        vec![
            Ask::get("swap-a", "/"),
            Ask::get("swap-b", "/x/{n}"),
            Ask::get("plain", "/{n}"),
        ],
        vec![
            Ask::post("kv-a", "/pages/p{n}/visits", ""),
            Ask::post("kv-b", "/pages/p{n}/visits", ""),
            Ask::get("kv-a", "/pages"),
        ],
        vec![
            Ask::get("techplus", "/restaurants"),
            Ask::get("sql", "/x"),
            Ask::get("sql", "/panic").ends(TRAP),
        ],
        vec![
            Ask::get("filtered", "/x?{n}"),
            Ask::get("filtered", "/raw"),
            Ask::post("csv", "/csv?columns=name", "[{\"name\":\"Ann\"}]"),
            Ask::post("csv", "/csv", "no list").ends(&["400 transform.invalid_input"]),
        ],
        vec![
            Ask::post("wasi-02", "/some/{n}", "12345"),
            Ask::post("wasi-03", "/some", "12345").answers(5),
            Ask::get("stream-02", "/download?n=2").answers(2 * MIB),
            Ask::get("stream-03", "/download?n=2").answers(2 * MIB),
            Ask::get("stream-02", "/events?n=4").answers(4 * 9),
            Ask::get("stream-03", "/events?n=4").answers(4 * 9),
        ],
        vec![
            Ask::post_pieces("stream-02", "/count", 4, MIB).answers(8),
            Ask::post_pieces("stream-03", "/count", 4, MIB).answers(8),
            Ask::post_pieces("stream-02", "/echo", 16, 64 << 10).answers(MIB),
            Ask::post_pieces("stream-03", "/echo", 16, 64 << 10).answers(MIB),
            Ask::post_pieces("stream-03", "/pass", 16, 64 << 10).answers(MIB),
            Ask::post_bytes("echo", "/raw", 3 * MIB).answers(3 * MIB),
        ],
        vec![
            Ask::get("fickle", "/"),
            Ask::get("fickle", "/?crash=true").ends(TRAP),
            Ask::get("deep", "/").ends(TRAP),
            Ask::get("bomb", "/").ends(&["502 plugin.memory_exceeded"]),
            Ask::get("bomb", "/polite"),
            Ask::get("loops", "/").ends(&["504 plugin.cpu_exceeded"]),
            Ask::get("talks", "/breaks"),
            Ask::get("stream-02", "/trap").ends(&["cut off"]),
            Ask::get("stream-03", "/trap").ends(&["cut off"]),
            Ask::get("stream-02", "/short").ends(&["cut off"]),
        ],
        vec![
            Ask::get("slow", "/?ms=150"),
            Ask::get("slow", "/?ms=5000").leaves_at(100),
            Ask::get("stream-02", "/endless").leaves_after(100_000),
            Ask::get("stream-03", "/endless").leaves_after(100_000),
            Ask::get("stream-02", "/silent").leaves_after(5),
            Ask::get("stream-03", "/silent").leaves_after(5),
            Ask::get("stream-02", "/never-answers").leaves_at(100),
            Ask::get("stream-03", "/never-answers").leaves_at(100),
            Ask::get("sse", "/ticks?every_ms=20").leaves_at(200),
            Ask::post_bytes("echo", "/raw", 4 * MIB).leaves_after(1),
        ],
    ];
    if has_extism_examples() {
        all.push(vec![
            Ask::post("vowels", "/count", "Hello, World!"),
            Ask::get("quote", "/quotes/dijkstra"),
            Ask::get("quote", "/quotes/nobody").ends(&["404 plugin.refused"]),
        ]);
    }
    all
}

/// Asks until the round is over, on connections of its own. `number` makes it begin elsewhere than others do.
pub(super) async fn ask(round: &Round, asks: Vec<Ask>, number: usize) -> Tally {
    // Nobody knows this client.
    let client = Client::new(round.host.address());
    let mut tally = Tally::default();
    for number in number.. {
        if round.is_over() {
            break;
        }
        if let Some(ask) = asks.get(number % asks.len()) {
            ask.go(&client, number % 97, &mut tally).await;
        }
        tokio::time::sleep(round.pause).await;
    }
    tally
}

/// Asks a plain plugin all the time on one connection, and measures how long that takes.
pub(super) async fn probe(round: &Round) -> Tally {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut tally = Tally::default();
    while !round.is_over() {
        if let Err(error) = probe_one(round, PAUSE, &mut tally).await {
            tally.count("probe", &format!("{error}"), false);
            tokio::time::sleep(PAUSE).await;
        }
    }
    tally
}

async fn probe_one(round: &Round, pause: Duration, tally: &mut Tally) -> anyhow::Result<()> {
    let stream = TcpStream::connect(round.host.address()).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while !round.is_over() {
        let began = Instant::now();
        stream
            .write_all(b"GET /plain/ HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        let (mut status, mut length) = (0, 0);
        loop {
            line.clear();
            anyhow::ensure!(stream.read_line(&mut line).await? > 0, "the host hung up");
            let head = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = head.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap_or_default().parse()?;
            } else if let Some(rest) = head.strip_prefix("content-length:") {
                length = rest.trim().parse()?;
            } else if head.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        tally.time(began.elapsed());
        tally.count("probe", &super::ask::problem(status, &body), status == 200);
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
