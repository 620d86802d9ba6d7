//! The changes of a plugin that an operator or an author can make, as data: `registry` applies them to rows and memory
//! together, or not at all.

mod store;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::ids::DeploymentId;
use crate::plugins::store::{Deployment, LiveRow};
use crate::plugins::validate::{Grant, Grants};
use crate::plugins::{GrantMode, Mount};

/// One change of the rows of one plugin. As data, because it may have to be tried more than once.
#[derive(Debug, Clone)]
pub(in crate::plugins) enum Change {
    /// A new deployment with mount and settings, live at once. Grants are written only if they are given along.
    Record(Box<Record>),
    /// An earlier deployment: the newest one before the live one, if none is named.
    RollBack {
        to: Option<DeploymentId>,
    },
    Mount {
        mount: Mount,
        is_nested_accepted: bool,
    },
    /// Exactly these grants.
    SetGrants(Grants),
    /// These grants, too.
    AddGrants(Vec<Grant>),
    RemoveGrant(Grant),
    /// Settings that were checked against the schema.
    Config(Map<String, Value>),
    /// Deployments and grants go with the plugin. What it stored through services stays.
    Delete,
}

/// A new deployment, ready to be recorded.
#[derive(Debug, Clone)]
pub(in crate::plugins) struct Record {
    pub(in crate::plugins) wanted: LiveRow,
    /// The revision of the plugin that all of it was checked against; nothing if there was no such plugin.
    pub(in crate::plugins) began_from: Option<i64>,
    pub(in crate::plugins) grant: GrantMode,
    pub(in crate::plugins) is_nested_accepted: bool,
    pub(in crate::plugins) note: Option<String>,
}

impl Change {
    /// Whether it is meant to make a deployment live, and is pointless if that cannot be loaded.
    pub(in crate::plugins) fn makes_live(&self) -> bool {
        matches!(self, Self::Record(_) | Self::RollBack { .. })
    }
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plugins) enum Changed {
    /// This deployment is live; the other one was before.
    Live {
        deployment: Box<Deployment>,
        replaced: Option<DeploymentId>,
    },
    Settings,
}
