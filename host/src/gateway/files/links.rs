//! Links that are good without a login: made by routes of files, answered on the host's own surface.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Extracted},
    response::IntoResponse as _,
    routing::get,
};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::give::{self, Manner};
use super::{FILE_NAME, IN_NAME, Visit, client, error, id_of, json as answer, list, take, tus};
use crate::gateway::layers::Arrival;
use crate::gateway::{State, body, cors, response};
use crate::http::{Problem, json as http_json};
use crate::ids::RequestId;
use crate::pattern;
use crate::plugins::registry::LivePlugin;
use crate::services::blobs::{
    Access, BucketId, Condition, Error, LINK_PATH, LinkOptions, NewObject, Rules, bucket_of_link,
};

/// How long a link is good where nobody says it, in seconds.
const SECONDS: u64 = 300;
/// Most bytes of what is said of a link.
const ORDER_BYTES_MAX: usize = 4 << 10;

/// What is said of a link.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    expires_in_s: Option<u64>,
}

/// `POST {path}/{id}/link`
pub(super) async fn to_read<B>(visit: &Visit<'_>, body: B) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    let seconds = seconds(visit, body).await?;
    let object = visit.object().await?;
    let options = LinkOptions {
        is_inline: visit.files().shows(give::essence(&object.content_type)),
        ..LinkOptions::default()
    };
    let id = id_of(&object);
    sign(visit, Access::Get, &object.name, id, seconds, options)
}

/// `POST {path}/link`
pub(super) async fn to_send<B>(visit: &Visit<'_>, body: B) -> Result<Response<Body>, Problem>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    let seconds = seconds(visit, body).await?;
    let id = visit.new_id();
    let options = LinkOptions {
        is_inline: false,
        rules: take::rules(visit),
        owner: visit.principal.map(|principal| principal.id.to_string()),
    };
    sign(
        visit,
        Access::Put,
        &visit.name_of(&id),
        &id,
        seconds,
        options,
    )
}

fn sign(
    visit: &Visit<'_>,
    access: Access,
    name: &str,
    id: &str,
    seconds: u64,
    options: LinkOptions,
) -> Result<Response<Body>, Problem> {
    let signed = visit
        .blobs()
        .sign(access, &visit.bucket(), name, seconds, options);
    let url = signed.map_err(|error| error::explain(&error))?;
    let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let ends_at = visit.state.clock.now_ms().saturating_add(ms);
    let told = json!({
        "id": id,
        "method": access.as_str(),
        "url": url,
        "expires_at": list::time(ends_at),
    });
    Ok(answer(StatusCode::CREATED, &told))
}

/// How long the link is to be good, within what the manifest allows.
async fn seconds<B>(visit: &Visit<'_>, body: B) -> Result<u64, Problem>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    let headers = &visit.head.headers;
    let read = body::read(
        visit.state,
        visit.arrival.client,
        body,
        headers,
        ORDER_BYTES_MAX,
    );
    let read = read.await?;
    let order: Order = match read.bytes.is_empty() {
        true => Order::default(),
        false => http_json::read(&read.bytes)?,
    };
    let most = visit.files().link_ttl_max.map_or(0, |ttl| ttl.as_secs());
    let seconds = order.expires_in_s.unwrap_or(SECONDS.min(most));
    if seconds == 0 || seconds > most {
        return Err(error::explain(&Error::LinkTtlInvalid { seconds_max: most }));
    }
    Ok(seconds)
}

/// `GET` and `PUT` of links, also for pages of other origins.
pub fn router(state: &State) -> Router {
    let path = format!("{LINK_PATH}{{*rest}}");
    let methods = get(given).put(taken).options(asked).fallback(refused);
    Router::new()
        .route(&path, methods)
        .with_state(state.clone())
}

/// The plugin and the bucket that a link leads into, as long as the plugin has it.
fn place(state: &State, path: &str) -> Option<(Arc<LivePlugin>, BucketId)> {
    let bucket = bucket_of_link(path)?;
    let live = state.registry.live();
    let plugin = live.get(&bucket.plugin)?;
    let has_bucket = plugin.grants().has_blobs(&bucket.label);
    has_bucket.then(|| (Arc::clone(plugin), bucket))
}

/// Lets pages of other origins read an answer that may call the plugin; an error, too, so that they learn why.
fn share(state: &State, head: &Parts, answer: Response<Body>) -> Response<Body> {
    let mut answer = answer;
    if let Some((plugin, bucket)) = place(state, head.uri.path())
        && let Some(policy) = plugin.routes.cors_of_links(&bucket.label)
    {
        let origin = head.headers.get(header::ORIGIN);
        cors::apply(policy, origin, answer.headers_mut());
    }
    answer
}

/// A preflight. Browsers send it without saying who asks, so it tells of a link no more than what its path does.
async fn asked(Extracted(state): Extracted<State>, request: Request) -> Response<Body> {
    let (head, _) = request.into_parts();
    let (Some(origin), true) = (
        head.headers.get(header::ORIGIN),
        head.headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
    ) else {
        return refused().await.into_response();
    };
    let place = place(&state, head.uri.path());
    let policy = place
        .as_ref()
        .and_then(|(plugin, bucket)| plugin.routes.cors_of_links(&bucket.label));
    match policy {
        Some(policy) => cors::permit(policy, &["GET", "PUT"], &head, origin),
        None => refused().await.into_response(),
    }
}

async fn refused() -> Problem {
    let detail = "a link is for `GET`, or for `PUT`";
    Problem::new(StatusCode::FORBIDDEN, "blobs.link_invalid", detail)
}

async fn given(Extracted(state): Extracted<State>, request: Request) -> Response<Body> {
    let (head, _) = request.into_parts();
    let Some(arrival) = head.extensions.get::<Arrival>().copied() else {
        return response::of_problem(Problem::internal(&"a request that has not arrived"));
    };
    let given = async {
        let link = verify(&state, &head, arrival.id, Access::Get)?;
        let found = state.files.blobs.info(&link.bucket, &link.name).await;
        let object = found.map_err(|error| error::explain(&error))?;
        let manner = Manner {
            is_inline: link.options.is_inline,
            // It may be kept as long as whoever has it keeps it, and by nobody between.
            cache_control: HeaderValue::from_static("private, no-cache"),
            name: object.metadata.get(FILE_NAME).cloned(),
            varies: false,
            is_for_all: true,
        };
        give::give(
            &state,
            arrival,
            &head.method,
            &head.headers,
            &object,
            manner,
        )
        .await
    };
    let given = given.await;
    let given =
        given.unwrap_or_else(|problem| response::of_problem(problem.with_request_id(arrival.id)));
    share(&state, &head, given)
}

async fn taken(Extracted(state): Extracted<State>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Some(arrival) = head.extensions.get::<Arrival>().copied() else {
        return response::of_problem(Problem::internal(&"a request that has not arrived"));
    };
    let taken = async {
        let link = verify(&state, &head, arrival.id, Access::Put)?;
        let (headers, query) = (&head.headers, None);
        let id_of_link = state.files.blobs.link_id(&link);
        let LinkOptions { rules, owner, .. } = link.options;
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str);
        let kind = kind.transpose();
        let kind = kind.map_err(|_| error::explain(&Error::TypeInvalid))?;
        let new = NewObject {
            name: link.name,
            content_type: client::declared_type(kind),
            metadata: take::named(client::file_name(headers, query)),
            owner,
            length: body::announced(headers),
            // Once: whoever sees the link later must not put something else there, nor when what it brought has gone.
            condition: Condition::Absent,
            link: Some(id_of_link),
        };
        let rules: Rules = rules;
        let sent = take::send(&state, arrival, headers, body, &link.bucket, new, &rules);
        let object = sent.await?;
        let live = state.registry.live();
        let files = live.get(&object.bucket.plugin).and_then(|plugin| {
            let mut all = plugin.manifest().files.iter();
            let files = all.find(|files| files.bucket == object.bucket.label)?;
            let base = base_of(&files.path, &object.name)?;
            Some((format!("{}{base}", plugin.mount.path), files))
        });
        let at = files.as_ref().map(|(base, files)| (base.as_str(), *files));
        Ok(take::tell(&object, at))
    };
    let taken: Result<_, Problem> = taken.await;
    let taken =
        taken.unwrap_or_else(|problem| response::of_problem(problem.with_request_id(arrival.id)));
    share(&state, &head, taken)
}

/// The path of the files among which an object is, if its name is one that this path gives: values of the parameters, and an
/// id. Else nothing finds it there.
fn base_of(path: &str, name: &str) -> Option<String> {
    let (scope, id) = match name.rsplit_once('/') {
        Some((scope, id)) => (Some(scope), id),
        None => (None, name),
    };
    let is_written_so = |value: &str| {
        let plain = percent_decode_str(value).decode_utf8();
        plain.is_ok_and(|plain| utf8_percent_encode(&plain, IN_NAME).to_string() == value)
    };
    let mut values = scope.into_iter().flat_map(|scope| scope.split('/'));
    let mut fits = !id.contains(tus::MARK);
    let base = pattern::filled(path, |_| {
        let value = values.next().unwrap_or_default();
        fits &= is_written_so(value) && !value.is_empty();
        value.to_owned()
    });
    let is_whole = fits && values.next().is_none();
    is_whole.then(|| base.trim_end_matches('/').to_owned())
}

/// The link, if it is one, for this method, and the plugin still has the bucket.
fn verify(
    state: &State,
    head: &http::request::Parts,
    id: RequestId,
    access: Access,
) -> Result<crate::services::blobs::Link, Problem> {
    let query = head.uri.query().unwrap_or_default();
    let verified = state.files.blobs.verify(head.uri.path(), query);
    let link = verified.map_err(|error| error::explain(&error))?;
    if link.access != access {
        return Err(error::explain(&Error::LinkInvalid));
    }
    let BucketId { plugin, label } = &link.bucket;
    let live = state.registry.live();
    let has_bucket = live
        .get(plugin)
        .map(|plugin| plugin.grants().has_blobs(label));
    match has_bucket {
        Some(true) => Ok(link),
        Some(false) => Err(response::bucket_not_granted(plugin, label, id)),
        None => Err(error::explain(&Error::NotFound)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_below_the_path_that_gives_its_name_and_no_other() {
        for (path, name, wanted) in [
            ("/photos", "7", Some("/photos")),
            ("/photos/", "7", Some("/photos")),
            ("/", "7", Some("")),
            ("/{house}/plans", "a%20b/7", Some("/a%20b/plans")),
            ("/{house}/{room}", "1/2/7", Some("/1/2")),
            // What plugins call their objects need not be what a path gives.
            ("/photos", "menu/7", None),
            ("/photos", "7~8", None),
            ("/{house}/plans", "7", None),
            ("/{house}/plans", "a b/7", None),
            ("/{house}/plans", "a%2f/7", None),
            ("/{house}/plans", "1/2/7", None),
        ] {
            assert_eq!(base_of(path, name).as_deref(), wanted, "{path} {name}");
        }
    }
}
