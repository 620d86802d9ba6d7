//! The OpenAPI document of all plugins and of accounts, whoever may use what: for those who check contracts and write clients.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::extract::{Caller, Query, may};
use crate::admin::{ApiError, Shared};
use crate::plugins::describe::{self, About, Selection};

/// Which part of the document is wanted.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DocumentationQuery {
    /// Only this plugin.
    pub plugin: Option<String>,
    /// Only this version of its API, and what is in none.
    pub version: Option<String>,
    /// Only this group.
    pub tag: Option<String>,
}

/// Show what all live plugins promise, and accounts, as OpenAPI 3.1
///
/// Everything that is documented, whoever may use it; callers find what they may use where `[docs]` of the settings says.
#[utoipa::path(get, path = "/documentation", tag = "plugins", params(DocumentationQuery), responses((status = 200, content_type = "application/json")))]
pub(super) async fn show_documentation(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Query(query): Query<DocumentationQuery>,
) -> Result<axum::Json<Value>, ApiError> {
    let setting = |key: &str| {
        let value = shared.settings.pointer(&format!("/docs/{key}"));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let about = About {
        title: setting("title"),
        version: setting("version"),
        description: setting("description"),
    };
    let selection = Selection {
        plugin: query.plugin,
        version: query.version,
        tag: query.tag,
    };
    let live = shared.registry.live();
    let descriptions = live.iter().map(|plugin| plugin.description());
    let mut document = describe::document(&about, descriptions, &selection, |_, _| true);
    if let Some(accounts) = &shared.documented_accounts {
        accounts.add_to(&mut document, &selection);
    }
    Ok(axum::Json(document))
}
