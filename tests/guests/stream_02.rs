//! Bodies that flow, through `wasi:http/incoming-handler@0.2`: the last part of the path says which way, decent or not.
#![cfg(target_family = "wasm")]

use std::io::Write as _;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

struct Component;

wasip2::http::proxy::export!(Component);

impl wasip2::exports::http::incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let number = query
            .split_once('=')
            .and_then(|(_, value)| value.parse::<u64>().ok())
            .unwrap_or(3);
        match path {
            "/count" => {
                let bytes = count(&request);
                flow(outparam, None, |out| {
                    let _ = writeln!(out, "{bytes}");
                });
            }
            "/echo" => flow(outparam, None, |out| echo(&request, out)),
            "/events" => flow(outparam, None, |out| {
                for event in 0..number {
                    let _ = write!(out, "data: {event}\n\n");
                    pause_ms(50);
                }
            }),
            "/download" => flow(outparam, Some(number << 20), |out| {
                let piece = vec![b'x'; 1 << 20];
                for _ in 0..number {
                    if out.write_all(&piece).is_err() {
                        break;
                    }
                }
            }),
            "/endless" => flow(outparam, None, |out| {
                let piece = [b'x'; 4096];
                while out.write_all(&piece).is_ok() {}
            }),
            "/silent" => flow(outparam, None, |out| {
                let _ = out.write_all(b"first");
                pause_ms(3_600_000);
            }),
            "/loop" => flow(outparam, None, |out| {
                let _ = out.write_all(b"first");
                pause_ms(50);
                loop {
                    std::hint::black_box(());
                }
            }),
            "/trap" => flow(outparam, None, |out| {
                let _ = out.write_all(b"first");
                pause_ms(50);
                std::process::abort();
            }),
            // Less than it declares.
            "/short" => flow(outparam, Some(100), |out| {
                let _ = out.write_all(b"first");
                pause_ms(50);
            }),
            "/never-ended" => {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().expect("a new response has its body");
                ResponseOutparam::set(outparam, Ok(response));
                let mut out = body.write().expect("a new body has its stream");
                let _ = out.write_all(b"first");
                std::mem::forget((out, body));
            }
            "/never-answers" => pause_ms(3_600_000),
            "/never-read" => flow(outparam, None, |out| {
                let _ = out.write_all(b"not read");
            }),
            // Whether the host takes a method and an authority of so many bytes.
            "/head" => flow(outparam, None, |out| {
                let long = "X".repeat(usize::try_from(number).unwrap_or(0));
                let request = OutgoingRequest::new(Fields::new());
                let authority = request.set_authority(Some(&long)).is_ok();
                let method = request.set_method(&Method::Other(long)).is_ok();
                let _ = writeln!(out, "{method} {authority}");
            }),
            "/header" => flow(outparam, None, |out| {
                let long = vec![b'x'; usize::try_from(number).unwrap_or(0)];
                let is_taken = Fields::new().append("x-long", &long).is_ok();
                let _ = writeln!(out, "{is_taken}");
            }),
            "/random" => flow(outparam, None, |out| {
                let random = wasip2::random::random::get_random_bytes(number);
                let _ = writeln!(out, "{}", random.len());
            }),
            "/many-streams" => {
                let mut open = Vec::new();
                loop {
                    open.push(OutgoingResponse::new(Fields::new()));
                    std::hint::black_box(&open);
                }
            }
            other => flow(outparam, None, |out| {
                let _ = writeln!(out, "there is no {other}");
            }),
        }
    }
}

fn flow(outparam: ResponseOutparam, length: Option<u64>, write: impl FnOnce(&mut OutputStream)) {
    let headers = Fields::new();
    if let Some(length) = length {
        let _ = headers.append("content-length", length.to_string().as_bytes());
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("a new response has its body");
    ResponseOutparam::set(outparam, Ok(response));
    let mut out = body.write().expect("a new body has its stream");
    write(&mut out);
    drop(out);
    let _ = OutgoingBody::finish(body, None);
}

fn count(request: &IncomingRequest) -> u64 {
    let mut bytes = 0;
    each_piece(request, |piece| {
        bytes += piece.len() as u64;
        true
    });
    bytes
}

fn echo(request: &IncomingRequest, out: &mut OutputStream) {
    each_piece(request, |piece| out.write_all(piece).is_ok());
}

fn each_piece(request: &IncomingRequest, mut take: impl FnMut(&[u8]) -> bool) {
    let body = request.consume().expect("a request has its body");
    let stream = body.stream().expect("a body has its stream");
    while let Ok(piece) = stream.blocking_read(64 << 10) {
        if !take(&piece) {
            break;
        }
    }
}

fn pause_ms(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}
