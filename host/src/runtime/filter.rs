//! Calls into filters: one before the plugin that answers, one behind it, each in an instance of its own and within the
//! filter's own limits. Which filters stand where, and what their failure means, is not known here.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::component::{Component, InstancePre};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::bindings::messages;
use crate::http::reserved;
use crate::runtime::call::{self, Failure, Question, Times};
use crate::runtime::kept::Ready;
use crate::runtime::plugin::Entry;
use crate::runtime::state::PluginState;
use crate::runtime::{
    CallContext, Config, Fault, InvokeError, LoadError, LoadedPlugin, Runtime, export, response,
};
use crate::services::Account;

/// Which way a message goes that a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// In.
    Request,
    /// Out.
    Response,
}

impl Direction {
    /// The word for it in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// What a filter is shown. The headers of a request are in the context of the call.
#[derive(Debug)]
pub enum Message {
    Request {
        method: http::Method,
        /// Below the mount of the plugin that is filtered.
        path: String,
        query: String,
        /// Empty for a filter that does not ask for it.
        body: Bytes,
    },
    Response {
        status: u16,
        headers: HeaderMap,
        body: Bytes,
    },
}

impl Message {
    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Request { .. } => Direction::Request,
            Self::Response { .. } => Direction::Response,
        }
    }
}

/// What a filter decided. Nothing in it is the host's to decide.
#[derive(Debug)]
pub enum Verdict {
    /// On to whoever is next.
    Next(Changes),
    /// This is the answer.
    Respond(http::Response<Bytes>),
}

/// What a filter changes of a message.
#[derive(Debug, Default)]
pub struct Changes {
    /// In this order.
    pub headers: Vec<HeaderChange>,
    pub body: Option<Bytes>,
}

/// What becomes of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// The only value from now on.
    Set(HeaderName, HeaderValue),
    /// One more value.
    Add(HeaderName, HeaderValue),
    /// All values of this name go.
    Remove(HeaderName),
}

impl HeaderChange {
    /// What it can add, in bytes.
    fn length(&self) -> usize {
        match self {
            Self::Set(name, value) | Self::Add(name, value) => name.as_str().len() + value.len(),
            Self::Remove(_) => 0,
        }
    }

    /// Makes the change. The error says that the headers would be too many.
    pub fn apply(self, headers: &mut HeaderMap) -> Result<(), http::header::MaxSizeReached> {
        match self {
            Self::Set(name, value) => headers.try_insert(name, value).map(drop),
            Self::Add(name, value) => headers.try_append(name, value).map(drop),
            Self::Remove(name) => {
                headers.remove(name);
                Ok(())
            }
        }
    }
}

/// What came out of a call into a filter.
#[derive(Debug)]
pub struct Filtered {
    pub result: Result<Verdict, InvokeError>,
    /// What the call was about, given back as it was.
    pub context: CallContext,
}

impl LoadedPlugin {
    /// Whether it is a filter that looks at messages of this direction.
    pub fn filters(&self, direction: Direction) -> bool {
        let Entry::Filter { before, after, .. } = &self.entry else {
            return false;
        };
        match direction {
            Direction::Request => before.is_some(),
            Direction::Response => after.is_some(),
        }
    }
}

/// What a filter exports.
pub(super) fn entry(
    component: &Component,
    pre: InstancePre<PluginState>,
) -> Result<Entry, LoadError> {
    let before = export(component, "gantry:http/request-filter@0.1.0", "before");
    let after = export(component, "gantry:http/response-filter@0.1.0", "after");
    if before.is_none() && after.is_none() {
        let reason = "it exports neither `request-filter` nor `response-filter`".to_owned();
        return Err(LoadError::Link(reason));
    }
    Ok(Entry::Filter { pre, before, after })
}

impl Runtime {
    /// Shows a message to a filter. What it uses is booked on `account`.
    pub async fn filter(
        &self,
        plugin: &Arc<LoadedPlugin>,
        mut context: CallContext,
        message: Message,
        account: &Arc<Account>,
    ) -> Filtered {
        let places = match self.take_places(plugin).await {
            Ok(places) => places,
            Err(error) => {
                return Filtered {
                    result: Err(error),
                    context,
                };
            }
        };
        let (whole, trigger) = (context.deadline, context.trigger);
        context.trigger = "filter";
        let began = Instant::now();
        let limits = &plugin.spec.limits;
        let times = Times {
            began,
            deadline: whole.min(began + limits.wall),
            cpu: limits.cpu,
        };
        let prepared = self.prepare(plugin, context, times, Arc::clone(account));
        let called = self.call(plugin, prepared, places, message).await;
        let mut context = called.context;
        (context.deadline, context.trigger) = (whole, trigger);
        Filtered {
            result: called.result,
            context,
        }
    }

    /// Makes the changes of a filter. Headers have room for what a message and a filter may have together, so that nobody
    /// can make a filter fail by filling a message up.
    pub fn change_headers(
        &self,
        changes: Vec<HeaderChange>,
        headers: &mut HeaderMap,
    ) -> Result<(), InvokeError> {
        let config = &self.config;
        let count_max = config.response_headers_max.saturating_mul(2);
        let bytes_max = config.response_header_bytes_max.saturating_mul(2);
        let fits = |count: usize, bytes: usize| count <= count_max && bytes <= bytes_max;
        let more: usize = changes.iter().map(HeaderChange::length).sum();
        if fits(headers.len() + changes.len(), length(headers) + more) {
            for change in changes {
                change.apply(headers).map_err(|_| too_many())?;
            }
            return Ok(());
        }
        let mut changed = headers.clone();
        for change in changes {
            change.apply(&mut changed).map_err(|_| too_many())?;
        }
        if !fits(changed.len(), length(&changed)) {
            return Err(too_many());
        }
        *headers = changed;
        Ok(())
    }
}

fn length(headers: &HeaderMap) -> usize {
    let headers = headers.iter();
    headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

fn too_many() -> InvokeError {
    InvokeError::InvalidResponse {
        reason: "with its headers the message would have more than it may".to_owned(),
    }
}

impl Question for Message {
    type Answer = Verdict;

    async fn ask(self, plugin: &LoadedPlugin, ready: &mut Ready) -> Result<Verdict, Failure> {
        type Answered = (Result<messages::Verdict, GuestError>,);
        let direction = self.direction();
        let (pre, export) = match (&plugin.entry, direction) {
            (Entry::Filter { pre, before, .. }, Direction::Request) => (pre, before),
            (Entry::Filter { pre, after, .. }, Direction::Response) => (pre, after),
            _ => return Err(not_a_filter()),
        };
        let export = export.as_ref().ok_or_else(not_a_filter)?;
        let function = call::function(pre, export, ready).await?;
        let store = &mut ready.store;
        let (verdict,) = match &self {
            Self::Request {
                method,
                path,
                query,
                body,
            } => {
                let request = messages::Request {
                    method: method.as_str(),
                    path,
                    query,
                    body,
                };
                let function = function.typed::<(messages::Request<'_>,), Answered>(&*store)?;
                function.call_async(store, (request,)).await?
            }
            Self::Response {
                status,
                headers,
                body,
            } => {
                let mut shown = Vec::with_capacity(headers.len());
                for (name, value) in headers {
                    if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
                        shown.push((name.as_str(), value));
                    }
                }
                let answer = messages::Answer {
                    status: *status,
                    headers: shown,
                    body,
                };
                let function = function.typed::<(messages::Answer<'_>,), Answered>(&*store)?;
                function.call_async(store, (answer,)).await?
            }
        };
        let verdict = verdict.map_err(Failure::Returned)?;
        check(verdict, direction, &plugin.config).map_err(Failure::InvalidResponse)
    }

    /// Whoever waits for the answer is not told of the filter's own errors either.
    fn is_for_author(error: &InvokeError) -> bool {
        error.fault() != Fault::Platform
    }
}

fn not_a_filter() -> Failure {
    Failure::Wasmtime(wasmtime::format_err!(
        "this plugin does not filter this way"
    ))
}

fn check(
    verdict: messages::Verdict,
    direction: Direction,
    config: &Config,
) -> Result<Verdict, String> {
    let changes = match verdict {
        messages::Verdict::Next(changes) => changes,
        messages::Verdict::Respond(answer) => {
            let mut answer = response::check(answer, config)?;
            let headers = answer.headers_mut();
            // What the host says of a call is not a filter's to say.
            for name in ["ratelimit", "ratelimit-policy"] {
                headers.remove(name);
            }
            return Ok(Verdict::Respond(answer));
        }
    };
    if changes.headers.len() > config.response_headers_max {
        return Err(format!(
            "it changes more than {} headers",
            config.response_headers_max
        ));
    }
    let is_hosts = match direction {
        Direction::Request => reserved::in_filtered_requests,
        Direction::Response => reserved::in_filtered_answers,
    };
    let mut headers = Vec::with_capacity(changes.headers.len());
    let mut bytes = 0;
    for change in changes.headers {
        let (name, change) = match change {
            messages::HeaderChange::Set((name, value)) => {
                bytes += name.len() + value.len();
                let name = response::header_name(&name)?;
                let value = response::header_value(&name, value)?;
                (name.clone(), HeaderChange::Set(name, value))
            }
            messages::HeaderChange::Add((name, value)) => {
                bytes += name.len() + value.len();
                let name = response::header_name(&name)?;
                let value = response::header_value(&name, value)?;
                if reserved::has_one_value(&name) {
                    return Err(format!("it adds another `{name}`; there is one at most"));
                }
                (name.clone(), HeaderChange::Add(name, value))
            }
            messages::HeaderChange::Remove(name) => {
                bytes += name.len();
                let name = response::header_name(&name)?;
                (name.clone(), HeaderChange::Remove(name))
            }
        };
        if bytes > config.response_header_bytes_max {
            return Err(format!(
                "the headers that it changes have more than {} bytes",
                config.response_header_bytes_max
            ));
        }
        if !is_hosts(&name) {
            headers.push(change);
        }
    }
    if let Some(body) = &changes.body {
        response::check_length(body.len(), config)?;
    }
    Ok(Verdict::Next(Changes {
        headers,
        body: changes.body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> messages::HeaderChange {
        messages::HeaderChange::Set((name.to_owned(), value.to_owned()))
    }

    fn decided(
        headers: Vec<messages::HeaderChange>,
        direction: Direction,
    ) -> Result<HeaderMap, String> {
        let changes = messages::Changes {
            headers,
            body: None,
        };
        let verdict = messages::Verdict::Next(changes);
        let Verdict::Next(changes) = check(verdict, direction, &Config::default())? else {
            panic!("a filter that goes on goes on");
        };
        let mut headers = HeaderMap::new();
        for change in changes.headers {
            change.apply(&mut headers).unwrap();
        }
        Ok(headers)
    }

    #[test]
    fn what_is_the_hosts_a_filter_cannot_change() {
        for (direction, names) in [
            (
                Direction::Request,
                [
                    "Host",
                    "authorization",
                    "X-API-Key",
                    "x-forwarded-for",
                    "x-request-id",
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "te",
                ],
            ),
            (
                Direction::Response,
                [
                    "x-request-id",
                    "RateLimit",
                    "ratelimit-policy",
                    "x-content-type-options",
                    "strict-transport-security",
                    "Content-Length",
                    "transfer-encoding",
                    "connection",
                    "upgrade",
                ],
            ),
        ] {
            for name in names {
                let changes = vec![
                    set(name, "1"),
                    messages::HeaderChange::Add((name.to_owned(), "2".to_owned())),
                    messages::HeaderChange::Remove(name.to_owned()),
                    set("x-mine", "3"),
                ];
                let headers = decided(changes, direction).unwrap();
                assert_eq!(headers.len(), 1, "{name}: {headers:?}");
            }
        }
    }

    #[test]
    fn changes_are_made_in_their_order_and_are_bounded() {
        let changes = vec![
            set("a", "1"),
            messages::HeaderChange::Add(("a".to_owned(), "2".to_owned())),
            set("b", "1"),
            messages::HeaderChange::Remove("b".to_owned()),
        ];
        let headers = decided(changes, Direction::Response).unwrap();
        assert_eq!(headers.get_all("a").iter().count(), 2);
        assert!(!headers.contains_key("b"));
        let many = vec![set("a", "b"); 101];
        let large = vec![set("a", &"x".repeat(20_000)); 2];
        for (changes, reason) in [
            (many, "it changes more than 100 headers"),
            (
                large,
                "the headers that it changes have more than 32768 bytes",
            ),
            (vec![set("a b", "c")], "`a b` is not a header name"),
            (
                vec![set("a", "b\r\nc: d")],
                "the value of the header `a` has characters that are not allowed",
            ),
        ] {
            let refused = decided(changes, Direction::Request).unwrap_err();
            assert_eq!(refused, reason);
        }
    }
}
