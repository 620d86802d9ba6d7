//! From the errors of the modules below to what a caller is told: the one list of causes and statuses of this API.

use std::error::Error as _;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::auth;
use crate::http::problem::ProblemItem;
use crate::http::{Problem, json};
use crate::plugins::bundle::BundleError;
use crate::plugins::rehearsal::{Report, TestReport};
use crate::plugins::store::StoreError;
use crate::plugins::trust;
use crate::plugins::{DeployError, Mistake};
use crate::runtime::{CompileError, LoadError};
use crate::services::{self, Kind};

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct ApiError(Box<Problem>);

impl ApiError {
    /// An error with this status and code; the detail says what is wrong and how to mend it.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status, code, detail)))
    }

    /// The request is wrong in itself.
    pub(super) fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The host failed. The cause goes to the log.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        Self(Box::new(Problem::internal(cause)))
    }

    /// Nobody is logged in.
    pub(super) fn login_required() -> Self {
        let detail = "log in and send `Authorization: Bearer …`, or send an API key in `X-API-Key`";
        Self::new(StatusCode::UNAUTHORIZED, "auth.required", detail)
    }

    /// What an author has to mend.
    fn mistaken(detail: String, mistakes: Vec<Mistake>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "deploy.invalid", detail)
            .with_errors(mistakes.into_iter().map(item).collect())
    }

    fn with_errors(mut self, errors: Vec<ProblemItem>) -> Self {
        self.0.errors = errors;
        self
    }

    /// What may work later.
    pub(super) fn with_retry_after_s(mut self, seconds: Option<u64>) -> Self {
        self.0.retry_after_s = seconds;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<auth::Rejection> for ApiError {
    fn from(rejection: auth::Rejection) -> Self {
        let mut problem = Problem::new(
            StatusCode::UNAUTHORIZED,
            rejection.code(),
            rejection.to_string(),
        );
        problem.challenge = Some(rejection.www_authenticate());
        Self(Box::new(problem))
    }
}

impl From<auth::Forbidden> for ApiError {
    fn from(forbidden: auth::Forbidden) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            auth::Forbidden::CODE,
            forbidden.to_string(),
        )
    }
}

impl From<auth::Beyond> for ApiError {
    fn from(beyond: auth::Beyond) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            auth::Beyond::CODE,
            beyond.to_string(),
        )
    }
}

impl From<auth::Error> for ApiError {
    fn from(error: auth::Error) -> Self {
        use auth::Error as E;
        let status = match &error {
            E::Config(_)
            | E::Rows(_)
            | E::Corrupt { .. }
            | E::Interrupted(_)
            | E::AdminKey(_)
            | E::Sign(_)
            | E::Hash(_)
            | E::Key(_)
            | E::Together(_) => {
                return Self::internal(&chain(&error));
            }
            E::EmailInvalid(_)
            | E::PasswordTooShort { .. }
            | E::PasswordTooLong { .. }
            | E::RoleNotFound(_)
            | E::PermissionInvalid(_)
            | E::ApiKeyName
            | E::ApiKeyExpiry
            | E::ApiKeyRate
            | E::ApiKeyRoles
            | E::ApiKeyRotation
            | E::ServiceAccountName => StatusCode::UNPROCESSABLE_ENTITY,
            E::EmailTaken
            | E::RoleTaken(_)
            | E::RoleBuiltIn(_)
            | E::RoleInUse(_)
            | E::RoleInSettings { .. }
            | E::ApiKeyNotCurrent
            | E::ServiceAccountTaken
            | E::TotpOn
            | E::TotpOff
            | E::TooMany { .. } => StatusCode::CONFLICT,
            E::UserNotFound
            | E::ApiKeyNotFound
            | E::ServiceAccountNotFound
            | E::SessionNotFound
            | E::TokenKeyNotFound => StatusCode::NOT_FOUND,
            E::CredentialsWrong
            | E::AccountDisabled
            | E::RefreshInvalid
            | E::RefreshReused
            | E::SessionEnded
            | E::TotpRequired
            | E::TotpWrong => StatusCode::UNAUTHORIZED,
            E::IdentityNotFound | E::ProviderNotFound => StatusCode::NOT_FOUND,
            E::IdentityTaken | E::IdentityNotLinked | E::IdentityLast => StatusCode::CONFLICT,
            E::RegistrationOff
            | E::ResetOff
            | E::CodeWrong
            // Of people who log in elsewhere; operators do not meet them.
            | E::ReturnNotAllowed
            | E::ChallengeInvalid
            | E::AttemptInvalid
            | E::ProviderDenied
            | E::ProviderRefused
            | E::EmailNotAllowed
            | E::IdentityUnknown
            | E::SignUpPending
            | E::LoginNotFresh => StatusCode::FORBIDDEN,
            E::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            E::Busy { .. } | E::ProviderUnavailable { .. } | E::RolesMissing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, error.code(), error.to_string()).with_retry_after_s(error.retry_after_s())
    }
}

impl From<services::Error> for ApiError {
    fn from(error: services::Error) -> Self {
        let status = match error.kind {
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Conflict | Kind::Limit => StatusCode::CONFLICT,
            Kind::Timeout | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => return Self::internal(&error),
        };
        let seconds = error.retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
        let seconds = seconds.or_else(|| (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1));
        let problem = Problem::new(status, error.code, error.message);
        Self(Box::new(problem)).with_retry_after_s(seconds)
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let unprocessable =
            |code, detail: String| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        let detail = error.to_string();
        match error {
            DeployError::Mistakes(mistakes) => Self::mistaken(detail, mistakes),
            DeployError::Trust(refusal) => unprocessable(refusal.code(), detail),
            DeployError::Bundle(error) => error.into(),
            DeployError::NameMissing => Self::invalid("deploy.name_missing", detail),
            DeployError::Mount(_) => unprocessable("deploy.mount_invalid", detail),
            DeployError::Config(mistakes) => {
                let items = mistakes.into_iter().map(|detail| ProblemItem {
                    at: None,
                    detail,
                    help: None,
                });
                unprocessable(
                    "config.invalid",
                    "the settings do not fit the plugin's schema".to_owned(),
                )
                .with_errors(items.collect())
            }
            DeployError::Load(error) => error.into(),
            DeployError::Migrate { .. } => unprocessable("deploy.migration_failed", detail),
            DeployError::Tests(report) => {
                unprocessable("deploy.tests_failed", detail).with_errors(items_of(&report))
            }
            DeployError::Store(error) => error.into(),
            DeployError::Artifact(error) => Self::internal(&chain(&error)),
            DeployError::Unhealthy { .. } => unprocessable("deploy.unhealthy", detail),
            DeployError::Hook { .. } => unprocessable("deploy.migration_failed", detail),
            DeployError::Migrating { .. } => {
                Self::new(StatusCode::CONFLICT, "deploy.conflict", detail)
            }
            DeployError::CanaryMoves => unprocessable("deploy.canary_moves", detail),
            DeployError::NotLive { .. } => unprocessable("deploy.not_live", detail),
            DeployError::FilterMissing { .. } => {
                Self::new(StatusCode::CONFLICT, "deploy.filter_missing", detail)
            }
            DeployError::FilesBehindFilter { .. } => {
                Self::new(StatusCode::CONFLICT, "deploy.files_behind_filter", detail)
            }
            DeployError::Breaking { differences, .. } => {
                let items = differences.into_iter().map(|difference| ProblemItem {
                    at: Some(difference.operation),
                    detail: format!("{} ({})", difference.what, difference.why),
                    help: Some(difference.pointer).filter(|pointer| !pointer.is_empty()),
                });
                Self::new(StatusCode::CONFLICT, "deploy.breaking", detail)
                    .with_errors(items.collect())
            }
            DeployError::Host(cause) => Self::internal(&format!("{cause:#}")),
        }
    }
}

/// Every mistake with the test that found it.
fn items_of(report: &Report) -> Vec<ProblemItem> {
    let item = |test: &TestReport, mistake: &String| ProblemItem {
        at: Some(format!("test `{}`", test.name)),
        detail: mistake.clone(),
        help: None,
    };
    let tests = report.tests.iter();
    tests
        .flat_map(|test| test.mistakes.iter().map(move |mistake| item(test, mistake)))
        .collect()
}

impl From<BundleError> for ApiError {
    fn from(error: BundleError) -> Self {
        let detail = error.to_string();
        match error {
            BundleError::Manifest(mistakes) => Self::mistaken(detail, mistakes),
            BundleError::TooLarge { .. } | BundleError::UnpackedTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "deploy.too_large", detail)
            }
            BundleError::NameMissing => Self::invalid("deploy.name_missing", detail),
            // Only packing reads files.
            BundleError::Io { .. } => Self::internal(&chain(&error)),
            BundleError::NotABundle
            | BundleError::Damaged { .. }
            | BundleError::TooManyEntries { .. }
            | BundleError::RatioTooHigh { .. }
            | BundleError::Path { .. }
            | BundleError::Duplicate { .. }
            | BundleError::Unexpected { .. }
            | BundleError::Missing { .. }
            | BundleError::NotText { .. }
            | BundleError::MigrationName { .. }
            | BundleError::MigrationTwice { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "deploy.bundle_invalid",
                detail,
            ),
        }
    }
}

impl From<trust::Error> for ApiError {
    fn from(error: trust::Error) -> Self {
        use trust::Error as E;
        let (status, code) = match &error {
            E::Key(_) | E::Patterns | E::Owner | E::Expired => {
                (StatusCode::UNPROCESSABLE_ENTITY, "trust.key_invalid")
            }
            E::NotFound(_) => (StatusCode::NOT_FOUND, "trust.key_not_found"),
            E::Exists(_) => (StatusCode::CONFLICT, "trust.key_exists"),
            E::TooMany { .. } => (StatusCode::CONFLICT, "trust.too_many_keys"),
            E::InSettings(_) | E::SettingsOnly => (StatusCode::CONFLICT, "trust.in_settings"),
            E::Rows(_) => return Self::internal(&chain(&error)),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let code = match &error {
            LoadError::Compile(CompileError::Busy) => {
                let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "deploy.busy");
                return Self::new(status, code, error.to_string()).with_retry_after_s(Some(10));
            }
            LoadError::Compile(CompileError::Host(cause)) => {
                return Self::internal(&format!("{cause:#}"));
            }
            LoadError::Compile(CompileError::Invalid(_)) => "deploy.component_invalid",
            LoadError::Compile(CompileError::LimitExceeded(_)) => "deploy.compile_limit_exceeded",
            LoadError::Link(_) => "deploy.component_unfit",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::PluginNotFound(_) => (StatusCode::NOT_FOUND, "plugin.not_found"),
            StoreError::DeploymentNotFound { .. } => {
                (StatusCode::NOT_FOUND, "deployment.not_found")
            }
            StoreError::MountTaken { .. } => (StatusCode::CONFLICT, "deploy.mount_taken"),
            StoreError::MountNested { .. } => (StatusCode::CONFLICT, "deploy.mount_nested"),
            StoreError::Changed { .. } => (StatusCode::CONFLICT, "deploy.conflict"),
            StoreError::RolloutNotFound { .. } => (StatusCode::NOT_FOUND, "rollout.not_found"),
            StoreError::ApprovalNotFound { .. } => (StatusCode::NOT_FOUND, "approval.not_found"),
            StoreError::ApprovalChanged { .. } => (StatusCode::CONFLICT, "approval.changed"),
            StoreError::GrantNotFound { .. } => (StatusCode::NOT_FOUND, "grant.not_found"),
            StoreError::Row { .. } | StoreError::Rows(_) => return Self::internal(&chain(&error)),
        };
        Self::new(status, code, error.to_string())
    }
}

/// A mistake with its place as compilers write it, so that editors jump there.
fn item(mistake: Mistake) -> ProblemItem {
    let at = mistake
        .location
        .map(|location| format!("plugin.toml:{location}"));
    ProblemItem {
        at,
        detail: mistake.message,
        help: mistake.help,
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        if let Some(mistake) = mistake_of(&rejection) {
            return Self(Box::new(json::does_not_fit(vec![json::item(mistake)])));
        }
        let code = match &rejection {
            JsonRejection::JsonDataError(_) => "request.invalid_body",
            JsonRejection::JsonSyntaxError(_) => "request.invalid_json",
            JsonRejection::MissingJsonContentType(_) => "request.unsupported_media_type",
            _ => "request.body_unreadable",
        };
        Self::new(rejection.status(), code, rejection.body_text())
    }
}

/// What does not fit in a body that is JSON.
fn mistake_of(rejection: &JsonRejection) -> Option<&json::Mistake> {
    let JsonRejection::JsonDataError(error) = rejection else {
        return None;
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(mistake) = error.downcast_ref() {
            return Some(mistake);
        }
        cause = error.source();
    }
    None
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(
            rejection.status(),
            "request.invalid_query",
            rejection.body_text(),
        )
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "request.invalid_path",
            rejection.body_text(),
        )
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<_> = anyhow::Chain::new(error).map(ToString::to_string).collect();
    causes.join(": ")
}
