//! Which files there are, a page at a time, and how one is told.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{FILE_NAME, Visit, error, give, id_of, json as answer};
use crate::http::Problem;
use crate::plugins::manifest::Files;
use crate::services::blobs::{Error, Object, is_hosts};

/// What stands in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PAGE: u32 = 50;
const PAGE_MAX: u32 = 100;

pub(super) async fn page(visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
    let query = visit.head.uri.query().unwrap_or_default();
    let (mut limit, mut cursor) = (PAGE, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "limit" => {
                let asked = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=PAGE_MAX).contains(limit));
                let refusal = Error::PageSizeInvalid { max: PAGE_MAX };
                limit = asked.ok_or_else(|| error::explain(&refusal))?;
            }
            "cursor" if !value.is_empty() => cursor = Some(value.into_owned()),
            _ => {}
        }
    }
    let scope = visit.scope();
    let prefix = format!("{scope}{}", visit.tag());
    let bucket = visit.bucket();
    let page = visit
        .blobs()
        .list(&bucket, &prefix, cursor.as_deref(), limit);
    let page = page.await.map_err(|error| error::explain(&error))?;
    // Ids come before everything that was derived of them.
    let is_over = page.objects.iter().any(|object| is_hosts(&object.name));
    let base = visit.base();
    let own = page.objects.iter().filter(|object| {
        let id = object.name.strip_prefix(&*scope).unwrap_or_default();
        let is_id = !id.contains('/') && !is_hosts(id);
        is_id && visit.is_for_caller(object.owner.as_deref())
    });
    let items: Vec<Value> = own
        .map(|object| tell(object, Some((base, visit.files()))))
        .collect();
    let next = page.cursor.filter(|_| !is_over);
    let body = json!({ "items": items, "next_cursor": next });
    Ok(answer(StatusCode::OK, &body))
}

/// An object as JSON; `place` is the path of all files, and what it is about.
pub(super) fn tell(object: &Object, place: Option<(&str, &Files)>) -> Value {
    let id = id_of(object);
    let mut told = json!({
        "id": id,
        "name": object.metadata.get(FILE_NAME),
        "type": object.content_type,
        "bytes": object.size,
        "sha256": object.sha256.to_string(),
        "created_at": time(object.created_at_ms),
    });
    let Some((base, files)) = place else {
        return told;
    };
    let id = utf8_percent_encode(id, IN_PATH);
    told["url"] = format!("{base}/{id}").into();
    let is_image = give::essence(&object.content_type).starts_with("image/");
    if is_image && !files.renditions.is_empty() {
        let urls = files.renditions.iter().map(|rendition| {
            let url = format!("{base}/{id}/renditions/{}", rendition.name);
            (rendition.name.clone(), Value::String(url))
        });
        told["renditions"] = Value::Object(urls.collect::<Map<_, _>>());
    }
    told
}

/// A time as JSON has it.
pub(super) fn time(ms: i64) -> Option<String> {
    let time = Timestamp::from_millisecond(ms).ok()?;
    Some(format!("{time:.3}"))
}
