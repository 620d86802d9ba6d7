//! A limit as declared, and as the limiter wants it: checked once, so that deciding is a few additions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::counter::PARTS;
use crate::limits::{Caller, Key, KeyKind, Naming};

const WINDOW_MS_MAX: u64 = 31 * 24 * 3600 * 1000;
/// Keeps all sums far from the end of 64 bits.
const FULL_NS_MAX: u64 = u64::MAX / 8;

/// A limit as an operator or a manifest writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The name shown in headers and problems: 1 to 64 small letters, digits, hyphens and underscores.
    pub name: String,
    /// How much may be spent per window; a plain request costs 1. With `concurrency`, how many may be in progress.
    pub limit: u64,
    /// The length of the window, in milliseconds, at most 31 days. None with `concurrency`.
    #[serde(default)]
    pub window_ms: u64,
    /// How much may be spent at once after a rest, with `token-bucket`. Default: `limit`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// Whose use is added up: `ip`, `user`, `api-key`, `principal` or `route`. Default: `ip`.
    #[serde(default = "by_address")]
    pub key: KeyKind,
    /// How it is added up: `token-bucket`, `fixed-window`, `sliding-window` or `concurrency`. Default: `token-bucket`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Whether it only counts and tells, and refuses nobody. Default: false.
    #[serde(default)]
    pub shadow: bool,
    /// What it does while the shared server cannot be reached: `local`, `open` or `closed`. Default: `limits.fail`.
    #[serde(default)]
    pub fail: Option<Fail>,
}

/// What is written of a limit that has its values already where nothing is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyPart {
    name: Option<String>,
    limit: Option<u64>,
    window_ms: Option<u64>,
    burst: Option<u64>,
    key: Option<KeyKind>,
    algorithm: Option<Algorithm>,
    shadow: Option<bool>,
    fail: Option<Fail>,
}

impl PolicyPart {
    /// The limit with what is written in the place of what was there.
    pub fn over(self, known: PolicyConfig) -> PolicyConfig {
        PolicyConfig {
            name: self.name.unwrap_or(known.name),
            limit: self.limit.unwrap_or(known.limit),
            window_ms: match self.algorithm {
                Some(Algorithm::Concurrency) => self.window_ms.unwrap_or(0),
                _ => self.window_ms.unwrap_or(known.window_ms),
            },
            burst: self.burst.or(known.burst),
            key: self.key.unwrap_or(known.key),
            algorithm: self.algorithm.unwrap_or(known.algorithm),
            shadow: self.shadow.unwrap_or(known.shadow),
            fail: self.fail.or(known.fail),
        }
    }
}

fn by_address() -> KeyKind {
    KeyKind::Ip
}

/// How a limit adds up what is spent.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// A bucket with the burst in it, refilled evenly.
    #[default]
    TokenBucket,
    /// From one full minute (or whatever the window is) to the next.
    FixedWindow,
    /// In whatever stretch of time as long as the window.
    SlidingWindow,
    /// What is in progress, each from its beginning to the end of its answer.
    Concurrency,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenBucket => "token-bucket",
            Self::FixedWindow => "fixed-window",
            Self::SlidingWindow => "sliding-window",
            Self::Concurrency => "concurrency",
        })
    }
}

/// What a limit does while the shared server cannot be reached.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fail {
    /// Nobody is held to it.
    Open,
    /// Nobody gets through.
    Closed,
    /// Each host counts for itself.
    #[default]
    Local,
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Local => "local",
        })
    }
}

/// Why a policy cannot be enforced as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{name}` cannot be used: {rule}")]
pub struct InvalidPolicy {
    pub name: String,
    pub rule: &'static str,
}

/// A limit, ready to be decided on. Whatever its algorithm: no stretch of time admits more than it says.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) id: u64,
    pub(super) rule: Rule,
    pub(super) limit: u64,
    /// Whose limits may be decided together.
    pub(super) group: String,
    pub(super) is_shadow: bool,
    pub(super) fail: Option<Fail>,
    name: String,
    header_item: String,
    key: KeyKind,
}

/// The algorithm with its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Bucket {
        /// Nanoseconds in which one token is refilled, rounded up, so that the rate is never exceeded.
        token_ns: u64,
        /// Nanoseconds in which an empty bucket becomes full.
        full_ns: u64,
    },
    Fixed {
        window_ns: u64,
    },
    Sliding {
        /// A window is so many parts long, rounded up.
        part_ns: u64,
    },
    Concurrency,
}

impl Policy {
    /// Checks a policy. `group` and `scope` say where it was declared, for example `shop` and `POST /orders`: two policies
    /// with the same of both, and the same name and algorithm, share their counters, also over a redeployment.
    pub fn new(group: &str, scope: &str, config: &PolicyConfig) -> Result<Self, InvalidPolicy> {
        let name = config.name.clone();
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
        let burst = config.burst.unwrap_or(config.limit);
        if config.limit == 0 || burst == 0 {
            return refuse("`limit` and `burst` must be at least 1");
        }
        if config.burst.is_some() && config.algorithm != Algorithm::TokenBucket {
            return refuse("`burst` is for the algorithm `token-bucket`");
        }
        if config.algorithm != Algorithm::TokenBucket && u32::try_from(config.limit).is_err() {
            return refuse("`limit` must be at most 4294967295");
        }
        let is_timed = config.algorithm != Algorithm::Concurrency;
        if !is_timed && config.window_ms != 0 {
            return refuse("what is in progress has no window: leave `window_ms` out");
        }
        if is_timed && (config.window_ms == 0 || config.window_ms > WINDOW_MS_MAX) {
            return refuse("`window_ms` must be between 1 and 31 days");
        }
        let window_ns = config.window_ms * 1_000_000;
        let rule = match config.algorithm {
            Algorithm::TokenBucket => {
                if config.limit > window_ns {
                    return refuse("`limit` must be at most a thousand million per second");
                }
                let token_ns = window_ns.div_ceil(config.limit);
                let full_ns = token_ns.checked_mul(burst);
                let Some(full_ns) = full_ns.filter(|ns| *ns <= FULL_NS_MAX) else {
                    return refuse("`burst` is too large for such a slow refill");
                };
                Rule::Bucket { token_ns, full_ns }
            }
            Algorithm::FixedWindow => Rule::Fixed { window_ns },
            Algorithm::SlidingWindow => Rule::Sliding {
                part_ns: window_ns.div_ceil(PARTS),
            },
            Algorithm::Concurrency => Rule::Concurrency,
        };
        let mut header_item = format!("\"{name}\";q={}", config.limit);
        if !is_timed {
            header_item.push_str(";qu=\"concurrent-requests\"");
        } else if config.window_ms.is_multiple_of(1000) {
            // The window is whole seconds in the header; a wrong number would be worse than none.
            header_item.push_str(&format!(";w={}", config.window_ms / 1000));
        }
        Ok(Self {
            id: id_of([group, scope, &name, &config.algorithm.to_string()]),
            rule,
            limit: config.limit,
            group: group.to_owned(),
            is_shadow: config.shadow,
            fail: config.fail,
            name,
            header_item,
            key: config.key,
        })
    }

    /// The name shown in headers and problems.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How much may be spent per window, or be in progress.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Most that one request can cost and ever be let through.
    pub fn cost_max(&self) -> u64 {
        match self.rule {
            Rule::Bucket { token_ns, full_ns } => full_ns / token_ns,
            Rule::Fixed { .. } | Rule::Sliding { .. } => self.limit,
            Rule::Concurrency => 1,
        }
    }

    /// What this policy counts by.
    pub fn key_kind(&self) -> KeyKind {
        self.key
    }

    /// Whether it only counts and tells.
    pub fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// The key by which this policy counts this caller.
    pub fn key_of(&self, caller: &Caller<'_>, naming: Naming) -> Key {
        Key::of_caller(self.key, caller, naming)
    }

    /// This policy's item of a `RateLimit-Policy` header: `"default";q=100;w=60`.
    pub fn header_item(&self) -> &str {
        &self.header_item
    }

    /// Whether it counts what is in progress.
    pub(super) fn is_concurrency(&self) -> bool {
        matches!(self.rule, Rule::Concurrency)
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

fn id_of(words: [&str; 4]) -> u64 {
    use sha2::Digest as _;
    let mut digest = sha2::Sha256::new();
    for word in words {
        digest.update(word);
        digest.update([0]);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
