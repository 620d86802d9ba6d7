//! Bodies that flow, through `wasi:http/handler@0.3`: the last part of the path says which way, decent or not.
#![cfg(target_family = "wasm")]

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::wit_bindgen::{StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

struct Component;

wasip3::http::service::export!(Component);

const MS: u64 = 1_000_000;

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let number = query
            .split_once('=')
            .and_then(|(_, value)| value.parse::<u64>().ok())
            .unwrap_or(3);
        match path {
            "/hello" => Ok(text("hello\n")),
            "/count" => {
                let mut body = body_of(request);
                let mut bytes = 0;
                while let Some(piece) = next(&mut body).await {
                    bytes += piece.len();
                }
                println!("counted {bytes}");
                Ok(text(&format!("{bytes}\n")))
            }
            // The body of the request is the body of the answer; the guest is not between them.
            "/pass" => {
                let (_, received) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, received);
                Ok(Response::new(Fields::new(), Some(body), trailers).0)
            }
            "/echo" => Ok(flowing(async move |mut writer| {
                let mut body = body_of(request);
                while let Some(piece) = next(&mut body).await {
                    if !writer.write_all(piece).await.is_empty() {
                        break;
                    }
                }
            })),
            "/events" => Ok(flowing(async move |mut writer| {
                for event in 0..number {
                    writer.write_all(format!("data: {event}\n\n").into()).await;
                    wait_for(50 * MS).await;
                }
            })),
            "/download" => Ok(flowing(async move |mut writer| {
                for _ in 0..number {
                    if !writer.write_all(vec![b'x'; 1 << 20]).await.is_empty() {
                        break;
                    }
                }
            })),
            "/endless" => Ok(flowing(async move |mut writer| {
                while writer.write_all(vec![b'x'; 64 << 10]).await.is_empty() {}
            })),
            "/silent" => Ok(flowing(async move |mut writer| {
                writer.write_all(b"first".to_vec()).await;
                wait_for(3600 * 1000 * MS).await;
            })),
            "/loop" => Ok(flowing(async move |mut writer| {
                writer.write_all(b"first".to_vec()).await;
                wait_for(50 * MS).await;
                loop {
                    std::hint::black_box(());
                }
            })),
            "/trap" => Ok(flowing(async move |mut writer| {
                writer.write_all(b"first".to_vec()).await;
                wait_for(50 * MS).await;
                std::process::abort();
            })),
            "/short" => {
                let response = flowing(async move |mut writer| {
                    writer.write_all(b"first".to_vec()).await;
                    wait_for(50 * MS).await;
                });
                Ok(response)
            }
            // The writer is forgotten, so that the body never ends by itself.
            "/never-ended" => Ok(flowing(async move |mut writer| {
                writer.write_all(b"first".to_vec()).await;
                std::mem::forget(writer);
            })),
            "/never-answers" => {
                wait_for(3600 * 1000 * MS).await;
                Ok(text("late"))
            }
            "/never-read" => Ok(text("not read")),
            "/head" => {
                let long = "X".repeat(usize::try_from(number).unwrap_or(0));
                let (_, no_trailers) = wit_future::new(|| Ok(None));
                let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
                let authority = request.set_authority(Some(&long)).is_ok();
                let method = request.set_method(&Method::Other(long)).is_ok();
                Ok(text(&format!("{method} {authority}\n")))
            }
            "/header" => {
                let long = vec![b'x'; usize::try_from(number).unwrap_or(0)];
                let is_taken = Fields::new().append("x-long", &long).is_ok();
                Ok(text(&format!("{is_taken}\n")))
            }
            "/random" => {
                let random = wasip3::random::random::get_random_bytes(number);
                Ok(text(&format!("{}\n", random.len())))
            }
            "/many-streams" => {
                let mut streams = Vec::new();
                loop {
                    streams.push(wit_stream::new::<u8>());
                }
            }
            "/memory" => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(vec![1; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            "/fails" => Err(ErrorCode::InternalError(Some("on purpose".to_owned()))),
            "/fetch" => fetch(query).await,
            "/sandbox" => {
                let file = std::fs::read_to_string("/etc/hostname").is_err();
                let socket = std::net::TcpStream::connect("127.0.0.1:80").is_err();
                let env = std::env::vars().count();
                Ok(text(&format!("{file} {socket} {env}\n")))
            }
            other => Ok(text(&format!("there is no {other}\n"))),
        }
    }
}

fn text(text: &str) -> Response {
    let text = text.to_owned();
    flowing(async move |mut writer| {
        writer.write_all(text.into()).await;
    })
}

/// A response whose body this writes.
fn flowing(write: impl AsyncFnOnce(StreamWriter<u8>) + 'static) -> Response {
    let (writer, body) = wit_stream::new();
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(body), no_trailers);
    wasip3::spawn_local(async move {
        write(writer).await;
        drop(trailers);
    });
    response
}

fn body_of(request: Request) -> StreamReader<u8> {
    let (_, received) = wit_future::new(|| Ok(()));
    Request::consume_body(request, received).0
}

/// The next piece, or nothing at the end.
async fn next(body: &mut StreamReader<u8>) -> Option<Vec<u8>> {
    loop {
        let (result, piece) = body.read(Vec::with_capacity(64 << 10)).await;
        if !piece.is_empty() {
            return Some(piece);
        }
        if matches!(result, StreamResult::Dropped | StreamResult::Cancelled) {
            return None;
        }
    }
}

/// Passes on what another server answers; `query` is its address and path.
async fn fetch(query: &str) -> Result<Response, ErrorCode> {
    let (authority, path) = query.split_once('/').unwrap_or((query, ""));
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(&format!("/{path}")));
    match wasip3::http::client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (_, received) = wit_future::new(|| Ok(()));
            let (mut body, _) = Response::consume_body(response, received);
            let mut all = Vec::new();
            while let Some(piece) = next(&mut body).await {
                all.extend(piece);
            }
            Ok(text(&format!("{status} {}", String::from_utf8_lossy(&all))))
        }
        Err(code) => Ok(text(&format!("refused: {code:?}"))),
    }
}
