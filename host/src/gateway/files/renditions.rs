//! Other sizes of images: made by a plugin in the sandbox when somebody first asks, kept beside what they were made of, and
//! gone with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::{Config, FILE_NAME, Visit, error, give};
use crate::gateway::response;
use crate::http::shares::Shares;
use crate::http::{Problem, address};
use crate::ids::Digest;
use crate::plugins::manifest::{ImageFormat, Rendition};
use crate::plugins::registry::LivePlugin;
use crate::runtime::{
    self, CallContext, EntryKind, HttpCall, Invocation, InvokeError, RequestBody, Trigger,
};
use crate::services::blobs::{
    Blobs, Condition, Content, Error, Interrupted, Metadata, NewObject, Object, Rules,
    derived_folder,
};

/// What is kept of images that cannot be read.
const FAILURES_MAX: u64 = 1000;
/// Renditions of one file that are looked through when it goes: no manifest has more in all formats.
const OF_ONE_MAX: u32 = 200;

/// Renditions in the making.
#[derive(Debug)]
pub struct Renditions {
    /// Who makes one now.
    places: Semaphore,
    /// How many of one client may be among those who wait for a place in turn: one fewer than there are.
    places_each: usize,
    /// By their networks: those who make one or wait for a place in turn.
    clients: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    /// Who makes one or waits for it.
    waiting: Arc<Shares>,
    /// By the name of the rendition: whoever holds it makes it, the others wait.
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Why some cannot be made.
    failures: Cache<String, Problem>,
}

impl Renditions {
    /// With the operator's bounds.
    pub fn new(config: &Config) -> Self {
        let failures = Cache::builder()
            .max_capacity(FAILURES_MAX)
            .time_to_live(Duration::from_millis(config.rendition_failure_ms));
        let places = config.renditions_at_once_max.max(1);
        let each_max = config.renditions_waiting_per_client_max.max(1);
        Self {
            places: Semaphore::new(places),
            places_each: (places - 1).max(1),
            clients: Mutex::default(),
            waiting: Shares::new(config.renditions_waiting_max.max(1), each_max),
            flights: Mutex::default(),
            failures: failures.build(),
        }
    }

    /// The turns of a client: however much it asks for, others come next.
    fn turns(&self, client: IpAddr) -> Arc<Semaphore> {
        let client = address::network(client);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = clients.get(&client).and_then(Weak::upgrade) {
            return turns;
        }
        // No more than there are requests, which `waiting` bounds.
        clients.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(self.places_each));
        clients.insert(client, Arc::downgrade(&turns));
        turns
    }

    fn flight(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(name).and_then(Weak::upgrade) {
            return flight;
        }
        // No more than there are requests, which `waiting` bounds.
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(name.to_owned(), Arc::downgrade(&flight));
        flight
    }
}

/// `GET {path}/{id}/renditions/{name}`
pub(super) async fn answer(visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
    let source = visit.object().await?;
    let name = visit.params.iter().find(|(key, _)| key == "name");
    let name = name.map(|(_, name)| name.as_str()).unwrap_or_default();
    let Some(rendition) = visit.files().rendition(name) else {
        let detail = format!(
            "there is no rendition of this name; there are: {}",
            names(visit)
        );
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "rendition.not_found",
            detail,
        ));
    };
    let kind = give::essence(&source.content_type);
    if !is_readable(kind) {
        let detail = format!("renditions are made of JPEG, PNG, GIF and WebP, and not of `{kind}`");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "rendition.no_image", detail));
    }
    let format = format_for(rendition, kind, &visit.head.headers);
    let varies = rendition.format == ImageFormat::WebP;
    let made = find_or_make(visit, &source, rendition, format).await?;
    let stem = source
        .metadata
        .get(FILE_NAME)
        .map_or("image", String::as_str);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let name = format!("{stem}-{}.{}", rendition.name, format.as_str());
    visit.give(&made, Some((name, varies))).await
}

fn names(visit: &Visit<'_>) -> String {
    let names = visit.files().renditions.iter();
    let names: Vec<String> = names
        .map(|rendition| format!("`{}`", rendition.name))
        .collect();
    names.join(", ")
}

fn is_readable(kind: &str) -> bool {
    ["image/jpeg", "image/png", "image/gif", "image/webp"].contains(&kind)
}

/// The format for a client: that of the rendition, unless it is WebP and the client does not say that it takes it. `*/*` among
/// others is no such word: old browsers say it, too, and show nothing.
fn format_for(rendition: &Rendition, source: &str, headers: &HeaderMap) -> ImageFormat {
    if rendition.format != ImageFormat::WebP {
        return rendition.format;
    }
    let texts = headers.get_all(header::ACCEPT).iter();
    let texts: Vec<&str> = texts.filter_map(|value| value.to_str().ok()).collect();
    let mut ranges = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let takes = ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_webp = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("image/webp"));
        is_webp && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    });
    let says_nothing = matches!(texts[..], [] | [""] | ["*/*"]);
    if takes || says_nothing {
        return ImageFormat::WebP;
    }
    match source {
        "image/jpeg" => ImageFormat::Jpeg,
        // What may be transparent stays so.
        _ => ImageFormat::Png,
    }
}

/// Removes what was made of earlier states of an object and came when these had gone already. What cannot be removed now is
/// removed when the next one is made.
async fn forget_earlier(blobs: &Blobs, source: &Object) {
    let (bucket, folder) = (&source.bucket, derived_folder(&source.name));
    let Ok(page) = blobs.list(bucket, &folder, None, OF_ONE_MAX).await else {
        return;
    };
    let kept = format!("{folder}{}-", source.etag());
    for object in page.objects {
        if !object.name.starts_with(&kept) {
            let _ = blobs.delete(bucket, &object.name, Condition::Always).await;
        }
    }
}

/// What the plugin is asked for.
fn query(rendition: &Rendition, format: ImageFormat) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in [
        ("width", rendition.width),
        ("height", rendition.height),
        ("quality", rendition.quality.map(u32::from)),
    ] {
        if let Some(value) = value {
            query.append_pair(key, &value.to_string());
        }
    }
    query.append_pair(
        "fit",
        if rendition.is_cover {
            "cover"
        } else {
            "contain"
        },
    );
    query.append_pair("format", format.as_str());
    query.finish()
}

async fn find_or_make(
    visit: &Visit<'_>,
    source: &Object,
    rendition: &Rendition,
    format: ImageFormat,
) -> Result<Object, Problem> {
    let query = query(rendition, format);
    let mut digest = Digest::of(query.as_bytes()).to_string();
    digest.truncate(16);
    // Of this state of the object and these parameters: another image or another size has another name.
    let name = format!("{}{}-{digest}", derived_folder(&source.name), source.etag());
    let find = async || match visit.blobs().info(&source.bucket, &name).await {
        Ok(object) => Ok(Some(object)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error::explain(&error)),
    };
    if let Some(object) = find().await? {
        return Ok(object);
    }
    let renditions = &visit.state.files.renditions;
    let key = format!("{}/{}/{name}", source.bucket.plugin, source.bucket.label);
    if let Some(problem) = renditions.failures.get(&key) {
        return Err(problem);
    }
    let plugin = plugin(visit)?;
    let waiting = renditions.waiting.take(visit.arrival.client, 1);
    let _waiting =
        waiting.ok_or_else(|| saturated("too many renditions are being made; try again"))?;
    let flight = renditions.flight(&key);
    let _flight = flight.lock().await;
    if let Some(object) = find().await? {
        return Ok(object);
    }
    if let Some(problem) = renditions.failures.get(&key) {
        return Err(problem);
    }
    // Neither is ever closed.
    let turns = renditions.turns(visit.arrival.client);
    let _turn = turns.acquire().await;
    let _place = renditions.places.acquire().await;
    let made = make(visit, &plugin, source, query).await;
    let bytes = made.inspect_err(|problem| {
        if problem.status == StatusCode::UNPROCESSABLE_ENTITY.as_u16() {
            renditions.failures.insert(key.clone(), problem.clone());
        }
    })?;
    forget_earlier(visit.blobs(), source).await;
    let new = NewObject {
        name,
        content_type: Some(format.media_type().to_owned()),
        metadata: Metadata::new(),
        owner: source.owner.clone(),
        length: Some(bytes.len() as u64),
        condition: Condition::Always,
        link: None,
    };
    let pieces = stream::iter([Ok::<_, Infallible>(bytes)]);
    let rules = Rules::default();
    let kept = visit.blobs().upload(&source.bucket, new, &rules, pieces);
    let kept = kept.await.map_err(|error| match error {
        Interrupted::Refused(error) => {
            let problem = error::explain(&error);
            // Nobody is to have it made again and again where there is no room for it.
            if error.retry_after_ms().is_none() {
                renditions.failures.insert(key.clone(), problem.clone());
            }
            problem
        }
        Interrupted::Body(never) => match never {},
    })?;
    // What it was made of may have gone meanwhile; nothing would take this with it.
    match visit.blobs().info(&source.bucket, &source.name).await {
        Ok(now) if now.id == source.id => Ok(kept),
        _ => {
            let _ = visit
                .blobs()
                .delete(&source.bucket, &kept.name, Condition::Always)
                .await;
            Err(error::explain(&Error::NotFound))
        }
    }
}

/// The plugin that makes renditions.
fn plugin(visit: &Visit<'_>) -> Result<Arc<LivePlugin>, Problem> {
    let name = &visit.state.config.files.renditions_plugin;
    let live = visit.state.registry.live();
    let found = live.get(name);
    let found = found.filter(|plugin| plugin.loaded.spec().entry == EntryKind::Transform);
    found.cloned().ok_or_else(|| {
        let detail = format!(
            "renditions are made by the plugin `{name}`, which is not installed here; whoever runs this server deploys it: \
             `gantry plugin deploy plugins/images`"
        );
        Problem::new(StatusCode::NOT_IMPLEMENTED, "rendition.not_installed", detail)
    })
}

async fn make(
    visit: &Visit<'_>,
    plugin: &Arc<LivePlugin>,
    source: &Object,
    query: String,
) -> Result<Bytes, Problem> {
    let state = visit.state;
    let bytes_max = state.config.files.rendition_source_bytes_max;
    let size = usize::try_from(source.size).unwrap_or(usize::MAX);
    if size > bytes_max {
        let detail = format!("renditions are made of images with at most {bytes_max} bytes");
        return Err(failed(detail));
    }
    let share = state
        .bodies
        .take(visit.arrival.client, size.next_multiple_of(1 << 10));
    let _share =
        share.ok_or_else(|| saturated("the host holds as many bodies as it can; try again"))?;
    let content = visit.blobs().open(source, None).await;
    let image = gather(content.map_err(|error| error::explain(&error))?, size).await?;
    let uri: Uri = format!("/?{query}")
        .parse()
        .map_err(|error| Problem::internal(&error))?;
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::try_from(&source.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let timeout = Duration::from_millis(state.config.request_timeout_ms);
    let invocation = Invocation {
        context: CallContext {
            request_id: visit.arrival.id,
            trigger: "http",
            route: Some(Arc::clone(&visit.route.pattern)),
            path_params: Vec::new(),
            client_address: Some(visit.arrival.client),
            // Whose image it is, is nothing to whoever makes it smaller.
            principal: None,
            headers,
            depth: visit.depth,
            deadline: Instant::now() + timeout,
        },
        trigger: Trigger::Http(HttpCall {
            method: Method::POST,
            uri,
            mount_length: 0,
            body: RequestBody::Whole(image),
            stream: None,
            target: None,
        }),
        account: Arc::clone(&visit.route.metrics.account),
    };
    let outcome = state.runtime.invoke(&plugin.loaded, invocation).await;
    match outcome.result {
        Ok(response) => match response.into_body() {
            runtime::Body::Whole(bytes) => Ok(bytes),
            runtime::Body::Stream(_) => Err(Problem::internal(&"a transformation that flows")),
        },
        Err(InvokeError::Returned(error)) if error.code.starts_with("image.") => {
            let message: String = error.message.chars().take(300).collect();
            Err(failed(format!(
                "no rendition can be made of this image: {message}"
            )))
        }
        Err(error) => {
            response::report(
                &error,
                plugin,
                &visit.route.pattern,
                visit.arrival.id,
                visit.principal,
            );
            // An image that makes the decoder use all that it may have, or fall over, does so each time.
            Err(if error.is_crash() {
                failed(
                    "no rendition can be made of this image: it takes more than it may".to_owned(),
                )
            } else {
                response::explain(&error, visit.principal)
            })
        }
    }
}

async fn gather(mut content: Content, size: usize) -> Result<Bytes, Problem> {
    let mut all = BytesMut::with_capacity(size);
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(|error| error::explain(&error))?;
        if all.len() + piece.len() > size {
            return Err(error::explain(&Error::Damaged));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

fn failed(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "rendition.failed", detail)
}

fn saturated(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "host.saturated", detail).with_retry_after_s(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::files::head;

    #[test]
    fn webp_is_for_those_who_say_that_they_take_it() {
        let rendition = |format| Rendition {
            name: "thumb".to_owned(),
            width: Some(320),
            height: None,
            is_cover: false,
            format,
            quality: None,
        };
        use ImageFormat::{Jpeg, Png, WebP};
        for (format, source, accept, wanted) in [
            (WebP, "image/jpeg", None, WebP),
            (WebP, "image/jpeg", Some("*/*"), WebP),
            (
                WebP,
                "image/jpeg",
                Some("image/avif,image/webp,*/*;q=0.8"),
                WebP,
            ),
            (
                WebP,
                "image/jpeg",
                Some("image/png,image/svg+xml,*/*;q=0.5"),
                Jpeg,
            ),
            (WebP, "image/png", Some("image/png,*/*;q=0.5"), Png),
            (WebP, "image/gif", Some("image/webp;q=0, image/*"), Png),
            (Png, "image/jpeg", Some("image/webp"), Png),
        ] {
            let headers: Vec<_> = accept.iter().map(|accept| ("accept", *accept)).collect();
            let found = format_for(&rendition(format), source, &head(&headers).headers);
            assert_eq!(found, wanted, "{format} {source} {accept:?}");
        }
    }
}
