//! `POST /register`, `POST /register/confirm`: accounts that people open themselves.

use axum::{
    Json,
    extract::{Extension, Request, State as AxumState},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::UserBody;
use crate::gateway::accounts::body::read_json;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::accounts::login::network_of;
use crate::gateway::layers::Arrival;
use crate::http::Problem;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "email": "ann@example.com", "password": "correct horse battery" }))]
pub(super) struct RegisterRequest {
    email: String,
    #[schema(format = Password)]
    password: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "7KQ2-M4XD-P9WB" }))]
pub(super) struct ConfirmRequest {
    /// As it was sent by mail.
    code: String,
}

/// Open an account
///
/// Where the operator lets people do so: at once, or after a code came back that is sent to the address. The answer is the same
/// whether or not the address has an account.
#[utoipa::path(post, path = "/register", tag = "account", request_body = RegisterRequest, responses((status = 202)))]
pub(super) async fn register(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let RegisterRequest { email, password } = read_json(request).await?;
        let done = state.auth.register(&email, &password).await;
        done.map_err(explain)?;
        Ok(StatusCode::ACCEPTED.into_response())
    };
    let policy = &state.account_policies.request;
    within(&state, policy, arrival.client, work).await
}

/// Open an account with the code that was sent
#[utoipa::path(post, path = "/register/confirm", tag = "account", request_body = ConfirmRequest, responses((status = 201, body = UserBody)))]
pub(super) async fn confirm_registration(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let ConfirmRequest { code } = read_json(request).await?;
        let network = network_of(arrival.client);
        let user = state.auth.confirm_registration(&code, &network).await;
        let user = UserBody::from(user.map_err(explain)?);
        Ok((StatusCode::CREATED, Json(user)).into_response())
    };
    within(&state, &state.account_policies.code, arrival.client, work).await
}
