//! Uploads that go on where they broke off: tus 1.0.0 with creation (also with the first bytes, also without a length),
//! expiration, checksum and termination. Where an upload stands is known by `services::blobs`, on every host.

use aws_lc_rs::digest;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;

use super::{Visit, client, empty, error, id_of, take};
use crate::gateway::body;
use crate::http::Problem;
use crate::plugins::routes::TUS_RESUMABLE;
use crate::services::blobs::{Condition, Error, Metadata, NewObject, Object, Upload, UploadId};

/// The version that is spoken.
pub(super) const VERSION: &str = "1.0.0";
/// Between the id of a file and that of the upload that it comes from.
pub(super) const MARK: char = '~';
const EXTENSIONS: &str =
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination";
/// The media type of bytes that are added.
const OFFSET_STREAM: &str = "application/offset+octet-stream";

const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");

/// `OPTIONS`: what can be done here.
pub(super) fn discover(visit: &Visit<'_>) -> Response<Body> {
    let mut answer = empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(TUS_EXTENSION, HeaderValue::from_static(EXTENSIONS));
    let algorithms = HeaderValue::from_static("sha256,sha1");
    headers.insert(TUS_CHECKSUM_ALGORITHM, algorithms);
    let operators = visit.blobs().config().object_bytes_max;
    let bytes_max = take::rules(visit).bytes_max.unwrap_or(u64::MAX);
    headers.insert(TUS_MAX_SIZE, bytes_max.min(operators).into());
    let methods = match visit.params.iter().any(|(name, _)| name == "id") {
        true => "GET, HEAD, PATCH, DELETE, OPTIONS",
        false => "GET, HEAD, POST, OPTIONS",
    };
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

/// `POST`: an upload begins, perhaps with its first bytes.
pub(super) async fn create<B>(visit: &Visit<'_>, body: B) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    if let Some(answer) = refuse_version(visit) {
        return Ok(answer);
    }
    let headers = &visit.head.headers;
    let length = number(headers, &UPLOAD_LENGTH)?;
    let is_deferred = headers
        .get(UPLOAD_DEFER_LENGTH)
        .is_some_and(|value| value == "1");
    if length.is_some() == is_deferred {
        return Err(invalid(
            "give either `Upload-Length` or `Upload-Defer-Length: 1`",
        ));
    }
    let (content_type, metadata) = read_metadata(headers)?;
    let id = visit.new_id();
    let new = NewObject {
        name: visit.name_of(&id),
        content_type,
        metadata,
        owner: visit.principal.map(|principal| principal.id.to_string()),
        length,
        condition: Condition::Absent,
        link: None,
    };
    let bucket = visit.bucket();
    let begun = visit.blobs().begin(&bucket, new, &take::rules(visit)).await;
    let mut upload = begun.map_err(|error| error::explain(&error))?;
    let mut answer = empty(StatusCode::CREATED);
    let base = visit.base();
    let is_with_bytes = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .eq_ignore_ascii_case(OFFSET_STREAM.as_bytes())
    });
    if is_with_bytes && !body.is_end_stream() {
        match add(visit, upload.id, 0, body).await {
            Ok(stands) => upload = stands,
            // The client learns where the upload is, and asks how far it came.
            Err(problem) if problem.status == StatusCode::BAD_REQUEST.as_u16() => {
                let found = visit.blobs().resume(&bucket, upload.id).await;
                upload = found.map_err(|error| error::explain(&error))?;
            }
            Err(problem) => {
                let _ = visit.blobs().abort(&bucket, upload.id).await;
                return Err(problem);
            }
        }
        answer
            .headers_mut()
            .insert(UPLOAD_OFFSET, upload.offset.into());
    }
    let place = format!("{base}/{id}{MARK}{}", upload.id);
    set(answer.headers_mut(), header::LOCATION, place);
    tell_expiry(answer.headers_mut(), &upload);
    if upload.length == Some(upload.offset) {
        let object = finish(visit, upload.id).await?;
        tell_object(visit, &mut answer, &object);
    }
    Ok(answer)
}

/// `HEAD`: how far an upload is.
pub(super) async fn status(visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
    if let Some(answer) = refuse_version(visit) {
        return Ok(answer);
    }
    let mut upload = upload(visit).await?;
    if upload.finished.is_none() && upload.length == Some(upload.offset) {
        // The request that sent the last of it did not come to its end. Clients take it for done, so it has to be.
        finish(visit, upload.id).await?;
        let found = visit.blobs().resume(&visit.bucket(), upload.id).await;
        upload = found.map_err(|error| error::explain(&error))?;
    }
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(UPLOAD_OFFSET, upload.offset.into());
    match upload.length {
        Some(length) => headers.insert(UPLOAD_LENGTH, length.into()),
        None => headers.insert(UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
    };
    if let Some(metadata) = write_metadata(&upload) {
        set(headers, UPLOAD_METADATA, metadata);
    }
    tell_expiry(headers, &upload);
    Ok(answer)
}

/// `PATCH`: adds to an upload.
pub(super) async fn append<B>(visit: &Visit<'_>, body: B) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    if let Some(answer) = refuse_version(visit) {
        return Ok(answer);
    }
    let headers = &visit.head.headers;
    let content_type = headers.get(header::CONTENT_TYPE);
    if !content_type.is_some_and(|value| {
        value
            .as_bytes()
            .eq_ignore_ascii_case(OFFSET_STREAM.as_bytes())
    }) {
        let detail = format!("bytes are added as `{OFFSET_STREAM}`");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(
            status,
            "request.unsupported_media_type",
            detail,
        ));
    }
    let offset = number(headers, &UPLOAD_OFFSET)?;
    let offset = offset.ok_or_else(|| invalid("`Upload-Offset` is missing"))?;
    let found = upload(visit).await?;
    if let Some(length) = number(headers, &UPLOAD_LENGTH)?
        && found.length != Some(length)
    {
        if found.length.is_some() {
            return Err(invalid(
                "the length of this upload is known already, and another one",
            ));
        }
        let bucket = visit.bucket();
        let declared = visit
            .blobs()
            .declare_length(&bucket, found.id, length)
            .await;
        declared.map_err(|error| error::explain(&error))?;
    }
    let stands = match add(visit, found.id, offset, body).await {
        Ok(stands) => stands,
        Err(problem) => {
            let mut answer = visit.tell(problem);
            // So that a client which is wrong need not ask.
            if answer.status() == StatusCode::CONFLICT
                && let Ok(now) = visit.blobs().resume(&visit.bucket(), found.id).await
            {
                answer
                    .headers_mut()
                    .insert(UPLOAD_OFFSET, now.offset.into());
            }
            return Ok(answer);
        }
    };
    let mut answer = empty(StatusCode::NO_CONTENT);
    answer
        .headers_mut()
        .insert(UPLOAD_OFFSET, stands.offset.into());
    tell_expiry(answer.headers_mut(), &stands);
    if stands.length == Some(stands.offset) {
        let object = finish(visit, stands.id).await?;
        tell_object(visit, &mut answer, &object);
    }
    Ok(answer)
}

/// `DELETE`: gives an upload up; of one that is whole, the file goes.
pub(super) async fn terminate(visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
    if let Some(answer) = refuse_version(visit) {
        return Ok(answer);
    }
    let upload = upload(visit).await?;
    if upload.finished.is_some() {
        return visit.delete().await;
    }
    let gone = visit.blobs().abort(&visit.bucket(), upload.id).await;
    match gone.map_err(|error| error::explain(&error))? {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => Err(error::explain(&Error::UploadNotFound)),
    }
}

/// The upload that the path names, if it is the caller's.
async fn upload(visit: &Visit<'_>) -> Result<Upload, Problem> {
    let (id, upload) = visit.asked()?;
    let unknown = || error::explain(&Error::UploadNotFound);
    let found = visit
        .blobs()
        .resume(&visit.bucket(), upload.ok_or_else(unknown)?)
        .await;
    let found = found.map_err(|error| error::explain(&error))?;
    // Nobody goes on with what somebody else began, whoever may read the files afterwards.
    let caller = visit.principal.map(|principal| &*principal.id);
    let is_theirs = found.owner.is_none() || found.owner.as_deref() == caller;
    if !is_theirs || found.name != visit.name_of(id) {
        return Err(unknown());
    }
    Ok(found)
}

/// Adds a body, which stays as far as it came. One with a checksum is added as a whole or not at all.
async fn add<B>(visit: &Visit<'_>, id: UploadId, offset: u64, body: B) -> Result<Upload, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    let (state, headers, bucket) = (visit.state, &visit.head.headers, visit.bucket());
    take::refuse_encoding(headers)?;
    let _place = take::place(state, visit.arrival)?;
    let Some(wanted) = headers.get(UPLOAD_CHECKSUM) else {
        let pieces = body::pieces(&state.config, body, headers, visit.body_bytes_max)?;
        let added = visit.blobs().append(&bucket, id, offset, pieces);
        return added.await.map_err(error::interrupted);
    };
    let checksum = Checksum::read(wanted)?;
    let bytes_max = usize::try_from(visit.body_bytes_max).unwrap_or(usize::MAX);
    let bytes_max = bytes_max.min(state.config.body_bytes_max);
    let read = body::read(state, visit.arrival.client, body, headers, bytes_max).await?;
    checksum.check(&read.bytes)?;
    let pieces = stream::iter([Ok::<_, Problem>(read.bytes.clone())]);
    let added = visit.blobs().append(&bucket, id, offset, pieces);
    added.await.map_err(error::interrupted)
}

/// Makes a whole upload a file. One that turns out to be none that is taken here is given up.
async fn finish(visit: &Visit<'_>, id: UploadId) -> Result<Object, Problem> {
    let bucket = visit.bucket();
    match visit.blobs().finish(&bucket, id).await {
        Ok(object) => Ok(object),
        Err(error) => {
            if matches!(
                error,
                Error::TypeMismatch { .. } | Error::TypeNotAllowed { .. }
            ) {
                let _ = visit.blobs().abort(&bucket, id).await;
            }
            Err(error::explain(&error))
        }
    }
}

fn tell_object(visit: &Visit<'_>, answer: &mut Response<Body>, object: &Object) {
    let place = format!("{}/{}", visit.base(), id_of(object));
    set(answer.headers_mut(), header::CONTENT_LOCATION, place);
    take::tag(answer, object);
}

fn tell_expiry(headers: &mut HeaderMap, upload: &Upload) {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let time = Timestamp::from_millisecond(upload.expires_at_ms).ok();
    let text = time.and_then(|time| printer.timestamp_to_rfc9110_string(&time).ok());
    if let Some(text) = text.filter(|_| upload.finished.is_none()) {
        set(headers, UPLOAD_EXPIRES, text);
    }
}

/// The refusal of a client that speaks another version.
fn refuse_version(visit: &Visit<'_>) -> Option<Response<Body>> {
    let asked = visit.head.headers.get(TUS_RESUMABLE);
    if asked.is_some_and(|version| version == VERSION) {
        return None;
    }
    let detail = format!("uploads are resumed with `Tus-Resumable: {VERSION}`");
    let status = StatusCode::PRECONDITION_FAILED;
    let mut answer = visit.tell(Problem::new(status, "tus.version_unsupported", detail));
    answer
        .headers_mut()
        .insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    Some(answer)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number
        .map(Some)
        .ok_or_else(|| invalid(format!("`{name}` must be a number of bytes")))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "tus.header_invalid", detail)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The declared type and what is kept beside the bytes, out of `Upload-Metadata`. What clients call a name and a type differs.
fn read_metadata(headers: &HeaderMap) -> Result<(Option<String>, Metadata), Problem> {
    let Some(value) = headers.get(UPLOAD_METADATA) else {
        return Ok((None, Metadata::new()));
    };
    let wrong =
        || invalid("`Upload-Metadata` has pairs of a key and a value in Base64, between commas");
    let text = value.to_str().map_err(|_| wrong())?;
    let (mut name, mut kind) = (None, None);
    let mut metadata = Metadata::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD.decode(value.trim()).map_err(|_| wrong())?;
        let value = String::from_utf8(value).map_err(|_| wrong())?;
        // However it is written: what is kept under the key of a name has been made plain.
        let key = key.to_ascii_lowercase();
        match &*key {
            "filename" | "name" => name = name.or_else(|| client::plain_name(&value)),
            "filetype" | "type" | "contenttype" => {
                kind = kind.or_else(|| client::declared_type(Some(&value)));
            }
            _ => {
                metadata.insert(key, value);
            }
        }
    }
    metadata.extend(take::named(name));
    Ok((kind, metadata))
}

fn write_metadata(upload: &Upload) -> Option<String> {
    let kind = upload
        .content_type
        .as_ref()
        .map(|kind| ("filetype", kind.as_str()));
    let entries = upload
        .metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let pairs: Vec<String> = entries
        .chain(kind)
        .map(|(key, value)| format!("{key} {}", STANDARD.encode(value)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// What the bytes of one request must add up to.
struct Checksum {
    algorithm: &'static digest::Algorithm,
    wanted: Vec<u8>,
}

impl Checksum {
    fn read(value: &HeaderValue) -> Result<Self, Problem> {
        let text = value.to_str().unwrap_or_default();
        let (name, wanted) = text.split_once(' ').unwrap_or_default();
        let algorithm = match name {
            "sha256" => &digest::SHA256,
            "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            _ => return Err(invalid("`Upload-Checksum` begins with `sha256` or `sha1`")),
        };
        let wanted = STANDARD.decode(wanted.trim());
        let wanted =
            wanted.map_err(|_| invalid("`Upload-Checksum` ends with a digest in Base64"))?;
        Ok(Self { algorithm, wanted })
    }

    fn check(&self, bytes: &[u8]) -> Result<(), Problem> {
        if digest::digest(self.algorithm, bytes).as_ref() == self.wanted {
            return Ok(());
        }
        let detail = "the bytes are not those of the checksum; nothing was added, send them again";
        let status = StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST);
        Err(Problem::new(status, "tus.checksum_mismatch", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::files::{FILE_NAME, head};

    #[test]
    fn metadata_are_read_whatever_clients_call_them() {
        for (text, wanted) in [
            (
                "filename YS5wbmc=,filetype aW1hZ2UvcG5n",
                Some((Some("image/png"), Some("a.png"), 1)),
            ),
            (
                "name YS5wbmc=,type aW1hZ2UvcG5n,relativePath bnVsbA==",
                Some((Some("image/png"), Some("a.png"), 2)),
            ),
            ("filename Li4vLi4vYS5wbmc=", Some((None, Some("a.png"), 1))),
            ("FileName Li4vLi4vYS5wbmc=", Some((None, Some("a.png"), 1))),
            ("FILENAME Li4v", Some((None, None, 0))),
            ("is_private", Some((None, None, 1))),
            ("", Some((None, None, 0))),
            ("filename ???", None),
            ("filename /w==", None),
        ] {
            let head = head(&[("upload-metadata", text)]);
            let read = read_metadata(&head.headers).ok();
            let read = read.as_ref().map(|(kind, metadata)| {
                let name = metadata.get(FILE_NAME).map(String::as_str);
                (kind.as_deref(), name, metadata.len())
            });
            assert_eq!(read, wanted, "{text}");
        }
    }

    #[test]
    fn a_checksum_is_of_the_bytes_or_nothing_is_added() {
        for (value, bytes, code) in [
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "hello world", None),
            (
                "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
                "hello world",
                None,
            ),
            (
                "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
                "hello there",
                Some("tus.checksum_mismatch"),
            ),
            (
                "md5 XrY7u+Ae7tCTyyK7j1rNww==",
                "hello world",
                Some("tus.header_invalid"),
            ),
            ("sha1", "hello world", Some("tus.header_invalid")),
        ] {
            let value = HeaderValue::from_static(value);
            let checked = Checksum::read(&value).and_then(|sum| sum.check(bytes.as_bytes()));
            assert_eq!(
                checked
                    .err()
                    .map(|problem| problem.code.into_owned())
                    .as_deref(),
                code
            );
        }
    }
}
