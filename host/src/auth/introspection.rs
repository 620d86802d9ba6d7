//! What a token says, for other servers that are shown it (RFC 7662).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::auth::tokens::{end_ms, life_ms};
use crate::auth::{Auth, Principal, api_keys};

impl Auth {
    /// What is known about a token that is good at this moment, as RFC 7662 has it; nothing about any other. Access tokens of this
    /// host and of issuers that it trusts, and API keys; of keys that are bound to networks, nothing is said about where the
    /// one comes from who has shown it.
    pub fn introspect(&self, token: &str) -> Option<Map<String, Value>> {
        if token.starts_with(api_keys::PREFIX) {
            let principal = self.check_api_key(token, None).ok()?;
            let key = self.find_own_key(token)?;
            let mut claims = of_principal(&principal);
            let free = key.scopes.iter().filter(|scope| scope.is_free());
            let scopes = principal.permissions.texts().into_iter();
            let scopes: Vec<_> = scopes.chain(free.map(ToString::to_string)).collect();
            claims.insert("scope".to_owned(), scopes.join(" ").into());
            claims.insert("client_id".to_owned(), key.id.to_string().into());
            claims.insert("iat".to_owned(), (key.secret_since_ms / 1000).into());
            let ends = [key.expires_at_ms, key.secret_ends_ms()];
            if let Some(end_ms) = ends.into_iter().flatten().min() {
                claims.insert("exp".to_owned(), (end_ms / 1000).into());
            }
            return Some(claims);
        }
        let authorization = format!("Bearer {token}");
        let principal = self.authenticate(Some(&authorization), None, None).ok()??;
        let mut claims = of_principal(&principal);
        // Its signature was just found good.
        let payload = token.split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let said: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
        for name in ["iss", "aud", "client_id", "iat", "nbf", "exp", "jti", "sid"] {
            if let Some(value) = said.get(name) {
                claims.insert(name.to_owned(), value.clone());
            }
        }
        let said = |name| claims.get(name).and_then(Value::as_i64);
        if principal.token_claims.is_none()
            && let (Some(made_s), Some(ends_s)) = (said("iat"), said("exp"))
        {
            let ends_ms = end_ms(made_s, ends_s, life_ms(&self.inner.config));
            claims.insert("exp".to_owned(), (ends_ms / 1000).into());
        }
        Some(claims)
    }
}

/// What it is about whom, as things are now.
fn of_principal(principal: &Principal) -> Map<String, Value> {
    let roles: Vec<_> = principal.roles.iter().map(ToString::to_string).collect();
    let claims = json!({
        "active": true,
        "token_type": "Bearer",
        "sub": principal.id,
        "username": principal.name,
        "scope": principal.permissions.texts().join(" "),
        "roles": roles,
        "kind": principal.kind.as_str(),
    });
    match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    }
}
