//! What keeps a deployment, or another change of a plugin, from being made.

use crate::ids::{Label, PluginName};
use crate::openapi::compare::Difference;
use crate::plugins::artifact;
use crate::plugins::bundle::BundleError;
use crate::plugins::mistake;
use crate::plugins::registry::{ChangeError, user_of};
use crate::plugins::rehearsal::Report;
use crate::plugins::store::StoreError;
use crate::plugins::trust;
use crate::plugins::{InvalidMount, LoadFailure, Mistake};
use crate::runtime::LoadError;
use crate::services::sql;

/// Why a plugin could not be deployed, rolled back or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("the plugin has {}", mistake::count(.0))]
    Mistakes(Vec<Mistake>),
    #[error(transparent)]
    Trust(#[from] trust::Refusal),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("a component alone needs a name; give one with --name")]
    NameMissing,
    #[error(transparent)]
    Mount(#[from] InvalidMount),
    #[error("the config does not fit the plugin's schema: {}", .0.join("; "))]
    Config(Vec<String>),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("migrating the database `{label}` failed: {source}")]
    Migrate {
        label: Label,
        source: sql::MigrateError,
    },
    #[error("{}", .0.summary())]
    Tests(Report),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("`{plugin}` could not be made live: {reason}")]
    NotLive { plugin: PluginName, reason: String },
    #[error("`{plugin}` says that it is not fit to go live: {reason}")]
    Unhealthy { plugin: PluginName, reason: String },
    #[error("migrating the data of `{plugin}` {version} failed: {reason}")]
    Hook {
        plugin: PluginName,
        version: semver::Version,
        reason: String,
    },
    #[error(
        "the data of `{plugin}` {version} is being migrated by another deployment; deploy again when that is done"
    )]
    Migrating {
        plugin: PluginName,
        version: semver::Version,
    },
    #[error(
        "a canary answers where the plugin hangs now; deploy it without another mount, or move the plugin first"
    )]
    CanaryMoves,
    #[error("{} the filter `{filter}`, which would not be there", user_of(.user))]
    FilterMissing {
        /// Nobody: the settings.
        user: Option<PluginName>,
        filter: PluginName,
    },
    #[error(
        "the filter `{filter}` wants to see bodies, and would stand before the files of `{user}`, which flow past filters"
    )]
    FilesBehindFilter {
        user: PluginName,
        filter: PluginName,
    },
    #[error(
        "`{plugin}` would break its callers in {} places; keep what they use, or say that it may break them (`--allow-breaking`)", .differences.len()
    )]
    Breaking {
        plugin: PluginName,
        differences: Vec<Difference>,
    },
    #[error("the host failed while changing plugins")]
    Host(#[source] anyhow::Error),
}

impl From<ChangeError> for DeployError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => Self::Store(error),
            ChangeError::NotLive { plugin, reason } => Self::NotLive { plugin, reason },
            ChangeError::Unhealthy { plugin, reason } => Self::Unhealthy { plugin, reason },
            ChangeError::FilterMissing { user, filter } => Self::FilterMissing { user, filter },
            ChangeError::FilesBehindFilter { user, filter } => {
                Self::FilesBehindFilter { user, filter }
            }
            ChangeError::Interrupted => Self::Host(error.into()),
        }
    }
}

impl From<LoadFailure> for DeployError {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Manifest(mistakes) => Self::Mistakes(mistakes),
            LoadFailure::Config(mistakes) => Self::Config(mistakes),
            LoadFailure::Route(mistake) => Self::Mistakes(vec![Mistake::new(mistake)]),
            LoadFailure::Trust(refusal) => Self::Trust(refusal),
            LoadFailure::Rows(error) => Self::Store(error),
            LoadFailure::Artifact(error) => Self::Artifact(error),
            LoadFailure::Load(error) => Self::Load(error),
        }
    }
}
