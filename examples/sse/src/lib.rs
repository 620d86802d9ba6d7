//! Sends an event for every second until the client leaves.
#![cfg(target_family = "wasm")]

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

struct Component;

wasip3::http::service::export!(Component);

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let every_ms = path
            .split_once("every_ms=")
            .and_then(|(_, ms)| ms.parse::<u64>().ok())
            .unwrap_or(1000)
            .max(1);
        let (mut writer, body) = wit_stream::new();
        let (trailers, no_trailers) = wit_future::new(|| Ok(None));
        let headers = Fields::new();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
        ] {
            // These are names and values of headers, so it cannot fail.
            let _ = headers.append(name, value.as_bytes());
        }
        let (response, _sent) = Response::new(headers, Some(body), no_trailers);
        wasip3::spawn_local(async move {
            for tick in 0_u64.. {
                let event = format!("event: tick\nid: {tick}\ndata: {{\"tick\":{tick}}}\n\n");
                // What is left was not taken: the client has gone.
                if !writer.write_all(event.into_bytes()).await.is_empty() {
                    break;
                }
                wait_for(every_ms * 1_000_000).await;
            }
            drop(trailers);
        });
        Ok(response)
    }
}
