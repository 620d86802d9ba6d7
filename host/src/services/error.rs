//! What a service answers when it refuses or fails, in the words of `gantry:types`.

use std::borrow::Cow;

/// The cases of the contract's error. Frozen with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Denied,
    NotFound,
    Invalid,
    Conflict,
    Limit,
    Timeout,
    Unavailable,
    Internal,
}

/// A refusal or failure that the guest is told of. The message may be shown to anybody: it never holds a secret, a
/// path of the host or the text of an inner error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    /// Stable and dotted: `kv.value_too_large`.
    pub code: Cow<'static, str>,
    pub message: String,
    pub retry_after_ms: Option<u64>,
}

impl Error {
    /// An error without advice on when to try again.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: Cow::Borrowed(code),
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// Whether it says that the plugin was not given what it asked for. That is for its author and the operator to mend;
    /// whoever called the plugin can do nothing about it.
    pub fn is_of_grants(&self) -> bool {
        const CODES: [&str; 5] = [
            "capability.not_granted",
            "outbound.address_forbidden",
            "outbound.host_not_granted",
            "outbound.method_not_granted",
            "secrets.not_revealed",
        ];
        self.kind == Kind::Denied && CODES.contains(&&*self.code)
    }

    /// Not granted to this plugin.
    pub fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, code, message)
    }

    /// The request itself is wrong.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, code, message)
    }

    /// A quota or size was reached.
    pub fn limit(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Limit, code, message)
    }

    /// Somebody else changed it first, or it exists already.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, code, message)
    }

    /// The host failed. The cause goes to the host's log, the guest learns only that it happened.
    pub fn internal(code: &'static str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error.code = code, error.cause = %cause, "A service failed");
        Self::new(
            Kind::Internal,
            code,
            "the host failed while serving this call",
        )
    }
}
