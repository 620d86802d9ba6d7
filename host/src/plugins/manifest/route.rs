//! `[[route]]`: which requests reach the plugin, and what must hold before they do.

use std::{fmt, ops::Range, time::Duration};

use http::Method;
use toml::{Spanned, de::DeValue};

use super::documents::RouteDocs;
use super::reader::{Fields, Reader, clip, nearest, parsed, read_flag, refuse_duplicates, string};
use super::version::{self, Deprecation, Versioning};
use super::{
    Contract, Cors, DeclaredPermission, ENTRIES_MAX, Export, FileRoute, Idempotency, Policy,
    ROUTES_MAX, RateLimit, RouteCache, Schemas, filter, limit, path,
};
use crate::ids::Permission;
use crate::plugins::filters::FilterUse;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everybody; credentials are not looked at.
    Public,
    /// Everybody; with credentials the plugin learns who it is.
    Optional,
    /// Only callers whom the host has authenticated.
    Required,
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

/// One entry of the routing table.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// At least one, none twice.
    pub methods: Vec<Method>,
    /// A pattern for the router, below the plugin's mount, ASCII: `/orders/{id}`, `/files/{*rest}`.
    pub path: String,
    /// Default: required.
    pub auth: Auth,
    /// The caller needs all of them. Empty unless authentication is required.
    pub permissions: Vec<Permission>,
    /// What else is asked of a caller.
    pub policy: Policy,
    /// All of them must agree.
    pub limits: Vec<RateLimit>,
    /// Of an Extism module: the export that answers; nothing means that of `[extism]`.
    pub export: Option<Export>,
    /// What stands before and behind this route, inside of what stands around all of them; outermost first.
    pub filters: Vec<FilterUse>,
    /// How long the answer may take; nothing means the plugin's limit.
    pub timeout: Option<Duration>,
    /// How long the call may take in all while bodies flow; then `timeout` bounds the wait for the head of the answer.
    /// Nothing means that bodies that flow have no time of their own.
    pub stream: Option<Duration>,
    /// Most bytes of a request's body; nothing means the operator's default.
    pub body_bytes_max: Option<u64>,
    /// Pages of which other origins may call; nothing means those of the plugin.
    pub cors: Option<Cors>,
    /// Whether answers may be compressed; nothing means as the plugin says.
    pub may_compress: Option<bool>,
    /// What requests and answers look like.
    pub contract: Contract,
    /// Which answers are kept; nothing means none.
    pub cache: Option<RouteCache>,
    /// Whether requests that change something are done once, by their key; nothing means that keys are not looked at.
    pub idempotency: Option<Idempotency>,
    /// One line for the documentation.
    pub summary: Option<String>,
    /// The group in the documentation.
    pub tag: Option<String>,
    /// What its documentation says, and whether the host answers in its place.
    pub docs: RouteDocs,
    /// The version of the API that it belongs to; nothing means whichever is asked for. One that is in several versions
    /// stands here once for each.
    pub version: Option<String>,
    /// Notice that it will answer no more: its own, or that of its version.
    pub deprecation: Option<Deprecation>,
    /// Of a route that the host itself answers: which files it is about.
    pub files: Option<FileRoute>,
}

/// Keys of a route that a later version will read.
const LATER: &[&str] = &["csrf"];
const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

impl Route {
    pub(super) fn read_all(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        declared: &[DeclaredPermission],
        schemas: &Schemas,
        versioning: Option<&Versioning>,
    ) -> Vec<Self> {
        let tables = fields.tables(reader, "route", "`[[route]]`", ROUTES_MAX);
        let mut routes = Vec::with_capacity(tables.len());
        let mut shared = limit::Shared::new();
        for fields in tables {
            let at = fields.span();
            let Some((route, versions)) =
                Self::read(reader, fields, declared, schemas, versioning, &mut shared)
            else {
                continue;
            };
            for route in route.in_versions(versions, versioning) {
                reader.remember(format!("route:{}", routes.len()), at.clone());
                routes.push(route);
            }
        }
        if routes.len() > ROUTES_MAX {
            let message = format!(
                "there are {} routes with all their versions, at most {ROUTES_MAX} are allowed",
                routes.len()
            );
            reader.mistake(0..0, message);
        }
        routes
    }

    /// The route once for each of its versions.
    fn in_versions(self, names: Vec<String>, versioning: Option<&Versioning>) -> Vec<Self> {
        let (Some(versioning), false) = (versioning, names.is_empty()) else {
            return vec![self];
        };
        let of = |name: String| {
            let version = versioning.get(&name);
            let notice = version.and_then(|version| version.deprecation.clone());
            Self {
                path: versioning.path_in(&name, &self.path),
                deprecation: self.deprecation.clone().or(notice),
                version: Some(name),
                ..self.clone()
            }
        };
        names.into_iter().map(of).collect()
    }

    fn read(
        reader: &mut Reader<'_>,
        mut fields: Fields<'_, '_>,
        declared: &[DeclaredPermission],
        schemas: &Schemas,
        versioning: Option<&Versioning>,
        shared: &mut limit::Shared,
    ) -> Option<(Self, Vec<String>)> {
        let methods = read_methods(reader, &mut fields);
        let path = fields.required_string(reader, "path", 4096);
        if let Some(path) = &path
            && let Some(mistake) = path::mistake(path.get_ref())
        {
            reader.mistake(path.span(), format!("`path`: {mistake}"));
        }
        let auth = read_auth(reader, &mut fields);
        let permissions = read_permissions(reader, &mut fields, auth, declared);
        let policy = Policy::read(reader, &mut fields, auth);
        let limits = limit::read_all(reader, &mut fields, auth, shared);
        let export = Export::read_keys(reader, &mut fields);
        let filters = filter::read_all(reader, &mut fields);
        let timeout = fields.duration(reader, "timeout", MS..=15 * MINUTE);
        let stream = fields.duration(reader, "stream", SECOND..=24 * 60 * MINUTE);
        let body_bytes_max = fields.size(reader, "body_bytes_max", 0..=1 << 30);
        let flows = stream.as_ref().map(Spanned::span);
        let within = path.as_ref().map_or("", |path| path.get_ref());
        let cache = RouteCache::read(reader, &mut fields, within, &methods, auth, flows.as_ref());
        let idempotency = Idempotency::read(reader, &mut fields, &methods, flows.as_ref());
        let cors = Cors::read(reader, &mut fields);
        let may_compress = read_flag(reader, &mut fields, "compress");
        let pattern = path.as_ref().map(|path| *path.get_ref());
        let contract = Contract::read(reader, &mut fields, &methods, pattern, schemas);
        let summary = fields.string(reader, "summary", 200);
        let tag = fields.string(reader, "tag", 64);
        let docs = RouteDocs::read(reader, &mut fields);
        let versions = version::read_names(reader, &mut fields, versioning);
        let deprecation = Deprecation::of_route(reader, &mut fields, pattern);
        fields.finish(
            reader,
            LATER,
            &[
                ("body_limit", "did you mean `body_bytes_max`?"),
                ("max_body", "did you mean `body_bytes_max`?"),
                ("middleware", "did you mean `filters`?"),
                ("rate", "did you mean `limits`?"),
                ("rate_limit", "did you mean `limits`?"),
                ("deprecated", "did you mean `deprecation = { since = … }`?"),
                ("versions", "did you mean `version`? It takes a list, too"),
            ],
        );
        let route = Self {
            methods,
            path: (*path?.get_ref()).to_owned(),
            auth: auth?,
            permissions,
            policy,
            limits,
            export,
            filters,
            timeout: timeout.map(Spanned::into_inner),
            stream: stream.map(Spanned::into_inner),
            body_bytes_max: body_bytes_max.map(Spanned::into_inner),
            cors,
            may_compress,
            contract,
            cache,
            idempotency,
            summary: summary.map(|text| (*text.get_ref()).to_owned()),
            tag: tag.map(|text| (*text.get_ref()).to_owned()),
            docs,
            version: None,
            deprecation,
            files: None,
        };
        Some((route, versions))
    }
}

fn read_methods(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<Method> {
    if !fields.has("method") {
        let help = "write `method = \"GET\"` or a list";
        reader.mistake_with_help(fields.span(), "`method` is missing in `[[route]]`", help);
    }
    let Some(value) = fields.get("method") else {
        return Vec::new();
    };
    let single = std::slice::from_ref(value);
    let values = match value.get_ref() {
        DeValue::Array(list) => &**list,
        _ => single,
    };
    if values.is_empty() {
        reader.mistake(value.span(), "`method` is empty");
    }
    read_method_list(reader, "method", values.iter())
}

/// The HTTP methods that these values name.
pub(super) fn read_method_list<'v>(
    reader: &mut Reader<'_>,
    key: &str,
    values: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
) -> Vec<Method> {
    let mut methods = Vec::new();
    for value in values.take(ENTRIES_MAX) {
        let Some(text) = string(reader, key, value, 32) else {
            continue;
        };
        let word = *text.get_ref();
        if let Some(method) = METHODS.iter().find(|method| method.as_str() == word) {
            methods.push((text.span(), method.clone()));
            continue;
        }
        let message = format!("`{}` is not a method that a route can have", clip(word));
        let known = METHODS
            .iter()
            .find(|method| method.as_str().eq_ignore_ascii_case(word));
        let help = match known {
            Some(method) => format!("write `{method}`"),
            None => format!(
                "known methods: {}",
                METHODS.each_ref().map(Method::as_str).join(", ")
            ),
        };
        reader.mistake_with_help(text.span(), message, help);
    }
    refuse_duplicates(
        reader,
        "the method",
        methods
            .iter()
            .map(|(at, method)| (at.clone(), method.as_str())),
    );
    methods.into_iter().map(|(_, method)| method).collect()
}

/// Nothing if the key is there but wrong: then checks that depend on it are skipped.
pub(super) fn read_auth(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Auth> {
    if !fields.has("auth") {
        fields.get("auth");
        return Some(Auth::Required);
    }
    let text = fields.string(reader, "auth", 32)?;
    choice(
        reader,
        "auth",
        &text,
        &[Auth::Public, Auth::Optional, Auth::Required],
    )
}

pub(super) fn read_permissions(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    auth: Option<Auth>,
    declared: &[DeclaredPermission],
) -> Vec<Permission> {
    let mut found: Vec<(Range<usize>, Permission)> = Vec::new();
    for text in fields.strings(reader, "permissions", ENTRIES_MAX, 100) {
        let Some(permission) = parsed::<Permission>(reader, "permissions", &text) else {
            continue;
        };
        let name = permission.get_ref().as_str();
        if !declared
            .iter()
            .any(|declared| declared.name.as_str() == name)
        {
            let known: Vec<&str> = declared
                .iter()
                .map(|declared| declared.name.as_str())
                .collect();
            let message = format!("the permission `{name}` is not declared");
            let help = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `[[permission]]` with `name = \"{name}\"`"),
            };
            reader.mistake_with_help(text.span(), message, help);
        }
        found.push((text.span(), permission.into_inner()));
    }
    if let (Some(auth), Some((at, _))) = (auth, found.first())
        && auth != Auth::Required
    {
        let message = format!("`permissions` cannot be asked for with `auth = \"{auth}\"`");
        reader.mistake_with_help(at.clone(), message, "write `auth = \"required\"`");
    }
    refuse_duplicates(reader, "the permission", found.iter().cloned());
    found
        .into_iter()
        .map(|(_, permission)| permission)
        .collect()
}

/// One of a few words, or a mistake that names them.
pub(super) fn choice<T: Copy + fmt::Display>(
    reader: &mut Reader<'_>,
    key: &str,
    text: &Spanned<&str>,
    choices: &[T],
) -> Option<T> {
    let found = choices
        .iter()
        .find(|choice| choice.to_string() == *text.get_ref());
    if found.is_none() {
        let words: Vec<String> = choices
            .iter()
            .map(|choice| format!("\"{choice}\""))
            .collect();
        let message = format!("`{key}` cannot be \"{}\"", clip(text.get_ref()));
        reader.mistake_with_help(
            text.span(),
            message,
            format!("write {}", words.join(" or ")),
        );
    }
    found.copied()
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
