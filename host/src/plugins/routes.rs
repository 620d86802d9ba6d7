//! From a request to the plugin that answers it. Tables are made when something is deployed and never changed; a request
//! only reads them.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use http::Method;
use percent_encoding::percent_decode_str;

use crate::ids::{Permission, PluginName};
use crate::limits::Policy;
use crate::plugins::breaker::Breaker;
use crate::plugins::filters::Chains;
use crate::plugins::manifest::Auth;
use crate::plugins::metrics::RouteMetrics;
use crate::plugins::registry::LivePlugin;
use crate::plugins::rollout::Slot;
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
    /// All of them must agree.
    pub policies: Vec<Policy>,
    /// Of an Extism module: which export answers.
    pub target: Option<Arc<ExtismTarget>>,
    pub timeout: Option<Duration>,
    /// How long a call may take in all while bodies flow.
    pub stream: Option<Duration>,
    pub body_bytes_max: usize,
    pub metrics: RouteMetrics,
    /// Whether it keeps crashing.
    pub breaker: Breaker,
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
        policies: Vec<Policy>,
        target: Option<Arc<ExtismTarget>>,
        timeout: Option<Duration>,
        stream: Option<Duration>,
        body_bytes_max: usize,
        metrics: RouteMetrics,
        breaker: Breaker,
    ) -> Self {
        let params = names(pattern).map(str::to_owned).collect();
        let pattern = pattern.into();
        Self {
            pattern,
            methods,
            auth,
            permissions,
            policies,
            target,
            timeout,
            stream,
            body_bytes_max,
            metrics,
            breaker,
            index: 0,
            params,
        }
    }

    fn answers(&self, method: &Method) -> bool {
        self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

/// The names in `{name}` and `{*name}`.
fn names(pattern: &str) -> impl Iterator<Item = &str> {
    let parts = pattern.split('{').skip(1);
    parts
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name.trim_start_matches('*'))
}

/// The same pattern with its parameters numbered. Two routes may call the same parameter by different names; to the
/// router they are one.
fn numbered(pattern: &str) -> String {
    let mut parts = pattern.split('{');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        let star = if name.starts_with('*') { "*" } else { "" };
        result.push_str(&format!("{{{star}p{index}}}{rest}"));
    }
    result
}

/// The routes of one deployment, below its mount.
#[derive(Debug)]
pub struct RouteTable {
    tree: matchit::Router<usize>,
    /// By pattern; each with the routes of its methods.
    slots: Vec<Vec<Arc<Route>>>,
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
    NotFound,
}

impl RouteTable {
    /// A table of these routes. The error is a pattern that the router does not take beside the others.
    pub(super) fn new(routes: Vec<Route>) -> Result<Self, String> {
        let mut table = Self {
            tree: matchit::Router::new(),
            slots: Vec::new(),
        };
        let mut slot_of = HashMap::new();
        for (index, mut route) in routes.into_iter().enumerate() {
            route.index = index;
            let pattern = numbered(&route.pattern);
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

    /// All routes.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.slots.iter().flatten()
    }

    /// The route for a path below the mount.
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let Ok(matched) = self.tree.at(path) else {
            return Found::NotFound;
        };
        let slot = &self.slots[*matched.value];
        let Some(route) = slot.iter().find(|route| route.answers(method)) else {
            let methods = slot.iter().flat_map(|route| route.methods.iter().cloned());
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

/// All live plugins, by host name and mount path.
#[derive(Debug, Default)]
pub struct MountTable {
    any_host: matchit::Router<Arc<Mounted>>,
    hosts: HashMap<String, matchit::Router<Arc<Mounted>>>,
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
    /// A table of these plugins. Two on the same mount are refused; which one, the error tells.
    pub(super) fn new(plugins: impl Iterator<Item = Mounted>) -> (Self, Vec<PluginName>) {
        let mut table = Self::default();
        let mut refused = Vec::new();
        for mounted in plugins {
            let mounted = Arc::new(mounted);
            let plugin = &mounted.slot.stable;
            let tree = match &plugin.mount.host {
                Some(host) => table.hosts.entry(host.clone()).or_default(),
                None => &mut table.any_host,
            };
            let path = &plugin.mount.path;
            let below = tree.insert(format!("{path}/{{*rest}}"), Arc::clone(&mounted));
            let itself = tree.insert(format!("{path}/"), Arc::clone(&mounted));
            let bare = match path.is_empty() {
                true => Ok(()),
                false => tree.insert(path.clone(), Arc::clone(&mounted)),
            };
            if below.and(itself).and(bare).is_err() {
                refused.push(plugin.name().clone());
            }
        }
        (table, refused)
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
        let own = own.and_then(|tree| tree.at(path).ok());
        own.or_else(|| self.any_host.at(path).ok())
            .map(|matched| matched.value)
    }
}

/// A host name as mounts have it: small letters, no port, no dot at the end.
fn plain(host: &str) -> Cow<'_, str> {
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
