//! Who may sign what: the keys that an installation trusts, and whether one of them says yes to a plugin.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::key::{KeyId, NamePattern, PublicKey};
use super::signature::Signature;
use crate::ids::PluginName;
use crate::plugins::bundle::FileDigest;

/// One key and what its owner may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    pub public: PublicKey,
    /// Whose it is, for people.
    pub owner: String,
    pub plugins: Vec<NamePattern>,
    /// From then on nothing new is taken that it signed. What was deployed before stays live.
    pub expires_at_ms: Option<i64>,
    /// Since then nothing counts that it signed, whenever that was.
    pub revoked_at_ms: Option<i64>,
    pub added_by: String,
    pub added_at_ms: i64,
    /// Stands in the settings, where the API cannot change it.
    pub is_in_settings: bool,
}

/// Why a plugin is not taken, or not loaded. Each says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the plugin `{plugin}` is not signed; sign the bundle with `gantry plugin sign`, or deploy with `--sign-key FILE`"
    )]
    Unsigned { plugin: PluginName },
    #[error(
        "the signature of `{plugin}` cannot be read: {reason}; sign it again with `gantry plugin sign`"
    )]
    Unreadable { plugin: PluginName, reason: String },
    #[error(
        "the signature of `{plugin}` was not made by the key {key} that it names, or was altered since; get the bundle again \
         from where it was signed, or sign it again"
    )]
    Forged { plugin: PluginName, key: KeyId },
    #[error(
        "`{plugin}` is not what the key {key} signed: {difference}; get the bundle again from where it was signed"
    )]
    Tampered {
        plugin: PluginName,
        key: KeyId,
        difference: String,
    },
    #[error(
        "`{plugin}` is signed with the key {key}, which this installation does not trust; if you know whose it is, an \
         operator adds it with `gantry trust add PUBLIC-KEY --plugin {plugin}`"
    )]
    KeyUnknown { plugin: PluginName, key: KeyId },
    #[error(
        "the key {key} may not sign `{plugin}`, only {}; sign it with a key that may, or an operator says more with \
         `gantry trust set {key} --plugin …`",
        list(.may)
    )]
    KeyNotForPlugin {
        plugin: PluginName,
        key: KeyId,
        may: Vec<NamePattern>,
    },
    #[error(
        "the key {key}, with which `{plugin}` is signed, expired on {}; sign it with a newer key, or an operator moves the \
         date with `gantry trust set {key} --expires-in …`",
        time(*.at_ms)
    )]
    KeyExpired {
        plugin: PluginName,
        key: KeyId,
        at_ms: i64,
    },
    #[error(
        "the key {key}, with which `{plugin}` is signed, was revoked on {}; look at what it signed, then sign it with \
         another key",
        time(*.at_ms)
    )]
    KeyRevoked {
        plugin: PluginName,
        key: KeyId,
        at_ms: i64,
    },
    #[error(
        "`{plugin}` {version} is older than {live}, which is live; go back with `gantry plugin rollback {plugin}`, or let \
         somebody with `platform.trust` deploy it with --allow-downgrade"
    )]
    Downgrade {
        plugin: PluginName,
        version: semver::Version,
        live: semver::Version,
    },
}

impl Refusal {
    /// Stable, with a page in docs/errors.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned { .. } => "trust.unsigned",
            Self::Unreadable { .. } => "trust.signature_unreadable",
            Self::Forged { .. } => "trust.signature_wrong",
            Self::Tampered { .. } => "trust.tampered",
            Self::KeyUnknown { .. } => "trust.key_unknown",
            Self::KeyNotForPlugin { .. } => "trust.key_not_for_plugin",
            Self::KeyExpired { .. } => "trust.key_expired",
            Self::KeyRevoked { .. } => "trust.key_revoked",
            Self::Downgrade { .. } => "trust.downgrade",
        }
    }
}

/// The keys that count, each under its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustList(BTreeMap<KeyId, TrustedKey>);

impl TrustList {
    /// All keys, by id.
    pub fn iter(&self) -> impl Iterator<Item = &TrustedKey> {
        self.0.values()
    }

    /// One key.
    pub fn get(&self, id: KeyId) -> Option<&TrustedKey> {
        self.0.get(&id)
    }

    /// The signature of a plugin, once a key that may sign it at that time has been found to have made it. The order of
    /// the questions matters to whoever has to mend it: first who, then whether that one may, then whether it is true.
    pub fn check(
        &self,
        plugin: &PluginName,
        text: Option<&str>,
        at_ms: i64,
    ) -> Result<Signature, Refusal> {
        let plugin = || plugin.clone();
        let text = text.ok_or_else(|| Refusal::Unsigned { plugin: plugin() })?;
        let signature = Signature::read(text).map_err(|error| Refusal::Unreadable {
            plugin: plugin(),
            reason: error.to_string(),
        })?;
        let id = signature.key;
        let key = self.get(id).ok_or_else(|| Refusal::KeyUnknown {
            plugin: plugin(),
            key: id,
        })?;
        if let Some(at_ms) = key.revoked_at_ms {
            return Err(Refusal::KeyRevoked {
                plugin: plugin(),
                key: id,
                at_ms,
            });
        }
        if !key.plugins.iter().any(|may| may.matches(&plugin())) {
            return Err(Refusal::KeyNotForPlugin {
                plugin: plugin(),
                key: id,
                may: key.plugins.clone(),
            });
        }
        if let Some(expires_at_ms) = key.expires_at_ms
            && at_ms >= expires_at_ms
        {
            return Err(Refusal::KeyExpired {
                plugin: plugin(),
                key: id,
                at_ms: expires_at_ms,
            });
        }
        if signature.fits(&key.public) {
            Ok(signature)
        } else {
            Err(Refusal::Forged {
                plugin: plugin(),
                key: id,
            })
        }
    }
}

impl FromIterator<TrustedKey> for TrustList {
    fn from_iter<I: IntoIterator<Item = TrustedKey>>(keys: I) -> Self {
        let named = keys.into_iter().map(|key| (key.public.id(), key));
        Self(named.collect())
    }
}

/// Whether a signature speaks of this version of this plugin and of these files. It was made by a key that may.
pub fn compare(
    signature: &Signature,
    plugin: &PluginName,
    version: &semver::Version,
    files: &[FileDigest],
) -> Result<(), Refusal> {
    let tampered = |difference: String| Refusal::Tampered {
        plugin: plugin.clone(),
        key: signature.key,
        difference,
    };
    if signature.plugin != *plugin {
        let signed = &signature.plugin;
        return Err(tampered(format!("it was signed as the plugin `{signed}`")));
    }
    if signature.version != *version {
        let signed = &signature.version;
        return Err(tampered(format!(
            "it was signed as version {signed}, not {version}"
        )));
    }
    match signature.difference(files) {
        Some(difference) => Err(tampered(difference)),
        None => Ok(()),
    }
}

fn list(patterns: &[NamePattern]) -> String {
    let quoted: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("`{pattern}`"))
        .collect();
    quoted.join(", ")
}

fn time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms)
        .unwrap_or_default()
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string()
}
