//! Why a request is refused: which route would answer it, which rules stand before it, and which of them a caller does not
//! meet. For operators only; callers are told no more than what they lack first.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::extract::State;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, may};
use crate::admin::{ApiError, Shared};
use crate::auth::{self, Principal, PrincipalKind};
use crate::condition::Facts;
use crate::ids::{RoleName, UserId};
use crate::plugins::access::{self, Rule};
use crate::plugins::manifest::Auth;
use crate::plugins::routes::{Found, below};

/// A request that somebody would send.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub method: String,
    /// With the mount, and perhaps with a query: `/shop/orders/7?page=2`.
    pub path: String,
    /// The host name that is asked. Without it, what is mounted on every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Headers that conditions may ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Who sends it: an access token or an API key. At most one of this, `user` and `roles`; without any, nobody is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The address from which that token comes. Without it, nobody asks from where an API key may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The id or the e-mail address of an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Somebody with these roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub roles: Option<Vec<RoleName>>,
}

/// What would become of it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplanationBody {
    /// Whether the request would reach its plugin, as far as callers are concerned: limits and bodies are not looked at.
    pub is_allowed: bool,
    /// What decides, in one sentence.
    pub because: String,
    /// The code that the caller is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Whose request it is, as the host sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<CallerBody>,
    /// The route that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<ExplainedRouteBody>,
    /// All that must hold, in the order in which it is asked. The first that is not met decides.
    pub rules: Vec<RuleBody>,
}

/// Whose request it is.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CallerBody {
    pub id: String,
    pub kind: String,
    pub roles: Vec<String>,
    /// The scopes of the credential; nothing means that it is not narrowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// The route that answers.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedRouteBody {
    pub plugin: String,
    pub version: String,
    pub methods: Vec<String>,
    /// With the mount.
    pub path: String,
    pub auth: String,
}

/// One thing that must hold.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleBody {
    /// `login`, `permission`, `role`, `scope` or `condition`.
    pub kind: String,
    /// What it asks for.
    pub needs: String,
    pub is_met: bool,
    /// Why it has no answer, if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Explain what would become of a request
///
/// Nothing is sent to a plugin. Of a plugin with a canary, the stable version is asked.
#[utoipa::path(post, path = "/explain", tag = "users", request_body = ExplainRequest, responses((status = 200, body = ExplanationBody)))]
pub(super) async fn explain(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Json(request): Json<ExplainRequest>,
) -> Result<axum::Json<ExplanationBody>, ApiError> {
    let asked = Asked::read(&request)?;
    if let Some(path) = shared.own_path_of(asked.uri.path()) {
        let detail = format!(
            "`{path}` is the host's own; explanations are of routes of plugins, and what the host's own operations need stands in \
             their document"
        );
        return Err(invalid(&detail));
    }
    let caller = match find_caller(&shared, &request).await? {
        Ok(caller) => caller,
        Err(rejection) => {
            let because = format!("the credential is refused: {rejection}");
            return Ok(axum::Json(refused(because, rejection.code(), None)));
        }
    };
    Ok(axum::Json(judge(&shared, &asked, caller.as_deref())))
}

/// The request, read.
struct Asked {
    method: Method,
    uri: Uri,
    host: String,
    headers: HeaderMap,
}

impl Asked {
    fn read(request: &ExplainRequest) -> Result<Self, ApiError> {
        let method = Method::from_bytes(request.method.as_bytes());
        let method = method.map_err(|_| invalid("`method` is no HTTP method"))?;
        let uri = request.path.parse::<Uri>().ok();
        let uri = uri.filter(|uri| uri.path().starts_with('/'));
        let uri = uri.ok_or_else(|| invalid("`path` begins with `/`"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let pair = HeaderName::try_from(name)
                .ok()
                .zip(HeaderValue::try_from(value).ok());
            let (name, value) = pair.ok_or_else(|| invalid("`headers` has one that is none"))?;
            headers.append(name, value);
        }
        Ok(Self {
            method,
            uri,
            host: request.host.clone().unwrap_or_default(),
            headers,
        })
    }
}

/// The caller, or why their credential is refused.
async fn find_caller(
    shared: &Shared,
    whose: &ExplainRequest,
) -> Result<Result<Option<Arc<Principal>>, auth::Rejection>, ApiError> {
    if whose.address.is_some() && whose.token.is_none() {
        return Err(invalid("`address` is that of whoever has a `token`"));
    }
    Ok(match (&whose.token, &whose.user, &whose.roles) {
        (None, None, None) => Ok(None),
        (Some(token), None, None) => shared.auth.owner_of(token, whose.address).map(Some),
        (None, Some(user), None) => {
            let id = match user.parse::<UserId>() {
                Ok(id) => Some(id),
                Err(_) => shared
                    .auth
                    .find_user_by_email(user)
                    .await?
                    .map(|user| user.id),
            };
            let principal = id.and_then(|id| shared.auth.principal_of_user(id));
            Ok(Some(principal.ok_or(auth::Error::UserNotFound)?))
        }
        (None, None, Some(roles)) => Ok(Some(Arc::new(somebody_with(shared, roles)))),
        _ => {
            let message = "give one of `token`, `user` and `roles`";
            return Err(invalid(message));
        }
    })
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "request.invalid_body",
        detail,
    )
}

/// Somebody with these roles, whoever that may be.
pub(super) fn somebody_with(shared: &Shared, roles: &[RoleName]) -> Principal {
    Principal {
        id: "somebody".to_owned(),
        kind: PrincipalKind::User,
        name: String::new(),
        roles: roles.into(),
        permissions: shared.auth.permissions_of(roles),
        scopes: None,
        token_claims: None,
        rate: None,
    }
}

fn judge(shared: &Shared, asked: &Asked, caller: Option<&Principal>) -> ExplanationBody {
    let live = shared.registry.live();
    let path = asked.uri.path();
    let Some(mounted) = live.find(&asked.host, path) else {
        let because = format!("no plugin is mounted where `{path}` is");
        return refused(because, "route.not_found", caller);
    };
    let plugin = &mounted.slot.stable;
    let below = below(path, plugin.mount.path.len());
    let (route, params) = match plugin.routes.find(&asked.method, &below, &asked.headers) {
        Found::Route { route, params } => (route, params),
        Found::MethodNotAllowed(methods) => {
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let because = format!(
                "`{}` is mounted there, and takes {} on this path",
                plugin.name(),
                methods.join(", ")
            );
            return refused(because, "route.method_not_allowed", caller);
        }
        Found::Version(_) => {
            let name = plugin.name();
            let because =
                format!("`{name}` is mounted there, and the request means no version that it has");
            return refused(because, "route.version_unknown", caller);
        }
        Found::InvalidPath | Found::NotFound => {
            let because = format!(
                "`{}` is mounted there, and has no such route",
                plugin.name()
            );
            return refused(because, "route.not_found", caller);
        }
    };
    let retirement = route.versioned.as_ref();
    let retirement = retirement.and_then(|versioned| versioned.retirement.as_ref());
    if retirement.is_some_and(|retirement| retirement.is_over(shared.clock.now_ms())) {
        let because = format!("the time of `{}` is over", route.pattern);
        return refused(because, "route.gone", caller);
    }
    // Credentials do not count on public routes.
    let caller = caller.filter(|_| route.auth != Auth::Public);
    let claims = || access::claims(caller);
    let facts = Facts {
        claims: &claims,
        params: &params,
        query: asked.uri.query(),
        headers: &asked.headers,
        method: &asked.method,
        path: &below,
    };
    let name = plugin.name();
    let asked_of = |rule: Rule<'_>| {
        let met = rule.is_met(name, caller, &facts);
        RuleBody {
            kind: rule.kind().to_owned(),
            needs: rule.need(name),
            is_met: met.as_ref().is_ok_and(|met| *met),
            failure: met.err().map(|failed| failed.to_string()),
        }
    };
    let rules: Vec<RuleBody> = access::rules(route).map(asked_of).collect();
    let missing = access::rules(route)
        .zip(&rules)
        .find(|(_, body)| !body.is_met);
    let because = match &missing {
        Some((_, body)) => format!("the caller lacks {}", body.needs),
        None if rules.is_empty() => format!("the route is {} and asks for nothing", route.auth),
        None => "every rule is met".to_owned(),
    };
    ExplanationBody {
        is_allowed: missing.is_none(),
        because,
        code: missing.map(|(rule, _)| rule.code().to_owned()),
        caller: caller.map(Into::into),
        route: Some(ExplainedRouteBody {
            plugin: name.to_string(),
            version: plugin.loaded.spec().version.to_string(),
            methods: route.methods.iter().map(ToString::to_string).collect(),
            path: format!("{}{}", plugin.mount.path, route.pattern),
            auth: route.auth.to_string(),
        }),
        rules,
    }
}

fn refused(because: String, code: &str, caller: Option<&Principal>) -> ExplanationBody {
    ExplanationBody {
        is_allowed: false,
        because,
        code: Some(code.to_owned()),
        caller: caller.map(Into::into),
        route: None,
        rules: Vec::new(),
    }
}

impl From<&Principal> for CallerBody {
    fn from(principal: &Principal) -> Self {
        let scopes = principal.scopes.as_ref();
        Self {
            id: principal.id.clone(),
            kind: principal.kind.as_str().to_owned(),
            roles: principal.roles.iter().map(ToString::to_string).collect(),
            scopes: scopes.map(|scopes| scopes.iter().map(ToString::to_string).collect()),
        }
    }
}
