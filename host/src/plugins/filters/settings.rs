//! The operator's filters: around the routes of plugins, whatever their manifests say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::native::{Reach, Written};
use super::{
    BODY_LIMIT, FilterUse, HEADERS, HeaderRules, NAMES, Native, OnFailure, PLUGIN,
    SECURITY_HEADERS, What,
};
use crate::plugins::{Mount, is_within};

/// Most filters in the settings.
const FILTERS_MAX: usize = 16;

/// One filter in the settings.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorFilter {
    /// `plugin:` and the name of a plugin, or one of the host's own: `headers`, `security-headers`, `body-limit`.
    #[serde(rename = "use")]
    pub filter: String,
    /// Only plugins that hang on this host name. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only plugins that hang at this path or below it. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Of a plugin, and then it must be set: what becomes of a request when the filter fails, `open` or `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Of `body-limit`: most bytes of a request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<usize>,
    /// Of `headers`: what becomes of headers of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Rules>,
    /// Of `headers`: what becomes of headers of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Rules>,
}

/// What becomes of headers.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Values by name.
    pub set: BTreeMap<String, String>,
    /// Names.
    pub remove: Vec<String>,
}

/// A filter of the operator and the plugins around which it stands.
#[derive(Debug, Clone)]
pub struct Around {
    pub filter: FilterUse,
    host: Option<String>,
    path: String,
}

impl Around {
    /// Whether it stands around a plugin that hangs there.
    pub fn covers(&self, mount: &Mount) -> bool {
        let is_host = self.host.is_none() || self.host == mount.host;
        is_host && is_within(&mount.path, &self.path)
    }
}

/// The operator's filters, in their order, or everything that is wrong with them.
pub fn check(filters: &[OperatorFilter]) -> Result<Vec<Around>, Vec<String>> {
    let mut mistakes = Vec::new();
    if filters.len() > FILTERS_MAX {
        mistakes.push(format!("at most {FILTERS_MAX} filters are allowed"));
    }
    let mut found = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let mut own = Vec::new();
        let around = read(filter, &mut own);
        let title = format!("filter {} (`{}`)", index + 1, filter.filter.escape_debug());
        mistakes.extend(own.into_iter().map(|mistake| format!("{title}: {mistake}")));
        found.extend(around);
    }
    if mistakes.is_empty() {
        Ok(found)
    } else {
        Err(mistakes)
    }
}

fn read(filter: &OperatorFilter, mistakes: &mut Vec<String>) -> Option<Around> {
    let what = what(filter, mistakes);
    let path = filter.mount.as_deref().unwrap_or("/");
    let mount = match Mount::new(filter.host.as_deref(), path) {
        Ok(mount) => Some(mount),
        Err(mistake) => {
            mistakes.push(mistake.to_string());
            None
        }
    };
    for (key, is_set, of) in [
        (
            "body_bytes_max",
            filter.body_bytes_max.is_some(),
            BODY_LIMIT,
        ),
        ("request", filter.request.is_some(), HEADERS),
        ("response", filter.response.is_some(), HEADERS),
    ] {
        if is_set && filter.filter != of {
            mistakes.push(format!("`{key}` belongs to `{of}`"));
        }
    }
    let Mount { host, path } = mount?;
    Some(Around {
        filter: FilterUse { what: what? },
        host,
        path,
    })
}

fn what(filter: &OperatorFilter, mistakes: &mut Vec<String>) -> Option<What> {
    if let Some(name) = filter.filter.strip_prefix(PLUGIN) {
        let name = match name.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                mistakes.push(format!("{error}"));
                None
            }
        };
        if filter.on_failure.is_none() {
            mistakes.push("`on_failure` is missing: write `open` or `closed`".to_owned());
        }
        let (name, on_failure) = (name?, filter.on_failure?);
        return Some(What::Plugin { name, on_failure });
    }
    if filter.on_failure.is_some() {
        mistakes.push("`on_failure` is for plugins; the host's own filters do not fail".to_owned());
    }
    match filter.filter.as_str() {
        SECURITY_HEADERS => Some(What::Native(Native::SecurityHeaders)),
        BODY_LIMIT => match filter.body_bytes_max {
            Some(bytes_max) => Some(What::Native(Native::BodyLimit { bytes_max })),
            None => {
                mistakes.push("`body_bytes_max` is missing".to_owned());
                None
            }
        },
        HEADERS => {
            let changes = |rules: &Option<Rules>, is_request: bool, mistakes: &mut Vec<String>| {
                let rules = rules.iter();
                let mut written = Written::default();
                for rules in rules {
                    let set = rules.set.iter();
                    written
                        .set
                        .extend(set.map(|(name, value)| (&**name, &**value)));
                    written
                        .remove
                        .extend(rules.remove.iter().map(|name| &**name));
                }
                written.into_changes(is_request, Reach::Host, mistakes)
            };
            let rules = HeaderRules {
                request: changes(&filter.request, true, mistakes),
                response: changes(&filter.response, false, mistakes),
            };
            Some(What::Native(Native::Headers(rules)))
        }
        _ => {
            mistakes.push(format!(
                "there is no such filter; write `plugin:NAME` or one of {}",
                NAMES.join(", ")
            ));
            None
        }
    }
}
