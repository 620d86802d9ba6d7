//! Requests of plugins to other servers: only to hosts that were granted, only to addresses that may be reached, within
//! limits, and with secrets that the plugin never sees.
//!
//! Work per process: none. Per plugin: clients with their pools of connections. Per call: each hop is checked from the
//! beginning.

mod address;
mod body;
mod client;
mod headers;
mod lane;
mod mask;
mod policy;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::http::trace;
use crate::ids::PluginName;
use crate::services::rehearsal::Rehearsal;
use crate::services::{Allowance, Error, Kind};
pub use body::Body;
use client::{Forbidden, Resolver};
use lane::Lane;
use mask::Mask;
use policy::Named;
pub use policy::{EgressPolicy, EgressRule, Injection};

/// Plugins whose connections are kept before those without requests are forgotten.
const PLUGINS_REMEMBERED: usize = 256;

/// What an answer takes in the host while it is read piece by piece, its headers included.
const ANSWER_BYTES_HELD: usize = 256 << 10;

/// What requests of plugins may take.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Longest time to resolve a name, connect and agree on encryption. Default: 5000.
    pub connect_ms_max: u64,
    /// Longest time until the headers of the answer are there. Default: 15000.
    pub first_byte_ms_max: u64,
    /// Longest pause in the body of an answer. Default: 10000.
    pub read_ms_max: u64,
    /// Longest time of a request with its redirects and the body of the answer. Default: 30000.
    pub total_ms_max: u64,
    /// Requests of one plugin at the same time. Default: 32.
    pub in_flight_max: usize,
    /// Requests of one plugin in a minute, each redirect counted. Default: 6000.
    pub requests_per_minute_max: u64,
    /// Bytes that one plugin sends and receives in a minute. Default: 1 GiB.
    pub bytes_per_minute_max: u64,
    /// Requests of one call into a plugin, each redirect counted. Default: 50.
    pub requests_per_call_max: u64,
    /// Bytes of answers of one call into a plugin. Default: 64 MiB.
    pub response_bytes_per_call_max: u64,
    /// Longest body of a request. Default: 8 MiB.
    pub request_bytes_max: usize,
    /// Longest body of an answer. Default: 16 MiB.
    pub response_bytes_max: u64,
    /// Most bytes of the headers of a request, and of those of an answer. Default: 32 KiB.
    pub header_bytes_max: usize,
    /// Redirects that are followed. Default: 5; with 0 the plugin gets the redirect itself.
    pub redirects_max: u32,
    /// Whether `http` is allowed beside `https`. Default: false.
    pub allow_http: bool,
    /// Addresses beside the public internet that may be reached, with `http` too, each with its port: `127.0.0.1:9000`.
    /// Default: none.
    pub allow_private: Vec<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_ms_max: 5000,
            first_byte_ms_max: 15_000,
            read_ms_max: 10_000,
            total_ms_max: 30_000,
            in_flight_max: 32,
            requests_per_minute_max: 6000,
            bytes_per_minute_max: 1 << 30,
            requests_per_call_max: 50,
            response_bytes_per_call_max: 64 << 20,
            request_bytes_max: 8 << 20,
            response_bytes_max: 16 << 20,
            header_bytes_max: 32 << 10,
            redirects_max: 5,
            allow_http: false,
            allow_private: Vec::new(),
        }
    }
}

/// What one call into a plugin may still send and receive.
#[derive(Debug)]
pub struct Budget {
    requests_left: u64,
    /// Shared with bodies, which are read later.
    response_bytes_left: Arc<AtomicU64>,
}

/// Why there is no way out at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up requests to other servers; are root certificates installed?")]
pub struct SetupError(#[from] reqwest::Error);

/// The way out for all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    config: Config,
    resolver: Resolver,
    lanes: Mutex<HashMap<PluginName, Arc<Lane>>>,
    /// Answers in place of other servers, on a host on which plugins are rehearsed.
    rehearsal: Option<Arc<Rehearsal>>,
}

/// Who sends, and under which rules.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub plugin: &'a PluginName,
    pub policy: &'a EgressPolicy,
    /// The secrets that the host adds by itself.
    pub injections: &'a [Injection],
    pub allowance: &'a Allowance,
    pub patience: Patience,
    /// How many calls of plugins stand above the request, the sender's own included.
    pub depth: u32,
}

/// How long the plugin itself wants to wait. The settings bound it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Until the headers of the answer are there.
    pub first_byte: Option<Duration>,
    /// For each piece of the body.
    pub between_bytes: Option<Duration>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// Nothing is dialled yet.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        Self::of(config, client::system(), None)
    }

    /// A way out that checks everything and then leads to the answers of a rehearsal; nothing is ever dialled.
    pub fn rehearsed(config: Config, rehearsal: Arc<Rehearsal>) -> Result<Self, SetupError> {
        Self::of(config, client::system(), Some(rehearsal))
    }

    fn of(
        config: Config,
        resolver: Resolver,
        rehearsal: Option<Arc<Rehearsal>>,
    ) -> Result<Self, SetupError> {
        // Each plugin gets its own; what keeps one from being built is better known now.
        client::check(&config)?;
        Ok(Self(Arc::new(Inner {
            config,
            resolver,
            lanes: Mutex::default(),
            rehearsal,
        })))
    }

    /// The budget of one call into a plugin.
    pub fn budget(&self) -> Budget {
        let Config {
            requests_per_call_max,
            response_bytes_per_call_max,
            ..
        } = self.0.config;
        Budget {
            requests_left: requests_per_call_max,
            response_bytes_left: Arc::new(AtomicU64::new(response_bytes_per_call_max)),
        }
    }

    /// Longest body of a request, for callers that collect one.
    pub fn request_bytes_max(&self) -> usize {
        self.0.config.request_bytes_max
    }

    /// Sends a request and returns when the headers of the answer are there. Redirects are followed as far as the
    /// policy reaches. `denied` for what is not granted or may not be reached, `limit` for what is too much,
    /// `unavailable` if the other side does not answer.
    pub async fn send(
        &self,
        sender: Sender<'_>,
        request: http::Request<Bytes>,
        budget: &mut Budget,
    ) -> Result<http::Response<Body>, Error> {
        let config = &self.0.config;
        let (head, body) = request.into_parts();
        let headers = headers::clean(&head.headers, config.header_bytes_max)?;
        let mut hop = Hop {
            method: head.method,
            url: parse(&head.uri)?,
            headers,
            body,
        };
        if hop.body.len() > config.request_bytes_max {
            let message = format!("a request has at most {} bytes", config.request_bytes_max);
            return Err(Error::limit("outbound.request_too_large", message));
        }
        let lane = self.lane(sender.plugin);
        let place = lane.place(config)?;
        let until = Instant::now() + Duration::from_millis(config.total_ms_max);
        let until = until.min(sender.allowance.deadline());
        let held = sender.allowance.hold(ANSWER_BYTES_HELD)?;
        let mut mask = Mask::default();
        for redirects_left in (0..=config.redirects_max).rev() {
            let of_host = |injection: &&Injection| injection.is_for_url(&hop.url);
            mask.add(sender.injections.iter().filter(of_host));
            let response = self.send_hop(&hop, &lane, sender, budget, until).await?;
            let next = if config.redirects_max == 0 {
                None
            } else {
                hop.redirect(&response)?
            };
            let Some(next) = next else {
                let pause = Duration::from_millis(config.read_ms_max);
                let pause = sender.patience.between_bytes.unwrap_or(pause).min(pause);
                let limits = body::Limits {
                    until,
                    pause,
                    bytes_max: config.response_bytes_max,
                    budget: budget.response_bytes_left.clone(),
                };
                let allowance = sender.allowance.clone();
                let kept = body::Kept {
                    lane,
                    place,
                    held,
                    allowance,
                };
                return self.receive(response, limits, mask, kept);
            };
            if redirects_left > 0 {
                hop = next;
            }
        }
        let message = format!("more than {} redirects", config.redirects_max);
        Err(Error::limit("outbound.too_many_redirects", message))
    }

    /// One request to one host, with every rule checked.
    async fn send_hop(
        &self,
        hop: &Hop,
        lane: &Lane,
        sender: Sender<'_>,
        budget: &mut Budget,
        until: Instant,
    ) -> Result<reqwest::Response, Error> {
        let config = &self.0.config;
        if matches!(hop.method, Method::CONNECT | Method::TRACE) {
            let message = format!("the method `{}` is not allowed", hop.method);
            return Err(Error::denied("outbound.method_forbidden", message));
        }
        // Below a wildcard there may be any number of hosts, so connections to them do not wait for more.
        let is_keeping = sender.policy.check(&hop.method, &hop.url)? == Named::ByItself;
        let client = lane.clients.for_url(&hop.url, is_keeping, config)?;
        budget.requests_left = budget.requests_left.checked_sub(1).ok_or_else(exhausted)?;
        let mut headers = hop.headers.clone();
        let of_host = |injection: &&Injection| injection.is_for_url(&hop.url);
        for injection in sender.injections.iter().filter(of_host) {
            // Where `http` is not allowed in general, it leads only to addresses that the operator listed.
            if hop.url.scheme() == "http" && config.allow_http {
                let message = "a secret is sent with https only";
                return Err(Error::denied("outbound.secret_needs_https", message));
            }
            // Last, and instead of what the plugin may have set.
            headers.insert(injection.header.clone(), injection.value.clone());
            // So that a secret that comes back can be found.
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        headers.insert(trace::DEPTH, HeaderValue::from(sender.depth));
        let bytes = hop.body.len() as u64 + headers::bytes(&headers);
        lane.count_request(bytes)?;
        sender.allowance.count_bytes(bytes, 0);
        if let Some(rehearsal) = &self.0.rehearsal {
            let answer = rehearsal.answer(&hop.method, &hop.url, &hop.body)?;
            return Ok(answer.map(reqwest::Body::from).into());
        }
        let request = client.request(hop.method.clone(), hop.url.clone());
        let request = request.headers(headers).body(hop.body.clone());
        let longest = Duration::from_millis(config.first_byte_ms_max);
        let longest = sender.patience.first_byte.unwrap_or(longest).min(longest);
        match timeout_at(until.min(Instant::now() + longest), request.send()).await {
            Ok(response) => response.map_err(|error| explain(&error)),
            Err(_) => Err(body::timeout()),
        }
    }

    fn receive(
        &self,
        response: reqwest::Response,
        limits: body::Limits,
        mask: Mask,
        kept: body::Kept,
    ) -> Result<http::Response<Body>, Error> {
        let left = limits.budget.load(Ordering::Relaxed);
        // What is announced need not be read to know that it is too much.
        match response.content_length() {
            Some(length) if length > limits.bytes_max => return Err(body::too_large()),
            Some(length) if length > left => return Err(exhausted()),
            _ => {}
        }
        let (mut head, inner) = http::Response::<reqwest::Body>::from(response).into_parts();
        head.headers = headers::clean_answer(&head.headers, self.0.config.header_bytes_max)?;
        let bytes = headers::bytes(&head.headers);
        kept.allowance.count_bytes(0, bytes);
        kept.lane.count_bytes(bytes)?;
        mask.cover_headers(&mut head.headers);
        head.extensions.clear();
        let body = Body::new(inner, limits, mask, kept);
        Ok(http::Response::from_parts(head, body))
    }

    fn lane(&self, plugin: &PluginName) -> Arc<Lane> {
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(plugin) {
            return lane.clone();
        }
        if lanes.len() >= PLUGINS_REMEMBERED {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        let lane = Lane::new(&self.0.config, self.0.resolver.clone());
        lanes.insert(plugin.clone(), lane.clone());
        lane
    }
}

/// A request to one host.
struct Hop {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl Hop {
    /// The request that an answer asks for, if it is a redirect.
    fn redirect(&self, response: &reqwest::Response) -> Result<Option<Self>, Error> {
        let keeps_method = match response.status() {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            // As browsers do it.
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => matches!(self.method, Method::GET | Method::HEAD),
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(header::LOCATION) else {
            return Ok(None);
        };
        let location = location
            .to_str()
            .ok()
            .and_then(|location| self.url.join(location).ok());
        let invalid = || {
            let message = "the other side redirects to an address that cannot be read";
            Error::new(Kind::Unavailable, "outbound.redirect_invalid", message)
        };
        let url = check_url(location.ok_or_else(invalid)?)?;
        let mut headers = self.headers.clone();
        let (method, body) = if keeps_method {
            (self.method.clone(), self.body.clone())
        } else {
            headers::remove_content(&mut headers);
            (Method::GET, Bytes::new())
        };
        if url.origin() != self.url.origin() {
            headers::remove_credentials(&mut headers);
        }
        Ok(Some(Self {
            method,
            url,
            headers,
            body,
        }))
    }
}

fn parse(uri: &http::Uri) -> Result<Url, Error> {
    // What is checked is what is sent: from here on only this URL counts, with the host in its one normal form.
    let url = Url::parse(&uri.to_string()).map_err(|_| {
        let message = "the address of the request is not a complete URL like https://example.com/";
        Error::invalid("outbound.url_invalid", message)
    })?;
    check_url(url)
}

fn check_url(mut url: Url) -> Result<Url, Error> {
    let invalid = |message: &str| Error::invalid("outbound.url_invalid", message);
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "the URL holds a user name or password; send them in a header",
        ));
    }
    if !matches!(url.scheme(), "https" | "http") {
        return Err(invalid("the scheme must be https"));
    }
    let host = policy::host(&url)
        .ok_or_else(|| invalid("the URL has no host"))?
        .to_owned();
    url.set_host(Some(&host))
        .map_err(|_| invalid("the URL has no valid host"))?;
    url.set_fragment(None);
    Ok(url)
}

/// What a plugin is told of a failure. Nothing of the request is repeated, because it may hold a secret.
fn explain(error: &reqwest::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<Forbidden>() {
            return client::name_forbidden();
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        body::timeout()
    } else if error.is_connect() {
        let message = "the other side cannot be reached";
        Error::new(Kind::Unavailable, "outbound.connect_failed", message)
    } else {
        let message = "the other side broke off or did not answer as HTTP demands";
        Error::new(Kind::Unavailable, "outbound.broken", message)
    }
}

fn exhausted() -> Error {
    let message = "this call has sent or received as much as it may";
    Error::limit("outbound.budget_exhausted", message)
}
