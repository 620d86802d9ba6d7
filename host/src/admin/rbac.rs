//! Which roles may call which routes, made of what is live.

use axum::extract::State;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::admin::explain::somebody_with;
use crate::admin::extract::{Caller, Query, may};
use crate::admin::{ApiError, Shared};
use crate::auth::Principal;
use crate::plugins::access::{self, Rule};
use crate::plugins::manifest::Auth;
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::Route;

/// Which part of it is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct MatrixQuery {
    /// Only the routes of this plugin.
    plugin: Option<String>,
}

/// Routes and roles.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MatrixBody {
    /// By name.
    pub roles: Vec<String>,
    /// By plugin, path and method.
    pub routes: Vec<MatrixRouteBody>,
}

/// One route, and who may call it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MatrixRouteBody {
    pub plugin: String,
    /// The host name; nothing means every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub methods: Vec<String>,
    /// With the mount.
    pub path: String,
    /// `public`, `optional` or `required`.
    pub auth: String,
    /// All that is asked of a caller.
    pub needs: Vec<String>,
    /// Whether somebody without a login may.
    pub anybody: Access,
    /// In the order of `roles`: whether somebody may who has this role and no other.
    pub access: Vec<Access>,
}

/// Whether somebody may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Allowed,
    /// If the condition of the route, or the scopes of the credential, allow it.
    Conditional,
    Refused,
}

/// Show which roles may call which routes
#[utoipa::path(get, path = "/rbac/matrix", tag = "users", params(MatrixQuery), responses((status = 200, body = MatrixBody)))]
pub(super) async fn show_matrix(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<MatrixQuery>,
) -> Result<axum::Json<MatrixBody>, ApiError> {
    let mut roles = shared.auth.list_roles().await?;
    roles.sort_by(|one, other| one.name.cmp(&other.name));
    let holders: Vec<Principal> = roles
        .iter()
        .map(|role| somebody_with(&shared, std::slice::from_ref(&role.name)))
        .collect();
    let live = shared.registry.live();
    let mut routes = Vec::new();
    for plugin in live.iter() {
        if query
            .plugin
            .as_deref()
            .is_some_and(|only| only != plugin.name().as_str())
        {
            continue;
        }
        routes.extend(
            plugin
                .routes
                .iter()
                .map(|route| line(plugin, route, &holders)),
        );
    }
    routes.sort_by(|one: &MatrixRouteBody, other| {
        let key = |route: &MatrixRouteBody| {
            (
                route.plugin.clone(),
                route.path.clone(),
                route.methods.clone(),
            )
        };
        key(one).cmp(&key(other))
    });
    Ok(axum::Json(MatrixBody {
        roles: roles
            .into_iter()
            .map(|role| role.name.to_string())
            .collect(),
        routes,
    }))
}

fn line(plugin: &LivePlugin, route: &Route, holders: &[Principal]) -> MatrixRouteBody {
    let name = plugin.name();
    // Beside the route of the same path that gives the file.
    let is_about_uploads = route.files.is_some() && route.methods.contains(&Method::HEAD);
    let about = is_about_uploads.then(|| "a question about an upload (`Tus-Resumable`)".to_owned());
    let rules = access::rules(route).map(|rule| rule.need(name));
    MatrixRouteBody {
        plugin: name.to_string(),
        host: plugin.mount.host.clone(),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        path: format!("{}{}", plugin.mount.path, route.pattern),
        auth: route.auth.to_string(),
        needs: about.into_iter().chain(rules).collect(),
        anybody: access_of(plugin, route, None),
        access: holders
            .iter()
            .map(|holder| access_of(plugin, route, Some(holder)))
            .collect(),
    }
}

fn access_of(plugin: &LivePlugin, route: &Route, caller: Option<&Principal>) -> Access {
    let caller = caller.filter(|_| route.auth != Auth::Public);
    let mut access = Access::Allowed;
    for rule in access::rules(route) {
        match rule {
            Rule::Condition(_) => access = Access::Conditional,
            Rule::Scope(_) if caller.is_some() => access = Access::Conditional,
            rule if !rule.allows(plugin.name(), caller) => return Access::Refused,
            _ => {}
        }
    }
    access
}
