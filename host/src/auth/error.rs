//! Why an account, role or key could not be changed, why a login failed, why a credential was not accepted.

use crate::auth::permissions::InvalidPermission;
use crate::ids::RoleName;

/// Why an account, role or key could not be read or changed, or a login failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the settings of `auth` cannot be used: {0}")]
    Config(String),
    #[error("the rows of accounts cannot be read or written")]
    Rows(#[from] sqlx::Error),
    #[error("the {table} row `{id}` cannot be understood: {problem}")]
    Corrupt {
        table: &'static str,
        id: String,
        problem: String,
    },
    #[error("a change of accounts was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
    #[error("the key of the first administrator cannot be kept")]
    AdminKey(#[source] std::io::Error),
    #[error("an access token could not be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("{0}")]
    Key(&'static str),
    #[error("there is no such key for access tokens")]
    TokenKeyNotFound,
    #[error("a password could not be hashed: {0}")]
    Hash(argon2::password_hash::Error),
    #[error("this is not a usable e-mail address: {0}")]
    EmailInvalid(&'static str),
    #[error("there is an account with this e-mail address already")]
    EmailTaken,
    #[error("a password needs at least {chars_min} characters")]
    PasswordTooShort { chars_min: usize },
    #[error("a password has at most {bytes_max} bytes")]
    PasswordTooLong { bytes_max: usize },
    #[error("there is no such user")]
    UserNotFound,
    #[error("there is no role `{0}`")]
    RoleNotFound(RoleName),
    #[error("there is a role `{0}` already")]
    RoleTaken(RoleName),
    #[error("the role `{0}` is built in and stays as it is")]
    RoleBuiltIn(RoleName),
    #[error("the role `{0}` is still held by users or API keys; take it from them first")]
    RoleInUse(RoleName),
    #[error("the role `{role}` is given by {setting}; take it out of there first")]
    RoleInSettings { role: RoleName, setting: String },
    #[error("no account can be opened now: the operator of this server has to mend its settings")]
    RolesMissing,
    #[error(transparent)]
    PermissionInvalid(#[from] InvalidPermission),
    #[error("there is no such API key")]
    ApiKeyNotFound,
    #[error("the name of an API key has 1 to 100 characters and no control characters")]
    ApiKeyName,
    #[error("an API key must expire in the future")]
    ApiKeyExpiry,
    #[error("an API key may be used 1 to 4294967295 times in 1 to 86400 seconds")]
    ApiKeyRate,
    #[error("the key of a service account has no roles of its own; narrow it with scopes")]
    ApiKeyRoles,
    #[error(
        "a secret is changed every 0 to 3650 days, and the one before counts for at most 90 days"
    )]
    ApiKeyRotation,
    #[error(
        "this is the secret before the last change; change it with the newest one, or ask an administrator"
    )]
    ApiKeyNotCurrent,
    #[error("there is no such service account")]
    ServiceAccountNotFound,
    #[error("there is a service account with this name already")]
    ServiceAccountTaken,
    #[error("the name of a service account has 1 to 100 characters and no control characters")]
    ServiceAccountName,
    #[error("there can be at most {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("the e-mail address or the password is wrong")]
    CredentialsWrong,
    #[error("this account is disabled")]
    AccountDisabled,
    #[error("the refresh token is not valid; log in again")]
    RefreshInvalid,
    #[error("the refresh token was used before; its session was ended, log in again")]
    RefreshReused,
    #[error("the session is over; log in again")]
    SessionEnded,
    #[error("nobody can open an account here; ask an administrator for one")]
    RegistrationOff,
    #[error("a forgotten password cannot be reset here; ask an administrator")]
    ResetOff,
    #[error("the code is wrong, was used before, or is too old; ask for a new one")]
    CodeWrong,
    #[error("this account has a second factor; send a code of it, too")]
    TotpRequired,
    #[error("the code of the second factor is wrong, too old, or was used before")]
    TotpWrong,
    #[error("this account has a second factor already; remove it first")]
    TotpOn,
    #[error("this account has no second factor")]
    TotpOff,
    #[error("there is no such session")]
    SessionNotFound,
    #[error("there is no such provider to log in with")]
    ProviderNotFound,
    #[error(
        "the login cannot end there; `return_to` is one of the places that the operator has set"
    )]
    ReturnNotAllowed,
    #[error("`code_challenge` is the SHA-256 of a text of 43 to 128 characters, in base64url")]
    ChallengeInvalid,
    #[error(
        "this login did not begin in this browser, has ended, or took too long; begin it again"
    )]
    AttemptInvalid,
    #[error("the provider did not log you in, or you did not want it to")]
    ProviderDenied,
    #[error("the provider's answer cannot be accepted; begin the login again")]
    ProviderRefused,
    #[error("the provider does not answer; try again in {retry_after_s} s")]
    ProviderUnavailable { retry_after_s: u64 },
    #[error("nobody with this e-mail address can log in with this provider")]
    EmailNotAllowed,
    #[error("no account is linked to this login; log in in another way and link it there")]
    IdentityUnknown,
    #[error(
        "there is an account with this e-mail address; log in to it in another way and link this login there"
    )]
    IdentityNotLinked,
    #[error(
        "a message was sent to the e-mail address; open the account with the code in it, then log in again"
    )]
    SignUpPending,
    #[error("this login is linked to an account already")]
    IdentityTaken,
    #[error("the account has no such linked login")]
    IdentityNotFound,
    #[error("there would be no way left to log in; set a password or link another login first")]
    IdentityLast,
    #[error("this takes a login that has just been made; log in again")]
    LoginNotFresh,
    #[error("changes that were written together failed")]
    Together(#[source] std::sync::Arc<Error>),
    #[error("too many failed attempts; try again in {retry_after_s} s")]
    TooManyAttempts { retry_after_s: u64 },
    #[error("too many requests at once; try again in {retry_after_s} s")]
    Busy { retry_after_s: u64 },
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_)
            | Self::Rows(_)
            | Self::Corrupt { .. }
            | Self::Interrupted(_)
            | Self::AdminKey(_)
            | Self::Sign(_)
            | Self::Hash(_)
            | Self::Key(_)
            | Self::Together(_) => "auth.internal",
            Self::TokenKeyNotFound => "auth.token_key_not_found",
            Self::EmailInvalid(_) => "auth.email_invalid",
            Self::EmailTaken => "auth.email_taken",
            Self::PasswordTooShort { .. } => "auth.password_too_short",
            Self::PasswordTooLong { .. } => "auth.password_too_long",
            Self::UserNotFound => "auth.user_not_found",
            Self::RoleNotFound(_) => "auth.role_not_found",
            Self::RoleTaken(_) => "auth.role_taken",
            Self::RoleBuiltIn(_) => "auth.role_built_in",
            Self::RoleInUse(_) | Self::RoleInSettings { .. } => "auth.role_in_use",
            Self::RolesMissing => "auth.roles_missing",
            Self::PermissionInvalid(_) => "auth.permission_invalid",
            Self::ApiKeyNotFound => "auth.api_key_not_found",
            Self::ApiKeyName => "auth.api_key_name_invalid",
            Self::ApiKeyExpiry => "auth.api_key_expiry_invalid",
            Self::ApiKeyRate => "auth.api_key_rate_invalid",
            Self::ApiKeyRoles => "auth.api_key_roles_invalid",
            Self::ApiKeyRotation => "auth.api_key_rotation_invalid",
            Self::ApiKeyNotCurrent => "auth.api_key_not_current",
            Self::ServiceAccountNotFound => "auth.service_account_not_found",
            Self::ServiceAccountTaken => "auth.service_account_taken",
            Self::ServiceAccountName => "auth.service_account_name_invalid",
            Self::TooMany { .. } => "auth.too_many",
            Self::CredentialsWrong => "auth.credentials_wrong",
            Self::AccountDisabled => "auth.account_disabled",
            Self::RefreshInvalid => "auth.refresh_invalid",
            Self::RefreshReused => "auth.refresh_reused",
            Self::SessionEnded => "auth.session_ended",
            Self::RegistrationOff => "auth.registration_off",
            Self::ResetOff => "auth.reset_off",
            Self::CodeWrong => "auth.code_wrong",
            Self::TotpRequired => "auth.totp_required",
            Self::TotpWrong => "auth.totp_wrong",
            Self::TotpOn => "auth.totp_on",
            Self::TotpOff => "auth.totp_off",
            Self::SessionNotFound => "auth.session_not_found",
            Self::ProviderNotFound => "auth.provider_not_found",
            Self::ReturnNotAllowed => "auth.return_not_allowed",
            Self::ChallengeInvalid => "auth.challenge_invalid",
            Self::AttemptInvalid => "auth.login_attempt_invalid",
            Self::ProviderDenied => "auth.provider_denied",
            Self::ProviderRefused => "auth.provider_refused",
            Self::ProviderUnavailable { .. } => "auth.provider_unavailable",
            Self::EmailNotAllowed => "auth.email_not_allowed",
            Self::IdentityUnknown => "auth.identity_unknown",
            Self::IdentityNotLinked => "auth.identity_not_linked",
            Self::SignUpPending => "auth.sign_up_pending",
            Self::IdentityTaken => "auth.identity_taken",
            Self::IdentityNotFound => "auth.identity_not_found",
            Self::IdentityLast => "auth.identity_last",
            Self::LoginNotFresh => "auth.login_not_fresh",
            Self::TooManyAttempts { .. } => "auth.too_many_attempts",
            Self::Busy { .. } => "auth.busy",
        }
    }

    /// Seconds after which trying again makes sense, where that is so.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooManyAttempts { retry_after_s }
            | Self::ProviderUnavailable { retry_after_s }
            | Self::Busy { retry_after_s } => Some(*retry_after_s),
            Self::RolesMissing => Some(60),
            _ => None,
        }
    }
}

/// Why a credential that came with a request is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "the credentials cannot be read; send one of `Authorization: Bearer …` and `X-API-Key`"
    )]
    Malformed,
    #[error("only the `Bearer` scheme is accepted in `Authorization`")]
    SchemeUnsupported,
    #[error("the access token is not valid")]
    TokenInvalid,
    #[error("the access token has expired")]
    TokenExpired,
    #[error("the access token was revoked; log in again")]
    TokenRevoked,
    #[error("the API key is not known")]
    KeyUnknown,
    #[error("the API key has expired")]
    KeyExpired,
    #[error("the API key was revoked")]
    KeyRevoked,
    #[error("the API key may not be used from this address")]
    KeyElsewhere,
}

impl Rejection {
    /// The stable code of this rejection.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "auth.malformed",
            Self::SchemeUnsupported => "auth.scheme_unsupported",
            Self::TokenInvalid => "auth.token_invalid",
            Self::TokenExpired => "auth.token_expired",
            Self::TokenRevoked => "auth.token_revoked",
            Self::KeyUnknown => "auth.key_unknown",
            Self::KeyExpired => "auth.key_expired",
            Self::KeyRevoked => "auth.key_revoked",
            Self::KeyElsewhere => "auth.key_elsewhere",
        }
    }

    /// The value of `WWW-Authenticate` for this rejection (RFC 6750). Without any credential it is plain `Bearer`.
    pub fn www_authenticate(self) -> &'static str {
        match self {
            Self::Malformed => r#"Bearer error="invalid_request""#,
            Self::SchemeUnsupported => "Bearer",
            Self::TokenInvalid => r#"Bearer error="invalid_token""#,
            Self::TokenExpired => {
                r#"Bearer error="invalid_token", error_description="The access token expired""#
            }
            Self::TokenRevoked => {
                r#"Bearer error="invalid_token", error_description="The access token was revoked""#
            }
            Self::KeyUnknown | Self::KeyExpired | Self::KeyRevoked | Self::KeyElsewhere => {
                r#"Bearer error="invalid_token", error_description="The API key is not valid""#
            }
        }
    }
}
