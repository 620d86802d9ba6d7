//! The operator's side: what a plugin was given, and whether that is everything it asks for.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::ids::Label;
use crate::plugins::Mistake;
use crate::plugins::manifest::{HostPattern, Manifest, Secret, SecretUse};

/// One thing given to one plugin. As text: `kv:carts`, `cache:rates`, `blobs:photos`, `sql:main`, `http:*.example.com`,
/// `secret:pepper` (the plugin may read it), `secret:stripe@api.stripe.com` (the host sends it there, the plugin never sees it).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// A key-value store.
    Kv(Label),
    /// Values that are kept for a while.
    Cache(Label),
    /// Files.
    Blobs(Label),
    /// A database.
    Sql(Label),
    /// Calls to these hosts.
    Http(HostPattern),
    /// Reading a secret.
    SecretRevealed(Label),
    /// Having the host send a secret to one host. Bound to it, so that a later version of the plugin cannot have it
    /// sent elsewhere.
    SecretInjected(Label, HostPattern),
}

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a capability: write `kv:LABEL`, `cache:LABEL`, `blobs:LABEL`, `sql:LABEL`, `http:HOST`, `secret:LABEL` or `secret:LABEL@HOST`"
)]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let parse = || -> Option<Self> {
            let (capability, value) = text.split_once(':')?;
            Some(match (capability, value.split_once('@')) {
                ("kv", None) => Self::Kv(value.parse().ok()?),
                ("cache", None) => Self::Cache(value.parse().ok()?),
                ("blobs", None) => Self::Blobs(value.parse().ok()?),
                ("sql", None) => Self::Sql(value.parse().ok()?),
                ("http", None) => Self::Http(value.parse().ok()?),
                ("secret", None) => Self::SecretRevealed(value.parse().ok()?),
                ("secret", Some((label, host))) => {
                    Self::SecretInjected(label.parse().ok()?, host.parse().ok()?)
                }
                _ => return None,
            })
        };
        parse().ok_or_else(|| {
            InvalidGrant(text.chars().take(80).flat_map(char::escape_debug).collect())
        })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv(label) => write!(f, "kv:{label}"),
            Self::Cache(label) => write!(f, "cache:{label}"),
            Self::Blobs(label) => write!(f, "blobs:{label}"),
            Self::Sql(label) => write!(f, "sql:{label}"),
            Self::Http(host) => write!(f, "http:{host}"),
            Self::SecretRevealed(label) => write!(f, "secret:{label}"),
            Self::SecretInjected(label, host) => write!(f, "secret:{label}@{host}"),
        }
    }
}

/// Everything given to one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// Exactly what a manifest asks for: the operator agrees to all of it.
    pub fn all_of(manifest: &Manifest) -> Self {
        asked(manifest).map(|(grant, _)| grant).collect()
    }

    /// In the order of their texts' kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// Whether the plugin may open this key-value store.
    pub fn has_kv(&self, label: &Label) -> bool {
        self.0.contains(&Grant::Kv(label.clone()))
    }

    /// Whether the plugin may open this cache.
    pub fn has_cache(&self, label: &Label) -> bool {
        self.0.contains(&Grant::Cache(label.clone()))
    }

    /// Whether the plugin may open this bucket of files.
    pub fn has_blobs(&self, label: &Label) -> bool {
        self.0.contains(&Grant::Blobs(label.clone()))
    }

    /// Whether the plugin may open this database.
    pub fn has_sql(&self, label: &Label) -> bool {
        self.0.contains(&Grant::Sql(label.clone()))
    }

    /// Whether the secret may be used in the way that the manifest asks for.
    pub fn has_secret(&self, secret: &Secret) -> bool {
        self.covers(&secret_grant(secret))
    }

    /// Whether the plugin may call everything that this pattern means.
    pub fn has_http(&self, host: &HostPattern) -> bool {
        self.covers(&Grant::Http(host.clone()))
    }

    /// Whether this is given, by itself or as part of something wider.
    pub fn covers(&self, wanted: &Grant) -> bool {
        if self.0.contains(wanted) {
            return true;
        }
        self.0.iter().any(|given| match (given, wanted) {
            (Grant::Http(given), Grant::Http(wanted)) => given.covers(wanted),
            // Who may read a secret can send it wherever it may call.
            (Grant::SecretRevealed(given), Grant::SecretInjected(wanted, _)) => given == wanted,
            _ => false,
        })
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

/// Everything that is asked for and not given. Only a first deployment is refused by this, and before it there is no plugin that
/// `gantry plugin grant` could give something to.
pub(super) fn check(manifest: &Manifest, grants: &Grants) -> Vec<Mistake> {
    asked(manifest)
        .filter(|(grant, _)| !grants.covers(grant))
        .map(|(grant, place)| {
            let name = &manifest.plugin.name;
            Mistake::new(format!("`{grant}` is not granted to the plugin `{name}`"))
                .at(manifest.place(&place))
                .with_help(
                    "`gantry plugin deploy --grant-all` grants all that plugin.toml asks for",
                )
        })
        .collect()
}

/// What the manifest asks for, each with the key of its place.
fn asked(manifest: &Manifest) -> impl Iterator<Item = (Grant, String)> {
    let wants = &manifest.capabilities;
    let kv = wants
        .kv
        .iter()
        .map(|label| (Grant::Kv(label.clone()), format!("kv:{label}")));
    let cache = wants.cache.iter();
    let cache = cache.map(|label| (Grant::Cache(label.clone()), format!("cache:{label}")));
    let blobs = wants.blobs.iter();
    let blobs = blobs.map(|label| (Grant::Blobs(label.clone()), format!("blobs:{label}")));
    let sql = wants.sql.iter().map(|database| {
        let label = &database.label;
        (Grant::Sql(label.clone()), format!("sql:{label}"))
    });
    let http = wants.http.iter().map(|http| {
        (
            Grant::Http(http.host.clone()),
            format!("http:{}", http.host),
        )
    });
    let secrets = wants
        .secrets
        .iter()
        .map(|secret| (secret_grant(secret), format!("secret:{}", secret.label)));
    kv.chain(cache)
        .chain(blobs)
        .chain(sql)
        .chain(http)
        .chain(secrets)
}

fn secret_grant(secret: &Secret) -> Grant {
    let label = secret.label.clone();
    match &secret.usage {
        SecretUse::Reveal => Grant::SecretRevealed(label),
        SecretUse::Inject(injection) => Grant::SecretInjected(label, injection.host.clone()),
    }
}
