//! Accounts of programs, which own API keys.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::ServiceAccount;
use crate::clock::rfc3339;
use crate::ids::{RoleName, ServiceAccountId};

/// The account of a program.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceAccountBody {
    pub id: String,
    pub name: String,
    pub roles: Vec<String>,
    /// The keys of a disabled account open nothing.
    pub is_disabled: bool,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// What an account of a program is made of.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateServiceAccountRequest {
    /// Which program it is.
    pub name: String,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RoleName>,
}

/// What is to be another; what is left out stays.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetServiceAccountRequest {
    /// Roles in place of those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub roles: Option<Vec<RoleName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_disabled: Option<bool>,
}

impl From<ServiceAccount> for ServiceAccountBody {
    fn from(account: ServiceAccount) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name,
            roles: account.roles.iter().map(ToString::to_string).collect(),
            is_disabled: account.is_disabled,
            created_at: rfc3339(account.created_at_ms),
            updated_at: rfc3339(account.updated_at_ms),
        }
    }
}

/// List service accounts
///
/// Oldest first.
#[utoipa::path(get, path = "/service-accounts", tag = "users", params(PageQuery), responses((status = 200, body = PageBody<ServiceAccountBody>)))]
pub(super) async fn list_service_accounts(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<ServiceAccountBody>>, ApiError> {
    let accounts = shared.auth.list_service_accounts();
    let page = query.of(accounts, |account| account.id.to_string())?;
    Ok(axum::Json(PageBody {
        items: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Create a service account
///
/// Nobody can make one that may do more than they may themselves.
#[utoipa::path(post, path = "/service-accounts", tag = "users", request_body = CreateServiceAccountRequest, responses((status = 201, body = ServiceAccountBody)))]
pub(super) async fn create_service_account(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Json(request): Json<CreateServiceAccountRequest>,
) -> Result<(StatusCode, axum::Json<ServiceAccountBody>), ApiError> {
    let CreateServiceAccountRequest { name, roles } = request;
    caller.require_all_of(&shared.auth.permissions_of(&roles))?;
    let account = shared.auth.create_service_account(name, roles).await?;
    Ok((StatusCode::CREATED, axum::Json(account.into())))
}

/// Change a service account
///
/// Counts at once for all of its keys. Nobody can give a role that may do more than they may themselves.
#[utoipa::path(put, path = "/service-accounts/{id}", tag = "users", params(("id" = String, Path)), request_body = SetServiceAccountRequest, responses((status = 200, body = ServiceAccountBody)))]
pub(super) async fn set_service_account(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(id): Path<ServiceAccountId>,
    Json(request): Json<SetServiceAccountRequest>,
) -> Result<axum::Json<ServiceAccountBody>, ApiError> {
    let had = shared.auth.service_account(id)?.roles;
    let mut added = request.roles.clone().unwrap_or_default();
    added.retain(|role| !had.contains(role));
    caller.require_all_of(&shared.auth.permissions_of(&added))?;
    let SetServiceAccountRequest { roles, is_disabled } = request;
    let account = shared
        .auth
        .set_service_account(id, roles, is_disabled)
        .await?;
    Ok(axum::Json(account.into()))
}

/// Delete a service account
///
/// Its keys are revoked at once and for good.
#[utoipa::path(delete, path = "/service-accounts/{id}", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_service_account(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<ServiceAccountId>,
) -> Result<StatusCode, ApiError> {
    shared.auth.delete_service_account(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
