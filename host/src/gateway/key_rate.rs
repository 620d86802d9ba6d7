//! The limit that an API key has of its own, beside those of the routes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::json;

use crate::auth::{Principal, Rate};
use crate::gateway::{State, response};
use crate::http::Problem;
use crate::limits::{Caller, Check, Policy, PolicyConfig};

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

/// Charges the key that a request came with, if it has a limit, or refuses the request.
pub(super) async fn admit(state: &State, principal: Option<&Principal>) -> Result<(), Problem> {
    let Some(rate) = principal.and_then(|principal| principal.rate) else {
        return Ok(());
    };
    let policy = state.key_rates.policy(rate)?;
    let id = rate.key.to_string();
    let caller = Caller {
        address: None,
        user: None,
        api_key: Some(&id),
    };
    let checks = [Check {
        policy: &policy,
        key: policy.key_of(&caller, state.limiter.naming()),
        cost: 1,
    }];
    let admission = state.limiter.check(&checks, state.clock.monotonic_ns());
    let admission = admission
        .await
        .map_err(|error| response::uncounted(&error))?;
    match admission.decision.is_admitted() {
        true => Ok(()),
        false => Err(response::limited(
            &admission.decision,
            state.limiter.has_legacy_headers(),
        )),
    }
}
