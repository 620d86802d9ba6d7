//! The documentation of what is live, for those who call it: an OpenAPI document with what the caller may use, and pages that
//! show it and try it out. Everything that the pages need is part of the executable.

mod assets;
mod document;
mod page;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State as AxumState},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::auth::Auth;
use crate::gateway::credentials::{Asked, login_required};
use crate::gateway::{State, accounts};
use crate::http::Problem;
use crate::ledger::acting_as;
use crate::plugins::describe::{Accounts, Selection};
use crate::plugins::registry::Registry;

use document::Documents;
use page::Kind;

/// The documentation of what is live.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the OpenAPI document is; empty: nowhere, and no pages either. Default: `/api/openapi.json`.
    pub openapi_path: String,
    /// Where the reference is that people try the API out with (Scalar); empty: nowhere. Default: `/api/docs`.
    pub reference_path: String,
    /// Where the reference for reading is (Redoc); empty: nowhere. Default: `/api/redoc`.
    pub redoc_path: String,
    /// Where the reference for large APIs is (Swagger UI); empty: nowhere. Default: `/api/swagger`.
    pub swagger_path: String,
    /// What those see who are not logged in: `public` (what they may call), `all` or `nothing`. Those who are logged in see
    /// what they may call. Default: public.
    pub anonymous: Anonymous,
    /// The title of the document. Default: `API`.
    pub title: String,
    /// The version of the document. Default: 1.
    pub version: String,
    /// What the API is about, in Markdown. Default: nothing.
    pub description: String,
    /// Whether login and accounts are in the document. Default: true.
    pub has_accounts: bool,
    /// Most operations that `reference_path` shows by itself; with more it leads to `swagger_path`, which is made for many.
    /// Default: 400.
    pub reference_operations_max: usize,
    /// Most bytes of documents that are kept for those who ask again. Default: 32 MiB.
    pub documents_bytes_max: u64,
}

/// What those see who are not logged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// What they may call.
    #[default]
    Public,
    /// Everything that is documented.
    All,
    /// They are asked to log in.
    Nothing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            openapi_path: "/api/openapi.json".to_owned(),
            reference_path: "/api/docs".to_owned(),
            redoc_path: "/api/redoc".to_owned(),
            swagger_path: "/api/swagger".to_owned(),
            anonymous: Anonymous::default(),
            title: "API".to_owned(),
            version: "1".to_owned(),
            description: String::new(),
            has_accounts: true,
            reference_operations_max: 400,
            documents_bytes_max: 32 << 20,
        }
    }
}

impl Config {
    /// Where documentation is. Plugins cannot hang there.
    pub fn paths(&self) -> Vec<String> {
        if self.openapi_path.is_empty() {
            return Vec::new();
        }
        let all = [
            &self.openapi_path,
            &self.reference_path,
            &self.redoc_path,
            &self.swagger_path,
        ];
        let given = all.into_iter().filter(|path| !path.is_empty());
        given
            .map(|path| path.trim_end_matches('/').to_owned())
            .collect()
    }

    /// What cannot be served.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for path in self.paths() {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
            if !path.starts_with('/')
                || path.len() < 2
                || path.contains("//")
                || !path.chars().all(is_plain)
            {
                mistakes.push(format!(
                    "`docs`: `{path}` is no path; write one like `/api/docs`, or nothing"
                ));
            } else if !seen.insert(path.clone()) {
                mistakes.push(format!("`docs`: `{path}` is given twice"));
            }
        }
        mistakes
    }
}

/// What the handlers need.
struct Shared {
    config: Config,
    auth: Auth,
    registry: Arc<Registry>,
    documents: Documents,
}

/// What somebody asks of the document.
#[derive(Debug, Default, Deserialize)]
struct Asking {
    plugin: Option<String>,
    version: Option<String>,
    tag: Option<String>,
}

/// Login and accounts at their mount, if documents are to tell of them.
pub fn documented_accounts(config: &Config, mount: &str) -> Option<Accounts> {
    let mount = mount.trim_end_matches('/');
    let are_told = config.has_accounts && !mount.is_empty();
    are_told.then(|| Accounts::of(&accounts::contract(mount), mount))
}

/// The document and the pages, where the operator wants them.
pub fn router(config: &Config, state: &State, accounts: Option<Accounts>) -> Router {
    if config.openapi_path.is_empty() {
        return Router::new();
    }
    let shared = Arc::new(Shared {
        documents: Documents::new(config, accounts),
        config: config.clone(),
        auth: state.auth.clone(),
        registry: Arc::clone(&state.registry),
    });
    let mut router = Router::new()
        .route(
            config.openapi_path.trim_end_matches('/'),
            get(show_document),
        )
        .route("/_gantry/docs/{file}", get(assets::show));
    for (path, kind) in [
        (&config.reference_path, Kind::Reference),
        (&config.redoc_path, Kind::Redoc),
        (&config.swagger_path, Kind::Swagger),
    ] {
        let path = path.trim_end_matches('/');
        if !path.is_empty() {
            router = router.route(
                path,
                get(
                    move |AxumState(shared): AxumState<Arc<Shared>>| async move {
                        page::show(kind, &shared.config)
                    },
                ),
            );
        }
    }
    router.with_state(shared)
}

async fn show_document(
    AxumState(shared): AxumState<Arc<Shared>>,
    Query(asking): Query<Asking>,
    asked: Asked,
) -> Result<Response, Problem> {
    let principal = asked.asking().principal(&shared.auth)?;
    if let Some(principal) = &principal {
        acting_as(principal.kind.as_str(), &principal.id);
    }
    if principal.is_none() && shared.config.anonymous == Anonymous::Nothing {
        return Err(login_required());
    }
    let selection = Selection {
        plugin: asking.plugin,
        version: asking.version,
        tag: asking.tag,
    };
    let table = shared.registry.live();
    let host = asked.asking().host.to_owned();
    let caller = principal.as_deref();
    let found = shared
        .documents
        .get(&shared.config, &table, &host, &selection, caller);
    let mut answer = if asked.headers().get(header::IF_NONE_MATCH) == Some(&found.etag) {
        http::StatusCode::NOT_MODIFIED.into_response()
    } else {
        found.bytes.clone().into_response()
    };
    let headers = answer.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::ETAG, found.etag.clone());
    // Whoever is logged in sees something else.
    let cache = HeaderValue::from_static("private, no-cache");
    headers.insert(header::CACHE_CONTROL, cache);
    let vary = HeaderValue::from_static("authorization, cookie, x-api-key");
    headers.insert(header::VARY, vary);
    page::protect(headers, None);
    Ok(answer)
}
