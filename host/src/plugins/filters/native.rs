//! The filters of the host's own. They cannot fail, and cost what changing a header costs.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http::reserved;
use crate::runtime::{Direction, HeaderChange};

pub(in crate::plugins) const HEADERS: &str = "headers";
pub(in crate::plugins) const SECURITY_HEADERS: &str = "security-headers";
pub(in crate::plugins) const BODY_LIMIT: &str = "body-limit";

/// All of them.
pub(in crate::plugins) const NAMES: [&str; 3] = [HEADERS, SECURITY_HEADERS, BODY_LIMIT];

/// A filter of the host's own, with what it is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Native {
    /// `headers`: sets and removes headers of requests and answers.
    Headers(HeaderRules),
    /// `security-headers`: what keeps browsers from misusing an answer, where the plugin has not said it differently.
    SecurityHeaders,
    /// `body-limit`: a bound on bodies of requests, which is enforced where they are read.
    BodyLimit { bytes_max: usize },
}

/// Changes of headers that were checked when they were written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    pub request: Vec<HeaderChange>,
    pub response: Vec<HeaderChange>,
}

/// What `security-headers` adds where it is not set.
const SECURITY: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_FRAME_OPTIONS,
        HeaderValue::from_static("SAMEORIGIN"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    ),
];

impl Native {
    /// The word for it in a list of filters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Headers(_) => HEADERS,
            Self::SecurityHeaders => SECURITY_HEADERS,
            Self::BodyLimit { .. } => BODY_LIMIT,
        }
    }

    /// Whether it does anything with messages of this direction.
    pub fn filters(&self, direction: Direction) -> bool {
        match (self, direction) {
            (Self::Headers(rules), Direction::Request) => !rules.request.is_empty(),
            (Self::Headers(rules), Direction::Response) => !rules.response.is_empty(),
            (Self::SecurityHeaders, Direction::Response) => true,
            (Self::SecurityHeaders, Direction::Request) | (Self::BodyLimit { .. }, _) => false,
        }
    }

    /// What it does with a request on its way in.
    pub fn before(&self, headers: &mut HeaderMap) {
        if let Self::Headers(rules) = self {
            make(&rules.request, headers);
        }
    }

    /// What it does with an answer on its way out.
    pub fn after(&self, headers: &mut HeaderMap) {
        match self {
            Self::Headers(rules) => make(&rules.response, headers),
            Self::SecurityHeaders => {
                for (name, value) in &SECURITY {
                    if !headers.contains_key(name) {
                        // Full only if the plugin sends thousands, which is refused before.
                        let _ = headers.try_insert(name.clone(), value.clone());
                    }
                }
            }
            Self::BodyLimit { .. } => {}
        }
    }
}

fn make(changes: &[HeaderChange], headers: &mut HeaderMap) {
    for change in changes {
        let _ = change.clone().apply(headers);
    }
}

/// Who writes the rules, and so how far they reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugins) enum Reach {
    /// The author of one plugin.
    Plugin,
    /// The operator, who may decide for everything under a host name.
    Host,
}

/// Rules as they are written, before anything is believed of them: `set` first, then `remove`.
#[derive(Debug, Default)]
pub(in crate::plugins) struct Written<'a> {
    pub(in crate::plugins) set: Vec<(&'a str, &'a str)>,
    pub(in crate::plugins) remove: Vec<&'a str>,
}

impl Written<'_> {
    /// As changes; what is wrong with them is pushed to `mistakes`.
    pub(in crate::plugins) fn into_changes(
        self,
        is_request: bool,
        reach: Reach,
        mistakes: &mut Vec<String>,
    ) -> Vec<HeaderChange> {
        let mut name_of = |text: &str| match HeaderName::from_bytes(text.as_bytes()) {
            Err(_) => {
                let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
                mistakes.push(format!("`{shown}` is not the name of a header"));
                None
            }
            Ok(name) if is_hosts(&name, is_request, reach) => {
                mistakes.push(format!("the header `{name}` is the host's to set"));
                None
            }
            Ok(name) => Some(name),
        };
        let mut changes = Vec::new();
        let mut values = Vec::new();
        for (name, value) in self.set {
            if let Some(name) = name_of(name) {
                match HeaderValue::from_str(value) {
                    Ok(value) => changes.push(HeaderChange::Set(name, value)),
                    Err(_) => values.push(name),
                }
            }
        }
        for name in self.remove {
            changes.extend(name_of(name).map(HeaderChange::Remove));
        }
        mistakes.extend(values.into_iter().map(|name| {
            format!("the value of the header `{name}` has characters that are not allowed")
        }));
        changes
    }
}

fn is_hosts(name: &HeaderName, is_request: bool, reach: Reach) -> bool {
    match (is_request, reach) {
        (true, _) => reserved::in_filtered_requests(name),
        (false, Reach::Plugin) => reserved::in_filtered_answers(name),
        (false, Reach::Host) => reserved::is_set_by_the_host(name),
    }
}
