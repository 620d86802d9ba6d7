//! The request as a handler sees it.

use serde::de::DeserializeOwned;

use crate::bindings::module::exports::gantry::http::handler as wit;
use crate::extract;
use crate::host::request_headers;
use crate::{Result, context};

/// One HTTP request with its whole body. Take it as a handler's argument, alone or beside other extractors.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// fn echo(request: Request) -> Result<Response> {
///     let language = request.header("accept-language").unwrap_or_else(|| "en".into());
///     Ok(Response::text(format!("{} {} in {language}", request.method, request.path)))
/// }
/// ```
#[derive(Debug, Default)]
pub struct Request {
    /// In capitals: `GET`, `POST`, …
    pub method: String,
    /// The path below the plugin's mount, beginning with `/`, still percent-encoded.
    pub path: String,
    /// What stands after `?`, still percent-encoded; empty if there is nothing.
    pub query: String,
    /// The whole body.
    pub body: Vec<u8>,
    /// Set by the router. Without a router the host's route is asked.
    pub(crate) params: Option<Vec<(String, String)>>,
}

impl Request {
    /// The first value of a header; the name in any case. The host is asked only now, so unused headers cost nothing.
    pub fn header(&self, name: &str) -> Option<String> {
        request_headers::get(name)
    }

    /// All headers in the order they came, names in small letters.
    pub fn headers(&self) -> Vec<(String, String)> {
        request_headers::all()
    }

    /// One parameter of the route's pattern, percent-decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        match &self.params {
            Some(params) => params
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone()),
            None => context::path_param(name),
        }
    }

    /// One parameter of the query, decoded; the first one of that name.
    pub fn query_param(&self, name: &str) -> Option<String> {
        extract::query_pairs(&self.query)
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v)
    }

    /// The body as JSON; 400 or 422 if it is not. Does not look at `content-type`, unlike [`Json`](crate::Json).
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        extract::json(&self.body)
    }

    pub(crate) fn of(request: wit::Request) -> Self {
        let wit::Request {
            method,
            path,
            query,
            body,
        } = request;
        Self {
            method,
            path,
            query,
            body,
            params: None,
        }
    }

    pub(crate) fn path_params(&mut self) -> Vec<(String, String)> {
        self.params.take().unwrap_or_else(context::path_params)
    }
}
