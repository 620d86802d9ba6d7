//! What stands before and behind the routes of a plugin: filters of the host's own and plugins that filter, in one list.
//! Here they are named and put together; calling them is the gateway's.

mod chain;
mod native;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::PluginName;

pub(in crate::plugins) use chain::{Blocked, Missing, Wiring};
pub use chain::{Chain, Chains, Filter, Step};
pub use native::Native;
pub(in crate::plugins) use native::{
    BODY_LIMIT, HEADERS, HeaderRules, NAMES, Reach, SECURITY_HEADERS, Written,
};
pub use settings::{Around, OperatorFilter, Rules, check};

/// Stands before the name of a plugin.
pub(in crate::plugins) const PLUGIN: &str = "plugin:";

/// A filter as an author or an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterUse {
    pub what: What,
}

impl FilterUse {
    /// As manifests and settings write it.
    pub fn name(&self) -> String {
        match &self.what {
            What::Native(native) => native.name().to_owned(),
            What::Plugin { name, .. } => format!("{PLUGIN}{name}"),
        }
    }
}

/// Which filter it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// One of the host's own. It cannot fail.
    Native(Native),
    /// A plugin that filters.
    Plugin {
        name: PluginName,
        on_failure: OnFailure,
    },
}

/// What becomes of a request when a filter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It goes on as if the filter were not there.
    Open,
    /// It gets an error.
    Closed,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}
