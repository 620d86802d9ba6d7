//! The limit that an API key has of its own. It is decided with those of the route.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::json;

use crate::auth::{Principal, Rate};
use crate::gateway::State;
use crate::http::Problem;
use crate::limits::{Caller, Key, Policy, PolicyConfig};

/// Limits of keys, made when they are first needed. As many as there are different ones among the keys.
#[derive(Debug, Default)]
pub struct KeyRates(RwLock<HashMap<(u32, u32), Arc<Policy>>>);

impl KeyRates {
    fn policy(&self, rate: Rate) -> Result<Arc<Policy>, Problem> {
        let numbers = (rate.limit, rate.window_s);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = known.get(&numbers) {
            return Ok(Arc::clone(policy));
        }
        drop(known);
        let config: Result<PolicyConfig, _> = serde_json::from_value(json!({
            "name": "api-key",
            "limit": rate.limit,
            "window_ms": u64::from(rate.window_s) * 1000,
            "key": "api-key",
        }));
        let config = config.map_err(|error| Problem::internal(&error))?;
        let policy =
            Policy::new("keys", "keys", &config).map_err(|error| Problem::internal(&error))?;
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let policy = all.entry(numbers).or_insert_with(|| Arc::new(policy));
        Ok(Arc::clone(policy))
    }
}

/// The limit of the key that a request came with, and under which name it is counted.
pub(super) struct OwnRate {
    pub(super) policy: Arc<Policy>,
    pub(super) key: Key,
}

impl OwnRate {
    /// That of this caller's key, if it has one.
    pub(super) fn of(
        state: &State,
        principal: Option<&Principal>,
    ) -> Result<Option<Self>, Problem> {
        let Some(rate) = principal.and_then(|principal| principal.rate) else {
            return Ok(None);
        };
        let policy = state.key_rates.policy(rate)?;
        let id = rate.key.to_string();
        let caller = Caller {
            address: None,
            user: None,
            api_key: Some(&id),
        };
        let key = policy.key_of(&caller, state.limiter.naming());
        Ok(Some(Self { policy, key }))
    }
}
