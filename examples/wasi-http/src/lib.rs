//! Answers requests through the standard `wasi:http/incoming-handler`; nothing here knows Gantry.
#![cfg(target_family = "wasm")]

use std::io::{Read as _, Write as _};

use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Component;

wasip2::http::proxy::export!(Component);

impl wasip2::exports::http::incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let Some(body) = read_body(&request) else {
            let code = ErrorCode::InternalError(Some("the body cannot be read".to_owned()));
            return ResponseOutparam::set(outparam, Err(code));
        };
        let text = format!("You asked for {path} with {} bytes\n", body.len());

        let headers = Fields::new();
        let response = match headers.append("content-type", b"text/plain; charset=utf-8") {
            Ok(()) => OutgoingResponse::new(headers),
            Err(_) => OutgoingResponse::new(Fields::new()),
        };
        let outgoing = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        // The client may have gone away; then nobody is left to be told.
        if let Ok(mut stream) = outgoing.write() {
            let _ = stream.write_all(text.as_bytes());
        }
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

fn read_body(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
    let mut bytes = Vec::new();
    body.stream().ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
