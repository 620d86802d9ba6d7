//! Links that are good without a login: made by routes of files, answered on the host's own surface.

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Extracted},
    routing::get,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::give::{self, Manner};
use super::{FILE_NAME, Visit, client, error, json as answer, list, take};
use crate::gateway::layers::Arrival;
use crate::gateway::{State, body, response};
use crate::http::Problem;
use crate::services::blobs::{
    Access, BucketId, Condition, Error, LINK_PATH, LinkOptions, NewObject, Rules,
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
    let id = visit.id_of(&object);
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
        false => serde_json::from_slice(&read.bytes).map_err(|cause| {
            let detail = format!("the body is `{{ \"expires_in_s\": 300 }}` or nothing: {cause}");
            Problem::new(StatusCode::BAD_REQUEST, "request.invalid_json", detail)
        })?,
    };
    let most = visit.files().link_ttl_max.map_or(0, |ttl| ttl.as_secs());
    let seconds = order.expires_in_s.unwrap_or(SECONDS.min(most));
    if seconds == 0 || seconds > most {
        return Err(error::explain(&Error::LinkTtlInvalid { seconds_max: most }));
    }
    Ok(seconds)
}

/// `GET` and `PUT` of links.
pub fn router(state: &State) -> Router {
    let path = format!("{LINK_PATH}{{*rest}}");
    Router::new()
        .route(&path, get(given).put(taken).fallback(refused))
        .with_state(state.clone())
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
        let link = verify(&state, &head, Access::Get)?;
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
    given.unwrap_or_else(|problem| response::of_problem(problem.with_request_id(arrival.id)))
}

async fn taken(Extracted(state): Extracted<State>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Some(arrival) = head.extensions.get::<Arrival>().copied() else {
        return response::of_problem(Problem::internal(&"a request that has not arrived"));
    };
    let taken = async {
        let link = verify(&state, &head, Access::Put)?;
        let (headers, query) = (&head.headers, None);
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
            // Once: whoever sees the link later must not put something else there.
            condition: Condition::Absent,
        };
        let id = new.name.rsplit('/').next().unwrap_or_default().to_owned();
        let rules: Rules = rules;
        let sent = take::send(&state, arrival, headers, body, &link.bucket, new, &rules);
        let object = sent.await?;
        let mut answer = answer(StatusCode::CREATED, &list::tell(&object, &id, None));
        take::tag(&mut answer, &object);
        Ok(answer)
    };
    let taken: Result<_, Problem> = taken.await;
    taken.unwrap_or_else(|problem| response::of_problem(problem.with_request_id(arrival.id)))
}

/// The link, if it is one, for this method, and the plugin still has the bucket.
fn verify(
    state: &State,
    head: &http::request::Parts,
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
        Some(false) => {
            let detail = format!("the plugin has no bucket `{label}` here");
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "capability.not_granted",
                detail,
            ))
        }
        None => Err(error::explain(&Error::NotFound)),
    }
}
