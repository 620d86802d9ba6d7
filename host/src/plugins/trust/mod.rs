//! Whether a plugin comes from somebody whom this installation trusts: asked when it is deployed, and again whenever it is
//! loaded from disk. Keys come from the settings and from rows; the host never has a private one.

mod key;
mod list;
mod signature;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::db::{Db, Rows, Transaction};
use crate::ids::{DeploymentId, Digest, PluginName};
use crate::ledger::Event;
use crate::plugins::bundle::FileDigest;
use crate::plugins::store::LiveRow;

pub use key::{InvalidKey, KeyId, NamePattern, PublicKey};
pub use list::{Refusal, TrustList, TrustedKey, compare};
pub use signature::{Signature, Unreadable};

/// Most characters of the name of a key's owner.
const OWNER_CHARS_MAX: usize = 100;
/// Most patterns of one key.
const PATTERNS_MAX: usize = 100;

/// What happens to plugins that no trusted key has signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nobody asks.
    #[default]
    Off,
    /// They are taken, and said to be what they are.
    Warn,
    /// They are refused, and what is live without a good signature is loaded no more.
    Required,
}

/// Keys that may sign plugins.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Keys that the API cannot change, each `{ key = "ed25519:…", owner = "…", plugins = ["shop", "shop-*"] }`, and if need
    /// be `expires_at = "2027-01-01T00:00:00Z"` or `revoked_at`. Default: none.
    pub keys: Vec<KeyConfig>,
    /// Count only the keys of the settings, so that nobody who can write the host's rows or has a right on the API can add
    /// one. Default: false.
    pub settings_only: bool,
    /// Most keys in the rows. Default: 100.
    pub keys_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            settings_only: false,
            keys_max: 100,
        }
    }
}

/// One key in the settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// `ed25519:` and base64.
    pub key: String,
    /// Whose it is, for people.
    pub owner: String,
    /// Names, beginnings of names with `*`, or `*` for all.
    pub plugins: Vec<NamePattern>,
    /// From then on nothing new is taken that it signed. Default: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Since then nothing counts that it signed, whenever that was. Default: never.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}

/// Why the trust list could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error(
        "say which plugins the key may sign, with 1 to {PATTERNS_MAX} names or beginnings of names"
    )]
    Patterns,
    #[error(
        "the owner of a key is named with 1 to {OWNER_CHARS_MAX} characters, none of them for control"
    )]
    Owner,
    #[error("the key would be expired already; choose a later time")]
    Expired,
    #[error("there is no key {0}; `gantry trust list` shows those there are")]
    NotFound(KeyId),
    #[error("the key {0} is in the list already; `gantry trust set` changes what it may sign")]
    Exists(KeyId),
    #[error("there are {max} keys already (`plugins.trust.keys_max`); remove one that nobody uses")]
    TooMany { max: u32 },
    #[error("the key {0} stands in the settings of the server; change it there")]
    InSettings(KeyId),
    #[error("only the settings of the server say which keys count (`plugins.trust.settings_only`)")]
    SettingsOnly,
    #[error("the rows of trusted keys cannot be reached or understood")]
    Rows(#[from] sqlx::Error),
}

/// Where a deployment came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// `plugin.sig` as it was uploaded.
    pub signature: Option<String>,
    /// The key that signed it, if it was trusted then.
    pub signed_by: Option<KeyId>,
    /// What the uploader said about where it is from. Not checked.
    pub source: Option<String>,
    /// Of the upload as it came, so that the source can be held against it.
    pub upload: Digest,
    pub recorded_at_ms: i64,
}

/// An upload whose manifest was read, about to be asked who signed it.
#[derive(Debug, Clone)]
pub struct Presented {
    pub plugin: PluginName,
    pub version: semver::Version,
    pub files: Vec<FileDigest>,
    /// The text of `plugin.sig`.
    pub signature: Option<String>,
    pub source: Option<String>,
    pub upload: Digest,
    /// Of the live deployment.
    pub live: Option<semver::Version>,
    /// Whether somebody who may has agreed to an older version.
    pub allows_downgrade: bool,
}

/// An upload that may go on, and what has to be said about it.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub provenance: Provenance,
    /// Why it would be refused if signatures were required.
    pub warnings: Vec<String>,
}

/// The gate. One per process.
pub struct Trust {
    db: Db,
    clock: Clock,
    policy: Policy,
    config: Config,
    settings: Vec<TrustedKey>,
}

impl Trust {
    /// Reads the keys of the settings.
    pub fn new(db: Db, clock: Clock, policy: Policy, config: Config) -> Result<Self, Error> {
        let db = db.one_by_one(Rows::Plugins);
        let keys = config.keys.iter().map(of_settings);
        let settings = keys.collect::<Result<_, _>>()?;
        Ok(Self {
            db,
            clock,
            policy,
            config,
            settings,
        })
    }

    /// What happens to plugins that no trusted key has signed.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The keys that count now. One that stands in the settings hides one of the rows.
    pub async fn list(&self) -> Result<TrustList, sqlx::Error> {
        let rows = if self.config.settings_only {
            Vec::new()
        } else {
            store::keys(&self.db).await?
        };
        Ok(rows
            .into_iter()
            .chain(self.settings.iter().cloned())
            .collect())
    }

    /// Decides about an upload.
    pub async fn admit(&self, upload: Presented) -> Result<Result<Admitted, Refusal>, sqlx::Error> {
        let now_ms = self.clock.now_ms();
        let mut warnings = Vec::new();
        let mut signed_by = None;
        if self.policy != Policy::Off {
            let list = self.list().await?;
            let text = upload.signature.as_deref();
            let checked = list.check(&upload.plugin, text, now_ms);
            let checked = checked.and_then(|signature| {
                compare(&signature, &upload.plugin, &upload.version, &upload.files)?;
                Ok(signature.key)
            });
            let refusals = [checked.map(|key| signed_by = Some(key)), not_older(&upload)];
            for refusal in refusals.into_iter().filter_map(Result::err) {
                if self.policy == Policy::Required {
                    return Ok(Err(refusal));
                }
                tracing::warn!(plugin.name = %upload.plugin, "{refusal}");
                warnings.push(refusal.to_string());
            }
        }
        Ok(Ok(Admitted {
            provenance: Provenance {
                signature: upload.signature,
                signed_by,
                source: upload.source,
                upload: upload.upload,
                recorded_at_ms: now_ms,
            },
            warnings,
        }))
    }

    /// Writes where a deployment comes from, before it is recorded itself.
    pub async fn keep(
        &self,
        deployment: DeploymentId,
        admitted: &Admitted,
    ) -> Result<(), sqlx::Error> {
        store::record(&self.db, deployment, &admitted.provenance).await
    }

    /// Whether these keys stand for a deployment, so that it may be loaded or go on. Asks about everything that decides what
    /// runs: name, version, manifest and component as the rows have them. The component's bytes are held against its digest
    /// when they are read.
    pub async fn check(
        &self,
        list: &TrustList,
        row: &LiveRow,
    ) -> Result<Result<(), Refusal>, sqlx::Error> {
        if self.policy == Policy::Off {
            return Ok(Ok(()));
        }
        let recorded = store::find(&self.db, row.deployment).await?;
        let Err(refusal) = verify(list, row, recorded.as_ref()) else {
            return Ok(Ok(()));
        };
        if self.policy == Policy::Required {
            return Ok(Err(refusal));
        }
        tracing::warn!(plugin.name = %row.plugin, "{refusal}");
        Ok(Ok(()))
    }

    /// Which of these live deployments would be refused, were signatures required.
    pub async fn unfit(&self, rows: &[LiveRow]) -> Result<Vec<(PluginName, Refusal)>, sqlx::Error> {
        let list = self.list().await?;
        let mut unfit = Vec::new();
        for row in rows {
            let recorded = store::find(&self.db, row.deployment).await?;
            if let Err(refusal) = verify(&list, row, recorded.as_ref()) {
                unfit.push((row.plugin.clone(), refusal));
            }
        }
        Ok(unfit)
    }

    /// Where a deployment came from, if that was recorded.
    pub async fn provenance(&self, of: DeploymentId) -> Result<Option<Provenance>, sqlx::Error> {
        store::find(&self.db, of).await
    }

    /// Trusts one more key, from the next question on. `expires_at_ms` must lie ahead.
    pub async fn add(
        &self,
        public: PublicKey,
        owner: &str,
        plugins: Vec<NamePattern>,
        expires_at_ms: Option<i64>,
        by: &str,
    ) -> Result<TrustedKey, Error> {
        let id = self.changeable(public.id())?;
        let chars = owner.chars().count();
        if !(1..=OWNER_CHARS_MAX).contains(&chars) || owner.chars().any(char::is_control) {
            return Err(Error::Owner);
        }
        self.check_scope(&plugins, expires_at_ms)?;
        let key = TrustedKey {
            public,
            owner: owner.to_owned(),
            plugins,
            expires_at_ms,
            revoked_at_ms: None,
            added_by: by.to_owned(),
            added_at_ms: self.clock.now_ms(),
            is_in_settings: false,
        };
        let mut transaction = self.db.begin().await?;
        if store::add(&mut transaction, &key, self.config.keys_max).await? {
            let event = Event::new("trusted_key.added", id)
                .with("owner", owner)
                .with("plugins", texts(&key.plugins))
                .with("expires_at", expires_at_ms.map(rfc3339));
            self.commit(transaction, event).await?;
            return Ok(key);
        }
        drop(transaction);
        if self.list().await?.get(id).is_some() {
            return Err(Error::Exists(id));
        }
        Err(Error::TooMany {
            max: self.config.keys_max,
        })
    }

    /// Changes what a key may sign and until when.
    pub async fn set(
        &self,
        id: KeyId,
        plugins: Vec<NamePattern>,
        expires_at_ms: Option<i64>,
    ) -> Result<(), Error> {
        self.changeable(id)?;
        self.check_scope(&plugins, expires_at_ms)?;
        let list = self.list().await?;
        let before = list.get(id).map(|key| {
            json!({ "plugins": texts(&key.plugins), "expires_at": key.expires_at_ms.map(rfc3339) })
        });
        let mut transaction = self.db.begin().await?;
        found(
            id,
            store::set(&mut transaction, id, &plugins, expires_at_ms).await?,
        )?;
        let after = json!({ "plugins": texts(&plugins), "expires_at": expires_at_ms.map(rfc3339) });
        let event = Event::new("trusted_key.set", id).changed(before, after);
        self.commit(transaction, event).await
    }

    /// Lets nothing count any more that this key signed, whenever that was.
    pub async fn revoke(&self, id: KeyId) -> Result<(), Error> {
        self.changeable(id)?;
        let now_ms = self.clock.now_ms();
        let mut transaction = self.db.begin().await?;
        found(id, store::revoke(&mut transaction, id, now_ms).await?)?;
        self.commit(transaction, Event::new("trusted_key.revoked", id))
            .await
    }

    /// Forgets a key. What it signed is then signed by somebody unknown.
    pub async fn remove(&self, id: KeyId) -> Result<(), Error> {
        self.changeable(id)?;
        let mut transaction = self.db.begin().await?;
        found(id, store::remove(&mut transaction, id).await?)?;
        self.commit(transaction, Event::new("trusted_key.removed", id))
            .await
    }

    async fn commit(&self, mut transaction: Transaction, event: Event) -> Result<(), Error> {
        self.db.record(&mut transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets where deployments came from that are in no history any more; never of one recorded less than `age_min`
    /// ago, whose deployment may be on its way.
    pub async fn clean_up(&self, age_min: Duration) -> Result<(), sqlx::Error> {
        let age_min_ms = i64::try_from(age_min.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(age_min_ms);
        store::forget_gone(&self.db, before_ms).await
    }

    fn changeable(&self, id: KeyId) -> Result<KeyId, Error> {
        if self.config.settings_only {
            return Err(Error::SettingsOnly);
        }
        if self.settings.iter().any(|key| key.public.id() == id) {
            return Err(Error::InSettings(id));
        }
        Ok(id)
    }

    fn check_scope(
        &self,
        plugins: &[NamePattern],
        expires_at_ms: Option<i64>,
    ) -> Result<(), Error> {
        if !(1..=PATTERNS_MAX).contains(&plugins.len()) {
            return Err(Error::Patterns);
        }
        if expires_at_ms.is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
            return Err(Error::Expired);
        }
        Ok(())
    }
}

fn verify(list: &TrustList, row: &LiveRow, recorded: Option<&Provenance>) -> Result<(), Refusal> {
    let text = recorded.and_then(|recorded| recorded.signature.as_deref());
    // A key that expires later takes nothing off the platform that was fine when it came.
    let at_ms = recorded.map_or(i64::MAX, |recorded| recorded.recorded_at_ms);
    let signature = list.check(&row.plugin, text, at_ms)?;
    // Migrations are not kept once they ran; of them the signature's word is taken.
    let kept = |file: &&FileDigest| !["plugin.toml", "plugin.wasm"].contains(&&*file.path);
    let mut files: Vec<FileDigest> = signature.files.iter().filter(kept).cloned().collect();
    files.push(FileDigest {
        path: "plugin.toml".to_owned(),
        bytes: row.manifest.len() as u64,
        digest: Digest::of(row.manifest.as_bytes()),
    });
    let component = signature
        .files
        .iter()
        .find(|file| file.path == "plugin.wasm");
    files.push(FileDigest {
        path: "plugin.wasm".to_owned(),
        bytes: component.map_or(0, |file| file.bytes),
        digest: row.component,
    });
    compare(&signature, &row.plugin, &row.version, &files)
}
fn not_older(upload: &Presented) -> Result<(), Refusal> {
    match &upload.live {
        // What stands after a `+` says nothing about which of two is older.
        Some(live) if upload.version.cmp_precedence(live).is_lt() && !upload.allows_downgrade => {
            Err(Refusal::Downgrade {
                plugin: upload.plugin.clone(),
                version: upload.version.clone(),
                live: live.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn of_settings(key: &KeyConfig) -> Result<TrustedKey, Error> {
    if key.plugins.is_empty() {
        return Err(Error::Patterns);
    }
    Ok(TrustedKey {
        public: key.key.parse()?,
        owner: key.owner.clone(),
        plugins: key.plugins.clone(),
        expires_at_ms: key.expires_at.map(Timestamp::as_millisecond),
        revoked_at_ms: key.revoked_at.map(Timestamp::as_millisecond),
        added_by: "settings".to_owned(),
        added_at_ms: 0,
        is_in_settings: true,
    })
}

fn texts(plugins: &[NamePattern]) -> Vec<String> {
    plugins.iter().map(ToString::to_string).collect()
}

fn found(id: KeyId, is_there: bool) -> Result<(), Error> {
    if is_there {
        Ok(())
    } else {
        Err(Error::NotFound(id))
    }
}
