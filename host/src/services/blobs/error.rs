//! Why files are not taken or given, one variant for each cause.

use std::borrow::Cow;

use crate::services;
use crate::services::Kind;

/// A refusal or failure. Messages may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no such object")]
    NotFound,
    #[error(
        "a name has 1 to {} bytes, in parts between single slashes; no part is `.` or `..`, and there are no control \
         characters or backslashes",
        super::NAME_BYTES_MAX
    )]
    NameInvalid,
    #[error("names that begin with `~` are the host's")]
    NameReserved,
    #[error("the content type is no media type, like `image/png`")]
    TypeInvalid,
    #[error("objects of the type `{found}` are not taken here")]
    TypeNotAllowed { found: String },
    #[error("the content was declared as `{declared}` and looks like `{found}`")]
    TypeMismatch { declared: String, found: String },
    #[error("the metadata have too many entries or bytes, or a key that is none: {rule}")]
    MetadataInvalid { rule: String },
    #[error("at most {bytes_max} bytes are taken here")]
    TooLarge { bytes_max: u64 },
    #[error("there would be more bytes than the {bytes_max} that are allowed")]
    Full { bytes_max: u64 },
    #[error("there are {objects_max} objects, which is all that are allowed")]
    TooManyObjects { objects_max: u64 },
    #[error("{uploads_max} uploads are open, which is all that are allowed; finish or abort some")]
    TooManyUploads { uploads_max: u64 },
    #[error("the object came in more than {parts_max} pieces; send larger ones")]
    TooManyParts { parts_max: u64 },
    #[error("the object was changed or deleted in the meantime, or is there already")]
    Changed,
    #[error("{declared} bytes were declared, and {given} given")]
    LengthMismatch { declared: u64, given: u64 },
    #[error("the object has {size} bytes; nothing of the range is in it")]
    RangeInvalid { size: u64 },
    #[error("there is no such upload, or not any more")]
    UploadNotFound,
    #[error("the upload stands at byte {offset}")]
    OffsetMismatch { offset: u64 },
    #[error("another request is writing to this upload")]
    UploadBusy,
    #[error("the upload is finished")]
    UploadFinished,
    #[error("the upload stands at byte {offset} and is not whole yet")]
    UploadIncomplete { offset: u64 },
    #[error("a page has 1 to {max} objects")]
    PageSizeInvalid { max: u32 },
    #[error("the cursor did not come from an earlier page")]
    CursorInvalid,
    #[error("the link was not made here for this, or was changed")]
    LinkInvalid,
    #[error("the link is past its end")]
    LinkExpired,
    #[error("a link lives for 1 to {seconds_max} seconds")]
    LinkTtlInvalid { seconds_max: u64 },
    #[error("the host takes and gives as many files at once as it may; try again soon")]
    Busy,
    #[error("the place where files are kept cannot be reached now; try again soon")]
    Unavailable,
    #[error("the bytes of the object are missing or not the ones that were kept")]
    Damaged,
    #[error("the host failed while serving this call")]
    Failed,
}

impl Error {
    /// The stable code of this cause.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "blobs.not_found",
            Self::NameInvalid => "blobs.name_invalid",
            Self::NameReserved => "blobs.name_reserved",
            Self::TypeInvalid => "blobs.type_invalid",
            Self::TypeNotAllowed { .. } => "blobs.type_not_allowed",
            Self::TypeMismatch { .. } => "blobs.type_mismatch",
            Self::MetadataInvalid { .. } => "blobs.metadata_invalid",
            Self::TooLarge { .. } => "blobs.too_large",
            Self::Full { .. } => "blobs.full",
            Self::TooManyObjects { .. } => "blobs.too_many_objects",
            Self::TooManyUploads { .. } => "blobs.too_many_uploads",
            Self::TooManyParts { .. } => "blobs.too_many_parts",
            Self::Changed => "blobs.changed",
            Self::LengthMismatch { .. } => "blobs.length_mismatch",
            Self::RangeInvalid { .. } => "blobs.range_invalid",
            Self::UploadNotFound => "blobs.upload_not_found",
            Self::OffsetMismatch { .. } => "blobs.offset_mismatch",
            Self::UploadBusy => "blobs.upload_busy",
            Self::UploadFinished => "blobs.upload_finished",
            Self::UploadIncomplete { .. } => "blobs.upload_incomplete",
            Self::PageSizeInvalid { .. } => "blobs.page_size_invalid",
            Self::CursorInvalid => "blobs.cursor_invalid",
            Self::LinkInvalid => "blobs.link_invalid",
            Self::LinkExpired => "blobs.link_expired",
            Self::LinkTtlInvalid { .. } => "blobs.link_ttl_invalid",
            Self::Busy => "blobs.busy",
            Self::Unavailable => "blobs.unavailable",
            Self::Damaged => "blobs.damaged",
            Self::Failed => "blobs.failed",
        }
    }

    /// The case of the contract's error.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound | Self::UploadNotFound => Kind::NotFound,
            Self::NameInvalid
            | Self::NameReserved
            | Self::TypeInvalid
            | Self::TypeNotAllowed { .. }
            | Self::TypeMismatch { .. }
            | Self::MetadataInvalid { .. }
            | Self::LengthMismatch { .. }
            | Self::RangeInvalid { .. }
            | Self::PageSizeInvalid { .. }
            | Self::CursorInvalid
            | Self::LinkTtlInvalid { .. } => Kind::Invalid,
            Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::TooManyObjects { .. }
            | Self::TooManyUploads { .. }
            | Self::TooManyParts { .. } => Kind::Limit,
            Self::Changed
            | Self::OffsetMismatch { .. }
            | Self::UploadBusy
            | Self::UploadFinished
            | Self::UploadIncomplete { .. } => Kind::Conflict,
            Self::LinkInvalid | Self::LinkExpired => Kind::Denied,
            Self::Busy | Self::Unavailable => Kind::Unavailable,
            Self::Damaged | Self::Failed => Kind::Internal,
        }
    }

    /// When trying again can succeed, if that is known.
    pub fn retry_after_ms(&self) -> Option<u64> {
        matches!(self, Self::Busy | Self::Unavailable | Self::UploadBusy).then_some(1000)
    }

    /// The host's rows cannot be read or written. The cause goes to the log.
    pub(super) fn rows(cause: sqlx::Error) -> Self {
        match cause {
            sqlx::Error::PoolTimedOut => Self::Busy,
            cause => {
                tracing::error!(error.cause = %cause, "The rows of files cannot be read or written");
                Self::Failed
            }
        }
    }
}

impl From<Error> for services::Error {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            code: Cow::Borrowed(error.code()),
            message: error.to_string(),
            retry_after_ms: error.retry_after_ms(),
        }
    }
}

/// Why an upload ended early: for a reason of ours, or because its body did.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted<E> {
    #[error(transparent)]
    Refused(#[from] Error),
    /// What the body's stream returned.
    #[error("the body ended early")]
    Body(E),
}
