//! `POST /introspect`: whether a token that somebody has shown to another server is good, and whose it is (RFC 7662).

use axum::{
    extract::{Request, State as AxumState},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{Forbidden, PlatformPermission};
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::secret;
use crate::gateway::accounts::body::read_form;
use crate::gateway::credentials::{Asked, login_required};
use crate::http::Problem;
use crate::ledger::acting_as;

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(example = json!({ "token": "eyJhbGciOiJFZERTQSIs…" }))]
pub(super) struct IntrospectRequest {
    token: String,
    /// Not needed; what kind of token it is can be seen.
    #[serde(default)]
    #[expect(dead_code, reason = "clients may send it (RFC 7662, section 2.1)")]
    token_type_hint: Option<String>,
}

/// Is this token good, and whose is it?
///
/// For servers that are shown tokens of this host (RFC 7662). They come with credentials of their own, which need
/// `platform.introspect`. A token that is not good, for whatever reason, is `{"active": false}`.
#[utoipa::path(post, path = "/introspect", tag = "keys", security(("access_token" = [])), request_body(content = IntrospectRequest, content_type = "application/x-www-form-urlencoded"), responses((status = 200, body = Object, example = json!({
    "active": true,
    "sub": "01980000-0000-7000-8000-000000000000",
    "username": "ann@example.com",
    "exp": 1_767_603_600,
}))))]
pub(super) async fn introspect(
    AxumState(state): Shared,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let principal = asked.asking().principal(&state.auth)?;
    let principal = principal.ok_or_else(login_required)?;
    acting_as(principal.kind.as_str(), &principal.id);
    let allowed = principal.require_platform(PlatformPermission::Introspect);
    allowed
        .map_err(|error| Problem::new(StatusCode::FORBIDDEN, Forbidden::CODE, error.to_string()))?;
    let IntrospectRequest { token, .. } = read_form(request).await?;
    let found = state.auth.introspect(&token).map(Value::Object);
    Ok(secret(found.unwrap_or_else(|| json!({ "active": false }))))
}
