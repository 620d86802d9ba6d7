//! The secrets of plugins. Values come in and never go out.

use axum::{body::Bytes, extract::State};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::ids::{Label, PluginName};

/// What may be known of a secret.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretBody {
    pub label: String,
    /// Changes when a new value is set.
    pub revision: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A secret just set.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretSetBody {
    pub label: String,
    pub revision: String,
}

/// List secrets of a plugin
///
/// Labels and revisions, no values.
#[utoipa::path(get, path = "/plugins/{name}/secrets", tag = "plugins", params(("name" = String, Path), PageQuery), responses((status = 200, body = PageBody<SecretBody>)))]
pub(super) async fn list_secrets(
    State(shared): State<Shared>,
    _: Caller<may::Secrets>,
    Path(plugin): Path<PluginName>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<SecretBody>>, ApiError> {
    let listed = shared
        .secrets
        .list(&plugin)
        .await?
        .into_iter()
        .map(|secret| SecretBody {
            label: secret.label.to_string(),
            revision: secret.revision,
            updated_at: rfc3339(secret.updated_at),
        });
    let mut secrets: Vec<SecretBody> = listed.collect();
    secrets.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(axum::Json(
        query.of(secrets, |secret| secret.label.clone())?,
    ))
}

/// Set a secret of a plugin
///
/// The body is the value, as it is. The plugin need not be deployed yet.
#[utoipa::path(put, path = "/plugins/{name}/secrets/{label}", tag = "plugins", params(("name" = String, Path), ("label" = String, Path)), request_body(content = String, content_type = "application/octet-stream"), responses((status = 200, body = SecretSetBody)))]
pub(super) async fn set_secret(
    State(shared): State<Shared>,
    _: Caller<may::Secrets>,
    Path((plugin, label)): Path<(PluginName, Label)>,
    value: Bytes,
) -> Result<axum::Json<SecretSetBody>, ApiError> {
    if value.is_empty() {
        return Err(ApiError::invalid(
            "secrets.empty",
            "the body is the value of the secret; it is empty",
        ));
    }
    let revision = shared.secrets.set(&plugin, &label, &value).await?;
    Ok(axum::Json(SecretSetBody {
        label: label.to_string(),
        revision,
    }))
}

/// Delete a secret of a plugin
#[utoipa::path(delete, path = "/plugins/{name}/secrets/{label}", tag = "plugins", params(("name" = String, Path), ("label" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_secret(
    State(shared): State<Shared>,
    _: Caller<may::Secrets>,
    Path((plugin, label)): Path<(PluginName, Label)>,
) -> Result<StatusCode, ApiError> {
    if shared.secrets.delete(&plugin, &label).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = format!("no value is set for the secret `{label}`");
        Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "secrets.not_set",
            detail,
        ))
    }
}
