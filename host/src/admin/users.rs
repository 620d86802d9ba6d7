//! Accounts of people.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::{self, NewUser};
use crate::clock::rfc3339;
use crate::ids::{RoleName, UserId};

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserBody {
    pub id: String,
    pub email: String,
    pub roles: Vec<String>,
    /// A disabled user can neither log in nor use a token.
    pub is_disabled: bool,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// What an account is made of.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    pub email: String,
    #[schema(format = Password)]
    pub password: String,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RoleName>,
}

/// Roles in place of those before.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRolesRequest {
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RoleName>,
}

/// A new password.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPasswordRequest {
    #[schema(format = Password)]
    pub password: String,
}

/// Whether the account is disabled.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDisabledRequest {
    pub is_disabled: bool,
}

impl From<auth::User> for UserBody {
    fn from(user: auth::User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email,
            roles: user.roles.iter().map(ToString::to_string).collect(),
            is_disabled: user.is_disabled,
            created_at: rfc3339(user.created_at_ms),
            updated_at: rfc3339(user.updated_at_ms),
        }
    }
}

/// Which accounts are wanted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserQuery {
    /// Only the account with this address.
    pub email: Option<String>,
    /// Most items, 1 to 200. Default: 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// List accounts
///
/// In the order of their creation.
#[utoipa::path(get, path = "/users", tag = "users", params(UserQuery), responses((status = 200, body = PageBody<UserBody>)))]
pub(super) async fn list_users(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(UserQuery {
        email,
        limit,
        cursor,
    }): Query<UserQuery>,
) -> Result<axum::Json<PageBody<UserBody>>, ApiError> {
    if let Some(email) = email {
        let found = shared.auth.find_user_by_email(&email).await?;
        return Ok(axum::Json(PageBody {
            items: found.into_iter().map(Into::into).collect(),
            next_cursor: None,
        }));
    }
    let query = PageQuery { limit, cursor };
    let page = shared
        .auth
        .list_users(query.cursor_as()?, query.limit()?)
        .await?;
    let next_cursor = page.next.map(|id| id.to_string());
    Ok(axum::Json(PageBody {
        items: page.users.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}

/// Create an account
#[utoipa::path(post, path = "/users", tag = "users", request_body = CreateUserRequest, responses((status = 201, body = UserBody)))]
pub(super) async fn create_user(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Json(request): Json<CreateUserRequest>,
) -> Result<(StatusCode, axum::Json<UserBody>), ApiError> {
    let CreateUserRequest {
        email,
        password,
        roles,
    } = request;
    caller.require_all_of(&shared.auth.permissions_of(&roles))?;
    let user = shared
        .auth
        .create_user(NewUser {
            email,
            password,
            roles,
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(user.into())))
}

/// Show an account
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = String, Path)), responses((status = 200, body = UserBody)))]
pub(super) async fn get_user(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<UserId>,
) -> Result<axum::Json<UserBody>, ApiError> {
    let user = shared
        .auth
        .find_user(id)
        .await?
        .ok_or(auth::Error::UserNotFound)?;
    Ok(axum::Json(user.into()))
}

/// Delete an account
#[utoipa::path(delete, path = "/users/{id}", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_user(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    shared.auth.delete_user(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set the roles of an account
///
/// They count at once. Nobody can give a role that may do more than they may themselves.
#[utoipa::path(put, path = "/users/{id}/roles", tag = "users", params(("id" = String, Path)), request_body = SetRolesRequest, responses((status = 200, body = UserBody)))]
pub(super) async fn set_roles(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(id): Path<UserId>,
    Json(request): Json<SetRolesRequest>,
) -> Result<axum::Json<UserBody>, ApiError> {
    let user = shared.auth.find_user(id).await?;
    let had = user.map(|user| user.roles).unwrap_or_default();
    let mut added = request.roles.clone();
    added.retain(|role| !had.contains(role));
    caller.require_all_of(&shared.auth.permissions_of(&added))?;
    let user = shared.auth.set_user_roles(id, request.roles).await?;
    Ok(axum::Json(user.into()))
}

/// Set the password of an account
///
/// Revokes its access tokens. The account may do no more than the caller.
#[utoipa::path(put, path = "/users/{id}/password", tag = "users", params(("id" = String, Path)), request_body = SetPasswordRequest, responses((status = 204)))]
pub(super) async fn set_password(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(id): Path<UserId>,
    Json(request): Json<SetPasswordRequest>,
) -> Result<StatusCode, ApiError> {
    let user = shared.auth.find_user(id).await?;
    let user = user.ok_or(auth::Error::UserNotFound)?;
    // Whoever knows the password is that user.
    caller.require_all_of(&shared.auth.permissions_of(&user.roles))?;
    shared.auth.set_password(id, &request.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove the second factor of an account
///
/// For somebody who has lost it. Whoever does that takes away a protection, so the account may do no more than the caller.
#[utoipa::path(delete, path = "/users/{id}/totp", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn remove_totp(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(id): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    let user = shared.auth.find_user(id).await?;
    let user = user.ok_or(auth::Error::UserNotFound)?;
    caller.require_all_of(&shared.auth.permissions_of(&user.roles))?;
    shared.auth.drop_totp(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Disable or enable an account
///
/// Revokes its access tokens, either way.
#[utoipa::path(put, path = "/users/{id}/disabled", tag = "users", params(("id" = String, Path)), request_body = SetDisabledRequest, responses((status = 200, body = UserBody)))]
pub(super) async fn set_disabled(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<UserId>,
    Json(request): Json<SetDisabledRequest>,
) -> Result<axum::Json<UserBody>, ApiError> {
    let user = shared.auth.set_disabled(id, request.is_disabled).await?;
    Ok(axum::Json(user.into()))
}
