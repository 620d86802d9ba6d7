//! Clients that are slow, or stop in the middle: bare sockets, because a proper client does nothing of the kind.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Round, Tally, ask::LEFT};

/// What such a client does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Takes a large answer in small sips.
    Sips(&'static str),
    /// Sends a body in small pieces with pauses.
    Drips(&'static str),
    /// Announces a body and sends half of it.
    StopsSending(&'static str),
    /// Sends half a head, or something that is none.
    IsNoHttp,
}

pub(super) const KINDS: &[Kind] = &[
    Kind::Sips("stream-02"),
    Kind::Sips("stream-03"),
    Kind::Drips("stream-02"),
    Kind::Drips("stream-03"),
    Kind::Drips("kv-a"),
    Kind::StopsSending("echo"),
    Kind::StopsSending("stream-02"),
    Kind::StopsSending("stream-03"),
    Kind::IsNoHttp,
];

const PAUSE: Duration = Duration::from_millis(40);

/// Goes on until the round is over.
pub(super) async fn go_on(round: &Round, kind: Kind) -> Tally {
    let mut tally = Tally::default();
    let mut number = 0;
    while !round.is_over() {
        number += 1;
        let (plugin, expected) = match kind {
            Kind::Sips(plugin) | Kind::Drips(plugin) => (plugin, "200"),
            Kind::StopsSending(plugin) => (plugin, LEFT),
            Kind::IsNoHttp => ("socket", LEFT),
        };
        let done = match kind {
            Kind::Sips(plugin) => sip(round, plugin).await,
            Kind::Drips(plugin) => drip(round, plugin).await,
            Kind::StopsSending(plugin) => stop_sending(round, plugin).await,
            Kind::IsNoHttp => no_http(round, number).await,
        };
        let outcome = done.unwrap_or_else(|error| format!("{}", error.kind()));
        tally.count(plugin, &format!("slow: {outcome}"), outcome == expected);
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

async fn sip(round: &Round, plugin: &str) -> std::io::Result<String> {
    const MIB: usize = 2;
    let mut stream = TcpStream::connect(round.host.address()).await?;
    let head = format!(
        "GET /{plugin}/download?n={MIB} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut sip = vec![0; 64 << 10];
    let (mut first, mut bytes) = (Vec::new(), 0);
    loop {
        let read = stream.read(&mut sip).await?;
        if first.is_empty() {
            first.extend_from_slice(&sip[..read]);
        }
        bytes += read;
        if read == 0 {
            break;
        }
        tokio::time::sleep(PAUSE / 2).await;
    }
    let status = status_of(&first);
    Ok(match status == "200" && bytes < MIB << 20 {
        true => "cut off".to_owned(),
        false => status,
    })
}

async fn drip(round: &Round, plugin: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(round.host.address()).await?;
    let path = match plugin {
        "kv-a" => "pages/slow/visits",
        _ => "count",
    };
    let head = format!(
        "POST /{plugin}/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..20 {
        stream.write_all(b"3\r\nabc\r\n").await?;
        tokio::time::sleep(PAUSE).await;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(status_of(&answer))
}

async fn stop_sending(round: &Round, plugin: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(round.host.address()).await?;
    let path = if plugin == "echo" { "raw" } else { "count" };
    let head = format!(
        "POST /{plugin}/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; 500_000]).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(LEFT.to_owned())
}

async fn no_http(round: &Round, number: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(round.host.address()).await?;
    let text: &[u8] = match number % 3 {
        0 => b"GET /plain/ HTT",
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        _ => b"",
    };
    stream.write_all(text).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(LEFT.to_owned())
}

fn status_of(answer: &[u8]) -> String {
    let head = String::from_utf8_lossy(answer);
    let status = head.strip_prefix("HTTP/1.1 ");
    status
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or("no answer")
        .to_owned()
}
