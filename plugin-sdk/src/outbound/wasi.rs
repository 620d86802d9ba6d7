//! Sends a request through `wasi:http/outgoing-handler`, whole bodies both ways.

use super::{Request, Response, invalid};
use crate::bindings::module::wasi::http::outgoing_handler;
use crate::bindings::module::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use crate::bindings::module::wasi::io::error::Error as StreamProblem;
use crate::bindings::module::wasi::io::streams::{InputStream, StreamError};
use crate::{Error, ErrorKind, Result};

/// What `blocking-write-and-flush` takes at once.
const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn send(request: Request) -> Result<Response> {
    let Request {
        method,
        url,
        headers,
        body,
        timeout_ms,
        body_bytes_max,
        ..
    } = request;
    let outgoing = head(&method, &url, &headers)?;
    let outgoing_body = outgoing
        .body()
        .map_err(|()| invalid("the request has no body to write"))?;
    let future = outgoing_handler::handle(outgoing, timeout_ms.map(options))
        .map_err(|code| of_code(&code))?;
    write(outgoing_body, &body)?;

    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(of_code(&code)),
        Some(Err(())) | None => return Err(failed("the response came twice or not at all")),
    };
    let status = response.status();
    let headers = response_headers(&response);
    let body = read(&response, body_bytes_max)?;
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn head(method: &str, url: &str, headers: &[(String, String)]) -> Result<OutgoingRequest> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => {
            return Err(invalid(format!(
                "`{url}` does not begin with https:// or http://"
            )));
        }
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let fields = Fields::new();
    for (name, value) in headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| invalid(format!("the header `{name}`: {error}")))?;
    }
    let path = if path.starts_with('?') {
        format!("/{path}")
    } else {
        path.to_owned()
    };
    let request = OutgoingRequest::new(fields);
    request
        .set_method(&method_of(method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&path)))
        .map_err(|()| invalid(format!("{method} {url} is no valid request")))?;
    Ok(request)
}

fn method_of(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout_ms: u64) -> RequestOptions {
    let timeout = Some(timeout_ms.saturating_mul(1_000_000));
    let options = RequestOptions::new();
    // A host that does not know one of these has its own limits.
    let _ = options.set_connect_timeout(timeout);
    let _ = options.set_first_byte_timeout(timeout);
    let _ = options.set_between_bytes_timeout(timeout);
    options
}

fn write(outgoing: OutgoingBody, body: &[u8]) -> Result<()> {
    if !body.is_empty() {
        let stream = outgoing
            .write()
            .map_err(|()| failed("the body was taken already"))?;
        for chunk in body.chunks(WRITE_BYTES_MAX) {
            match stream.blocking_write_and_flush(chunk) {
                Ok(()) => {}
                // The other side answered without reading everything; its answer tells why.
                Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break,
            }
        }
    }
    match OutgoingBody::finish(outgoing, None) {
        Ok(()) => Ok(()),
        // As above: the outcome of the request is what counts, and it comes with the response.
        Err(_) => Ok(()),
    }
}

fn response_headers(response: &IncomingResponse) -> Vec<(String, String)> {
    let entries = response.headers().entries().into_iter();
    entries
        .filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase(), String::from_utf8(value).ok()?))
        })
        .collect()
}

fn read(response: &IncomingResponse, body_bytes_max: usize) -> Result<Vec<u8>> {
    let incoming: IncomingBody = response
        .consume()
        .map_err(|()| failed("the body was taken already"))?;
    let stream: InputStream = incoming
        .stream()
        .map_err(|()| failed("the body was taken already"))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES_MAX) {
            Ok(chunk) if body.is_empty() => body = chunk,
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(body),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(of_stream(&error));
            }
        }
        if body.len() > body_bytes_max {
            let message = format!("the response is larger than {body_bytes_max} bytes");
            return Err(Error::of_kind(
                ErrorKind::Limit,
                "outbound.body_too_large",
                message,
            ));
        }
    }
}

/// The host's own code and words, where it could say them.
fn of_code(code: &ErrorCode) -> Error {
    use ErrorKind::{Denied, Invalid, Limit, Timeout, Unavailable};
    let (kind, name, message) = match code {
        ErrorCode::HttpRequestDenied => (
            Denied,
            "outbound.host_not_granted",
            "this host and port are not granted to the plugin",
        ),
        ErrorCode::HttpRequestMethodInvalid => (
            Denied,
            "outbound.method_not_granted",
            "this method is not granted to the plugin for this host",
        ),
        ErrorCode::DestinationIpProhibited => (
            Denied,
            "outbound.address_forbidden",
            "the address in the URL is none of the public internet",
        ),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => (
            Timeout,
            "outbound.timeout",
            "the other side took longer than it may",
        ),
        ErrorCode::ConnectionTerminated | ErrorCode::HttpProtocolError => (
            Unavailable,
            "outbound.broken",
            "the other side broke off or did not answer as HTTP demands",
        ),
        ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => (
            Unavailable,
            "outbound.unreachable",
            "the other side cannot be reached",
        ),
        ErrorCode::ConnectionLimitReached => (
            Limit,
            "outbound.too_many_in_flight",
            "as many requests of this plugin are under way as may be",
        ),
        ErrorCode::LoopDetected => (
            Limit,
            "outbound.too_many_redirects",
            "the other side redirects too often",
        ),
        ErrorCode::HttpRequestBodySize(_) => (
            Limit,
            "outbound.request_too_large",
            "the request is larger than it may be",
        ),
        ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSectionSize(_) => (
            Limit,
            "outbound.headers_too_large",
            "the headers are larger than they may be",
        ),
        ErrorCode::HttpResponseBodySize(_) => (
            Limit,
            "outbound.response_too_large",
            "the answer is larger than it may be",
        ),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => (
            Invalid,
            "outbound.url_invalid",
            "the host does not send to such a URL",
        ),
        ErrorCode::InternalError(Some(text)) => {
            return of_text(text).unwrap_or_else(|| failed(code.to_string()));
        }
        _ => return failed(code.to_string()),
    };
    Error::of_kind(kind, name, message)
}

/// In the middle of a body a host may have no more than text to tell with.
fn of_stream(error: &StreamProblem) -> Error {
    if let Some(code) = http_error_code(error) {
        return of_code(&code);
    }
    let text = error.to_debug_string();
    let told = text.strip_prefix("internal error: ").and_then(of_text);
    told.unwrap_or_else(|| failed(text))
}

/// `KIND CODE: MESSAGE`, in which the host tells what `wasi:http` has no word for.
fn of_text(text: &str) -> Option<Error> {
    let (kind, rest) = text.split_once(' ')?;
    let (code, message) = rest.split_once(": ")?;
    let kind = match kind {
        "denied" => ErrorKind::Denied,
        "invalid" => ErrorKind::Invalid,
        "limit" => ErrorKind::Limit,
        "timeout" => ErrorKind::Timeout,
        "unavailable" => ErrorKind::Unavailable,
        _ => return None,
    };
    code.contains('.')
        .then(|| Error::of_kind(kind, code, message.to_owned()))
}

fn failed(message: impl Into<String>) -> Error {
    Error::of_kind(ErrorKind::Internal, "outbound.failed", message)
}
