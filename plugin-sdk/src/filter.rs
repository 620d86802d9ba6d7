//! Filters: plugins that stand before and behind the routes of others.
//!
//! ```
//! use gantry_sdk::prelude::*;
//!
//! #[gantry_sdk::request_filter]
//! fn check(request: Request) -> Result<Changes> {
//!     if request.header("user-agent").is_none() {
//!         return Err(Error::forbidden("guard.no_agent", "say who you are"));
//!     }
//!     Ok(Changes::none().set_header("x-checked-by", "guard"))
//! }
//!
//! #[gantry_sdk::response_filter]
//! fn stamp(_response: Response) -> Result<Changes> {
//!     Ok(Changes::none().set_header("x-served-by", "us"))
//! }
//! # let _ = (check, stamp);
//! ```
//!
//! A filter has one of the two, or both. Each call gets an instance of its own: what both should know goes into a header of
//! the request, which the second one can read with [`header`].
//!
//! An error that you make ([`Error::forbidden`] and the like) is the answer, like that of a handler. An error of a service
//! of the host, or one that you did not foresee, means that the filter has failed; whether the request then goes on is
//! declared where the filter is used (`on_failure`).

use crate::bindings::filtering_requests::gantry::http::filter as wit;
use crate::bindings::module::gantry::http::types::Response as WitResponse;
use crate::{Error, Request, Response, Result};

/// What a filter changes of a message on its way. The host drops what a filter may not set, such as `host`,
/// `content-length` and `x-request-id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "changes do nothing until they are returned"]
pub struct Changes {
    headers: Vec<HeaderChange>,
    body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HeaderChange {
    Set(String, String),
    Add(String, String),
    Remove(String),
}

impl Changes {
    /// Everything stays as it is.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets a header, in place of all values that it has.
    pub fn set_header(mut self, name: &str, value: impl Into<String>) -> Self {
        let change = HeaderChange::Set(name.to_owned(), value.into());
        self.headers.push(change);
        self
    }

    /// Adds a header beside those of the same name.
    pub fn add_header(mut self, name: &str, value: impl Into<String>) -> Self {
        let change = HeaderChange::Add(name.to_owned(), value.into());
        self.headers.push(change);
        self
    }

    /// Removes a header, with all values that it has.
    pub fn remove_header(mut self, name: &str) -> Self {
        self.headers.push(HeaderChange::Remove(name.to_owned()));
        self
    }

    /// Replaces the body. Only for a filter whose manifest asks for bodies of this direction.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Makes the changes on headers and a body, as the host does.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn apply(self, headers: &mut Vec<(String, String)>, body: &mut Vec<u8>) {
        for change in self.headers {
            let (HeaderChange::Set(name, _)
            | HeaderChange::Add(name, _)
            | HeaderChange::Remove(name)) = &change;
            if !matches!(change, HeaderChange::Add(..)) {
                headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            }
            if let HeaderChange::Set(name, value) | HeaderChange::Add(name, value) = change {
                headers.push((name.to_ascii_lowercase(), value));
            }
        }
        if let Some(changed) = self.body {
            *body = changed;
        }
    }
}

/// What becomes of a message. Where nothing is to be decided, return [`Changes`] or a [`Response`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On to whoever is next.
    Next(Changes),
    /// This is the answer.
    Respond(Response),
}

impl From<Changes> for Verdict {
    fn from(changes: Changes) -> Self {
        Self::Next(changes)
    }
}

impl From<Response> for Verdict {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

/// A function that `#[gantry_sdk::request_filter]` can go on: it takes a [`Request`] and returns a `Result` of [`Changes`],
/// [`Response`] or [`Verdict`].
pub trait RequestFilter<V> {
    /// Looks at one request.
    fn call(&self, request: Request) -> Result<Verdict>;
}

impl<F, V> RequestFilter<V> for F
where
    F: Fn(Request) -> Result<V>,
    V: Into<Verdict>,
{
    fn call(&self, request: Request) -> Result<Verdict> {
        self(request).map(Into::into)
    }
}

/// A function that `#[gantry_sdk::response_filter]` can go on: it takes a [`Response`] and returns a `Result` of
/// [`Changes`], [`Response`] or [`Verdict`].
pub trait ResponseFilter<V> {
    /// Looks at one response.
    fn call(&self, response: Response) -> Result<Verdict>;
}

impl<F, V> ResponseFilter<V> for F
where
    F: Fn(Response) -> Result<V>,
    V: Into<Verdict>,
{
    fn call(&self, response: Response) -> Result<Verdict> {
        self(response).map(Into::into)
    }
}

/// The first value of a header of the request, as earlier filters left it; the name in any case.
pub fn header(name: &str) -> Option<String> {
    crate::host::request_headers::get(name)
}

/// What `#[gantry_sdk::request_filter]` calls.
pub fn before<V>(
    request: crate::__rt::WitRequest,
    filter: &impl RequestFilter<V>,
) -> Result<wit::Verdict, crate::__rt::WitError> {
    finish(filter.call(Request::of(request)))
}

/// What `#[gantry_sdk::response_filter]` calls.
pub fn after<V>(
    response: WitResponse,
    filter: &impl ResponseFilter<V>,
) -> Result<wit::Verdict, crate::__rt::WitError> {
    finish(filter.call(Response::of(response)))
}

fn finish(verdict: Result<Verdict>) -> Result<wit::Verdict, crate::__rt::WitError> {
    let verdict = decided(verdict);
    #[cfg(target_family = "wasm")]
    crate::stdio::flush();
    Ok(match verdict? {
        Verdict::Respond(response) => wit::Verdict::Respond(response.into_wit()),
        Verdict::Next(changes) => wit::Verdict::Next(wit::Changes {
            headers: changes.headers.into_iter().map(into_wit).collect(),
            body: changes.body,
        }),
    })
}

/// An error of the filter's own is an answer.
pub(crate) fn decided(verdict: Result<Verdict>) -> Result<Verdict, crate::__rt::WitError> {
    verdict.or_else(|error| Error::into_answer(error).map(Verdict::Respond))
}

fn into_wit(change: HeaderChange) -> wit::HeaderChange {
    match change {
        HeaderChange::Set(name, value) => wit::HeaderChange::Set((name, value)),
        HeaderChange::Add(name, value) => wit::HeaderChange::Add((name, value)),
        HeaderChange::Remove(name) => wit::HeaderChange::Remove(name),
    }
}
