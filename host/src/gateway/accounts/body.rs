//! Bodies of requests that anybody may send.

use std::time::Duration;

use axum::{
    extract::{Query, Request},
    http::{StatusCode, Uri, header},
};
use serde::de::DeserializeOwned;

use crate::http::{Problem, json};

/// Most bytes of a body.
const BYTES_MAX: usize = 4 << 10;
/// How long a body may take to arrive. Anybody may send one, so nobody may hold a connection with it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A small JSON body.
pub(super) async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let body = read(request, "application/json").await?;
    json::read(&body)
}

/// A small body as forms send it.
pub(super) async fn read_form<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let body = read(request, "application/x-www-form-urlencoded").await?;
    let invalid =
        |error: String| Problem::new(StatusCode::BAD_REQUEST, "request.invalid_body", error);
    // A form is written as a query is.
    let text = std::str::from_utf8(&body).map_err(|error| invalid(error.to_string()))?;
    let uri: Uri = format!("/?{text}")
        .parse()
        .map_err(|_| invalid("this is not a form".to_owned()))?;
    let form = Query::try_from_uri(&uri).map_err(|error| invalid(error.body_text()))?;
    Ok(form.0)
}

/// A small JSON body, where a request may have no body at all.
pub(super) async fn read_json_if_any<T: DeserializeOwned + Default>(
    request: Request,
) -> Result<T, Problem> {
    if !request.headers().contains_key(header::CONTENT_TYPE) {
        return Ok(T::default());
    }
    let body = read(request, "application/json").await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    json::read(&body)
}

async fn read(request: Request, wanted: &str) -> Result<bytes::Bytes, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_wanted = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted));
    if !is_wanted {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.unsupported_media_type",
            format!("send the body as {wanted}"),
        ));
    }
    let body = axum::body::to_bytes(request.into_body(), BYTES_MAX);
    let body = tokio::time::timeout(TIMEOUT, body).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request.body_timeout",
            "the body did not arrive in time",
        )
    })?;
    body.map_err(|_| {
        let detail = format!("the body of this request has at most {BYTES_MAX} bytes");
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request.body_too_large",
            detail,
        )
    })
}
