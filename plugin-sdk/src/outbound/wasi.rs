//! Sends a request through `wasi:http/outgoing-handler`, whole bodies both ways.

use super::{Request, Response, invalid};
use crate::bindings::module::wasi::http::outgoing_handler;
use crate::bindings::module::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
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
                return Err(failed(error.to_debug_string()));
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

fn of_code(code: &ErrorCode) -> Error {
    let (kind, name) = match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
            (ErrorKind::Denied, "outbound.denied")
        }
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => (ErrorKind::Timeout, "outbound.timeout"),
        ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => (ErrorKind::Unavailable, "outbound.unreachable"),
        ErrorCode::ConnectionLimitReached => (ErrorKind::Limit, "outbound.too_many_connections"),
        ErrorCode::HttpRequestBodySize(_) | ErrorCode::HttpResponseBodySize(_) => {
            (ErrorKind::Limit, "outbound.body_too_large")
        }
        ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong => (ErrorKind::Invalid, "outbound.invalid_request"),
        _ => (ErrorKind::Internal, "outbound.failed"),
    };
    Error::of_kind(kind, name, code.to_string())
}

fn failed(message: impl Into<String>) -> Error {
    Error::of_kind(ErrorKind::Internal, "outbound.failed", message)
}
