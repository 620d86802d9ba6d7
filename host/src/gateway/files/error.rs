//! From why files are not taken or given to what clients are told.

use http::StatusCode;

use crate::http::Problem;
use crate::services::blobs::{Error, Interrupted};

/// The problem for a cause.
pub(super) fn explain(error: &Error) -> Problem {
    let status = match error {
        Error::NotFound | Error::UploadNotFound => StatusCode::NOT_FOUND,
        Error::NameInvalid
        | Error::NameReserved
        | Error::TypeInvalid
        | Error::MetadataInvalid { .. }
        | Error::LengthMismatch { .. }
        | Error::PageSizeInvalid { .. }
        | Error::CursorInvalid
        | Error::LinkTtlInvalid { .. } => StatusCode::BAD_REQUEST,
        Error::TypeNotAllowed { .. } | Error::TypeMismatch { .. } => {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        }
        Error::TooLarge { .. } | Error::TooManyParts { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Full { .. } | Error::TooManyObjects { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Error::RangeInvalid { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Error::UploadBusy => StatusCode::LOCKED,
        Error::Changed
        | Error::TooManyUploads { .. }
        | Error::OffsetMismatch { .. }
        | Error::UploadFinished
        | Error::UploadIncomplete { .. } => StatusCode::CONFLICT,
        Error::LinkInvalid | Error::LinkExpired => StatusCode::FORBIDDEN,
        Error::Busy | Error::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Error::Damaged | Error::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let problem = Problem::new(status, error.code(), error.to_string());
    match error.retry_after_ms() {
        Some(ms) => problem.with_retry_after_s(ms.div_ceil(1000)),
        None => problem,
    }
}

/// The problem for a body that was refused, or did not come to its end.
pub(super) fn interrupted(error: Interrupted<Problem>) -> Problem {
    match error {
        Interrupted::Refused(error) => explain(&error),
        Interrupted::Body(problem) => problem,
    }
}
