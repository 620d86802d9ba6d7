//! What the host was started with. Settings are read once, at the start; to change them is to start again.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::admin::extract::{Caller, may};
use crate::admin::{ApiError, Shared};

/// The settings that count, whether they came from a file, the environment or the command line.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingsBody {
    /// As in the file of settings. Passwords within addresses are not shown.
    #[schema(value_type = Object)]
    pub settings: Value,
}

/// Show the settings that the host was started with
#[utoipa::path(get, path = "/settings", tag = "host", responses((status = 200, body = SettingsBody)))]
pub(super) async fn show_settings(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
) -> Result<axum::Json<SettingsBody>, ApiError> {
    let mut settings = Value::clone(&shared.settings);
    hide_passwords(&mut settings);
    Ok(axum::Json(SettingsBody { settings }))
}

/// Takes the passwords out of addresses like `postgres://gantry:secret@db/gantry`, wherever they stand.
pub fn hide_passwords(settings: &mut Value) {
    match settings {
        Value::String(text) => {
            if let Ok(mut url) = Url::parse(text)
                && url.password().is_some()
                && url.set_password(Some("***")).is_ok()
            {
                *text = url.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_passwords),
        Value::Object(values) => values.values_mut().for_each(hide_passwords),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_passwords_are_hidden() {
        let mut settings = json!({
            "db": { "url": "postgres://gantry:s3cret@db:5432/gantry" },
            "listen": "127.0.0.1:8080",
            "list": ["redis://:s3cret@cache", "redis://cache/0"],
            "count": 3,
        });
        hide_passwords(&mut settings);
        assert_eq!(
            settings,
            json!({
                "db": { "url": "postgres://gantry:***@db:5432/gantry" },
                "listen": "127.0.0.1:8080",
                "list": ["redis://:***@cache", "redis://cache/0"],
                "count": 3,
            })
        );
    }
}
