//! Secrets that the operator keeps for plugins: encrypted at rest, never in a log, an error or a list.
//!
//! Whether a plugin may see a value or only have it put into its requests is decided by the caller. Work per process:
//! none. Per call: a look into memory, else one read and one decryption.

pub mod host;
mod store;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::db::{Db, Rows, Transaction, now_ms};
use crate::ids::{Label, PluginName};
use crate::ledger::Event;
use crate::services::{Error, Kind};

const NONCE_BYTES: usize = 24;

/// How much the operator may keep for a plugin.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Longest value. Default: 64 KiB.
    pub value_bytes_max: usize,
    /// Most secrets of one plugin. Default: 100.
    pub secrets_max: u32,
    /// Secrets kept decrypted in memory. Default: 1000.
    pub cached_max: u64,
    /// How long one stays in memory: after this, a value set on another node is seen. Default: 30000.
    pub cached_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            value_bytes_max: 64 << 10,
            secrets_max: 100,
            cached_max: 1000,
            cached_ms: 30_000,
        }
    }
}

/// A secret's value. `Debug` does not show it, and its memory is overwritten at the end.
#[derive(Clone)]
pub struct Secret {
    /// Changes when a new value is set.
    pub revision: String,
    pub value: Arc<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What may be known of a secret without knowing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub label: Label,
    pub revision: String,
    /// Milliseconds since 1970.
    pub updated_at: i64,
}

/// The secrets of all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    db: Db,
    cipher: XChaCha20Poly1305,
    config: Config,
    cache: moka::sync::Cache<(PluginName, Label), Secret>,
    /// Counts changes. A value read before a change must not enter the cache after it.
    changes: Mutex<u64>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// Secrets in these rows, encrypted with this key. Who has the key and the rows has the secrets.
    pub fn new(db: Db, key: [u8; 32], config: Config) -> Self {
        let db = db.one_by_one(Rows::Secrets);
        let cipher = XChaCha20Poly1305::new(&key.into());
        let cache = moka::sync::Cache::builder()
            .max_capacity(config.cached_max)
            .time_to_live(Duration::from_millis(config.cached_ms))
            .build();
        Self(Arc::new(Inner {
            db,
            cipher,
            config,
            cache,
            changes: Mutex::default(),
        }))
    }

    /// The secret. `not-found` if the operator has set no value.
    pub async fn get(&self, plugin: &PluginName, label: &Label) -> Result<Secret, Error> {
        let key = (plugin.clone(), label.clone());
        if let Some(secret) = self.0.cache.get(&key) {
            return Ok(secret);
        }
        let changes = *self.changes();
        let row = store::find(&self.0.db, plugin, label)
            .await
            .map_err(failed)?;
        let Some((revision, sealed)) = row else {
            let message = format!("no value is set for the secret `{label}`");
            return Err(Error::new(Kind::NotFound, "secrets.not_set", message));
        };
        let secret = self.unseal(plugin, label, revision, &sealed)?;
        let now = self.changes();
        if *now == changes {
            self.0.cache.insert(key, secret.clone());
        }
        Ok(secret)
    }

    /// Sets a value, instead of one that may be there, and returns its revision. `limit` if it is too long or there
    /// are too many.
    pub async fn set(
        &self,
        plugin: &PluginName,
        label: &Label,
        value: &[u8],
    ) -> Result<String, Error> {
        let Config {
            value_bytes_max,
            secrets_max,
            ..
        } = self.0.config;
        if value.is_empty() {
            return Err(Error::invalid(
                "secrets.value_empty",
                "a secret has at least one byte",
            ));
        }
        if value.len() > value_bytes_max {
            let message = format!("a secret has at most {value_bytes_max} bytes");
            return Err(Error::limit("secrets.value_too_large", message));
        }
        let revision = uuid::Uuid::now_v7().simple().to_string();
        let sealed = self.seal(plugin, label, &revision, value)?;
        let mut transaction = self.0.db.begin().await.map_err(failed)?;
        let is_set = store::set(
            &mut transaction,
            plugin,
            label,
            &revision,
            &sealed,
            now_ms(),
            secrets_max,
        )
        .await;
        if !is_set.map_err(failed)? {
            let message = format!("a plugin has at most {secrets_max} secrets");
            return Err(Error::limit("secrets.too_many", message));
        }
        // Who may write here but not read: nothing of the value, not even its length.
        let event = Event::new("secret.set", format_args!("{plugin}/{label}"));
        self.commit(transaction, event).await?;
        self.forget(plugin, label);
        Ok(revision)
    }

    /// The secrets of a plugin in the order of their labels, without values.
    pub async fn list(&self, plugin: &PluginName) -> Result<Vec<Listed>, Error> {
        store::list(&self.0.db, plugin).await.map_err(failed)
    }

    /// Deletes and says whether there was a value.
    pub async fn delete(&self, plugin: &PluginName, label: &Label) -> Result<bool, Error> {
        let mut transaction = self.0.db.begin().await.map_err(failed)?;
        let was_set = store::delete(&mut transaction, plugin, label)
            .await
            .map_err(failed)?;
        if was_set {
            let event = Event::new("secret.deleted", format_args!("{plugin}/{label}"));
            self.commit(transaction, event).await?;
        }
        self.forget(plugin, label);
        Ok(was_set)
    }

    /// Deletes all secrets of a plugin.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), Error> {
        for secret in self.list(plugin).await? {
            self.delete(plugin, &secret.label).await?;
        }
        Ok(())
    }

    async fn commit(&self, mut transaction: Transaction, event: Event) -> Result<(), Error> {
        let recorded = self.0.db.record(&mut transaction, event).await;
        recorded.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    fn forget(&self, plugin: &PluginName, label: &Label) {
        let mut changes = self.changes();
        *changes += 1;
        self.0.cache.invalidate(&(plugin.clone(), label.clone()));
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, u64> {
        self.0
            .changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(
        &self,
        plugin: &PluginName,
        label: &Label,
        revision: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, Error> {
        // 192 random bits do not repeat, so no count has to be kept.
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let bound = bound_to(plugin, label, revision);
        let payload = Payload {
            msg: value,
            aad: bound.as_bytes(),
        };
        let ciphertext = self.0.cipher.encrypt(&XNonce::from(nonce), payload);
        let ciphertext = ciphertext.map_err(|error| Error::internal("secrets.failed", &error))?;
        Ok([nonce.as_slice(), &ciphertext].concat())
    }

    fn unseal(
        &self,
        plugin: &PluginName,
        label: &Label,
        revision: String,
        sealed: &[u8],
    ) -> Result<Secret, Error> {
        let unreadable = || {
            let cause = format!("the secret `{label}` of `{plugin}` was sealed with another key");
            Error::internal("secrets.unreadable", &cause)
        };
        let (nonce, msg) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(unreadable)?;
        let bound = bound_to(plugin, label, &revision);
        let payload = Payload {
            msg,
            aad: bound.as_bytes(),
        };
        let value = self.0.cipher.decrypt(&XNonce::from(*nonce), payload);
        let value = value.map_err(|_| unreadable())?;
        Ok(Secret {
            revision,
            value: Arc::new(Zeroizing::new(value)),
        })
    }
}

/// A sealed value moved to another row does not open. None of the parts can hold the separator.
fn bound_to(plugin: &PluginName, label: &Label, revision: &str) -> String {
    format!("gantry.secret|{plugin}|{label}|{revision}")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` takes"
)]
fn failed(error: sqlx::Error) -> Error {
    Error::internal("secrets.failed", &error)
}
