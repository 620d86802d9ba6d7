//! Takes a file in one request: bytes go to where they are kept as they come, and nothing is left of what breaks off.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{FILE_NAME, Visit, client, error, json, list};
use crate::gateway::layers::Arrival;
use crate::gateway::{State, body};
use crate::http::Problem;
use crate::http::shares::Share;
use crate::plugins::manifest::Files;
use crate::services::blobs::{BucketId, Condition, Metadata, NewObject, Object, Rules};

pub(super) async fn whole<B>(visit: &Visit<'_>, body: B) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    let headers = &visit.head.headers;
    let new = NewObject {
        name: visit.name_of(&visit.new_id()),
        content_type: content_type(headers)?,
        metadata: named(client::file_name(headers, visit.head.uri.query())),
        owner: visit.principal.map(|principal| principal.id.to_string()),
        length: body::announced(headers),
        condition: Condition::Absent,
        link: None,
    };
    let (bucket, rules) = (visit.bucket(), rules(visit));
    let sent = send(
        visit.state,
        visit.arrival,
        headers,
        body,
        &bucket,
        new,
        &rules,
    );
    let object = sent.await?;
    Ok(tell(&object, Some((visit.base(), visit.files()))))
}

/// What is told of a file that was taken; `place` is the path of all files, and what it is about.
pub(super) fn tell(object: &Object, place: Option<(&str, &Files)>) -> Response<Body> {
    let told = list::tell(object, place);
    let mut answer = json(StatusCode::CREATED, &told);
    let location = told["url"].as_str().map(HeaderValue::try_from);
    if let Some(Ok(location)) = location {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    tag(&mut answer, object);
    answer
}

/// Sends a body to where it is kept.
pub(super) async fn send<B>(
    state: &State,
    arrival: Arrival,
    headers: &HeaderMap,
    body: B,
    bucket: &BucketId,
    new: NewObject,
    rules: &Rules,
) -> Result<Object, Problem>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    refuse_encoding(headers)?;
    let _place = place(state, arrival)?;
    let bytes_max = rules.bytes_max.unwrap_or(u64::MAX);
    let pieces = body::pieces(&state.config, body, headers, bytes_max)?;
    let upload = state.files.blobs.upload(bucket, new, rules, pieces);
    upload.await.map_err(error::interrupted)
}

/// What may be sent here: what the manifest says, and what filters leave.
pub(super) fn rules(visit: &Visit<'_>) -> Rules {
    let mut rules = visit.files().rules.clone();
    if visit.body_bytes_max != u64::MAX {
        let bytes_max = rules.bytes_max.unwrap_or(u64::MAX);
        rules.bytes_max = Some(bytes_max.min(visit.body_bytes_max));
    }
    rules
}

/// The type that the client declares. Several are none.
fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, None) = (values.next(), values.next()) else {
        return Err(error::explain(&crate::services::blobs::Error::TypeInvalid));
    };
    let text = first.map(HeaderValue::to_str).transpose();
    let text = text.map_err(|_| error::explain(&crate::services::blobs::Error::TypeInvalid))?;
    Ok(client::declared_type(text))
}

/// What is kept beside the bytes.
pub(super) fn named(name: Option<String>) -> Metadata {
    name.into_iter()
        .map(|name| (FILE_NAME.to_owned(), name))
        .collect()
}

/// A place among the bodies that flow.
pub(super) fn place(state: &State, arrival: Arrival) -> Result<Share, Problem> {
    let place = state.flows.take(arrival.client, 1);
    place.ok_or_else(body::too_many_flow)
}

/// Files are kept as they are: one that is encoded for the way would come back encoded.
pub(super) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|value| value.as_bytes() == b"identity") {
        return Ok(());
    }
    let detail = "send the body without a content encoding";
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Problem::new(status, "request.encoding_unsupported", detail))
}

pub(super) fn tag(answer: &mut Response<Body>, object: &Object) {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", object.etag())) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
}
