//! The rate limits of a route as the gateway asks for them: what the author has declared, as the operator has changed it.
//! Made when the table is made.

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::condition::Expression;
use crate::ids::PluginName;
use crate::limits::{Algorithm, Fail, InvalidPolicy, KeyKind, OF_ROUTE_MAX, Policy, PolicyConfig};
use crate::plugins::manifest::{self, RateKey, RateLimit};

/// The limits of one route, of which there is at least one.
#[derive(Debug)]
pub struct RouteLimits {
    /// All of them must agree.
    pub limits: Vec<RouteLimit>,
    /// The value of `RateLimit-Policy`; nothing if all of them only tell.
    pub policies: Option<HeaderValue>,
}

/// One limit of a route.
#[derive(Debug)]
pub struct RouteLimit {
    pub policy: Policy,
    /// What the policy was made of.
    pub config: PolicyConfig,
    /// How much one call takes.
    pub cost: u32,
    pub key: KeySource,
}

/// Where the key comes from by which a limit counts.
#[derive(Debug)]
pub enum KeySource {
    /// From who is calling.
    Caller,
    /// From a header.
    Header(HeaderName),
    /// From an expression.
    Expression(Box<Expression>),
}

/// What an operator makes of a limit of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LimitOverride {
    /// The plugin.
    pub plugin: PluginName,
    /// The pattern of its route, as the manifest has it; with `*` at its end, all that begin so. Default: all its routes.
    #[serde(default)]
    pub route: Option<String>,
    /// The name of the limit, or its key if the author gave it no name; of calls in progress, `KEY-concurrent`.
    pub name: String,
    /// Whether routes get the limit that do not have it. Default: false.
    #[serde(default)]
    pub add: bool,
    /// Whether the limit is taken away. Default: false.
    #[serde(default)]
    pub off: bool,
    /// Another `limit`.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Another window, in milliseconds.
    #[serde(default)]
    pub window_ms: Option<u64>,
    /// Another burst.
    #[serde(default)]
    pub burst: Option<u64>,
    /// Another key: `ip`, `user`, `api-key`, `principal` or `route`.
    #[serde(default)]
    pub key: Option<KeyKind>,
    /// Another algorithm: `token-bucket`, `fixed-window`, `sliding-window` or `concurrency`.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    /// Another cost.
    #[serde(default)]
    pub cost: Option<u32>,
    /// Whether it only counts and tells.
    #[serde(default)]
    pub shadow: Option<bool>,
    /// What it does while the shared server cannot be reached: `local`, `open` or `closed`.
    #[serde(default)]
    pub fail: Option<Fail>,
}

/// A limit in the making.
struct Draft {
    config: PolicyConfig,
    scope: String,
    cost: u32,
    key: KeySource,
    /// Whether the operator has changed it.
    is_operators: bool,
}

impl RouteLimit {
    /// What it counts by, in one word.
    pub fn key_name(&self) -> &'static str {
        match self.key {
            KeySource::Caller => self.config.key.as_str(),
            KeySource::Header(_) => "header",
            KeySource::Expression(_) => "expression",
        }
    }
}

impl RouteLimits {
    /// The limits of a route; nothing if it has none. The error is a sentence.
    pub(super) fn new(
        plugin: &PluginName,
        route: &manifest::Route,
        overrides: &[LimitOverride],
    ) -> Result<Option<Self>, String> {
        let mut drafts = Vec::with_capacity(route.limits.len());
        for limit in &route.limits {
            drafts.push(Draft::new(plugin, route, limit)?);
        }
        for change in overrides {
            if change.is_for(plugin, &route.path) {
                change.apply(route, &mut drafts);
            }
        }
        if drafts.is_empty() {
            return Ok(None);
        }
        if drafts.len() > OF_ROUTE_MAX {
            let count = drafts.len();
            return Err(format!(
                "{count} limits apply to one route; at most {OF_ROUTE_MAX} are possible"
            ));
        }
        let limits = drafts.into_iter().map(|draft| draft.finish(plugin));
        let limits: Vec<RouteLimit> = limits.collect::<Result<_, _>>()?;
        let items = limits.iter().filter(|limit| !limit.policy.is_shadow());
        let items: Vec<&str> = items.map(|limit| limit.policy.header_item()).collect();
        let policies = HeaderValue::try_from(items.join(", ")).ok();
        Ok(Some(Self {
            policies: policies.filter(|_| !items.is_empty()),
            limits,
        }))
    }
}

impl Draft {
    fn new(
        plugin: &PluginName,
        route: &manifest::Route,
        limit: &RateLimit,
    ) -> Result<Self, String> {
        let (kind, key) = match &limit.key {
            RateKey::Ip => (KeyKind::Ip, KeySource::Caller),
            RateKey::User => (KeyKind::User, KeySource::Caller),
            RateKey::ApiKey => (KeyKind::ApiKey, KeySource::Caller),
            RateKey::Route => (KeyKind::Route, KeySource::Caller),
            RateKey::Header(name) => (KeyKind::Ip, KeySource::Header(name.clone())),
            RateKey::Expression(text) => {
                let expression = Expression::compile(text);
                let expression = expression.map_err(|error| error.to_string())?;
                (KeyKind::Ip, KeySource::Expression(Box::new(expression)))
            }
        };
        let window = limit.window.map_or(0, |window| window.as_millis());
        Ok(Self {
            config: PolicyConfig {
                name: limit.name.clone(),
                limit: limit.limit,
                window_ms: u64::try_from(window).unwrap_or(u64::MAX),
                burst: limit.burst,
                key: kind,
                algorithm: limit.algorithm,
                shadow: limit.is_shadow,
                fail: limit.fail,
            },
            scope: if limit.is_shared {
                format!("{plugin} shared")
            } else {
                own_scope(route)
            },
            cost: limit.cost,
            key,
            is_operators: false,
        })
    }

    fn finish(self, plugin: &PluginName) -> Result<RouteLimit, String> {
        let group = format!("plugin {plugin}");
        let policy = Policy::new(&group, &self.scope, &self.config);
        let policy = policy.map_err(|error: InvalidPolicy| error.to_string())?;
        let cost_max = policy.cost_max();
        let mut cost = self.cost;
        if u64::from(cost) > cost_max {
            if !self.is_operators {
                let name = policy.name();
                return Err(format!(
                    "the limit `{name}` never lets a call through that costs {cost}"
                ));
            }
            // The operator's limit is below what the author has reckoned with: such a call takes all of it.
            cost = u32::try_from(cost_max).unwrap_or(u32::MAX);
        }
        Ok(RouteLimit {
            policy,
            config: self.config,
            cost,
            key: self.key,
        })
    }
}

impl LimitOverride {
    /// Every mistake in it that can be told without the plugin.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let is_whole = self.limit.is_some()
            && (self.window_ms.is_some() || self.algorithm == Some(Algorithm::Concurrency));
        let mut mistakes = Vec::new();
        let mut broken = |rule: &str| {
            mistakes.push(format!(
                "`plugins.limits`: `{}` of `{}`: {rule}",
                self.name, self.plugin
            ));
        };
        if self.off && (self.add || self.limit.is_some()) {
            broken("a limit that is `off` has no values");
        }
        if self.add && !is_whole {
            broken("a limit that is added has `limit` and `window_ms`");
        }
        if self.cost == Some(0) {
            broken("`cost` must be at least 1");
        }
        if let (true, Err(error)) = (is_whole, Policy::new("", "", &self.added())) {
            broken(error.rule);
        } else if self.limit == Some(0) || self.window_ms == Some(0) || self.burst == Some(0) {
            broken("`limit`, `window_ms` and `burst` must be at least 1");
        }
        mistakes
    }

    /// Whether it is about this route.
    pub(super) fn is_for(&self, plugin: &PluginName, path: &str) -> bool {
        let is_route = match &self.route {
            None => true,
            Some(route) => match route.strip_suffix('*') {
                Some(beginning) => path.starts_with(beginning),
                None => route == path,
            },
        };
        self.plugin == *plugin && is_route
    }

    fn apply(&self, route: &manifest::Route, drafts: &mut Vec<Draft>) {
        let found = drafts
            .iter()
            .position(|draft| draft.config.name == self.name);
        match found {
            Some(at) if self.off => drop(drafts.remove(at)),
            Some(at) => self.change(route, &mut drafts[at]),
            None if self.add => drafts.push(Draft {
                config: self.added(),
                scope: own_scope(route),
                cost: self.cost.unwrap_or(1),
                key: KeySource::Caller,
                is_operators: true,
            }),
            None => {}
        }
    }

    fn change(&self, route: &manifest::Route, draft: &mut Draft) {
        draft.is_operators = true;
        let config = &mut draft.config;
        config.algorithm = self.algorithm.unwrap_or(config.algorithm);
        if config.algorithm == Algorithm::Concurrency {
            config.window_ms = 0;
        }
        if config.algorithm != Algorithm::TokenBucket || self.limit.is_some() {
            // A burst that the author has reckoned out for another limit.
            config.burst = None;
        }
        config.limit = self.limit.unwrap_or(config.limit);
        config.window_ms = self.window_ms.unwrap_or(config.window_ms);
        config.burst = self.burst.or(config.burst);
        config.shadow = self.shadow.unwrap_or(config.shadow);
        config.fail = self.fail.or(config.fail);
        if let Some(key) = self.key {
            config.key = key;
            draft.key = KeySource::Caller;
        }
        draft.cost = self.cost.unwrap_or(draft.cost);
        if self.route.is_some() {
            // What is different on one route has a count of its own.
            draft.scope = own_scope(route);
        }
    }

    fn added(&self) -> PolicyConfig {
        PolicyConfig {
            name: self.name.clone(),
            limit: self.limit.unwrap_or(0),
            window_ms: self.window_ms.unwrap_or(0),
            burst: self.burst,
            key: self.key.unwrap_or(KeyKind::Ip),
            algorithm: self.algorithm.unwrap_or_default(),
            shadow: self.shadow.unwrap_or(false),
            fail: self.fail,
        }
    }
}

/// Whose calls are added up without a name: those of this route. The order of routes in the manifest does not count, so that
/// a new version goes on counting where the old one was.
fn own_scope(route: &manifest::Route) -> String {
    let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
    let version = route.version.as_deref().unwrap_or_default();
    format!("{} {}{version}", methods.join(","), route.path)
}
