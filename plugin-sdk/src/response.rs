//! Responses, and what a handler may return instead of one.

use serde::Serialize;

use crate::bindings::module::exports::gantry::http::handler as wit;
use crate::{Json, Result};

/// One HTTP response with its whole body.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// let page = Response::html("<h1>Menu</h1>").with_header("cache-control", "max-age=60");
/// assert_eq!((page.status, page.header("Cache-Control")), (200, Some("max-age=60")));
/// let feed = Response::text("<feed/>").with_header("content-type", "application/atom+xml");
/// assert_eq!(feed.headers.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names in small letters. `content-length` and hop-by-hop headers are the host's and are dropped.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// An empty response.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A value as JSON. Fails only where the value cannot be JSON, such as a map whose keys are no text.
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(Self::new(status)
            .with_header("content-type", "application/json")
            .with_body(body))
    }

    /// 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::typed("text/plain; charset=utf-8", text.into().into_bytes())
    }

    /// 200 with a page.
    pub fn html(page: impl Into<String>) -> Self {
        Self::typed("text/html; charset=utf-8", page.into().into_bytes())
    }

    /// 200 with bytes of the given media type.
    pub fn bytes(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(content_type, body.into())
    }

    /// 201 with a value as JSON and where the new thing is.
    pub fn created<T: Serialize + ?Sized>(location: impl Into<String>, value: &T) -> Result<Self> {
        Ok(Self::json(201, value)?.with_header("location", location))
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::new(204)
    }

    /// 303: the answer is at another address, to be fetched with GET.
    pub fn see_other(location: impl Into<String>) -> Self {
        Self::new(303).with_header("location", location)
    }

    /// Sets a header, in place of one of the same name.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a header beside those of the same name, as `set-cookie` needs it.
    #[must_use]
    pub fn with_added_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of a header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn typed(content_type: &str, body: Vec<u8>) -> Self {
        Self::new(200)
            .with_header("content-type", content_type)
            .with_body(body)
    }

    pub(crate) fn of(response: wit::Response) -> Self {
        let wit::Response {
            status,
            headers,
            body,
        } = response;
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn into_wit(self) -> wit::Response {
        let Self {
            status,
            headers,
            body,
        } = self;
        wit::Response {
            status,
            headers,
            body,
        }
    }
}

/// What a handler may return: a [`Response`], a [`Json`], text, `()` for 204, `(status, …)`, or a `Result` of these.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// fn create(Json(name): Json<String>) -> Result<(u16, Json<String>)> {
///     Ok((201, Json(name)))
/// }
/// # let _ = create;
/// ```
pub trait IntoResponse {
    /// The response.
    fn into_response(self) -> Result<Response>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response> {
        Ok(self)
    }
}

impl<T: IntoResponse> IntoResponse for Result<T> {
    fn into_response(self) -> Result<Response> {
        self?.into_response()
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(200, &self.0)
    }
}

impl<T: IntoResponse> IntoResponse for (u16, T) {
    fn into_response(self) -> Result<Response> {
        let mut response = self.1.into_response()?;
        response.status = self.0;
        Ok(response)
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Result<Response> {
        Ok(Response::no_content())
    }
}

impl IntoResponse for u16 {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Result<Response> {
        Ok(Response::bytes("application/octet-stream", self))
    }
}
