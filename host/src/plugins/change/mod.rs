//! The changes of a plugin that an operator or an author can make, as data: `registry` applies them to rows and memory
//! together, or not at all.

mod apply;
mod record;
mod store;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::ids::DeploymentId;
use crate::plugins::rollout::{Approval, Weight};
use crate::plugins::store::{Deployment, LiveRow};
use crate::plugins::validate::{Grant, Grants};
use crate::plugins::{GrantMode, Mount};

/// One change of the rows of one plugin. As data, because it may have to be tried more than once.
#[derive(Debug, Clone)]
pub(in crate::plugins) enum Change {
    /// A new deployment with mount and settings, live at once. Grants are written only if they are given along.
    Record(Box<Record>),
    /// An earlier deployment: if none is named, the stable one if there is a canary, else the newest one that was live before
    /// the live one.
    RollBack {
        to: Option<DeploymentId>,
        reason: Option<String>,
    },
    /// Another part of the requests for the canary.
    CanaryWeight {
        weight: Weight,
        reason: Option<String>,
    },
    /// The canary gets all requests, if it is the one that was looked at.
    Promote {
        canary: DeploymentId,
        reason: Option<String>,
        /// What the canary breaks of what the stable version promises to callers.
        breaks: Vec<String>,
    },
    /// The canary gets none any more. Only this one, if one is named.
    EndCanary {
        only: Option<DeploymentId>,
        reason: Option<String>,
    },
    /// An upgrade waits for approval.
    Ask(Box<Approval>),
    /// It is not approved.
    Reject {
        reason: Option<String>,
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
    /// Deployments and grants go with the plugin. What it stored through services is removed after this, if `with_data`,
    /// and otherwise stays.
    Delete {
        with_data: bool,
    },
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
    /// The part of the requests that it gets at first; nothing for all of them at once. A plugin's first deployment gets
    /// all in any case.
    pub(in crate::plugins) canary: Option<Weight>,
    /// What it breaks of what the live version promises to callers.
    pub(in crate::plugins) breaks: Vec<String>,
    /// Who agreed to what it asks for, and why, if it had to wait for that.
    pub(in crate::plugins) approved: Option<Approved>,
}

/// Somebody's agreement to what an upgrade asks for.
#[derive(Debug, Clone)]
pub(in crate::plugins) struct Approved {
    /// Which upgrade it was that waited.
    pub(in crate::plugins) deployment: DeploymentId,
    pub(in crate::plugins) grants: Vec<Grant>,
    pub(in crate::plugins) by: String,
    pub(in crate::plugins) reason: Option<String>,
}

impl Change {
    /// Whether it is meant to make a deployment live, and is pointless if that cannot be loaded.
    pub(in crate::plugins) fn makes_live(&self) -> bool {
        matches!(
            self,
            Self::Record(_) | Self::RollBack { .. } | Self::Promote { .. }
        )
    }

    /// Whether the version is asked first if it is fit to answer. The way back is open in any case: what it leads to has
    /// answered before, and what is live now is worse.
    pub(in crate::plugins) fn is_gated(&self) -> bool {
        matches!(self, Self::Record(_) | Self::Promote { .. })
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
    /// This deployment answers a part of the requests.
    Canary {
        deployment: Box<Deployment>,
        weight: Weight,
    },
    Settings,
}
