//! How often somebody may do something: windows, token buckets and calls in progress, several decided at once, in bounded
//! memory or on a server that several hosts share. Who the caller is and what a refusal looks like on the wire is for the
//! front doors to know; only the header values are made here.

mod counter;
mod decision;
mod key;
mod leases;
mod limiter;
mod permit;
mod policy;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Outcome};
pub use key::{Caller, Key, KeyKind, Naming};
pub use limiter::{Admission, Error, Limiter};
pub use permit::Permit;
pub use policy::{Algorithm, Fail, InvalidPolicy, Policy, PolicyConfig, PolicyPart};

use serde::{Deserialize, Serialize};

/// Most policies of one route.
pub const OF_ROUTE_MAX: usize = 8;
/// Most policies that one request can be held to: those of a route, and that of an API key.
pub const CHECKS_MAX: usize = OF_ROUTE_MAX + 1;

/// One question to the limiter: may this caller spend `cost` under this policy? A cost of 0 only asks how the caller
/// stands. A cost above what the policy allows at once is never admitted.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    pub policy: &'a Policy,
    pub key: Key,
    pub cost: u32,
}

/// Where rate limits are counted, and how much may be remembered.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it is counted: `process`, each host for itself, or `shared`, all hosts together on the server of `[cluster]`.
    /// Default: `process`.
    pub store: Store,
    /// What a limit does while the shared server cannot be reached, unless the limit says so itself: `local` (each host
    /// counts for itself), `open` (nobody is held to it) or `closed` (requests are refused with 503). Default: `local`.
    pub fail: Fail,
    /// Whether answers have `X-RateLimit-Limit`, `-Remaining` and `-Reset` too, about the limit that is nearest. Default:
    /// false.
    pub legacy_headers: bool,
    /// Most callers whose use is remembered in this process, counted once per policy; each takes about 100 bytes. When all
    /// places are taken by callers who are not idle, newcomers share what one of them would have, so that a flood of new
    /// addresses cannot get around a limit. Default: 200000.
    pub entries_max: usize,
}

/// Where it is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In this process.
    #[default]
    Process,
    /// On the server that hosts share.
    Shared,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: Store::default(),
            fail: Fail::default(),
            legacy_headers: false,
            entries_max: 200_000,
        }
    }
}
