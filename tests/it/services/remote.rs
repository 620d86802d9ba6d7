//! Another server, on this machine, that remembers what it was sent. What it answers is in the path.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Runs until the test is over.
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Remote {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let keep = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&keep)));
            }
        });
        Self { address, heads }
    }

    /// The heads of all requests so far, in small letters.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn answer(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let sent = String::from_utf8_lossy(&head).into_owned();
    let head = sent.to_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap().push(head);
    let plain = |head: &str, body: &str| {
        format!(
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let text = match path.split_once('=') {
        Some((_, to)) => plain(&format!("302 Found\r\nlocation: {to}"), ""),
        None if path == "/announced-bomb" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx".to_owned()
        }
        None if path == "/bomb" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(),
        None if path == "/many-headers" => {
            plain(&format!("200 OK\r\nx-wide: {}", "y".repeat(100_000)), "")
        }
        // Says what it was told, in a header and in the body.
        None if path == "/echo" => {
            let secret = sent.lines().find(|line| line.starts_with("authorization"));
            let head = format!("200 OK\r\nx-you-sent: {}", secret.unwrap_or_default());
            plain(&head, &sent)
        }
        None if path == "/echo-and-break" => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{sent}")
        }
        // A thousand times as long when it is unpacked.
        None if path == "/packed-bomb" => {
            let head = "200 OK\r\ncontent-encoding: gzip";
            plain(head, &"\u{1f}".repeat(100_000))
        }
        None if path == "/no-http" => "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        None => plain("200 OK\r\ncontent-type: text/plain", "hello from afar"),
    };
    if path == "/silent" {
        std::future::pending::<()>().await;
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let megabyte = vec![b'x'; 1 << 20];
    while path.ends_with("bomb") && stream.write_all(&megabyte).await.is_ok() {}
}
