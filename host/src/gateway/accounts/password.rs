//! `POST /password`, `POST /password/reset`, `POST /password/reset/confirm`.

use axum::{
    extract::{Extension, Request, State as AxumState},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::{self, Mode, TokensBody};
use crate::gateway::accounts::body::read_json;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::accounts::login::{client_of, network_of};
use crate::gateway::credentials::Asked;
use crate::gateway::layers::Arrival;
use crate::http::Problem;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "old_password": "correct horse battery", "new_password": "staple wagon violin" }))]
pub(super) struct ChangePasswordRequest {
    #[schema(format = Password)]
    old_password: String,
    #[schema(format = Password)]
    new_password: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "email": "ann@example.com" }))]
pub(super) struct ResetRequest {
    email: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "7KQ2-M4XD-P9WB", "new_password": "staple wagon violin" }))]
pub(super) struct ConfirmResetRequest {
    /// As it was sent by mail.
    code: String,
    #[schema(format = Password)]
    new_password: String,
}

/// Change one's own password
///
/// All sessions end, and a new one begins; its tokens are in the answer.
#[utoipa::path(post, path = "/password", tag = "account", security(("access_token" = []), ("cookie" = [])), request_body = ChangePasswordRequest, responses((status = 200, body = TokensBody)))]
pub(super) async fn change_password(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let caller = asked.asking().user(&state.auth)?;
        let ChangePasswordRequest {
            old_password,
            new_password,
        } = read_json(request).await?;
        let client = client_of(&arrival, asked.headers());
        let tokens = state
            .auth
            .change_password(caller.user, &old_password, &new_password, &client)
            .await
            .map_err(explain)?;
        let mode = match caller.is_page {
            true => Mode::Cookie,
            false => Mode::Token,
        };
        Ok(answer::tokens(&state.auth, tokens, None, mode))
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Ask to reset a forgotten password
///
/// A code is sent to the address, if it has an account. The answer is the same if it has none.
#[utoipa::path(post, path = "/password/reset", tag = "account", request_body = ResetRequest, responses((status = 202)))]
pub(super) async fn request_reset(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let ResetRequest { email } = read_json(request).await?;
        state.auth.request_reset(&email).await.map_err(explain)?;
        Ok(StatusCode::ACCEPTED.into_response())
    };
    let policy = &state.account_policies.request;
    within(&state, policy, arrival.client, work).await
}

/// Set a new password with the code that was sent
///
/// All sessions end.
#[utoipa::path(post, path = "/password/reset/confirm", tag = "account", request_body = ConfirmResetRequest, responses((status = 204)))]
pub(super) async fn confirm_reset(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let ConfirmResetRequest { code, new_password } = read_json(request).await?;
        let network = network_of(arrival.client);
        state
            .auth
            .confirm_reset(&code, &new_password, &network)
            .await
            .map_err(explain)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    within(&state, &state.account_policies.code, arrival.client, work).await
}
