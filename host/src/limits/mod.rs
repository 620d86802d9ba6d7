//! How often somebody may do something: token buckets, several decided at once, in bounded memory. Who the caller is
//! and what a refusal looks like on the wire is for the front doors to know; only the header values are made here.

mod decision;
mod key;
mod limiter;
mod policy;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Outcome};
pub use key::{Caller, Key, KeyKind};
pub use limiter::{Check, Limiter, TooManyChecks};
pub use policy::{InvalidPolicy, Policy, PolicyConfig};

use serde::{Deserialize, Serialize};

/// Most policies that one request can be held to.
pub const CHECKS_MAX: usize = 8;

/// How much the limiter may remember.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most callers whose use is remembered, counted once per policy; each takes about 50 bytes. When all places are
    /// taken by callers who are not idle, newcomers share what one of them would have, so that a flood of new
    /// addresses cannot get around a limit. Default: 200000.
    pub entries_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries_max: 200_000,
        }
    }
}
