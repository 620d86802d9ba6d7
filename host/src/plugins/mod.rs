//! Which code is live: what an author asks for, whether it may have it, where the bytes and the rows are. It leaves
//! running the code to `runtime`.

pub mod access;
pub mod accounts;
pub mod artifact;
pub mod breaker;
mod build;
pub mod bundle;
pub mod cached;
mod change;
pub mod checks;
mod config;
mod control;
pub mod cors;
mod deploy;
pub mod describe;
pub mod filters;
mod idle;
pub mod limits;
pub mod manifest;
pub mod metrics;
pub(crate) mod mistake;
mod mount;
mod promise;
pub mod registry;
pub mod rehearsal;
pub mod rollout;
pub mod routes;
mod row;
pub mod schema;
pub mod store;
pub mod trust;
pub mod validate;
pub mod versions;

pub use config::{Config, Defaults, Tests};
pub use control::{Kept, Plugins};
pub use deploy::{DeployError, Deployed, GrantMode, State, Upload};
pub use mistake::{Location, Mistake};
pub use mount::{InvalidMount, Mount, is_within};
pub use promise::Promises;

/// Why a deployment that is in the rows cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    #[error("its manifest is not valid any more: {}", join(.0))]
    Manifest(Vec<Mistake>),
    #[error("its config is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    #[error("its routes cannot be used: {0}")]
    Route(String),
    #[error(transparent)]
    Trust(#[from] trust::Refusal),
    #[error(transparent)]
    Rows(#[from] store::StoreError),
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Load(#[from] crate::runtime::LoadError),
}

fn join(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
