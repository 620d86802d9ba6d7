//! `plugin.toml`, what the author asks for. It is read as data: no guest code runs, and what the platform cannot
//! honour is refused and never skipped. Whether the plugin gets what it asks for is decided in `validate`.

mod about;
mod cache;
mod capabilities;
mod config;
mod contract;
mod cors;
mod documents;
mod extism;
mod files;
mod filter;
mod host;
mod limit;
mod limits;
mod nesting;
mod path;
mod policy;
mod reader;
mod route;
mod schema;
mod test;
#[cfg(test)]
mod tests;
mod units;
mod version;

use std::collections::BTreeMap;

use toml::de::DeTable;

use crate::ids::PluginName;
use crate::plugins::filters::FilterUse;
use crate::plugins::{Location, Mistake};

pub use about::{About, Build, BuildStep, Component, DeclaredPermission, Language};
pub use cache::{Idempotency, RouteCache, TagPattern};
pub use capabilities::{Capabilities, HttpHost, Injection, Secret, SecretUse, SqlDatabase};
pub use config::ConfigSchema;
pub use contract::{Contract, Parameter, Place, is_json};
pub use cors::Cors;
pub use documents::{DeclaredError, Docs, RouteDocs};
pub use extism::{Export, ExportKind};
pub use files::{Access, FileAction, FileRoute, Files, ImageFormat, Rendition, is_active};
pub use filter::FilterBodies;
pub use host::{HostPattern, InvalidHost};
pub use limit::{RateKey, RateLimit};
pub use limits::Limits;
pub use policy::Policy;
pub use route::{Auth, Route};
pub use schema::{Schemas, Statuses};
pub use test::{As, Body as TestBody, Expected, Outside, Step, TestCase};
pub(super) use units::{show_duration, show_size};
pub use version::{ApiVersion, Deprecation, Successor, VersionBy, Versioning};

use reader::{Fields, Reader, read_flag};

/// Most bytes of a manifest.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Most routes of one plugin.
pub const ROUTES_MAX: usize = 1000;
/// Most entries of any other list in a manifest.
const ENTRIES_MAX: usize = 100;

/// Parts of the manifest that a later version will read. Accepting them now would promise what nobody keeps.
const LATER: &[&str] = &[
    "activity",
    "alert",
    "asset",
    "blob",
    "event",
    "flow",
    "health",
    "job",
    "lifecycle",
    "metric",
    "must_understand",
    "reuse",
    "schedule",
    "subscribe",
    "workflow",
];

/// A whole `plugin.toml`, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Name, version and so on.
    pub plugin: About,
    /// Where the author's build leaves the component. Read only when a bundle is packed.
    pub component: Component,
    /// How the author builds it. Read only by the command line.
    pub build: Option<Build>,
    /// Of an Extism module: the export that answers where a route names none of its own.
    pub extism: Option<Export>,
    /// What stands before and behind all routes, outermost first.
    pub filters: Vec<FilterUse>,
    /// Of a filter: the bodies that it wants to see.
    pub filter: FilterBodies,
    /// Pages of which other origins may call, where a route does not say it itself.
    pub cors: Option<Cors>,
    /// Whether answers may be compressed. Default: true.
    pub may_compress: bool,
    /// JSON Schemas that routes use by name.
    pub schemas: Schemas,
    /// What readers of its documentation are told.
    pub docs: Docs,
    /// The versions of its API; nothing if it has none.
    pub versioning: Option<Versioning>,
    /// In the order of the file; after them those of `files`.
    pub routes: Vec<Route>,
    /// Files that the host keeps for the plugin.
    pub files: Vec<Files>,
    /// What the plugin wants from the host.
    pub capabilities: Capabilities,
    /// How much the plugin wants to use; what is not set is the operator's default.
    pub limits: Limits,
    /// Which settings the plugin takes; nothing means none.
    pub config: Option<ConfigSchema>,
    /// The permissions that the plugin defines and its routes ask for.
    pub permissions: Vec<DeclaredPermission>,
    /// What the author expects of the plugin, run before it becomes live.
    pub tests: Vec<TestCase>,
    places: BTreeMap<String, Location>,
}

impl Manifest {
    /// Reads the text to its end. On failure, tells every mistake with its place, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!(
                "plugin.toml has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
                text.len()
            );
            return Err(vec![Mistake::new(message)]);
        }
        let mut reader = Reader::new(text);
        if let Some(at) = nesting::too_deep(text) {
            reader.mistake(at, "this is nested too deeply");
            return Err(reader.into_mistakes());
        }
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.mistake(
                error.span().unwrap_or(0..0),
                error.message().replace('\n', ", "),
            );
        }
        if reader.has_mistakes() {
            // A document that is not TOML would produce mistakes that vanish with the first one.
            return Err(reader.into_mistakes());
        }
        match read(&mut reader, document.get_ref()) {
            Some(mut manifest) if !reader.has_mistakes() => {
                manifest.places = reader.into_places();
                Ok(manifest)
            }
            _ => Err(reader.into_mistakes()),
        }
    }

    /// The text of a manifest for a component that comes without one: every method on this path and below it, no
    /// capabilities.
    pub fn for_bare_component(name: &PluginName, path: &str, auth: Auth) -> String {
        let below = format!("{}/{{*rest}}", path.trim_end_matches('/'));
        let paths = if path.contains('{') {
            vec![path]
        } else {
            vec![path, &below]
        };
        let routes: String = paths
            .into_iter()
            .map(|path| {
                let path = toml::Value::from(path);
                format!(
                    "\n[[route]]\n\
                     method = [\"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", \"HEAD\", \"OPTIONS\"]\n\
                     path = {path}\nauth = \"{auth}\"\n"
                )
            })
            .collect();
        format!(
            "schema = 1\n\n[plugin]\nname = \"{name}\"\nversion = \"0.0.0\"\n\n\
             [component]\npath = \"plugin.wasm\"\n{routes}"
        )
    }

    /// Where something stands in the text: `route:0`, `kv:carts`, `sql:main`, `secret:stripe`,
    /// `http:api.example.com`, `limits.memory`, `capabilities`, `extism`, `filters`, `filter:guard`, `schema:order`.
    pub fn place(&self, key: &str) -> Option<Location> {
        self.places.get(key).copied()
    }
}

fn read(reader: &mut Reader<'_>, document: &DeTable<'_>) -> Option<Manifest> {
    let mut fields = Fields::root(document);
    read_schema(reader, &mut fields);
    let plugin = match fields.required_table(reader, "plugin") {
        Some(table) => About::read(reader, table),
        None => None,
    };
    let component = match fields.required_table(reader, "component") {
        Some(table) => Component::read(reader, table),
        None => None,
    };
    let build = fields
        .table(reader, "build", "`[build]`")
        .map(|table| Build::read(reader, table));
    let extism = match fields.table(reader, "extism", "`[extism]`") {
        Some(table) => {
            reader.remember("extism".to_owned(), table.span());
            Export::read(reader, table)
        }
        None => None,
    };
    let filters = filter::read_all(reader, &mut fields);
    let filter = match fields.table(reader, "filter", "`[filter]`") {
        Some(table) => FilterBodies::read(reader, table),
        None => FilterBodies::default(),
    };
    let permissions = DeclaredPermission::read_all(reader, &mut fields);
    let cors = Cors::read(reader, &mut fields);
    let may_compress = read_flag(reader, &mut fields, "compress").unwrap_or(true);
    let schemas = schema::read_all(reader, &mut fields);
    let docs = Docs::read(reader, &mut fields);
    let versioning = Versioning::read(reader, &mut fields);
    let mut routes = Route::read_all(
        reader,
        &mut fields,
        &permissions,
        &schemas,
        versioning.as_ref(),
    );
    let (files, of_files) = Files::read_all(reader, &mut fields, &permissions, routes.len());
    routes.extend(of_files);
    let capabilities = match fields.table(reader, "capabilities", "`[capabilities]`") {
        Some(table) => Capabilities::read(reader, table),
        None => Capabilities::default(),
    };
    files::check_buckets(reader, &files, &capabilities.blobs);
    let limits = match fields.table(reader, "limits", "`[limits]`") {
        Some(table) => Limits::read(reader, table),
        None => Limits::default(),
    };
    let config = fields
        .get("config")
        .and_then(|value| ConfigSchema::read(reader, value));
    let tests = TestCase::read_all(reader, &mut fields, &permissions);
    fields.finish(
        reader,
        LATER,
        &[
            ("file", "did you mean `[[files]]`?"),
            ("tests", "did you mean `[[test]]`?"),
            ("uploads", "did you mean `[[files]]`?"),
        ],
    );
    Some(Manifest {
        plugin: plugin?,
        component: component?,
        build: build.flatten(),
        extism,
        filters,
        filter,
        cors,
        may_compress,
        schemas,
        docs,
        versioning,
        routes,
        files: files.into_iter().map(|(_, files)| files).collect(),
        capabilities,
        limits,
        config,
        permissions,
        tests,
        places: BTreeMap::new(),
    })
}

fn read_schema(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) {
    match fields.integer(reader, "schema", 0..=i64::MAX) {
        Some(schema) if *schema.get_ref() != 1 => {
            let message = format!("schema {} is not known", schema.get_ref());
            reader.mistake_with_help(schema.span(), message, "this server reads `schema = 1`");
        }
        Some(_) => {}
        None if fields.has("schema") => {}
        None => reader.mistake_with_help(
            fields.span(),
            "`schema` is missing",
            "write `schema = 1` in the first line",
        ),
    }
}
