//! From a request to the plugin that answers it. Tables are made when something is deployed and never changed; a request
//! only reads them.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::ids::{Label, Permission};
use crate::pattern;
use crate::plugins::Mount;
use crate::plugins::access::Demands;
use crate::plugins::breaker::Breaker;
use crate::plugins::cached::Cached;
use crate::plugins::checks::Checks;
use crate::plugins::cors::CorsPolicy;
use crate::plugins::describe::Mock;
use crate::plugins::filters::Chains;
use crate::plugins::limits::RouteLimits;
use crate::plugins::manifest::{Auth, FileAction, Files, Idempotency};
use crate::plugins::metrics::RouteMetrics;
use crate::plugins::registry::LivePlugin;
use crate::plugins::rollout::Slot;
use crate::plugins::versions::{Asked, Versioned, Versioning};
use crate::runtime::ExtismTarget;

/// One route of a live plugin, with all that a request needs to know about it.
#[derive(Debug)]
pub struct Route {
    /// Below the mount, as the manifest has it: `/orders/{id}`.
    pub pattern: Arc<str>,
    pub methods: Vec<Method>,
    pub auth: Auth,
    /// The caller needs all of them.
    pub permissions: Vec<Permission>,
    /// How often it may be called.
    pub limits: Option<RouteLimits>,
    /// Of an Extism module: which export answers.
    pub target: Option<Arc<ExtismTarget>>,
    pub timeout: Option<Duration>,
    /// How long a call may take in all while bodies flow.
    pub stream: Option<Duration>,
    pub body_bytes_max: usize,
    /// What is asked of callers beside a login and permissions.
    pub demands: Option<Box<Demands>>,
    /// Pages of which other origins may call; nothing means that the host says nothing.
    pub cors: Option<Box<CorsPolicy>>,
    pub may_compress: bool,
    /// What must hold of requests and answers.
    pub checks: Option<Box<Checks>>,
    pub metrics: RouteMetrics,
    /// Whether it keeps crashing.
    pub breaker: Breaker,
    /// Which answers are kept.
    pub cache: Option<Arc<Cached>>,
    /// Whether requests that change something are done once.
    pub idempotency: Option<Idempotency>,
    /// The routes of the same path, in whichever version, whose answers are worth nothing after a change here.
    pub clears: Vec<Arc<Cached>>,
    /// The version of the API that it is in; nothing means all.
    pub version: Option<String>,
    /// What the host answers in the plugin's place, if it may.
    pub mock: Option<MockRoute>,
    /// Of a route that the host itself answers: the files that it is about.
    pub files: Option<Filed>,
    /// What is to be said about version and age, if anything is.
    pub versioned: Option<Box<Versioned>>,
    /// Which route of the manifest it is.
    pub(super) index: usize,
    /// Names of the parameters, in the order of the pattern.
    params: Vec<String>,
}

impl Route {
    /// A route with this pattern; the names of its parameters are read out of it.
    #[allow(clippy::too_many_arguments, reason = "one line of a manifest")]
    pub(super) fn new(
        pattern: &str,
        methods: Vec<Method>,
        auth: Auth,
        permissions: Vec<Permission>,
        limits: Option<RouteLimits>,
        target: Option<Arc<ExtismTarget>>,
        timeout: Option<Duration>,
        stream: Option<Duration>,
        body_bytes_max: usize,
        metrics: RouteMetrics,
        breaker: Breaker,
    ) -> Self {
        let params = pattern::parameters(pattern)
            .map(|parameter| parameter.name.to_owned())
            .collect();
        let pattern = pattern.into();
        Self {
            pattern,
            methods,
            auth,
            permissions,
            limits,
            target,
            timeout,
            stream,
            body_bytes_max,
            demands: None,
            cors: None,
            may_compress: true,
            checks: None,
            metrics,
            breaker,
            cache: None,
            idempotency: None,
            clears: Vec::new(),
            version: None,
            mock: None,
            files: None,
            versioned: None,
            index: 0,
            params,
        }
    }

    pub(super) fn in_version(
        self,
        version: Option<String>,
        versioned: Option<Box<Versioned>>,
    ) -> Self {
        Self {
            version,
            versioned,
            ..self
        }
    }

    pub(super) fn mocked(self, mock: Option<MockRoute>) -> Self {
        Self { mock, ..self }
    }

    /// Which route of the manifest it is.
    pub fn index(&self) -> usize {
        self.index
    }

    fn answers(&self, method: &Method) -> bool {
        self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

/// A route of files.
#[derive(Debug, Clone)]
pub struct Filed {
    pub files: Arc<Files>,
    pub action: FileAction,
    /// Whether the operator has granted the bucket.
    pub is_granted: bool,
}

/// How resumable uploads (tus) are told from other requests.
pub const TUS_RESUMABLE: &str = "tus-resumable";

/// An answer in the place of a plugin.
#[derive(Debug)]
pub struct MockRoute {
    pub answer: Mock,
    /// Whether the plugin is never asked; else, whether a request says so.
    pub is_always: bool,
}

/// The path below the mount as routes are matched: letters that are encoded without need are decoded, because a plugin
/// that decodes paths sees no difference, and the route decides who may call.
pub fn below(path: &str, mount_length: usize) -> Cow<'_, str> {
    match &path[mount_length..] {
        "" => "/".into(),
        below if !below.contains('%') => below.into(),
        below => decode_unreserved(below).into(),
    }
}

fn decode_unreserved(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2);
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
                decoded.push_str(&part[2..]);
            }
            _ => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

/// The same pattern with its parameters numbered. Two routes may call the same parameter by different names; to the
/// router they are one.
pub(super) fn numbered(pattern: &str) -> String {
    let mut numbers = 0..;
    pattern::filled(pattern, |parameter| {
        let star = if parameter.is_rest { "*" } else { "" };
        format!("{{{star}p{}}}", numbers.next().unwrap_or_default())
    })
}

/// Whether the router could miss a path of one of two patterns because of the other: where a parameter with text behind it
/// and one with other text meet in a segment, it tries only one of them, whatever follows.
pub(super) fn hides(one: &str, other: &str) -> bool {
    if !has_text_behind(one) && !has_text_behind(other) {
        return false;
    }
    let (one, other) = (numbered(one), numbered(other));
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        let (Some(first), Some(second)) = (one.next(), other.next()) else {
            return false;
        };
        if first == second {
            continue;
        }
        let (Some((before, behind)), Some((before_other, behind_other))) =
            (around(first), around(second))
        else {
            return false;
        };
        let is_last = one.next().is_none() && other.next().is_none();
        return before == before_other && behind != behind_other && !is_last;
    }
}

/// Whether a parameter does not end with its segment.
fn has_text_behind(pattern: &str) -> bool {
    pattern
        .split('}')
        .skip(1)
        .any(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// What stands before and behind the parameter of a segment, if it has one that ends with the segment.
fn around(segment: &str) -> Option<(&str, &str)> {
    let (before, rest) = segment.split_once('{')?;
    let (name, behind) = rest.split_once('}')?;
    (!name.starts_with('*')).then_some((before, behind))
}

/// The routes of one deployment, below its mount.
#[derive(Debug)]
pub struct RouteTable {
    tree: matchit::Router<usize>,
    /// By pattern; each with the routes of its methods and versions.
    slots: Vec<Vec<Arc<Route>>>,
    /// How requests name a version, where that is not in the path.
    versioning: Option<Versioning>,
    /// Pages of which other origins may use signed links into these buckets.
    links: Vec<(Label, CorsPolicy)>,
}

/// Why a request means no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMistake {
    /// There is none of this name.
    Unknown,
    /// It names none, and there is no default.
    Missing,
}

/// What a table knows about a request.
#[derive(Debug)]
pub enum Found<'a> {
    Route {
        route: &'a Arc<Route>,
        params: Vec<(String, String)>,
    },
    /// The path is known, the method is not; these are.
    MethodNotAllowed(Vec<Method>),
    /// A parameter is not UTF-8 once it is percent-decoded.
    InvalidPath,
    /// The path is known in some version, and the request means none that there is.
    Version(VersionMistake),
    NotFound,
}

impl RouteTable {
    /// A table of these routes. The error is a pattern that the router does not take beside the others.
    pub(super) fn new(routes: Vec<Route>) -> Result<Self, String> {
        let mut table = Self {
            tree: matchit::Router::new(),
            slots: Vec::new(),
            versioning: None,
            links: Vec::new(),
        };
        let mut slot_of = HashMap::new();
        let mut kept: HashMap<_, Vec<_>> = HashMap::new();
        for route in &routes {
            if let Some(cached) = &route.cache {
                let of_pattern = kept.entry(numbered(&route.pattern)).or_default();
                of_pattern.push(Arc::clone(cached));
            }
        }
        for (index, mut route) in routes.into_iter().enumerate() {
            route.index = index;
            let pattern = numbered(&route.pattern);
            let changes = |method: &Method| !method.is_safe();
            if route.methods.iter().any(changes) {
                route.clears = kept.get(&pattern).cloned().unwrap_or_default();
            }
            let slot = *slot_of.entry(pattern.clone()).or_insert(table.slots.len());
            if slot == table.slots.len() {
                let inserted = table.tree.insert(pattern, slot);
                inserted.map_err(|error| format!("the route `{}`: {error}", route.pattern))?;
                table.slots.push(Vec::new());
            }
            table.slots[slot].push(Arc::new(route));
        }
        Ok(table)
    }

    pub(super) fn with_versioning(self, versioning: Option<Versioning>) -> Self {
        Self { versioning, ..self }
    }

    pub(super) fn with_links(self, links: Vec<(Label, CorsPolicy)>) -> Self {
        Self { links, ..self }
    }

    /// Pages of which other origins may use signed links into a bucket; nothing means none.
    pub fn cors_of_links(&self, bucket: &Label) -> Option<&CorsPolicy> {
        let mut links = self.links.iter();
        let found = links.find(|(label, _)| label == bucket);
        found.map(|(_, policy)| policy)
    }

    /// How requests name a version, where that is not in the path.
    pub fn versioning(&self) -> Option<&Versioning> {
        self.versioning.as_ref()
    }

    /// All routes.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.slots.iter().flatten()
    }

    /// A route for a path below the mount, of whichever version: browsers ask before they send the header that says it.
    pub fn find_in_any_version(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        let matched = self.tree.at(path).ok()?;
        let mut slot = self.slots[*matched.value].iter();
        slot.find(|route| route.answers(method))
    }

    /// The route for a path below the mount, in the version that the headers name.
    pub fn find(&self, method: &Method, path: &str, headers: &HeaderMap) -> Found<'_> {
        let Ok(matched) = self.tree.at(path) else {
            return Found::NotFound;
        };
        let slot = &self.slots[*matched.value];
        let mut version = None;
        if let Some(versioning) = &self.versioning
            && slot.iter().any(|route| route.version.is_some())
        {
            version = match versioning.asked(headers) {
                Asked::Version(name) => Some(name),
                Asked::Unknown => return Found::Version(VersionMistake::Unknown),
                Asked::Missing => return Found::Version(VersionMistake::Missing),
            };
        }
        let is_meant = |route: &&Arc<Route>| match (&route.version, version) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        };
        let mut meant = slot.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Found::NotFound;
        }
        // How far an upload is, who may send is told, and not who may read.
        let is_about_upload = *method == Method::HEAD
            && headers.contains_key(TUS_RESUMABLE)
            && slot.iter().any(|route| route.files.is_some());
        let answers = |route: &&Arc<Route>| match is_about_upload {
            true => route.methods.contains(&Method::HEAD),
            false => route.answers(method),
        };
        let Some(route) = meant.clone().find(answers) else {
            let methods = meant.flat_map(|route| route.methods.iter().cloned());
            return Found::MethodNotAllowed(methods.collect());
        };
        let mut params = Vec::with_capacity(route.params.len());
        for (name, (_, value)) in route.params.iter().zip(matched.params.iter()) {
            let Ok(value) = percent_decode_str(value).decode_utf8() else {
                return Found::InvalidPath;
            };
            params.push((name.clone(), value.into_owned()));
        }
        Found::Route { route, params }
    }
}

/// All live plugins, by host name and mount path. A copy shares the plugins with the original.
#[derive(Debug, Clone, Default)]
pub struct MountTable {
    any_host: Mounts<Arc<Mounted>>,
    hosts: HashMap<Arc<str>, Mounts<Arc<Mounted>>>,
}

/// What hangs on one host name, or on every one. Paths of mounts have no parameters, so a request is looked up by the
/// beginnings of its path.
#[derive(Debug, Clone)]
struct Mounts<T> {
    /// The root has the empty path.
    by_path: HashMap<Arc<str>, T>,
    /// No mount has more segments and more bytes: longer beginnings need not be looked up.
    segments_max: usize,
    bytes_max: usize,
}

/// A live plugin where it hangs, with what stands around its routes there.
#[derive(Debug)]
pub struct Mounted {
    pub slot: Arc<Slot>,
    /// Around the routes of the stable version, and around those of its canary.
    pub(super) filters: [Chains; 2],
}

impl Mounted {
    /// What stands around the routes of one of its versions.
    pub fn filters_of(&self, version: &Arc<LivePlugin>) -> &Chains {
        let [stable, canary] = &self.filters;
        if Arc::ptr_eq(version, &self.slot.stable) {
            stable
        } else {
            canary
        }
    }
}

impl MountTable {
    /// Adds a plugin, unless another one has its mount.
    #[must_use]
    pub(super) fn insert(&mut self, mounted: Mounted) -> bool {
        let Mount { host, path } = &mounted.slot.stable.mount;
        let mounts = match host {
            Some(host) => self.hosts.entry(host.as_str().into()).or_default(),
            None => &mut self.any_host,
        };
        let path: Arc<str> = path.as_str().into();
        mounts.insert(path, Arc::new(mounted))
    }

    /// Takes a plugin away, if it hangs here.
    pub(super) fn remove(&mut self, slot: &Arc<Slot>) {
        let Mount { host, path } = &slot.stable.mount;
        let mounts = match host {
            Some(host) => self.hosts.get_mut(host.as_str()),
            None => Some(&mut self.any_host),
        };
        let Some(mounts) = mounts else { return };
        let is_it = |mounted: &Arc<Mounted>| Arc::ptr_eq(&mounted.slot, slot);
        if mounts.by_path.get(path.as_str()).is_some_and(is_it) {
            mounts.by_path.remove(path.as_str());
        }
        if let Some(host) = host
            && mounts.by_path.is_empty()
        {
            self.hosts.remove(host.as_str());
        }
    }

    /// Whether a plugin hangs on this host name, and not on every one.
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.contains_key(&*plain(host))
    }

    /// The plugin with the longest mount that holds this path: one of this host, else one of every host.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Mounted>> {
        let own = if self.hosts.is_empty() {
            None
        } else {
            self.hosts.get(&*plain(host))
        };
        let own = own.and_then(|mounts| mounts.find(path));
        own.or_else(|| self.any_host.find(path))
    }
}

impl<T> Default for Mounts<T> {
    fn default() -> Self {
        Self {
            by_path: HashMap::new(),
            segments_max: 0,
            bytes_max: 0,
        }
    }
}

impl<T> Mounts<T> {
    fn insert(&mut self, path: Arc<str>, mounted: T) -> bool {
        let (segments, bytes) = (path.matches('/').count(), path.len());
        match self.by_path.entry(path) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(mounted);
                self.segments_max = self.segments_max.max(segments);
                self.bytes_max = self.bytes_max.max(bytes);
                true
            }
        }
    }

    fn find(&self, path: &str) -> Option<&T> {
        if !path.starts_with('/') {
            return None;
        }
        let mut ends = path.match_indices('/');
        let end = ends.nth(self.segments_max);
        let mut beginning = end.map_or(path, |(end, _)| &path[..end]);
        loop {
            if beginning.len() <= self.bytes_max
                && let Some(found) = self.by_path.get(beginning)
            {
                return Some(found);
            }
            beginning = &beginning[..beginning.rfind('/')?];
        }
    }
}

/// A host name as mounts have it: small letters, no port, no dot at the end.
pub fn plain(host: &str) -> Cow<'_, str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plugins::breaker;
    use crate::plugins::manifest::Manifest;
    use crate::plugins::metrics::Metrics;

    #[test]
    fn only_what_is_encoded_without_need_is_decoded_for_the_choice_of_the_route() {
        for (path, wanted) in [
            ("/shop", "/"),
            ("/shop/a", "/a"),
            ("/shop/%61dmin/%7Ex", "/admin/~x"),
            ("/shop/a%20c%25%", "/a%20c%25%"),
            ("/shop/%2561", "/%2561"),
            ("/shop/%zz%4", "/%zz%4"),
            ("/shop/%+1", "/%+1"),
            ("/shop/%c3%a4", "/%c3%a4"),
        ] {
            assert_eq!(below(path, 5), wanted, "{path}");
        }
    }

    #[test]
    fn a_path_belongs_to_the_longest_mount_that_holds_it() {
        let mut mounts = Mounts::default();
        for path in ["/shop", "/shop/admin", "/a/b/c"] {
            assert!(mounts.insert(path.into(), path), "{path}");
        }
        assert!(!mounts.insert("/shop".into(), "another"));
        for (path, expected) in [
            ("/shop", Some("/shop")),
            ("/shop/", Some("/shop")),
            ("/shop//", Some("/shop")),
            ("/shop/x", Some("/shop")),
            ("/shop/adminx", Some("/shop")),
            ("/shop/admin", Some("/shop/admin")),
            ("/shop/admin/x/y/z", Some("/shop/admin")),
            ("/shopping", None),
            ("/a/b/c/d", Some("/a/b/c")),
            ("/a/b", None),
            ("/a//b/c", None),
            ("/", None),
            ("//shop", None),
            ("shop", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(mounts.find(path).copied(), expected, "{path}");
        }
        assert!(mounts.insert("".into(), "/"));
        for (path, expected) in [
            ("/", Some("/")),
            ("//shop", Some("/")),
            ("/a/b", Some("/")),
            ("/shop/x", Some("/shop")),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(mounts.find(path).copied(), expected, "{path}");
        }
    }

    /// A manifest with these routes, if that is one.
    fn manifest(patterns: &[String]) -> Option<Manifest> {
        let head = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n";
        let route = |path: &String| {
            format!("[[route]]\nmethod = \"GET\"\npath = \"{path}\"\nauth = \"public\"\n")
        };
        let routes: String = patterns.iter().map(route).collect();
        Manifest::parse(&format!("{head}{routes}")).ok()
    }

    fn route(pattern: &str) -> Route {
        let plugin = "shop".parse().unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Route::new(
            pattern,
            vec![Method::GET],
            Auth::Public,
            Vec::new(),
            None,
            None,
            None,
            None,
            0,
            metrics.of_route(&plugin, pattern),
            Breaker::new(breaker::Config::default()),
        )
    }

    fn segment() -> impl Strategy<Value = String> {
        let parameter = "[a-c]{0,2}\\{[a-d]\\}[.-]?[a-c]{0,1}";
        prop_oneof![3 => "[a-c.~!@-]{1,3}", 2 => parameter, 1 => "\\{[a-d]\\}", 1 => "\\{\\*[a-d]\\}"]
    }

    fn pattern() -> impl Strategy<Value = String> {
        prop::collection::vec(segment(), 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
    }

    proptest! {
        /// Whatever a manifest may declare, a path that fits a pattern finds a route, and the route's own pattern with the
        /// parameters that were found is that path.
        #[test]
        fn a_path_of_a_pattern_finds_a_route_whose_parameters_make_it(
            patterns in prop::collection::vec(pattern(), 1..6),
            values in prop::collection::vec("[a-e0-9_]{1,3}", 8),
            tail in "[a-e]{1,2}(/[a-e.]{1,2}){0,2}",
        ) {
            let patterns: Vec<String> = patterns
                .into_iter()
                .filter(|pattern| manifest(std::slice::from_ref(pattern)).is_some())
                .collect();
            // Patterns that collide are refused, by `validate` first.
            let pairs = patterns.iter().flat_map(|one| patterns.iter().map(move |other| (one, other)));
            if pairs.into_iter().any(|(one, other)| hides(one, other)) {
                return Ok(());
            }
            let table = RouteTable::new(patterns.iter().map(|pattern| route(pattern)).collect());
            let Ok(table) = table else { return Ok(()) };
            for pattern in &patterns {
                let mut next = values.iter().cycle();
                let path = pattern::filled(pattern, |parameter| match parameter.is_rest {
                    true => tail.clone(),
                    false => next.next().unwrap().clone(),
                });
                let Found::Route { route, params } = table.find(&Method::GET, &path, &HeaderMap::new()) else {
                    panic!("{patterns:?}: nothing for {path}");
                };
                let again = pattern::filled(&route.pattern, |parameter| {
                    params.iter().find(|(other, _)| other == parameter.name).unwrap().1.clone()
                });
                prop_assert_eq!(&again, &path, "{:?}: {} {:?}", patterns, route.pattern, params);
                let head = table.find(&Method::HEAD, &path, &HeaderMap::new());
                let is_found = matches!(head, Found::Route { .. });
                prop_assert!(is_found);
                let other = table.find(&Method::PUT, &path, &HeaderMap::new());
                prop_assert!(matches!(other, Found::MethodNotAllowed(_)));
            }
        }

        #[test]
        fn no_path_makes_the_lookup_panic(patterns in prop::collection::vec(pattern(), 1..4), path in "/[a-c/{}*%.é]{0,12}|\\PC{0,12}") {
            if let Ok(table) = RouteTable::new(patterns.iter().map(|pattern| route(pattern)).collect()) {
                let _ = table.find(&Method::GET, &path, &HeaderMap::new());
            }
        }
    }
}
