//! Roles, and the permissions that they can carry.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::{self, PermissionSet, PlatformPermission, RolePermission};
use crate::clock::rfc3339;
use crate::ids::RoleName;

/// A bundle of permissions.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoleBody {
    pub name: String,
    /// `*`, `platform.deploy` and the like, `shop:orders.write`, `shop:*`.
    pub permissions: Vec<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// What a role is made of.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoleRequest {
    #[schema(value_type = String)]
    pub name: RoleName,
    pub permissions: Vec<String>,
}

/// Permissions in place of those before.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPermissionsRequest {
    pub permissions: Vec<String>,
}

/// Something that a role can carry.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PermissionBody {
    /// As it stands in a role.
    pub name: String,
    /// The plugin that defines it; nothing for a right on the host itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl From<auth::Role> for RoleBody {
    fn from(role: auth::Role) -> Self {
        Self {
            name: role.name.to_string(),
            permissions: role.permissions.iter().map(ToString::to_string).collect(),
            created_at: rfc3339(role.created_at_ms),
            updated_at: rfc3339(role.updated_at_ms),
        }
    }
}

/// List roles
#[utoipa::path(get, path = "/roles", tag = "users", params(PageQuery), responses((status = 200, body = PageBody<RoleBody>)))]
pub(super) async fn list_roles(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<RoleBody>>, ApiError> {
    let mut roles: Vec<RoleBody> = shared
        .auth
        .list_roles()
        .await?
        .into_iter()
        .map(Into::into)
        .collect();
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(query.of(roles, |role| role.name.clone())?))
}

/// Create a role
#[utoipa::path(post, path = "/roles", tag = "users", request_body = CreateRoleRequest, responses((status = 201, body = RoleBody)))]
pub(super) async fn create_role(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Json(request): Json<CreateRoleRequest>,
) -> Result<(StatusCode, axum::Json<RoleBody>), ApiError> {
    caller.require_all_of(&set(&request.permissions, &[])?)?;
    let role = shared
        .auth
        .create_role(request.name, &texts(&request.permissions))
        .await?;
    Ok((StatusCode::CREATED, axum::Json(role.into())))
}

/// Set the permissions of a role
///
/// They count at once, for everybody who holds the role. Nobody can add what they may not do themselves.
#[utoipa::path(put, path = "/roles/{name}/permissions", tag = "users", params(("name" = String, Path)), request_body = SetPermissionsRequest, responses((status = 200, body = RoleBody)))]
pub(super) async fn set_permissions(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(name): Path<RoleName>,
    Json(request): Json<SetPermissionsRequest>,
) -> Result<axum::Json<RoleBody>, ApiError> {
    let roles = shared.auth.list_roles().await?;
    let role = roles.into_iter().find(|role| role.name == name);
    let had = role.map(|role| role.permissions).unwrap_or_default();
    caller.require_all_of(&set(&request.permissions, &had)?)?;
    let role = shared
        .auth
        .set_role_permissions(name, &texts(&request.permissions))
        .await;
    Ok(axum::Json(role.map_err(named)?.into()))
}

/// Delete a role that nobody holds
#[utoipa::path(delete, path = "/roles/{name}", tag = "users", params(("name" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_role(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(name): Path<RoleName>,
) -> Result<StatusCode, ApiError> {
    shared.auth.delete_role(name).await.map_err(named)?;
    Ok(StatusCode::NO_CONTENT)
}

/// List what roles can carry
///
/// The rights on the host itself, and those that live plugins define.
#[utoipa::path(get, path = "/permissions", tag = "users", params(PageQuery), responses((status = 200, body = PageBody<PermissionBody>)))]
pub(super) async fn list_permissions(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<PermissionBody>>, ApiError> {
    let host = PlatformPermission::ALL.map(|permission| PermissionBody {
        name: permission.as_str().to_owned(),
        plugin: None,
        description: Some(permission.description().to_owned()),
    });
    let live = shared.registry.live();
    let of_plugins = live.iter().flat_map(|plugin| {
        let name = plugin.name();
        plugin
            .manifest()
            .permissions
            .iter()
            .map(move |permission| PermissionBody {
                name: format!("{name}:{}", permission.name),
                plugin: Some(name.to_string()),
                description: permission.description.clone(),
            })
    });
    let mut permissions: Vec<PermissionBody> = host.into_iter().chain(of_plugins).collect();
    permissions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(
        query.of(permissions, |permission| permission.name.clone())?,
    ))
}

/// A role that the path names and that does not exist is not the body's fault.
fn named(error: auth::Error) -> ApiError {
    match error {
        auth::Error::RoleNotFound(_) => ApiError::new(
            StatusCode::NOT_FOUND,
            "auth.role_not_found",
            error.to_string(),
        ),
        error => error.into(),
    }
}

/// These permissions without those that were there before.
fn set(permissions: &[String], had: &[RolePermission]) -> Result<PermissionSet, ApiError> {
    let parsed: Result<Vec<RolePermission>, _> =
        permissions.iter().map(|text| text.parse()).collect();
    let parsed = parsed.map_err(auth::Error::from)?;
    Ok(parsed.iter().filter(|one| !had.contains(one)).collect())
}

fn texts(permissions: &[String]) -> Vec<&str> {
    permissions.iter().map(String::as_str).collect()
}
