//! One error for everything a plugin does. `?` takes any error into it, and the host or the SDK turns it into
//! problem+json (RFC 9457).

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bindings::module::gantry::types::types as wit;
use crate::{Response, context, log};

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request could not be answered, or what a service of the host refused.
///
/// There are three sorts, and they differ in what the client sees:
///
/// * **A problem you made** with [`Error::new`] or one of its shorthands: the client sees status, code and message.
/// * **An error of a service** (`kv::…`, `sql::…`, …): it keeps its [kind](Error::kind) and code, and the host
///   answers with the status of that kind.
/// * **Any other error**, met with `?`: its text goes to the log, and the client sees only `internal`.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// fn seats(text: &str) -> Result<u32> {
///     let seats: u32 = text.parse()?; // a ParseIntError: logged, and the client sees `internal`
///     if seats > 12 {
///         return Err(Error::new(422, "reservation.too_many_seats", "at most 12 seats"));
///     }
///     Ok(seats)
/// }
/// assert_eq!(seats("13").unwrap_err().status(), 422);
/// assert_eq!(seats("many").unwrap_err().kind(), ErrorKind::Internal);
/// ```
// Like anyhow's, it does not implement `std::error::Error`: else `?` could not take every error.
pub struct Error(Box<Cause>);

enum Cause {
    Problem(Problem),
    Service(wit::Error),
    Unexpected(String),
}

struct Problem {
    status: u16,
    code: Cow<'static, str>,
    message: String,
    errors: Vec<FieldError>,
    headers: Vec<(String, String)>,
}

/// Why the host refused or failed. The same words as in `gantry:types`; no word will be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not granted to this plugin, or not permitted for this caller. HTTP 403.
    Denied,
    /// The thing asked for does not exist. HTTP 404.
    NotFound,
    /// The request itself is wrong; trying again will not help. HTTP 400.
    Invalid,
    /// Somebody else changed it first, or it exists already. HTTP 409.
    Conflict,
    /// A quota, rate or size was reached. HTTP 429.
    Limit,
    /// It took longer than it may. HTTP 504.
    Timeout,
    /// The service behind it cannot be reached now. HTTP 503.
    Unavailable,
    /// It failed for a reason the caller cannot mend. HTTP 502.
    Internal,
}

/// One wrong field of a request, in the `errors` of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where it is: a JSON Pointer into the body (`/guest/email`) or the name of a parameter.
    #[serde(rename = "at")]
    pub field: String,
    /// Stable and dotted or a single word, for programs: `required`, `too_long`.
    pub code: Cow<'static, str>,
    /// One sentence for a person.
    #[serde(rename = "detail")]
    pub message: String,
}

impl Error {
    /// A problem that the client sees as it stands: HTTP status (400 to 599), a stable code, a sentence.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Cause::Problem(Problem {
            status,
            code: code.into(),
            message: message.into(),
            errors: Vec::new(),
            headers: Vec::new(),
        })))
    }

    /// 400.
    pub fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// 403.
    pub fn forbidden(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(403, code, message)
    }

    /// 404.
    pub fn not_found(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(404, code, message)
    }

    /// 409.
    pub fn conflict(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// 422 with the code `request.invalid`, to be filled with [`Error::with_field`].
    ///
    /// ```
    /// # use gantry_sdk::prelude::*;
    /// let error = Error::unprocessable("the reservation has mistakes")
    ///     .with_field("party_size", "too_large", "at most 12")
    ///     .with_field("guest.email", "format", "not an e-mail address");
    /// assert_eq!(error.fields().len(), 2);
    /// ```
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "request.invalid", message)
    }

    /// An error whose text goes to the log and not to the client. `?` does the same with any error.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self(Box::new(Cause::Unexpected(message.to_string())))
    }

    /// Adds a wrong field. It changes nothing in errors that are not a problem of your own.
    #[must_use]
    pub fn with_field(
        mut self,
        field: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        if let Cause::Problem(problem) = &mut *self.0 {
            problem.errors.push(FieldError {
                field: field.into(),
                code: code.into(),
                message: message.into(),
            });
        }
        self
    }

    /// Adds a response header. It changes nothing in errors that are not a problem of your own.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Cause::Problem(problem) = &mut *self.0 {
            problem.headers.push((name.into(), value.into()));
        }
        self
    }

    /// What happened, in the words of the contract. For a problem of your own it follows from the status.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Problem(problem) => ErrorKind::of_status(problem.status),
            Cause::Service(error) => ErrorKind::of(error),
            Cause::Unexpected(_) => ErrorKind::Internal,
        }
    }

    /// The stable code: `sql.unique_violation`, `kv.value_too_large`, your own, or `plugin.failed`.
    pub fn code(&self) -> &str {
        match &*self.0 {
            Cause::Problem(problem) => &problem.code,
            Cause::Service(error) => &detail(error).code,
            Cause::Unexpected(_) => UNEXPECTED,
        }
    }

    /// The HTTP status that the client will see.
    pub fn status(&self) -> u16 {
        match &*self.0 {
            Cause::Problem(problem) => problem.status,
            _ => self.kind().status(),
        }
    }

    /// The sentence. For an unexpected error this is the text for the log, not for the client.
    pub fn message(&self) -> &str {
        match &*self.0 {
            Cause::Problem(problem) => &problem.message,
            Cause::Service(error) => &detail(error).message,
            Cause::Unexpected(text) => text,
        }
    }

    /// The wrong fields of a problem.
    pub fn fields(&self) -> &[FieldError] {
        match &*self.0 {
            Cause::Problem(problem) => &problem.errors,
            _ => &[],
        }
    }

    /// When trying again can succeed, if the host knows.
    pub fn retry_after(&self) -> Option<Duration> {
        match &*self.0 {
            Cause::Service(error) => detail(error).retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }

    pub(crate) fn service(error: wit::Error) -> Self {
        Self(Box::new(Cause::Service(error)))
    }

    /// An error of the SDK itself in the words of the contract, as if a service had answered it.
    pub(crate) fn of_kind(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        let detail = wit::Detail {
            code: code.to_owned(),
            message: message.into(),
            retry_after_ms: None,
        };
        Self::service(kind.with(detail))
    }

    /// What a handler hands to the host: a problem as a response, everything else as an error of the contract.
    pub(crate) fn into_answer(self) -> Result<Response, wit::Error> {
        match *self.0 {
            Cause::Problem(problem) => Ok(problem.into_response()),
            Cause::Service(error) => Err(error),
            Cause::Unexpected(text) => Err(unexpected(&text)),
        }
    }

    /// The same for operators, who may read what no client may.
    pub(crate) fn into_wit_for_operators(self) -> wit::Error {
        match *self.0 {
            Cause::Unexpected(text) => ErrorKind::Internal.with(wit::Detail {
                code: UNEXPECTED.to_owned(),
                message: text,
                retry_after_ms: None,
            }),
            cause => Self(Box::new(cause)).into_wit(),
        }
    }

    /// The same where there is no HTTP: the kind that comes closest to the status.
    pub(crate) fn into_wit(self) -> wit::Error {
        match *self.0 {
            Cause::Problem(problem) => ErrorKind::of_status(problem.status).with(wit::Detail {
                code: problem.code.into_owned(),
                message: problem.message,
                retry_after_ms: None,
            }),
            Cause::Service(error) => error,
            Cause::Unexpected(text) => unexpected(&text),
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // An error of the raw bindings keeps its kind, too.
        match (&error as &dyn Any).downcast_ref::<wit::Error>() {
            Some(error) => Self::service(error.clone()),
            None => Self::internal(error),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status(), self.code(), self.message())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl ErrorKind {
    /// The HTTP status of this kind.
    pub fn status(self) -> u16 {
        match self {
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Invalid => 400,
            Self::Conflict => 409,
            Self::Limit => 429,
            Self::Timeout => 504,
            Self::Unavailable => 503,
            Self::Internal => 502,
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            404 | 410 => Self::NotFound,
            408 | 504 => Self::Timeout,
            409 | 412 => Self::Conflict,
            413 | 429 => Self::Limit,
            503 => Self::Unavailable,
            400..=499 => Self::Invalid,
            _ => Self::Internal,
        }
    }

    fn of(error: &wit::Error) -> Self {
        match error {
            wit::Error::Denied(_) => Self::Denied,
            wit::Error::NotFound(_) => Self::NotFound,
            wit::Error::Invalid(_) => Self::Invalid,
            wit::Error::Conflict(_) => Self::Conflict,
            wit::Error::Limit(_) => Self::Limit,
            wit::Error::Timeout(_) => Self::Timeout,
            wit::Error::Unavailable(_) => Self::Unavailable,
            wit::Error::Internal(_) => Self::Internal,
        }
    }

    pub(crate) fn with(self, detail: wit::Detail) -> wit::Error {
        match self {
            Self::Denied => wit::Error::Denied(detail),
            Self::NotFound => wit::Error::NotFound(detail),
            Self::Invalid => wit::Error::Invalid(detail),
            Self::Conflict => wit::Error::Conflict(detail),
            Self::Limit => wit::Error::Limit(detail),
            Self::Timeout => wit::Error::Timeout(detail),
            Self::Unavailable => wit::Error::Unavailable(detail),
            Self::Internal => wit::Error::Internal(detail),
        }
    }
}

/// Turns "nothing there" into a 404.
pub trait OptionExt<T> {
    /// The value, or a 404 with the code `not_found` and this sentence.
    ///
    /// ```
    /// # use gantry_sdk::prelude::*;
    /// let missing: Result<u32> = None.or_404("there is no such table");
    /// assert_eq!(missing.unwrap_err().status(), 404);
    /// ```
    fn or_404(self, message: impl Into<String>) -> Result<T>;
}

impl<T> OptionExt<T> for Option<T> {
    fn or_404(self, message: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::not_found("not_found", message))
    }
}

/// Gives an error of somebody else a status and a code.
pub trait ResultExt<T> {
    /// The value, or a problem that shows the error's text to the client.
    ///
    /// ```
    /// # use gantry_sdk::prelude::*;
    /// let port = "eighty".parse::<u16>().or_status(400, "port.invalid");
    /// assert_eq!(port.unwrap_err().message(), "invalid digit found in string");
    /// ```
    fn or_status(self, status: u16, code: &'static str) -> Result<T>;

    /// The value, or an internal error whose text in the log begins with what was tried.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> ResultExt<T> for std::result::Result<T, E> {
    fn or_status(self, status: u16, code: &'static str) -> Result<T> {
        self.map_err(|error| Error::new(status, code, error.to_string()))
    }

    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::internal(format_args!("{what}: {error}")))
    }
}

impl Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            request_id: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }
        let body = Body {
            r#type: "about:blank",
            title: title(self.status),
            status: self.status,
            code: &self.code,
            detail: &self.message,
            request_id: &context::request_id(),
            errors: &self.errors,
        };
        let mut response = Response::new(self.status)
            .with_header("content-type", "application/problem+json")
            .with_body(serde_json::to_vec(&body).unwrap_or_default());
        response.headers.extend(self.headers);
        response
    }
}

/// The code of an error that the plugin did not foresee.
const UNEXPECTED: &str = "plugin.failed";

/// The text goes to the log; the client learns only that it was not its fault.
fn unexpected(text: &str) -> wit::Error {
    log::error(text);
    wit::Error::Internal(wit::Detail {
        code: UNEXPECTED.to_owned(),
        message: "the plugin could not answer".to_owned(),
        retry_after_ms: None,
    })
}

fn detail(error: &wit::Error) -> &wit::Detail {
    match error {
        wit::Error::Denied(detail)
        | wit::Error::NotFound(detail)
        | wit::Error::Invalid(detail)
        | wit::Error::Conflict(detail)
        | wit::Error::Limit(detail)
        | wit::Error::Timeout(detail)
        | wit::Error::Unavailable(detail)
        | wit::Error::Internal(detail) => detail,
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        423 => "Locked",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}
