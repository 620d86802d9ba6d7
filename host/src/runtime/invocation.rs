//! One call into a plugin: what causes it, what the host knows about it, and what comes out.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;

use crate::auth::Principal;
use crate::ids::RequestId;
use crate::runtime::ExtismTarget;
use crate::runtime::stream::{BodyError, RequestBody};
use crate::services;
use crate::services::Account;

/// Everything a call needs. Nothing is fetched from a global on the way.
#[derive(Debug)]
pub struct Invocation {
    /// What the guest may ask about the call.
    pub context: CallContext,
    /// What the guest is given.
    pub trigger: Trigger,
    /// Where it is booked what the call uses.
    pub account: Arc<Account>,
}

/// What the host knows about a call and no client can forge.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub request_id: RequestId,
    /// What caused the call, in the words of the contract.
    pub trigger: &'static str,
    /// The pattern of the route below the mount, `/orders/{id}`.
    pub route: Option<Arc<str>>,
    /// Names and decoded values, in the order of the pattern.
    pub path_params: Vec<(String, String)>,
    pub client_address: Option<IpAddr>,
    /// Who is calling, if the gateway has authenticated somebody.
    pub principal: Option<Arc<Principal>>,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// How many calls of plugins stand above this one.
    pub depth: u32,
    /// When the host stops the call, whatever the plugin's own limit is.
    pub deadline: Instant,
}

impl CallContext {
    /// Of no call at all.
    pub(super) fn none(request_id: RequestId, deadline: Instant) -> Self {
        Self {
            request_id,
            trigger: "none",
            depth: 0,
            route: None,
            path_params: Vec::new(),
            client_address: None,
            principal: None,
            headers: HeaderMap::new(),
            deadline,
        }
    }
}

/// What caused a call.
#[derive(Debug)]
pub enum Trigger {
    Http(HttpCall),
}

impl Trigger {
    /// The word for it in logs, metrics and `gantry:context`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
        }
    }
}

/// A request.
#[derive(Debug)]
pub struct HttpCall {
    pub method: http::Method,
    /// The scheme, authority, path and query as the client sent them.
    pub uri: http::Uri,
    /// Where the path below the mount begins inside the path of `uri`.
    pub mount_length: usize,
    pub body: RequestBody,
    /// How long the call may take in all while bodies flow. Then `deadline` bounds only the time from the last piece of
    /// the request to the head of the answer.
    pub stream: Option<Duration>,
    /// Of a module of Extism: which export answers.
    pub target: Option<Arc<ExtismTarget>>,
}

impl HttpCall {
    /// The path below the mount, beginning with `/`.
    pub fn path(&self) -> &str {
        match self.uri.path().get(self.mount_length..) {
            Some(path) if path.starts_with('/') => path,
            _ => "/",
        }
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Guest code and the host's work for it, without waiting.
    pub cpu: Duration,
    /// Most bytes of linear memory and tables at once.
    pub memory_bytes: usize,
}

/// Why a call into a plugin gave no response.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    #[error("the plugin ran longer than {limit_ms} ms")]
    DeadlineExceeded { limit_ms: u64 },
    #[error("the plugin used more than {limit_ms} ms of processor time")]
    CpuExceeded { limit_ms: u64 },
    #[error("the plugin asked for more than {limit_bytes} bytes of memory")]
    MemoryExceeded { limit_bytes: usize },
    #[error("the plugin stopped with a trap: {reason}")]
    Trapped { reason: String },
    #[error("the plugin answered with something that is not a valid response: {reason}")]
    InvalidResponse { reason: String },
    /// The plugin returned an error of its own accord.
    #[error("the plugin answered with an error: {0}")]
    Returned(services::Error),
    /// The body of the request did not come to its end.
    #[error("{0}")]
    RequestBody(BodyError),
    /// The answer had begun, and the client went away or stood still.
    #[error("the client went away, or took nothing for too long, before the answer was complete")]
    ClientGone,
    #[error("another version took its place, and its time to finish is over")]
    Retired,
    #[error("{limit} calls are already running")]
    Saturated { limit: u32 },
    #[error("the host failed while calling the plugin")]
    Host(#[source] anyhow::Error),
}

/// Whose error it is: who has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Client,
    Plugin,
    Platform,
}

impl Fault {
    /// The word for it in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Platform => "platform",
        }
    }
}

impl InvokeError {
    /// Whether the host had to end the call: it would have gone on, or has trapped.
    pub fn is_crash(&self) -> bool {
        matches!(
            self,
            Self::DeadlineExceeded { .. }
                | Self::CpuExceeded { .. }
                | Self::MemoryExceeded { .. }
                | Self::Trapped { .. }
        )
    }

    /// Who has to act on this.
    pub fn fault(&self) -> Fault {
        use services::Kind;
        match self {
            Self::Returned(error) if error.is_of_grants() => Fault::Plugin,
            Self::Returned(error) => match error.kind {
                Kind::Timeout | Kind::Internal => Fault::Plugin,
                Kind::Unavailable => Fault::Platform,
                _ => Fault::Client,
            },
            Self::RequestBody(_) | Self::ClientGone => Fault::Client,
            Self::Saturated { .. } | Self::Retired | Self::Host(_) => Fault::Platform,
            _ => Fault::Plugin,
        }
    }
}
