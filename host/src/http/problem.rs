//! Errors as people and programs meet them: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::ids::RequestId;

/// An error body. Every error that leaves the host is one of these.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// The HTTP status, repeated.
    pub status: u16,
    /// Stable and dotted: `route.not_found`. Programs match on this.
    pub code: Cow<'static, str>,
    /// One sentence: what happened and how to mend it.
    pub detail: String,
    /// The id in the `x-request-id` header and in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// The single mistakes, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemItem>,
    /// The names of the rate limits that were reached (draft-ietf-httpapi-ratelimit-headers).
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    pub violated_policies: Vec<String>,
    /// Seconds for the `Retry-After` header.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
    /// The value of the `WWW-Authenticate` header of a 401.
    #[serde(skip)]
    pub challenge: Option<&'static str>,
    /// Headers about rate limits, by name.
    #[serde(skip)]
    pub rate_limit: Vec<(&'static str, String)>,
}

/// Why a request was refused. It travels with the answer inside the host, for the access log, and is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The problem's code.
    pub code: Cow<'static, str>,
    /// The rate limits that were reached.
    pub limits: Vec<String>,
}

/// One mistake of several.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ProblemItem {
    /// Where: a line and column, a JSON Pointer or the name of a parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What is wrong.
    pub detail: String,
    /// How to mend it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What problems of this status are titled.
pub fn title(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    reason.unwrap_or("Error")
}

impl Problem {
    /// A problem with this status and code.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        let code = code.into();
        Self {
            kind: format!("/_gantry/errors/{code}"),
            title: title(status.as_u16()).into(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            request_id: None,
            errors: Vec::new(),
            violated_policies: Vec::new(),
            retry_after_s: None,
            challenge: None,
            rate_limit: Vec::new(),
        }
    }

    /// An unexpected failure of the host. The cause is logged here and never told.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error.cause = %cause, "A request failed");
        Self::hidden()
    }

    /// An unexpected failure of the host, whose cause is in the log already.
    pub fn hidden() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "host.internal",
            "the host failed; its log has the reason under this request id",
        )
    }

    /// With the single mistakes.
    pub fn with_errors(mut self, errors: Vec<ProblemItem>) -> Self {
        self.errors = errors;
        self
    }

    /// With the id of the request.
    pub fn with_request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    /// With advice on when to try again, in whole seconds, at least one.
    pub fn with_retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// As a response, ready to be sent, with its [`Reason`] among the extensions.
    pub fn into_http(self) -> Response<Bytes> {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        response.extensions_mut().insert(Reason {
            code: self.code,
            limits: self.violated_policies,
        });
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        for (name, value) in self.rate_limit {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        if self.status == 401 {
            let challenge = HeaderValue::from_static(self.challenge.unwrap_or("Bearer"));
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.into_http().map(axum::body::Body::from)
    }
}
