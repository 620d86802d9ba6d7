//! Files over HTTP: what the routes of `[[files]]` in manifests do. The host answers them itself, after authentication,
//! permissions and limits like those of every route; where bytes lie and how many may is decided by `services::blobs`.

mod client;
mod error;
mod filing;
mod give;
mod links;
mod list;
mod range;
mod renditions;
mod take;
mod tus;

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::Principal;
use crate::gateway::layers::Arrival;
use crate::gateway::{State, response};
use crate::http::Problem;
use crate::ids::PluginName;
use crate::plugins::manifest::{FileAction, Files};
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::{Filed, Route, TUS_RESUMABLE};
use crate::services::blobs::{Blobs, BucketId, Error, Object, UploadId, is_hosts};

pub(super) use filing::Filing;
pub use links::router;
pub use renditions::Renditions;

/// How files are served, beside what `services.blobs` says of keeping them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The plugin that makes renditions of images: a transformation that takes the parameters of our `images`. Default:
    /// `images`.
    pub renditions_plugin: PluginName,
    /// Longest file of which renditions are made; it is held in memory meanwhile. Default: 20 MiB.
    pub rendition_source_bytes_max: usize,
    /// Most renditions that are made at the same time. Default: 2.
    pub renditions_at_once_max: usize,
    /// Most requests that wait for a rendition; further ones are answered with 503. Default: 128.
    pub renditions_waiting_max: usize,
    /// The same of one client. Default: 64.
    pub renditions_waiting_per_client_max: usize,
    /// How long it is remembered that an image cannot be read, or its rendition not be kept, so that not every request
    /// tries. Default: 60000.
    pub rendition_failure_ms: u64,
    /// What a file counts that is being sent to a client, of `answers_bytes_max`: about what is in memory of it. Default:
    /// 256 KiB.
    pub download_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            renditions_plugin: "images".parse().expect("a name of a plugin"),
            rendition_source_bytes_max: 20 << 20,
            renditions_at_once_max: 2,
            renditions_waiting_max: 128,
            renditions_waiting_per_client_max: 64,
            rendition_failure_ms: 60_000,
            download_bytes: 256 << 10,
        }
    }
}

/// What the gateway has of files.
#[derive(Debug, Clone)]
pub struct Served {
    pub blobs: Blobs,
    pub renditions: Arc<Renditions>,
}

/// The key of a file's name among its metadata.
const FILE_NAME: &str = "filename";
/// Names of objects have the values of parameters in them, so that only what is plain stays as it is.
const IN_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// One request to a route of files.
struct Visit<'a> {
    state: &'a State,
    arrival: Arrival,
    plugin: &'a LivePlugin,
    route: &'a Route,
    filed: &'a Filed,
    params: &'a [(String, String)],
    principal: Option<&'a Principal>,
    head: &'a request::Parts,
    /// What filters leave of a body, in bytes.
    body_bytes_max: u64,
    /// How many calls of plugins stand above the request.
    depth: u32,
}

/// Answers a request to a route of files.
async fn answer<B>(visit: &Visit<'_>, body: B) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
{
    let answer = Box::pin(visit.answer(body)).await;
    let mut answer = answer.unwrap_or_else(|problem| visit.tell(problem));
    if visit.head.headers.contains_key(TUS_RESUMABLE) {
        let headers = answer.headers_mut();
        headers.insert(TUS_RESUMABLE, HeaderValue::from_static(tus::VERSION));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

impl Visit<'_> {
    async fn answer<B>(&self, body: B) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin,
    {
        if self.filed.action == FileAction::Discover {
            return Ok(tus::discover(self));
        }
        if !self.filed.is_granted {
            let (plugin, bucket) = (self.plugin.name(), &self.files().bucket);
            return Err(response::bucket_not_granted(
                plugin,
                bucket,
                self.arrival.id,
            ));
        }
        let is_tus = self.head.headers.contains_key(TUS_RESUMABLE);
        match (self.filed.action, &self.head.method) {
            (FileAction::Send, _) if is_tus => tus::create(self, body).await,
            (FileAction::Send, _) => take::whole(self, body).await,
            (FileAction::List, _) => list::page(self).await,
            (FileAction::Read, _) => {
                let object = self.object().await?;
                self.give(&object, None).await
            }
            (FileAction::Change, &Method::HEAD) => tus::status(self).await,
            (FileAction::Change, &Method::PATCH) => tus::append(self, body).await,
            (FileAction::Change, _) if is_tus => tus::terminate(self).await,
            (FileAction::Change, _) => self.delete().await,
            (FileAction::Render, _) => renditions::answer(self).await,
            (FileAction::LinkToRead, _) => links::to_read(self, body).await,
            (FileAction::LinkToSend, _) => links::to_send(self, body).await,
            (FileAction::Discover, _) => Ok(tus::discover(self)),
        }
    }

    fn files(&self) -> &Files {
        &self.filed.files
    }

    fn blobs(&self) -> &Blobs {
        &self.state.files.blobs
    }

    fn bucket(&self) -> BucketId {
        BucketId {
            plugin: self.plugin.name().clone(),
            label: self.files().bucket.clone(),
        }
    }

    /// A problem as the answer to this request.
    fn tell(&self, problem: Problem) -> Response<Body> {
        response::of_problem(problem.with_request_id(self.arrival.id))
    }

    /// What the names of all files of this path begin with: the values of its parameters.
    fn scope(&self) -> String {
        let own = |name: &str| self.files().path.contains(&format!("{{{name}}}"));
        let values = self.params.iter().filter(|(name, _)| own(name));
        values
            .map(|(_, value)| format!("{}/", utf8_percent_encode(value, IN_NAME)))
            .collect()
    }

    /// What the ids of the caller's files begin with, where everybody has files of their own.
    fn tag(&self) -> String {
        match self.principal {
            Some(principal) if self.files().is_owner_only => {
                let digest = Sha256::digest(principal.id.as_bytes());
                format!("{}-", hex::encode(&digest[..8]))
            }
            _ => String::new(),
        }
    }

    /// An id that nobody can guess, for a file that is going to be kept.
    fn new_id(&self) -> String {
        format!("{}{}", self.tag(), uuid::Uuid::now_v7().simple())
    }

    fn name_of(&self, id: &str) -> String {
        format!("{}{id}", self.scope())
    }

    /// The id in the path, and the upload that it also names while it lasts.
    fn asked(&self) -> Result<(&str, Option<UploadId>), Problem> {
        let found = self.params.iter().find(|(name, _)| name == "id");
        let id = found.map(|(_, id)| id.as_str()).unwrap_or_default();
        if id.is_empty() || id.contains('/') || is_hosts(id) {
            return Err(error::explain(&Error::NotFound));
        }
        Ok(match id.split_once(tus::MARK) {
            Some((id, upload)) => (
                id,
                Some(
                    upload
                        .parse()
                        .map_err(|_| error::explain(&Error::NotFound))?,
                ),
            ),
            None => (id, None),
        })
    }

    /// The object that the path names, if the caller may know of it.
    async fn object(&self) -> Result<Object, Problem> {
        let (id, _) = self.asked()?;
        let found = self.blobs().info(&self.bucket(), &self.name_of(id)).await;
        let object = found.map_err(|error| match error {
            Error::NameInvalid => error::explain(&Error::NotFound),
            error => error::explain(&error),
        })?;
        if !self.is_for_caller(object.owner.as_deref()) {
            return Err(error::explain(&Error::NotFound));
        }
        Ok(object)
    }

    /// Whether the caller may know of what belongs to this owner.
    fn is_for_caller(&self, owner: Option<&str>) -> bool {
        !self.files().is_owner_only
            || (owner.is_some() && owner == self.principal.map(|principal| &*principal.id))
    }

    async fn delete(&self) -> Result<Response<Body>, Problem> {
        let object = self.object().await?;
        let condition = client::condition_of_change(&self.head.headers, &object)?;
        let deleted = self.blobs().delete(&object.bucket, &object.name, condition);
        if !deleted.await.map_err(|error| error::explain(&error))? {
            return Err(error::explain(&Error::NotFound));
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The path of all files here, with the mount, as the client wrote it.
    fn base(&self) -> &str {
        let path = self.head.uri.path();
        let below = match self.filed.action {
            FileAction::Send | FileAction::List | FileAction::Discover => 0,
            FileAction::Read | FileAction::Change | FileAction::LinkToSend => 1,
            FileAction::LinkToRead => 2,
            FileAction::Render => 3,
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut ends = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        match below {
            0 => path,
            n => ends.nth(n - 1).unwrap_or_default(),
        }
    }
}

/// The id of an object among those of its path.
fn id_of(object: &Object) -> &str {
    object.name.rsplit('/').next().unwrap_or_default()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut answer = Response::new(Body::from(value.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The request without its body, for tests of what is read out of heads.
#[cfg(test)]
fn head(headers: &[(&'static str, &str)]) -> request::Parts {
    let mut request = http::Request::new(());
    for (name, value) in headers {
        let value = value.parse().unwrap();
        request.headers_mut().append(*name, value);
    }
    request.into_parts().0
}
