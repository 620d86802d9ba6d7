//! How often one client may ask for what anybody may ask for.

use std::{net::IpAddr, sync::Arc};

use axum::response::Response;
use http::HeaderValue;

use crate::gateway::{Config, State, response};
use crate::http::Problem;
use crate::limits::{Caller, Check, Policy};

/// The limits of accounts, made of the settings.
#[derive(Debug, Clone)]
pub struct Policies {
    pub(super) login: Arc<Policy>,
    pub(super) provider: Arc<Policy>,
    pub(super) refresh: Arc<Policy>,
    pub(super) request: Arc<Policy>,
    pub(super) code: Arc<Policy>,
}

impl Policies {
    /// The limits in these settings, or every mistake in them.
    pub fn new(config: &Config) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut policy = |name: &str, config| match Policy::new("gateway", "accounts", config) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(error) => {
                mistakes.push(format!("`gateway.{name}`: {error}"));
                None
            }
        };
        let login = policy("login_limit", &config.login_limit);
        let provider = policy("provider_limit", &config.provider_limit);
        let refresh = policy("refresh_limit", &config.refresh_limit);
        let request = policy("request_limit", &config.request_limit);
        let code = policy("code_limit", &config.code_limit);
        match (login, provider, refresh, request, code) {
            (Some(login), Some(provider), Some(refresh), Some(request), Some(code)) => Ok(Self {
                login,
                provider,
                refresh,
                request,
                code,
            }),
            _ => Err(mistakes),
        }
    }
}

/// Does the work if the client has a try left. Whatever comes of it, the answer says how many are left.
pub(super) async fn within(
    state: &State,
    policy: &Policy,
    client: IpAddr,
    work: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    let caller = Caller {
        address: Some(client),
        user: None,
        api_key: None,
    };
    let checks = [Check {
        policy,
        key: policy.key_of(&caller, state.limiter.naming()),
        cost: 1,
    }];
    let admission = state.limiter.check(&checks, state.clock.monotonic_ns());
    // A place among the calls in progress is held until the work is done.
    let admission = admission
        .await
        .map_err(|error| response::uncounted(&error))?;
    let has_legacy_headers = state.limiter.has_legacy_headers();
    let decision = &admission.decision;
    if !decision.is_admitted() {
        return Err(response::limited(decision, has_legacy_headers));
    }
    let headers = response::limit_headers(decision, has_legacy_headers);
    match work.await {
        Ok(mut answer) => {
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::try_from(value) {
                    answer.headers_mut().insert(name, value);
                }
            }
            Ok(answer)
        }
        Err(mut problem) => {
            problem.rate_limit = headers;
            Err(problem)
        }
    }
}
