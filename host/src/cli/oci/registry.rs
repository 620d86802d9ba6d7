//! The few requests of the OCI distribution protocol that are needed, each bounded in size and time. Our own, because of the
//! clients there are, none bounds what a registry may make us read (docs/decisions).

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::redirect;
use serde_json::Value;
use url::Url;

use super::credentials::Credentials;
use super::reference::Reference;
use crate::cli::client::is_loopback;
use crate::cli::output::plain;
use crate::ids::Digest;

/// Most bytes of a manifest: what the protocol asks registries to take.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Most bytes of a token's answer and of an error.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Most bytes of what a plugin is in: more than a server takes by default.
pub(super) const LAYER_BYTES_MAX: usize = 128 << 20;
/// Storage behind a registry is one redirect away; a few more are no harm.
const REDIRECTS_MAX: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest time of one request, with all it brings.
const TOTAL: Duration = Duration::from_secs(600);

/// Why a registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryError {
    #[error("cannot reach the registry {host}")]
    Unreachable {
        host: String,
        source: reqwest::Error,
    },
    #[error(
        "the registry {host} does not let you: {message}; log in with `docker login {host}`, or set GANTRY_REGISTRY_USERNAME and \
         GANTRY_REGISTRY_PASSWORD"
    )]
    Forbidden { host: String, message: String },
    #[error("the registry {host} has no {what}; check the repository and the tag")]
    NotFound { host: String, what: String },
    #[error("the registry {host} refuses with {status}: {message}")]
    Refused {
        host: String,
        status: StatusCode,
        message: String,
    },
    #[error("{what} has more than {max} bytes; it was not read to its end")]
    TooLarge { what: String, max: usize },
    #[error(
        "{what} is not what its digest says: sha256:{wanted} was asked for and sha256:{found} came; do not use this registry \
         until you know why"
    )]
    Digest {
        what: String,
        wanted: Digest,
        found: Digest,
    },
}

/// One repository of one registry.
pub(super) struct Registry {
    http: reqwest::Client,
    /// What people call it.
    host: String,
    repository: String,
    base: Url,
    credentials: Option<Credentials>,
    /// What the registry asked for with its last challenge.
    authorization: Option<HeaderValue>,
}

struct Asked {
    method: Method,
    url: Url,
    headers: Vec<(header::HeaderName, String)>,
    body: Bytes,
}

impl Registry {
    /// Finds the credentials; calls nobody yet.
    pub(super) fn new(reference: &Reference, is_plain_allowed: bool) -> anyhow::Result<Self> {
        let (api_host, repository) = api_of(reference);
        let secure = Url::parse(&format!("https://{api_host}/"))?;
        let is_local = is_loopback(&secure);
        let base = if is_local || is_plain_allowed {
            Url::parse(&format!("http://{api_host}/"))?
        } else {
            secure
        };
        // Without encryption everybody on the way would have them.
        let credentials = if is_local || base.scheme() == "https" {
            Credentials::find(&reference.host)?
        } else {
            None
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .timeout(TOTAL)
            .referer(false)
            .redirect(redirect::Policy::custom(|attempt| {
                let is_downgrade = attempt.url().scheme() != "https"
                    && attempt
                        .previous()
                        .last()
                        .is_some_and(|from| from.scheme() == "https");
                if is_downgrade || attempt.previous().len() > REDIRECTS_MAX {
                    attempt.stop()
                } else {
                    attempt.follow()
                }
            }))
            .build()?;
        Ok(Self {
            http,
            host: reference.host.clone(),
            repository,
            base,
            credentials,
            authorization: None,
        })
    }

    /// The manifest with this tag or digest: its bytes, its kind and its digest. A digest that was asked for is what came.
    pub(super) async fn manifest(
        &mut self,
        reference: &Reference,
    ) -> anyhow::Result<(Bytes, Digest)> {
        let url = self.url(&format!("manifests/{}", reference.version()))?;
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let asked = Asked {
            headers: vec![(header::ACCEPT, accept.to_owned())],
            ..Asked::get(url)
        };
        let what = format!("manifest {}/{}", self.repository, reference.version());
        let response = self.send(&asked, &what).await?;
        let bytes = read(response, &what, MANIFEST_BYTES_MAX).await?;
        let found = Digest::of(&bytes);
        if let Some(wanted) = reference.digest {
            check(&what, wanted, found)?;
        }
        Ok((bytes, found))
    }

    /// The blob with this digest, which says it has so many bytes.
    pub(super) async fn blob(&mut self, digest: Digest, bytes: u64) -> anyhow::Result<Bytes> {
        let what = format!("blob sha256:{digest}");
        let max = usize::try_from(bytes).unwrap_or(usize::MAX);
        if max > LAYER_BYTES_MAX {
            let max = LAYER_BYTES_MAX;
            return Err(RegistryError::TooLarge { what, max }.into());
        }
        let asked = Asked::get(self.url(&format!("blobs/sha256:{digest}"))?);
        let response = self.send(&asked, &what).await?;
        let blob = read(response, &what, max).await?;
        check(&what, digest, Digest::of(&blob))?;
        Ok(blob)
    }

    /// Puts a blob into the repository, unless it is there.
    pub(super) async fn put_blob(&mut self, bytes: Bytes) -> anyhow::Result<Digest> {
        let digest = Digest::of(&bytes);
        let what = format!("blob sha256:{digest}");
        let head = Asked {
            method: Method::HEAD,
            ..Asked::get(self.url(&format!("blobs/sha256:{digest}"))?)
        };
        match self.send(&head, &what).await {
            Ok(_) => return Ok(digest),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let start = Asked {
            method: Method::POST,
            ..Asked::get(self.url("blobs/uploads/")?)
        };
        let started = self.send(&start, &what).await?;
        let location = started.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let mut url = location
            .and_then(|location| self.base.join(location).ok())
            .context("the registry does not say where to upload to")?;
        url.query_pairs_mut()
            .append_pair("digest", &format!("sha256:{digest}"));
        let put = Asked {
            method: Method::PUT,
            headers: vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())],
            body: bytes,
            ..Asked::get(url)
        };
        self.send(&put, &what).await?;
        Ok(digest)
    }

    /// Puts a manifest under this tag or digest. All its blobs must be there.
    pub(super) async fn put_manifest(
        &mut self,
        version: &str,
        media_type: &str,
        manifest: Bytes,
    ) -> anyhow::Result<()> {
        let what = format!("manifest {}/{version}", self.repository);
        let put = Asked {
            method: Method::PUT,
            headers: vec![(header::CONTENT_TYPE, media_type.to_owned())],
            body: manifest,
            ..Asked::get(self.url(&format!("manifests/{version}"))?)
        };
        self.send(&put, &what).await?;
        Ok(())
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(&format!("v2/{}/{path}", self.repository))?)
    }

    /// Sends a request; if the registry wants to know who asks, says it and sends it once more.
    async fn send(
        &mut self,
        asked: &Asked,
        what: &str,
    ) -> Result<reqwest::Response, RegistryError> {
        let mut response = self.send_once(asked).await?;
        // Where the registry sends an upload or a download may ask, too; it gets no answer.
        if response.status() == StatusCode::UNAUTHORIZED
            && response.url().origin() == self.base.origin()
            && let Some(challenge) = challenge(&response)
        {
            self.authorization = self.answer(&challenge).await?;
            if self.authorization.is_some() {
                response = self.send_once(asked).await?;
            }
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = self.host.clone();
        if status == StatusCode::NOT_FOUND {
            let what = what.to_owned();
            return Err(RegistryError::NotFound { host, what });
        }
        let message = message_of(response, status).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Forbidden { host, message });
        }
        Err(RegistryError::Refused {
            host,
            status,
            message,
        })
    }

    async fn send_once(&self, asked: &Asked) -> Result<reqwest::Response, RegistryError> {
        let mut request = self.http.request(asked.method.clone(), asked.url.clone());
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        // A registry may send an upload elsewhere; who asks is the business of the registry alone.
        if let Some(authorization) = &self.authorization
            && asked.url.origin() == self.base.origin()
        {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let sent = request.body(asked.body.clone()).send().await;
        sent.map_err(|source| self.unreachable(source))
    }

    /// What to answer to a challenge. Nothing if there is nothing to answer with.
    async fn answer(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, RegistryError> {
        let basic = match &self.credentials {
            Some(credentials) => credentials.basic().ok(),
            None => None,
        };
        let realm = match challenge {
            Challenge::Basic => return Ok(basic),
            Challenge::Bearer { realm, query } => {
                let mut realm = realm.clone();
                realm.query_pairs_mut().extend_pairs(query);
                realm
            }
        };
        let mut request = self.http.get(realm.clone());
        // The password goes where it cannot be read on the way: encrypted, or on this machine.
        if let Some(basic) = basic.filter(|_| realm.scheme() == "https" || is_loopback(&realm)) {
            request = request.header(header::AUTHORIZATION, basic);
        }
        let response = request
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        let (host, status) = (self.host.clone(), response.status());
        if !status.is_success() {
            let message = message_of(response, status).await;
            return Err(RegistryError::Forbidden { host, message });
        }
        let bytes = read(response, "the answer with a token", ANSWER_BYTES_MAX).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let header = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let Some(mut header) = header else {
            let message = "it sent no token".to_owned();
            return Err(RegistryError::Forbidden { host, message });
        };
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            host: self.host.clone(),
            // The address of an upload may hold a token.
            source: source.without_url(),
        }
    }
}

impl Asked {
    fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }
}

/// How a registry wants to know who asks.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    /// A token from this address, asked for with these parameters.
    Bearer {
        realm: Url,
        query: Vec<(String, String)>,
    },
}

fn challenge(response: &reqwest::Response) -> Option<Challenge> {
    let values = response.headers().get_all(header::WWW_AUTHENTICATE);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    texts.filter_map(parse_challenge).next()
}

/// `Bearer realm="https://…",service="…",scope="…"` or `Basic realm="…"`.
fn parse_challenge(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut query, mut rest) = (None, Vec::new(), rest);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = after.strip_prefix('"')?.split_once('"')?;
        match name.trim_matches([' ', ',']) {
            "realm" => realm = Url::parse(value).ok(),
            name @ ("service" | "scope") => query.push((name.to_owned(), value.to_owned())),
            _ => {}
        }
        rest = after;
    }
    let realm = realm.filter(|realm| matches!(realm.scheme(), "http" | "https"))?;
    Some(Challenge::Bearer { realm, query })
}

/// Where the registry's interface is. Docker's own is elsewhere than its name says.
fn api_of(reference: &Reference) -> (String, String) {
    if reference.host != "docker.io" {
        return (reference.host.clone(), reference.repository.clone());
    }
    let repository = match reference.repository.contains('/') {
        true => reference.repository.clone(),
        false => format!("library/{}", reference.repository),
    };
    ("registry-1.docker.io".to_owned(), repository)
}

/// A body, never more than `max` bytes of it.
async fn read(response: reqwest::Response, what: &str, max: usize) -> Result<Bytes, RegistryError> {
    let host = response.url().host_str().unwrap_or_default().to_owned();
    let too_large = || RegistryError::TooLarge {
        what: what.to_owned(),
        max,
    };
    if response
        .content_length()
        .is_some_and(|bytes| bytes > max as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|source| RegistryError::Unreachable {
            host: host.clone(),
            source: source.without_url(),
        })?;
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// What a registry says about its refusal, fit for a terminal.
async fn message_of(response: reqwest::Response, status: StatusCode) -> String {
    let body = read(response, "an error", ANSWER_BYTES_MAX).await;
    let problem: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let first = &problem["errors"][0];
    let texts = [&first["code"], &first["message"]].map(Value::as_str);
    let told: Vec<&str> = texts.into_iter().flatten().collect();
    if told.is_empty() {
        return status.to_string();
    }
    plain(&told.join(": ")).chars().take(300).collect()
}

fn check(what: &str, wanted: Digest, found: Digest) -> Result<(), RegistryError> {
    if wanted == found {
        return Ok(());
    }
    Err(RegistryError::Digest {
        what: what.to_owned(),
        wanted,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_registries_write_it() {
        let bearer = "Bearer realm=\"https://auth.example.com/token\",service=\"registry.example.com\",\
                      scope=\"repository:team/shop:pull,push\"";
        let Some(Challenge::Bearer { realm, query }) = parse_challenge(bearer) else {
            panic!("no challenge");
        };
        assert_eq!(realm.as_str(), "https://auth.example.com/token");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query,
            [
                pair("service", "registry.example.com"),
                pair("scope", "repository:team/shop:pull,push")
            ]
        );
        assert_eq!(parse_challenge("basic realm=\"x\""), Some(Challenge::Basic));
        for text in [
            "",
            "Bearer",
            "Bearer realm=x",
            "Bearer realm=\"file:///etc/passwd\"",
            "Negotiate abc",
            "Bearer service=\"x\"",
        ] {
            assert_eq!(parse_challenge(text), None, "{text}");
        }
    }

    #[test]
    fn dockers_own_registry_is_where_it_is() {
        let api = |text: &str| api_of(&text.parse().unwrap());
        let own = |repository: &str| ("registry-1.docker.io".to_owned(), repository.to_owned());
        assert_eq!(api("oci://docker.io/shop:1"), own("library/shop"));
        assert_eq!(api("oci://docker.io/team/shop:1"), own("team/shop"));
        assert_eq!(
            api("oci://h:5000/shop:1"),
            ("h:5000".to_owned(), "shop".to_owned())
        );
    }
}
