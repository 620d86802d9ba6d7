//! A limit as declared, and as the limiter wants it: checked once, so that deciding is a few additions.

use serde::{Deserialize, Serialize};

use crate::limits::{Caller, Key, KeyKind};

const WINDOW_MS_MAX: u64 = 31 * 24 * 3600 * 1000;
/// Keeps all sums far from the end of 64 bits.
const FULL_NS_MAX: u64 = u64::MAX / 8;

/// A limit as an operator or a manifest writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The name shown in headers and problems: 1 to 64 small letters, digits, hyphens and underscores.
    pub name: String,
    /// How much may be spent per window; a plain request costs 1.
    pub limit: u64,
    /// The length of the window, in milliseconds, at most 31 days.
    pub window_ms: u64,
    /// How much may be spent at once after a rest. Default: `limit`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// Whose use is added up. Default: `ip`.
    #[serde(default = "by_address")]
    pub key: KeyKind,
}

fn by_address() -> KeyKind {
    KeyKind::Ip
}

/// Why a policy cannot be enforced as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{name}` cannot be used: {rule}")]
pub struct InvalidPolicy {
    pub name: String,
    pub rule: &'static str,
}

/// A token bucket: `burst` tokens, refilled evenly at `limit` per window. In any stretch of time no more is admitted
/// than the burst and what was refilled meanwhile.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) id: u64,
    /// Nanoseconds in which one token is refilled, rounded up, so that the rate is never exceeded.
    pub(super) token_ns: u64,
    /// Nanoseconds in which an empty bucket becomes full.
    pub(super) full_ns: u64,
    name: String,
    header_item: String,
    limit: u64,
    key: KeyKind,
}

impl Policy {
    /// Checks a policy. `scope` says where it was declared, for example `shop/POST /orders`: two policies of the same
    /// scope and name share their counters, also over a redeployment.
    pub fn new(scope: &str, config: &PolicyConfig) -> Result<Self, InvalidPolicy> {
        let name = config.name.clone();
        let burst = config.burst.unwrap_or(config.limit);
        let refuse = |rule| {
            Err(InvalidPolicy {
                name: name.chars().take(80).collect(),
                rule,
            })
        };
        if !is_name(&name) {
            return refuse(
                "its name must be 1 to 64 small letters, digits, hyphens and underscores",
            );
        }
        if config.limit == 0 || burst == 0 {
            return refuse("`limit` and `burst` must be at least 1");
        }
        if config.window_ms == 0 || config.window_ms > WINDOW_MS_MAX {
            return refuse("`window_ms` must be between 1 and 31 days");
        }
        let window_ns = config.window_ms * 1_000_000;
        if config.limit > window_ns {
            return refuse("`limit` must be at most a thousand million per second");
        }
        let token_ns = window_ns.div_ceil(config.limit);
        let Some(full_ns) = token_ns.checked_mul(burst).filter(|ns| *ns <= FULL_NS_MAX) else {
            return refuse("`burst` is too large for such a slow refill");
        };
        let mut header_item = format!("\"{name}\";q={}", config.limit);
        // The window is whole seconds in the header; a wrong number would be worse than none.
        if config.window_ms.is_multiple_of(1000) {
            header_item.push_str(&format!(";w={}", config.window_ms / 1000));
        }
        let id = id_of(scope, &name);
        let (limit, key) = (config.limit, config.key);
        Ok(Self {
            id,
            token_ns,
            full_ns,
            name,
            header_item,
            limit,
            key,
        })
    }

    /// The name shown in headers and problems.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much may be spent per window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What this policy counts by.
    pub fn key_kind(&self) -> KeyKind {
        self.key
    }

    /// The key by which this policy counts this caller.
    pub fn key_of(&self, caller: &Caller<'_>) -> Key {
        Key::of_caller(self.key, caller)
    }

    /// This policy's item of a `RateLimit-Policy` header: `"default";q=100;w=60`.
    pub fn header_item(&self) -> &str {
        &self.header_item
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

fn id_of(scope: &str, name: &str) -> u64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new()
        .chain_update(scope)
        .chain_update([0])
        .chain_update(name);
    let digest: [u8; 32] = digest.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
