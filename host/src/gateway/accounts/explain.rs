//! What the client of an account is told when something fails: the one list of causes and statuses of this API.

use axum::http::StatusCode;

use crate::auth;
use crate::http::Problem;

/// What a failed login, exchange or change tells the client.
pub(super) fn explain(error: auth::Error) -> Problem {
    use auth::Error as E;
    let status = match &error {
        E::CredentialsWrong
        | E::RefreshInvalid
        | E::RefreshReused
        | E::SessionEnded
        | E::TotpRequired
        | E::TotpWrong => StatusCode::UNAUTHORIZED,
        E::AttemptInvalid => StatusCode::BAD_REQUEST,
        E::ProviderNotFound | E::IdentityNotFound => StatusCode::NOT_FOUND,
        E::ProviderDenied
        | E::EmailNotAllowed
        | E::IdentityUnknown
        | E::SignUpPending
        | E::LoginNotFresh => StatusCode::FORBIDDEN,
        E::IdentityNotLinked | E::IdentityTaken | E::IdentityLast => StatusCode::CONFLICT,
        E::ProviderRefused => StatusCode::BAD_GATEWAY,
        E::EmailInvalid(_)
        | E::PasswordTooShort { .. }
        | E::PasswordTooLong { .. }
        | E::ReturnNotAllowed
        | E::ChallengeInvalid
        | E::CodeWrong => StatusCode::UNPROCESSABLE_ENTITY,
        E::AccountDisabled | E::RegistrationOff | E::ResetOff => StatusCode::FORBIDDEN,
        E::UserNotFound => StatusCode::UNAUTHORIZED,
        E::TooMany { .. } | E::TotpOn | E::TotpOff | E::ApiKeyNotCurrent => StatusCode::CONFLICT,
        E::SessionNotFound | E::ApiKeyNotFound => StatusCode::NOT_FOUND,
        E::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        E::Busy { .. } | E::ProviderUnavailable { .. } | E::RolesMissing => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => return Problem::internal(&format!("{:#}", anyhow::Error::new(error))),
    };
    let problem = Problem::new(status, error.code(), error.to_string());
    match error.retry_after_s() {
        Some(seconds) => problem.with_retry_after_s(seconds),
        None => problem,
    }
}
