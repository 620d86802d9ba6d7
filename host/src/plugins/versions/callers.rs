//! Who still calls routes that are deprecated: counted in memory since the host was started, and so many at most.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{IntCounterVec, Opts};

use crate::auth::Principal;
use crate::ids::PluginName;

/// The callers of all deprecated routes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    book: Arc<Mutex<BTreeMap<Key, Arc<CallersOf>>>>,
    requests: IntCounterVec,
}

/// Fewer routes than this are not worth a look for those that nobody needs.
const LOOK_MIN: usize = 1024;

/// Plugin, pattern of the route, version.
type Key = (PluginName, String, String);

/// The callers of one route.
#[derive(Debug)]
pub struct CallersOf {
    callers: Mutex<Seen>,
    callers_max: usize,
    requests: [prometheus::IntCounter; KINDS.len()],
}

#[derive(Debug, Default)]
struct Seen {
    /// By id. Those who are not known have the empty one.
    known: HashMap<String, (&'static str, u64, i64)>,
    /// Calls of those for whom there was no place.
    others: (u64, i64),
}

/// What callers are told apart by in metrics, where their ids would be too many.
const KINDS: [&str; 4] = ["anonymous", "user", "api-key", "service-account"];
/// The word for those who are not told apart.
const OTHERS: &str = "others";

/// What one caller has called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldCall {
    /// Below the mount.
    pub route: String,
    /// Empty if the route is in none.
    pub version: String,
    /// `user`, `api-key`, …, `anonymous`, or `others` for all who are not told apart.
    pub kind: &'static str,
    /// The id of the user or key; empty if there is none.
    pub caller: String,
    pub calls: u64,
    /// When it last called.
    pub last_at_ms: i64,
}

impl Callers {
    pub(in crate::plugins) fn register(
        registry: &prometheus::Registry,
    ) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "gantry_deprecated_requests_total",
                "Requests to routes that are deprecated, or gone, by kind of caller.",
            ),
            &["plugin", "route", "version", "caller"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self {
            book: Arc::default(),
            requests,
        })
    }

    /// Those of one route. Deployments that follow one another go on with the same.
    pub(super) fn of_route(
        &self,
        plugin: &PluginName,
        route: &str,
        version: Option<&str>,
        callers_max: usize,
    ) -> Arc<CallersOf> {
        let version = version.unwrap_or_default();
        let key = (plugin.clone(), route.to_owned(), version.to_owned());
        let mut book = self.lock();
        if book.len() > LOOK_MIN {
            // What was made for a deployment that did not become live.
            book.retain(|_, callers| Arc::strong_count(callers) > 1 || callers.has_any());
        }
        let found = book.entry(key).or_insert_with(|| {
            Arc::new(CallersOf {
                callers: Mutex::default(),
                callers_max,
                requests: KINDS.map(|kind| {
                    let labels = [plugin.as_str(), route, version, kind];
                    self.requests.with_label_values(&labels)
                }),
            })
        });
        Arc::clone(found)
    }

    /// Who has called the deprecated routes of a plugin, by route, version and caller.
    pub fn of_plugin(&self, plugin: &PluginName) -> Vec<OldCall> {
        let book = self.lock();
        let own = book.range((plugin.clone(), String::new(), String::new())..);
        let own = own.take_while(|((name, _, _), _)| name == plugin);
        let mut calls = Vec::new();
        for ((_, route, version), callers) in own {
            let seen = callers.lock();
            let call = |kind, caller: &str, calls, last_at_ms| OldCall {
                route: route.clone(),
                version: version.clone(),
                kind,
                caller: caller.to_owned(),
                calls,
                last_at_ms,
            };
            let known = seen.known.iter();
            let mut of_route: Vec<OldCall> = known
                .map(|(id, (kind, calls, last_at_ms))| call(*kind, id, *calls, *last_at_ms))
                .collect();
            of_route.sort_by(|one, other| one.caller.cmp(&other.caller));
            let (others, last_at_ms) = seen.others;
            if others > 0 {
                of_route.push(call(OTHERS, "", others, last_at_ms));
            }
            calls.extend(of_route);
        }
        calls
    }

    /// Forgets a route that is gone.
    pub(in crate::plugins) fn remove_route(&self, plugin: &PluginName, route: &str) {
        let mut book = self.lock();
        let from = (plugin.clone(), route.to_owned(), String::new());
        let own = book.range(from..);
        let own = own.take_while(|((name, pattern, _), _)| name == plugin && pattern == route);
        let keys: Vec<Key> = own.map(|(key, _)| key.clone()).collect();
        for key in keys {
            for kind in KINDS {
                let labels = [plugin.as_str(), route, &key.2, kind];
                let _ = self.requests.remove_label_values(&labels);
            }
            book.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<CallersOf>>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallersOf {
    /// Counts a call.
    pub fn count(&self, principal: Option<&Principal>, now_ms: i64) {
        let (kind, id) = match principal {
            Some(principal) => (principal.kind.as_str(), principal.id.as_str()),
            None => (KINDS[0], ""),
        };
        // A kind that is not in the list is that of programs with keys.
        let index = KINDS.iter().position(|known| *known == kind);
        self.requests[index.unwrap_or(KINDS.len() - 1)].inc();
        let seen = &mut *self.lock();
        let is_full = seen.known.len() >= self.callers_max;
        if let Some((_, calls, last_at_ms)) = seen.known.get_mut(id) {
            *calls += 1;
            *last_at_ms = now_ms;
        } else if is_full {
            seen.others = (seen.others.0 + 1, now_ms);
        } else {
            seen.known.insert(id.to_owned(), (kind, 1, now_ms));
        }
    }

    fn has_any(&self) -> bool {
        !self.lock().known.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{PermissionSet, PrincipalKind};

    fn user(id: &str) -> Principal {
        Principal {
            id: id.to_owned(),
            kind: PrincipalKind::User,
            name: String::new(),
            roles: Vec::new().into(),
            permissions: Arc::new(PermissionSet::default()),
            scopes: None,
            token_claims: None,
            rate: None,
        }
    }

    #[test]
    fn callers_are_told_apart_up_to_a_bound_and_counted_beyond_it() {
        let callers = Callers::register(&prometheus::Registry::new()).unwrap();
        let plugin: PluginName = "shop".parse().unwrap();
        let old = callers.of_route(&plugin, "/v1", Some("v1"), 2);
        for (id, now_ms) in [("ann", 1), ("bob", 2), ("eve", 3), ("ann", 4), ("dan", 5)] {
            old.count(Some(&user(id)), now_ms);
        }
        let again = callers.of_route(&plugin, "/v1", Some("v1"), 2);
        assert!(
            Arc::ptr_eq(&old, &again),
            "another deployment goes on counting"
        );
        let found: Vec<_> = callers
            .of_plugin(&plugin)
            .into_iter()
            .map(|call| (call.caller, call.kind, call.calls, call.last_at_ms))
            .collect();
        assert_eq!(
            found,
            [
                ("ann".to_owned(), "user", 2, 4),
                ("bob".to_owned(), "user", 1, 2),
                (String::new(), "others", 2, 5)
            ]
        );
        assert_eq!(callers.of_plugin(&"shopping".parse().unwrap()), []);
        callers.remove_route(&plugin, "/v1");
        assert_eq!(callers.of_plugin(&plugin), []);
    }
}
