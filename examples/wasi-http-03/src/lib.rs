//! Gives back what it is sent, in capitals and piece by piece, through the standard `wasi:http/handler` of WASI 0.3;
//! nothing here knows Gantry.
#![cfg(target_family = "wasm")]

use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{wit_future, wit_stream};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16 << 10;

struct Component;

wasip3::http::service::export!(Component);

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (mut writer, body) = wit_stream::new();
        let (trailers, no_trailers) = wit_future::new(|| Ok(None));
        let headers = Fields::new();
        // These bytes are a header's, so it cannot fail.
        let _ = headers.append("content-type", b"text/plain; charset=utf-8");
        let (response, _sent) = Response::new(headers, Some(body), no_trailers);
        let has_body = matches!(request.get_method(), Method::Post);
        wasip3::spawn_local(async move {
            if has_body {
                let (_, received) = wit_future::new(|| Ok(()));
                let (mut reader, _trailers) = Request::consume_body(request, received);
                loop {
                    let (result, mut piece) = reader.read(Vec::with_capacity(PIECE_BYTES)).await;
                    piece.make_ascii_uppercase();
                    // What is left was not taken: the client has gone.
                    if !piece.is_empty() && !writer.write_all(piece).await.is_empty() {
                        break;
                    }
                    if matches!(result, StreamResult::Dropped) {
                        break;
                    }
                }
            } else {
                writer.write_all(b"Send me something.\n".to_vec()).await;
            }
            drop(writer);
            drop(trailers);
        });
        Ok(response)
    }
}
