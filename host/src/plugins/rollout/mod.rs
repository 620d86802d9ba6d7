//! Bringing a version on with care: a canary that answers a part of the requests beside the stable version, what is seen of
//! both, and the judgement that ends a canary that does worse. Which versions there are is in the rows.

mod control;
mod figures;
pub(super) mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::plugins::registry::LivePlugin;

pub use control::{Status, VersionStatus};
pub use figures::{Figures, Judged, Sum};
pub use store::{Approval, Event, EventKind};

/// How versions are brought on, compared and let go.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The header with which a request chooses between the stable version and its canary: `canary`, `stable`, a version
    /// or the id of a deployment. Default: `x-gantry-version`.
    #[serde(with = "header_name")]
    pub header: HeaderName,
    /// What a canary's weight is a part of: `callers` or `requests`. Default: `callers`.
    pub spread: Spread,
    /// Over how long canary and stable version are compared. Default: 60.
    pub window_s: u64,
    /// Fewest requests of the canary within that time before it is judged. Default: 20.
    pub requests_min: u64,
    /// How many clients, told apart by their addresses, must have met errors before a canary is taken back for them, if so
    /// many call it: nobody alone ends a canary. Default: 3.
    pub clients_min: u32,
    /// How much higher than that of the stable version the canary's part of failed requests may be: 0.05 is five in a
    /// hundred. Default: 0.05.
    pub error_rate_margin: f64,
    /// How many times as long as the stable version the canary may take: the median from `requests_min` requests of both
    /// on, the 99th percentile from ten times as many on. Default: 2.
    pub latency_factor: f64,
    /// Milliseconds that the canary may take longer in any case. Default: 50.
    pub latency_margin_ms: f64,
    /// Whether a canary that does worse is taken back without asking. Default: true.
    pub rolls_back: bool,
    /// How long a version that was replaced may finish its requests; what is left then is stopped. Default: 30.
    pub drain_s: u64,
    /// Processor time of `gantry:lifecycle/health`. Default: 2000.
    pub health_cpu_ms: u64,
    /// Time of `gantry:lifecycle/health`. Default: 10000.
    pub health_wall_ms: u64,
    /// Processor time of `gantry:lifecycle/migrate`. Default: 60000.
    pub migrate_cpu_ms: u64,
    /// Time of `gantry:lifecycle/migrate`. Default: 300000.
    pub migrate_wall_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: HeaderName::from_static("x-gantry-version"),
            spread: Spread::Callers,
            window_s: 60,
            requests_min: 20,
            clients_min: 3,
            error_rate_margin: 0.05,
            latency_factor: 2.0,
            latency_margin_ms: 50.0,
            rolls_back: true,
            drain_s: 30,
            health_cpu_ms: 2000,
            health_wall_ms: 10_000,
            migrate_cpu_ms: 60_000,
            migrate_wall_ms: 300_000,
        }
    }
}

impl Config {
    pub(super) fn window(&self) -> Duration {
        Duration::from_secs(self.window_s.max(1))
    }

    /// Calls with which one client counts in each twelfth of the window: as many as a judgement needs at least.
    pub(super) fn client_calls_max(&self) -> u32 {
        u32::try_from(self.requests_min).unwrap_or(u32::MAX)
    }
}

/// What a canary's weight is a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// So many of a hundred callers get it, and then always: those who are known by their user or key, others by their
    /// address. Who has it keeps it when the weight grows.
    #[default]
    Callers,
    /// Of a hundred requests in a row, so many get it, whoever they come from.
    Requests,
}

mod header_name {
    use http::HeaderName;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(name: &HeaderName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<HeaderName, D::Error> {
        let text = String::deserialize(from)?;
        HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| D::Error::custom(format!("`{text}` is not the name of a header")))
    }
}

/// The part of the requests that a canary gets, 0 to 99 of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u8);

/// Why a number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a canary gets 0 to 99 of 100 requests; with 0 only those that ask for it by header")]
pub struct InvalidWeight;

impl Weight {
    /// So many of a hundred requests.
    pub fn new(percent: u32) -> Result<Self, InvalidWeight> {
        match u8::try_from(percent) {
            Ok(percent) if percent < 100 => Ok(Self(percent)),
            _ => Err(InvalidWeight),
        }
    }

    /// Of a hundred requests.
    pub fn percent(self) -> u32 {
        self.0.into()
    }
}

/// The versions of one plugin that answer now.
#[derive(Debug)]
pub struct Slot {
    pub stable: Arc<LivePlugin>,
    canary: Option<Canary>,
    /// Requests so far, as far as they matter for the choice.
    turns: AtomicU64,
}

/// A version that answers a part of the requests.
#[derive(Debug)]
pub struct Canary {
    pub plugin: Arc<LivePlugin>,
    pub weight: Weight,
}

/// Which version answers a request.
#[derive(Debug)]
pub struct Choice<'a> {
    pub plugin: &'a Arc<LivePlugin>,
    /// Whether the request says something about the version. Who chooses a version by header could otherwise have it
    /// taken back.
    pub is_counted: bool,
    /// Whether there was a choice: then the answer names the version.
    pub is_named: bool,
}

impl Slot {
    pub(super) fn new(stable: Arc<LivePlugin>, canary: Option<(Arc<LivePlugin>, Weight)>) -> Self {
        Self {
            stable,
            canary: canary.map(|(plugin, weight)| Canary { plugin, weight }),
            turns: AtomicU64::new(0),
        }
    }

    /// The version beside the stable one.
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// The versions that answer, the stable one first.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<LivePlugin>> {
        let canary = self.canary.as_ref().map(|canary| &canary.plugin);
        std::iter::once(&self.stable).chain(canary)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let parts = |slot: &Self| {
            let canary = slot.canary.as_ref();
            (
                Arc::as_ptr(&slot.stable),
                canary.map(|canary| (Arc::as_ptr(&canary.plugin), canary.weight)),
            )
        };
        parts(self) == parts(other)
    }

    /// The version for one request. Takes no lock, and without a canary does nothing at all. `caller` is a name for who
    /// is asking, the same each time.
    pub fn choose(
        &self,
        headers: &HeaderMap,
        config: &Config,
        caller: impl FnOnce() -> String,
    ) -> Choice<'_> {
        let Some(canary) = &self.canary else {
            return Choice {
                plugin: &self.stable,
                is_counted: false,
                is_named: false,
            };
        };
        let wanted = headers.get(&config.header).map(|value| value.as_bytes());
        let named = wanted.and_then(|wanted| {
            let is = |plugin: &LivePlugin, word: &[u8]| wanted == word || plugin.is_called(wanted);
            if is(&canary.plugin, b"canary") {
                Some(&canary.plugin)
            } else if is(&self.stable, b"stable") {
                Some(&self.stable)
            } else {
                None
            }
        });
        let weight = u64::from(canary.weight.0);
        let plugin = named.unwrap_or_else(|| {
            let is_canarys = match config.spread {
                Spread::Callers => place(&canary.plugin.id, &caller()) < weight,
                Spread::Requests => {
                    // Spread evenly: with 10, every tenth.
                    let turn = self.turns.fetch_add(1, Relaxed) % 100;
                    (turn + 1) * weight / 100 > turn * weight / 100
                }
            };
            if is_canarys {
                &canary.plugin
            } else {
                &self.stable
            }
        });
        Choice {
            plugin,
            is_counted: named.is_none() || weight == 0,
            is_named: true,
        }
    }
}

/// Where a caller stands among a hundred, for one canary: the same on every host, after a restart, and with another weight.
/// For the next canary others come first.
fn place(canary: &str, caller: &str) -> u64 {
    let digest = Sha256::new()
        .chain_update(canary)
        .chain_update([0])
        .chain_update(caller);
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(digest.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 100
}

/// Why a canary should be taken back; nothing if it does well enough or nobody can tell yet.
pub(super) fn judge(canary: &Sum, stable: &Sum, config: &Config) -> Option<String> {
    let (own, usual) = (&canary.judged, &stable.judged);
    if own.requests < config.requests_min.max(1) {
        return None;
    }
    let (failed, before) = (own.error_rate(), usual.error_rate());
    let window = config.window_s;
    let are_several = own.clients_failed >= config.clients_min.min(own.clients);
    if failed > before + config.error_rate_margin && are_several {
        return Some(format!(
            "{:.1} % of its {} requests in the last {window} s failed; of the stable version {:.1} % did",
            failed * 100.0,
            own.requests,
            before * 100.0,
        ));
    }
    let fewest = own.requests.min(usual.requests);
    let ranks = [
        (
            "median",
            canary.p50_ms,
            stable.p50_ms,
            config.requests_min.max(1),
        ),
        (
            "99th percentile",
            canary.p99_ms,
            stable.p99_ms,
            config.requests_min.max(1).saturating_mul(10),
        ),
    ];
    ranks.into_iter().find_map(|(rank, took, usual, requests_min)| {
        let max = usual * config.latency_factor + config.latency_margin_ms;
        (fewest >= requests_min && took > max).then(|| {
            format!(
                "the {rank} of its latency in the last {window} s was {took:.1} ms; that of the stable version was \
                 {usual:.1} ms"
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_judged_by_the_stable_version_and_only_when_there_is_enough_to_see() {
        let sum = |requests, errors, p50_ms, p99_ms| Sum {
            requests,
            errors,
            p50_ms,
            p99_ms,
            judged: Judged {
                requests,
                errors,
                clients: 10,
                clients_failed: if errors > 0 { 3 } else { 0 },
            },
        };
        let by = |clients, clients_failed| {
            let mut sum = sum(100, 50, 2.0, 20.0);
            (sum.judged.clients, sum.judged.clients_failed) = (clients, clients_failed);
            sum
        };
        let good = sum(1000, 1, 2.0, 20.0);
        // (canary, stable, what the reason says)
        let cases = [
            (sum(19, 19, 2.0, 20.0), good, None),
            (sum(20, 20, 2.0, 20.0), good, Some("100.0 %")),
            (sum(100, 4, 2.0, 20.0), good, None),
            (sum(100, 10, 2.0, 20.0), good, Some("10.0 %")),
            // What fails in both is not the canary's fault.
            (sum(100, 50, 2.0, 20.0), sum(1000, 480, 2.0, 20.0), None),
            (sum(100, 0, 53.0, 60.0), good, None),
            (sum(100, 0, 200.0, 300.0), good, Some("median")),
            (sum(100, 0, 2.0, 500.0), good, None),
            (sum(300, 0, 2.0, 500.0), good, Some("99th percentile")),
            // Whoever is alone with an error among others does not decide.
            (by(10, 1), good, None),
            (by(10, 3), good, Some("50.0 %")),
            (by(2, 1), good, None),
            (by(2, 2), good, Some("50.0 %")),
            (by(1, 1), good, Some("50.0 %")),
            // There is nothing to compare with.
            (sum(300, 0, 200.0, 500.0), sum(0, 0, 0.0, 0.0), None),
            (
                sum(300, 300, 2.0, 2.0),
                sum(0, 0, 0.0, 0.0),
                Some("100.0 %"),
            ),
        ];
        for (canary, stable, expected) in cases {
            let reason = judge(&canary, &stable, &Config::default());
            match (&reason, expected) {
                (None, None) => {}
                (Some(reason), Some(part)) => assert!(reason.contains(part), "{reason}"),
                _ => panic!("{canary:?} beside {stable:?}: {reason:?}"),
            }
        }
    }

    #[test]
    fn callers_keep_their_place_and_are_spread_over_all_places() {
        let caller = |number: u32| format!("address 192.0.2.{number}");
        let before = |canary: &str, weight: u64| -> Vec<u32> {
            let all = 0..10_000;
            all.filter(|number| place(canary, &caller(*number)) < weight)
                .collect()
        };
        let (few, more) = (before("a", 5), before("a", 30));
        assert!((400..600).contains(&few.len()), "{}", few.len());
        assert!((2800..3200).contains(&more.len()), "{}", more.len());
        assert!(few.iter().all(|caller| more.contains(caller)));
        let others = before("b", 5);
        let both = few.iter().filter(|caller| others.contains(caller));
        assert!(both.count() < 60, "another canary has other callers");
    }

    #[test]
    fn a_weight_is_a_part_of_a_hundred() {
        assert_eq!(Weight::new(0).map(Weight::percent), Ok(0));
        assert_eq!(Weight::new(99).map(Weight::percent), Ok(99));
        assert_eq!(Weight::new(100), Err(InvalidWeight));
        assert_eq!(Weight::new(1000), Err(InvalidWeight));
    }
}
