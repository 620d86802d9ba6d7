//! A client of the admin API.

use std::{
    fmt::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::{Host, Url};

/// Where the host is and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// The address of the server.
    #[arg(
        long,
        global = true,
        env = "GANTRY_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub(super) server: Url,
    /// An API key. Without one, the key in the data directory of a server on this machine is used.
    #[arg(
        long,
        global = true,
        env = "GANTRY_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    api_key: Option<String>,
    /// The data directory of a server on this machine. Default: `gantry-data` here or in a folder above.
    #[arg(long, global = true, env = "GANTRY_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

/// The file in the data directory with the first administrator's key.
const KEY_FILE: &str = "admin.key";
/// What a data directory is called if nothing else is said.
const DATA_DIR: &str = "gantry-data";
/// Longest silence of the server while an answer is awaited. Compiling a large component takes its time.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Items in one request of a list.
const PAGE: &str = "200";

/// Why the server did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot reach the server at {server}")]
    Unreachable { server: Url, source: reqwest::Error },
    #[error("{}", .0.detail)]
    Refused(Box<Refusal>),
    #[error("the answer of {server} is not that of a Gantry server ({status})")]
    NotGantry { server: Url, status: StatusCode },
}

/// A problem as the server told it.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) detail: String,
    request_id: Option<String>,
    #[serde(default)]
    pub(super) errors: Vec<Item>,
    /// With which key the request was made.
    #[serde(skip)]
    key: KeySource,
}

/// Where the key came from, for whoever has to mend it.
#[derive(Debug, Clone, Default)]
enum KeySource {
    /// There was none, and nowhere to look for one.
    #[default]
    Nowhere,
    /// The caller gave it.
    Given,
    /// It was in this file.
    File(PathBuf),
    /// It would have been in this file, which is not there.
    Missing(PathBuf),
}

impl KeySource {
    /// How to mend that the server does not know the caller.
    fn help(&self) -> String {
        const OTHERWISE: &str = "give an API key with GANTRY_API_KEY";
        const DIR: &str = "name the server's data directory with --data-dir or GANTRY_DATA_DIR";
        match self {
            Self::Nowhere => format!("{OTHERWISE}, or {DIR} if it is on this machine"),
            Self::Given => "check GANTRY_API_KEY and --api-key; is the key of another server, expired or revoked?".to_owned(),
            Self::File(path) => format!(
                "the key in {} was used, which this server does not know; {DIR}, or {OTHERWISE}",
                path.display()
            ),
            Self::Missing(path) => {
                format!("there is no {}; {DIR}, or {OTHERWISE}", path.display())
            }
        }
    }
}

/// One mistake of several.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    at: Option<String>,
    detail: String,
    help: Option<String>,
}

impl ClientError {
    /// What follows the first line: the single mistakes, each with its place, and how to mend the whole.
    pub(super) fn details(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Unreachable { .. } => {
                let help =
                    "start one with `gantry serve`, or name another with --server or GANTRY_SERVER";
                let _ = writeln!(text, "  help: {help}");
            }
            Self::NotGantry { .. } => {
                let _ = writeln!(text, "  help: check --server and GANTRY_SERVER");
            }
            Self::Refused(refusal) => {
                for item in &refusal.errors {
                    let place = item
                        .at
                        .as_ref()
                        .map(|at| format!("{at}: "))
                        .unwrap_or_default();
                    let _ = writeln!(text, "  {place}{}", item.detail);
                    if let Some(help) = &item.help {
                        let _ = writeln!(text, "      help: {help}");
                    }
                }
                if refusal.status == 401 {
                    let _ = writeln!(text, "  help: {}", refusal.key.help());
                }
                let request = refusal.request_id.as_deref().unwrap_or("unknown");
                let _ = writeln!(text, "  ({}, request {request})", refusal.code);
            }
        }
        text
    }

    /// Whether the server said that whoever asks may not.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 403)
    }

    /// Whether the server said that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 404)
    }
}

/// Speaks for one principal with one server.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    key: Option<HeaderValue>,
    key_source: KeySource,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Client {
    /// Finds the credentials; does not call the server yet.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let server = options.server.clone();
        let (key, source) = match &options.api_key {
            Some(key) => (Some(key.clone()), KeySource::Given),
            // The key of this machine's server is for nobody else.
            None if is_loopback(&server) => local_key(options.data_dir.as_deref())?,
            None => (None, KeySource::Nowhere),
        };
        Self::open(server, key, source)
    }

    /// Asks with the key of a file, whoever runs this.
    pub(super) fn with_key(options: &Options, key: &str, file: &Path) -> anyhow::Result<Self> {
        let source = KeySource::File(file.to_owned());
        Self::open(options.server.clone(), Some(key.to_owned()), source)
    }

    fn open(server: Url, key: Option<String>, key_source: KeySource) -> anyhow::Result<Self> {
        if !matches!(server.scheme(), "http" | "https") || server.cannot_be_a_base() {
            bail!("`{server}` is not the address of a server; write it as http://127.0.0.1:8080");
        }
        let key = match key {
            Some(key) => {
                let mut key =
                    HeaderValue::from_str(key.trim()).with_context(|| match &key_source {
                        KeySource::File(path) => format!("{} holds no key", path.display()),
                        _ => "the API key holds characters that no key has".to_owned(),
                    })?;
                key.set_sensitive(true);
                Some(key)
            }
            None => None,
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(READ_TIMEOUT)
            // A redirect would carry the key elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            server,
            key,
            key_source,
        })
    }

    /// Whether the server is on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.server)
    }

    /// Whether there are credentials to send.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The server's address with this path.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.server.as_str().trim_end_matches('/'))
    }

    /// Fetches one thing.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.get_with(path, &[]).await
    }

    /// Fetches one thing, with parameters.
    pub(super) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        read(self.send(Method::GET, path, query, None).await?).await
    }

    /// Fetches all items of a list, page by page.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get_with(path, &query).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Sends a JSON body and reads the answer.
    pub(super) async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = ("application/json", Bytes::from(serde_json::to_vec(body)?));
        read(self.send(method, path, &[], Some(body)).await?).await
    }

    /// Sends bytes and reads the answer.
    pub(super) async fn send_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<T> {
        let body = Some(("application/octet-stream", body));
        read(self.send(method, path, query, body).await?).await
    }

    /// Asks at a path of the server outside of the admin API.
    pub(super) async fn at<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<T> {
        let url = self.address(path).parse();
        let url = url.with_context(|| format!("`{path}` is not a path"))?;
        read(self.send_to(method, url, None).await?).await
    }

    /// Deletes one thing.
    pub(super) async fn delete(&self, path: &[&str]) -> anyhow::Result<()> {
        self.delete_with(path, &[]).await
    }

    /// Deletes one thing, with parameters.
    pub(super) async fn delete_with(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, query, None).await?;
        Ok(())
    }

    /// The data of server-sent events, until the server ends the stream.
    pub(super) async fn follow(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<String>> + Unpin + use<>> {
        let response = self.send(Method::GET, path, query, None).await?;
        let chunks = Box::pin(response.bytes_stream());
        let state = (chunks, Events::default());
        Ok(Box::pin(stream::unfold(
            state,
            |(mut chunks, mut events)| async move {
                loop {
                    if let Some(data) = events.next() {
                        return Some((Ok(data), (chunks, events)));
                    }
                    match chunks.next().await? {
                        Ok(chunk) => events.push(&chunk),
                        Err(error) => return Some((Err(error.into()), (chunks, events))),
                    }
                }
            },
        )))
    }

    /// What the server sends, as it comes.
    pub(super) async fn download(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<impl Stream<Item = reqwest::Result<Bytes>> + Unpin + use<>> {
        let response = self.send(Method::GET, path, query, None).await?;
        Ok(Box::pin(response.bytes_stream()))
    }

    /// The server's `Date`, of an answer that needs no credentials.
    pub(super) async fn date(&self) -> Result<Option<String>, ClientError> {
        let unreachable = |source: reqwest::Error| ClientError::Unreachable {
            server: self.server.clone(),
            source: source.without_url(),
        };
        let response = self
            .http
            .get(self.address("/livez"))
            .send()
            .await
            .map_err(unreachable)?;
        let date = response.headers().get(http::header::DATE);
        Ok(date.and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<(&'static str, Bytes)>,
    ) -> Result<reqwest::Response, ClientError> {
        self.send_to(method, self.url(path, query), body).await
    }

    async fn send_to(
        &self,
        method: Method,
        url: Url,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<reqwest::Response, ClientError> {
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|source| ClientError::Unreachable {
                server: self.server.clone(),
                source: source.without_url(),
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let not_gantry = ClientError::NotGantry {
            server: self.server.clone(),
            status,
        };
        match response.json::<Refusal>().await {
            Ok(mut refusal) => {
                refusal.key = self.key_source.clone();
                Err(ClientError::Refused(Box::new(refusal)))
            }
            Err(_) => Err(not_gantry),
        }
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["_gantry", "api", "v1"])
                .extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

async fn read<T: DeserializeOwned>(response: reqwest::Response) -> anyhow::Result<T> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() > ANSWER_BYTES_MAX {
            bail!("the server's answer has more than {ANSWER_BYTES_MAX} bytes");
        }
    }
    if body.is_empty() {
        body.extend_from_slice(b"null");
    }
    serde_json::from_slice(&body)
        .context("the server's answer is not as expected; is it another version?")
}

/// Takes server-sent events out of bytes as they come.
#[derive(Default)]
struct Events {
    pending: Vec<u8>,
}

impl Events {
    fn push(&mut self, chunk: &[u8]) {
        self.pending.extend_from_slice(chunk);
    }

    /// The data of the next whole event. Comments, which only keep the connection alive, have none.
    fn next(&mut self) -> Option<String> {
        loop {
            let end = self.pending.windows(2).position(|pair| pair == b"\n\n")?;
            let event: Vec<u8> = self.pending.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            let data: Vec<&str> = lines
                .map(|line| line.strip_prefix(' ').unwrap_or(line))
                .collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}

/// Whether an address is on this machine.
pub(super) fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// The data directory that was named, or the nearest one here or above.
pub(super) fn find_data_dir(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let here = std::env::current_dir().ok()?;
    here.ancestors()
        .map(|folder| folder.join(DATA_DIR))
        .find(|dir| dir.join(KEY_FILE).is_file())
}

fn local_key(data_dir: Option<&Path>) -> anyhow::Result<(Option<String>, KeySource)> {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(dir) = find_data_dir(data_dir) else {
        return Ok((None, KeySource::Nowhere));
    };
    let path = dir.join(KEY_FILE);
    let unreadable = || {
        format!(
            "cannot read {}; run this as the owner of the server's data, or give an API key with GANTRY_API_KEY",
            path.display()
        )
    };
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((None, KeySource::Missing(path)));
        }
        Err(error) => return Err(error).with_context(unreadable),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "others can read {0}; take that right away with `chmod 600 {0}`",
            path.display()
        );
    }
    let key = std::fs::read_to_string(&path).with_context(unreadable)?;
    Ok((Some(key), KeySource::File(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn refused(json: &str) -> String {
        let refusal = Box::new(serde_json::from_str(json).unwrap());
        crate::cli::failure::render(&ClientError::Refused(refusal).into())
    }

    #[test]
    fn a_refused_deployment_shows_every_mistake_with_its_place_and_help() {
        let text = refused(
            r#"{"status": 422, "code": "deploy.invalid", "detail": "the upload has 2 mistakes", "request_id": "r1",
                "errors": [
                  {"at": "plugin.toml:12:3", "detail": "unknown key `pat` in [[route]]", "help": "did you mean `path`?"},
                  {"detail": "the component imports `wasi:sockets/tcp`"}]}"#,
        );
        assert_eq!(
            text,
            "error: the upload has 2 mistakes\n\
             \x20 plugin.toml:12:3: unknown key `pat` in [[route]]\n\
             \x20     help: did you mean `path`?\n\
             \x20 the component imports `wasi:sockets/tcp`\n\
             \x20 (deploy.invalid, request r1)\n"
        );
    }

    #[test]
    fn a_caller_who_is_not_known_is_told_how_to_show_a_key() {
        let text = refused(r#"{"status": 401, "code": "auth.required", "detail": "log in"}"#);
        assert!(text.contains("GANTRY_API_KEY"), "{text}");
    }

    #[test]
    fn a_key_file_that_does_not_help_is_named() {
        let path = PathBuf::from("/srv/gantry-data/admin.key");
        for (source, says) in [
            (
                KeySource::File(path.clone()),
                "the key in /srv/gantry-data/admin.key was used",
            ),
            (
                KeySource::Missing(path),
                "there is no /srv/gantry-data/admin.key",
            ),
        ] {
            let help = source.help();
            assert!(help.contains(says), "{help}");
            assert!(help.contains("--data-dir"), "{help}");
        }
    }

    #[test]
    fn a_data_directory_without_a_key_is_remembered_for_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let (key, source) = local_key(Some(dir.path())).unwrap();
        assert!(key.is_none());
        assert!(matches!(source, KeySource::Missing(path) if path == dir.path().join(KEY_FILE)));
    }

    #[test]
    fn events_are_cut_where_they_end_however_they_arrive() {
        let mut events = Events::default();
        let mut found = Vec::new();
        for chunk in [
            ": ping\n\ndata: {\"a\"",
            ":1}\n\nevent: log\ndata: b\ndata: c\n",
            "\ndata: d",
        ] {
            events.push(chunk.as_bytes());
            found.extend(std::iter::from_fn(|| events.next()));
        }
        assert_eq!(found, ["{\"a\":1}", "b\nc"]);
    }

    #[test]
    fn the_key_of_this_machine_is_shown_to_this_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(KEY_FILE);
        std::fs::write(&file, "gk_secret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (server, has_key) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost:1", true),
            ("http://[::1]:8080", true),
            ("https://gantry.example.com", false),
            ("http://10.0.0.1:8080", false),
            ("http://localhost.example.com", false),
        ] {
            let options = Options {
                server: server.parse().unwrap(),
                api_key: None,
                data_dir: Some(dir.path().to_owned()),
            };
            assert_eq!(
                Client::new(&options).unwrap().has_key(),
                has_key,
                "{server}"
            );
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(KEY_FILE);
        std::fs::write(&file, "gk_secret").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = local_key(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        assert!(!error.contains("gk_secret"));
    }

    #[test]
    fn names_cannot_leave_their_segment_of_the_path() {
        let options = Options {
            server: "http://localhost:1/base/".parse().unwrap(),
            api_key: Some("k".to_owned()),
            data_dir: None,
        };
        let url = Client::new(&options)
            .unwrap()
            .url(&["plugins", "a/../b?c"], &[("q", "x&y")]);
        assert_eq!(
            url.as_str(),
            "http://localhost:1/base/_gantry/api/v1/plugins/a%2F..%2Fb%3Fc?q=x%26y"
        );
    }
}
