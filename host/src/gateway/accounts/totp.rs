//! `GET /totp`, `POST /totp`, `POST /totp/confirm`, `POST /totp/remove`: one's own second factor.

use axum::{
    Json,
    extract::{Extension, Request, State as AxumState},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::secret;
use crate::gateway::accounts::body::read_json;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::accounts::login::client_of;
use crate::gateway::credentials::Asked;
use crate::gateway::layers::Arrival;
use crate::http::Problem;

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({ "is_on": true, "recovery_codes_left": 9 }))]
pub(super) struct TotpStatusBody {
    /// Whether logging in takes a code.
    is_on: bool,
    recovery_codes_left: usize,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "password": "correct horse battery" }))]
pub(super) struct BeginTotpRequest {
    #[schema(format = Password)]
    password: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "secret": "JBSWY3DPEHPK3PXP",
    "url": "otpauth://totp/Gantry:ann%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Gantry",
}))]
pub(super) struct TotpBegunBody {
    /// In base32, to be typed into an app.
    secret: String,
    /// `otpauth://…`, to be shown as a QR code.
    url: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "492039" }))]
pub(super) struct ConfirmTotpRequest {
    code: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({ "recovery_codes": ["k3vd-8qpx", "w7mt-2zfa"] }))]
pub(super) struct RecoveryCodesBody {
    /// Each can be used once in place of a code of the app. They are not shown again.
    recovery_codes: Vec<String>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "password": "correct horse battery", "code": "492039" }))]
pub(super) struct RemoveTotpRequest {
    #[schema(format = Password)]
    password: String,
    /// Of the app, or a recovery code.
    code: String,
}

/// Is there a second factor?
#[utoipa::path(get, path = "/totp", tag = "second factor", security(("access_token" = []), ("cookie" = [])), responses((status = 200, body = TotpStatusBody)))]
pub(super) async fn totp_status(
    AxumState(state): Shared,
    asked: Asked,
) -> Result<Json<TotpStatusBody>, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    let status = state.auth.totp_status(caller.user).await;
    let status = status.map_err(explain)?;
    Ok(Json(TotpStatusBody {
        is_on: status.is_on,
        recovery_codes_left: status.recovery_codes_left,
    }))
}

/// Begin a second factor
///
/// It counts when a code of it was confirmed.
#[utoipa::path(post, path = "/totp", tag = "second factor", security(("access_token" = []), ("cookie" = [])), request_body = BeginTotpRequest, responses((status = 200, body = TotpBegunBody)))]
pub(super) async fn begin_totp(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let caller = asked.asking().user(&state.auth)?;
        let BeginTotpRequest { password } = read_json(request).await?;
        let client = client_of(&arrival, asked.headers());
        let begun = state.auth.begin_totp(caller.user, &password, &client).await;
        let begun = begun.map_err(explain)?;
        Ok(secret(TotpBegunBody {
            secret: begun.secret,
            url: begun.url,
        }))
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Confirm a second factor with a code of it
///
/// From now on logging in takes a code. The answer has the recovery codes.
#[utoipa::path(post, path = "/totp/confirm", tag = "second factor", security(("access_token" = []), ("cookie" = [])), request_body = ConfirmTotpRequest, responses((status = 200, body = RecoveryCodesBody)))]
pub(super) async fn confirm_totp(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let caller = asked.asking().user(&state.auth)?;
        let ConfirmTotpRequest { code } = read_json(request).await?;
        let client = client_of(&arrival, asked.headers());
        let codes = state.auth.confirm_totp(caller.user, &code, &client).await;
        Ok(secret(RecoveryCodesBody {
            recovery_codes: codes.map_err(explain)?,
        }))
    };
    within(&state, &state.account_policies.code, arrival.client, work).await
}

/// Remove one's second factor
#[utoipa::path(post, path = "/totp/remove", tag = "second factor", security(("access_token" = []), ("cookie" = [])), request_body = RemoveTotpRequest, responses((status = 204)))]
pub(super) async fn remove_totp(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let caller = asked.asking().user(&state.auth)?;
        let RemoveTotpRequest { password, code } = read_json(request).await?;
        let client = client_of(&arrival, asked.headers());
        let removed = state
            .auth
            .remove_totp(caller.user, &password, &code, &client)
            .await;
        removed.map_err(explain)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}
