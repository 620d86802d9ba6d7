//! The keys that sign access tokens, and their succession: a new one is shown to others before it signs, an old one is shown
//! until nothing that it has signed is good any more.

mod key;
mod ring;
mod store;

pub use key::TokenAlgorithm;
pub(super) use ring::{KIND, Ring};

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::auth::shared_revocations::Revocation;
use crate::auth::{Auth, Config, Error, Keys};
use crate::clock::Clock;
use crate::db::{Db, Transaction};
use crate::ledger::Event;
use crate::seal::Seal;

use key::KeyPair;
use store::{Row, Store};

/// How long a new key is shown before it signs: twice as long as others may keep the key set, and more than the host takes to
/// look at its rows.
const SHOWN_MS: i64 = 10 * 60_000;
/// How long a revoked key stays in the list.
const LISTED_MS: i64 = 90 * DAY_MS;
const DAY_MS: i64 = 24 * 3_600_000;
/// Most keys that are not revoked yet.
const KEYS_MAX: usize = 16;
/// How often a key is revoked anew that other hosts change at the same moment.
const TRIES: u32 = 5;

/// A key that signs access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// As it stands in tokens (`kid`).
    pub id: String,
    pub algorithm: TokenAlgorithm,
    pub state: KeyState,
    /// Since when it is in this state.
    pub since_ms: i64,
    pub created_at_ms: i64,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Others are shown it; it does not sign yet.
    Standby,
    /// It signs. One key is active.
    Active,
    /// It signs no more; what it has signed is good.
    Retiring,
    /// Nothing that it has signed is good.
    Revoked,
}

impl KeyState {
    /// As it stands in the rows and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Revoked => "revoked",
        }
    }

    fn find(name: &str) -> Option<Self> {
        [Self::Standby, Self::Active, Self::Retiring, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// When a new key begins to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// When others had time to see it.
    WhenShown,
    /// Now. Other services may refuse tokens until they fetch the key set again.
    AtOnce,
}

pub(super) struct TokenKeys {
    store: Store,
    seal: Seal,
    clock: Clock,
    config: Config,
    ring: ArcSwap<Ring>,
    /// How long a token that was signed now may be accepted.
    accepted_ms: i64,
}

impl TokenKeys {
    /// The keys of the rows. At the first start, the one in the file.
    pub(super) async fn open(
        db: Db,
        keys: &Keys,
        clock: Clock,
        config: &Config,
        accepted_ms: i64,
    ) -> Result<Self, Error> {
        let store = Store { db };
        let seal = Seal::new(keys.derive("token-keys"));
        let mut rows = store.all().await?;
        if rows.is_empty() {
            let pair = KeyPair::of_seed(keys.access_token_seed())?;
            let row = row_of(&pair, KeyState::Active, &seal, clock.now_ms());
            let mut transaction = store.begin().await?;
            store::insert(&mut transaction, &row).await?;
            transaction.commit().await?;
            rows = store.all().await?;
        }
        let ring = Ring::new(rows, &seal, config, 0)?;
        Ok(Self {
            store,
            seal,
            clock,
            config: config.clone(),
            ring: ArcSwap::from_pointee(ring),
            accepted_ms,
        })
    }

    /// The keys as they are now.
    pub(super) fn ring(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    fn list(&self) -> Vec<TokenKey> {
        let ring = self.ring.load();
        ring.rows().iter().map(|row| row.key.clone()).collect()
    }

    /// Takes over what is in the rows, if it is something else.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let rows = self.store.all().await?;
        let ring = self.ring.load();
        if rows != ring.rows() {
            let next = Ring::new(rows, &self.seal, &self.config, ring.epoch + 1)?;
            self.ring.store(Arc::new(next));
        }
        Ok(())
    }

    async fn add(&self, algorithm: TokenAlgorithm, now_ms: i64) -> Result<TokenKey, Error> {
        let live = self.list();
        let live = live.iter().filter(|key| key.state != KeyState::Revoked);
        if live.count() >= KEYS_MAX {
            return Err(Error::TooMany {
                what: "token keys",
                max: KEYS_MAX,
            });
        }
        let pair = KeyPair::generate(algorithm)?;
        let row = row_of(&pair, KeyState::Standby, &self.seal, now_ms);
        let mut transaction = self.store.begin().await?;
        store::insert(&mut transaction, &row).await?;
        let event = Event::new("token_key.created", &row.key.id);
        let event = event.with("algorithm", algorithm.as_str());
        self.commit(transaction, event).await?;
        let key = row.key;
        tracing::info!(token_key.id = %key.id, "A key for access tokens was made");
        Ok(key)
    }

    /// Lets a key that is shown sign, and the one that signed retire.
    async fn activate(&self, id: &str, now_ms: i64) -> Result<bool, Error> {
        let mut transaction = self.store.begin().await?;
        for active in self.list() {
            if active.state == KeyState::Active {
                let (from, to) = (KeyState::Active, KeyState::Retiring);
                let is_first =
                    store::set_state(&mut transaction, &active.id, from, to, now_ms).await?;
                if !is_first {
                    return Ok(false);
                }
            }
        }
        let (from, to) = (KeyState::Standby, KeyState::Active);
        if !store::set_state(&mut transaction, id, from, to, now_ms).await? {
            return Ok(false);
        }
        let event = Event::new("token_key.activated", id);
        self.commit(transaction, event).await?;
        tracing::info!(token_key.id = %id, "A key signs access tokens from now on");
        Ok(true)
    }

    /// Revokes a key, after another one has taken its place if need be. False if the keys are not as they were when they were
    /// read.
    async fn try_revoke(&self, id: &str) -> Result<bool, Error> {
        let now_ms = self.clock.now_ms();
        let keys = self.list();
        let key = keys.iter().find(|key| key.id == id);
        let mut state = key.ok_or(Error::TokenKeyNotFound)?.state;
        if state == KeyState::Revoked {
            return Ok(true);
        }
        if state == KeyState::Active {
            let standby = keys.iter().find(|key| key.state == KeyState::Standby);
            let next = match standby {
                Some(next) => next.clone(),
                None => self.add(self.config.token_key_algorithm, now_ms).await?,
            };
            if !self.activate(&next.id, now_ms).await? {
                return Ok(false);
            }
            state = KeyState::Retiring;
        }
        let is_revoked = self.revoke(id, state, now_ms).await?;
        if is_revoked {
            tracing::warn!(token_key.id = %id, "A key for access tokens was revoked");
        }
        Ok(is_revoked)
    }

    /// False if the key is in another state, and then it stays so.
    pub(super) async fn revoke(
        &self,
        id: &str,
        from: KeyState,
        now_ms: i64,
    ) -> Result<bool, Error> {
        let mut transaction = self.store.begin().await?;
        let to = KeyState::Revoked;
        if !store::set_state(&mut transaction, id, from, to, now_ms).await? {
            return Ok(false);
        }
        store::tidy(&mut transaction, now_ms - LISTED_MS).await?;
        let event = Event::new("token_key.revoked", id).changed(from.as_str(), to.as_str());
        self.commit(transaction, event).await?;
        Ok(true)
    }

    async fn commit(&self, mut transaction: Transaction, event: Event) -> Result<(), Error> {
        self.store.db.record(&mut transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    /// Does what is due: a new key before the old one is too old, the change to it when it was shown, the end of the old one
    /// when nothing that it has signed is good.
    async fn tend(&self) -> Result<(), Error> {
        self.refresh().await?;
        let now_ms = self.clock.now_ms();
        let keys = self.list();
        let of = |state| keys.iter().filter(move |key| key.state == state);
        for key in of(KeyState::Retiring) {
            if key.since_ms + self.accepted_ms <= now_ms
                && self.revoke(&key.id, KeyState::Retiring, now_ms).await?
            {
                tracing::info!(token_key.id = %key.id, "A key for access tokens has retired");
            }
        }
        let life_ms = i64::from(self.config.token_key_days) * DAY_MS;
        let (standby, active) = (of(KeyState::Standby).next(), of(KeyState::Active).next());
        if let Some(next) = standby {
            if next.since_ms + SHOWN_MS <= now_ms {
                self.activate(&next.id, now_ms).await?;
            }
        } else if let Some(active) = active
            && life_ms > 0
            && active.since_ms + life_ms - SHOWN_MS <= now_ms
        {
            self.add(self.config.token_key_algorithm, now_ms).await?;
        }
        self.refresh().await
    }
}

impl Auth {
    /// The keys that sign access tokens, the oldest first, and those revoked lately.
    pub fn list_token_keys(&self) -> Vec<TokenKey> {
        self.inner.access_tokens.keys.list()
    }

    /// Makes a new key, which signs when others had time to see it, or at once. `TooMany`.
    pub async fn add_token_key(
        &self,
        algorithm: Option<TokenAlgorithm>,
        begin: Begin,
    ) -> Result<TokenKey, Error> {
        let auth = self.clone();
        self.change(async move {
            let keys = &auth.inner.access_tokens.keys;
            let now_ms = keys.clock.now_ms();
            let algorithm = algorithm.unwrap_or(keys.config.token_key_algorithm);
            let key = keys.add(algorithm, now_ms).await?;
            keys.refresh().await?;
            if begin == Begin::AtOnce {
                keys.activate(&key.id, now_ms).await?;
                keys.refresh().await?;
            }
            let found = keys.list().into_iter().find(|found| found.id == key.id);
            Ok(found.unwrap_or(key))
        })
        .await
    }

    /// Revokes a key: nothing that it has signed is good from now on. If it was the active one, another takes its place at
    /// once. Sessions stay, and give new access tokens. `TokenKeyNotFound`, `Busy`.
    pub async fn revoke_token_key(&self, id: String) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move {
            let keys = &auth.inner.access_tokens.keys;
            for _ in 0..TRIES {
                keys.refresh().await?;
                if keys.try_revoke(&id).await? {
                    auth.inner.untold.add([Revocation::Key(id)]);
                    return keys.refresh().await;
                }
                // Another host has changed keys at the same moment.
            }
            Err(Error::Busy { retry_after_s: 1 })
        })
        .await
    }

    /// Does what is due with the keys that sign access tokens. To be called every minute.
    pub async fn tend_token_keys(&self) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move { auth.inner.access_tokens.keys.tend().await })
            .await
    }
}

fn row_of(pair: &KeyPair, state: KeyState, seal: &Seal, now_ms: i64) -> Row {
    Row {
        key: TokenKey {
            id: pair.id.clone(),
            algorithm: pair.algorithm,
            state,
            since_ms: now_ms,
            created_at_ms: now_ms,
        },
        public_jwk: pair.jwk.to_string(),
        sealed: seal.close(&place_of(&pair.id), &pair.pkcs8),
    }
}

/// For what a private part is sealed.
fn place_of(id: &str) -> String {
    format!("token key {id}")
}
