//! The WIT side of errors, which all services share.

use crate::bindings::gantry::types::types;
use crate::ids::{Label, PluginName, RequestId};
use crate::ledger::{Event, Ledger};
use crate::services::{Error, Kind};

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        let detail = types::Detail {
            code: error.code.into_owned(),
            message: error.message,
            retry_after_ms: error.retry_after_ms,
        };
        match error.kind {
            Kind::Denied => Self::Denied(detail),
            Kind::NotFound => Self::NotFound(detail),
            Kind::Invalid => Self::Invalid(detail),
            Kind::Conflict => Self::Conflict(detail),
            Kind::Limit => Self::Limit(detail),
            Kind::Timeout => Self::Timeout(detail),
            Kind::Unavailable => Self::Unavailable(detail),
            Kind::Internal => Self::Internal(detail),
        }
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        let (kind, detail) = match error {
            types::Error::Denied(detail) => (Kind::Denied, detail),
            types::Error::NotFound(detail) => (Kind::NotFound, detail),
            types::Error::Invalid(detail) => (Kind::Invalid, detail),
            types::Error::Conflict(detail) => (Kind::Conflict, detail),
            types::Error::Limit(detail) => (Kind::Limit, detail),
            types::Error::Timeout(detail) => (Kind::Timeout, detail),
            types::Error::Unavailable(detail) => (Kind::Unavailable, detail),
            types::Error::Internal(detail) => (Kind::Internal, detail),
        };
        Self {
            kind,
            code: detail.code.into(),
            message: detail.message,
            retry_after_ms: detail.retry_after_ms,
        }
    }
}

/// Tells the audit trail what a plugin asked for and was not given.
#[derive(Debug, Clone, Copy)]
pub struct Refusals<'a> {
    pub ledger: Option<&'a Ledger>,
    pub plugin: &'a PluginName,
    pub request_id: RequestId,
}

impl Refusals<'_> {
    fn tell(&self, what: &str, label: &str, code: &str) {
        if let Some(ledger) = self.ledger {
            let plugin = self.plugin;
            let event = Event::refused(
                "capability.refused",
                format_args!("{plugin}/{what}:{label}"),
                code,
            );
            ledger.note(event.by("plugin", plugin).of(None, self.request_id));
        }
    }
}

/// The label that a guest asks for, if it is among those granted. `what` is the service's word in the manifest.
pub(super) fn granted<'a, T>(
    label: &str,
    what: &'static str,
    granted: impl IntoIterator<Item = &'a T>,
    label_of: impl Fn(&'a T) -> &'a Label,
    refusals: Refusals<'_>,
) -> Result<&'a T, Error> {
    const CODE: &str = "capability.not_granted";
    granted.into_iter().find(|item| label_of(item).as_str() == label).ok_or_else(|| {
        let label: String = label.chars().take(64).collect();
        refusals.tell(what, &label, CODE);
        let message = format!(
            "`{label}` is not granted to this plugin; declare it under [capabilities] {what} in plugin.toml and have it \
             granted"
        );
        Error::denied(CODE, message)
    })
}
