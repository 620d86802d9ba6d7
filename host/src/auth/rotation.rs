//! The change of an API key's secret: for a while the old one and the new one count, so that no request fails on the way.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::api_keys::{CreatedApiKey, token_of};
use crate::auth::directory::KeyState;
use crate::auth::{ApiKey, ApiKeyId, Auth, Error, Rejection};
use crate::clock::rfc3339;
use crate::ledger::Event;

const DAY_MS: i64 = 24 * 3_600_000;
/// For how long the secret before counts, if nothing else is said.
const OVERLAP_S: u32 = 24 * 3600;
/// Longest that both secrets count.
const OVERLAP_S_MAX: u32 = 90 * 24 * 3600;
/// Longest between two changes of a secret.
const ROTATE_DAYS_MAX: u32 = 3650;

/// When the secret of a key has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// Days after which a secret is due to be changed. Zero: never.
    pub every_days: u32,
    /// How long the one before counts afterwards; also how long a secret that is due counts still. In seconds.
    pub overlap_s: Option<u32>,
}

impl Rotation {
    pub(super) fn check(self) -> Result<(), Error> {
        let overlap_s = self.overlap_s.unwrap_or(OVERLAP_S);
        if self.every_days <= ROTATE_DAYS_MAX && overlap_s <= OVERLAP_S_MAX {
            return Ok(());
        }
        Err(Error::ApiKeyRotation)
    }

    fn overlap_ms(self) -> i64 {
        i64::from(self.overlap_s.unwrap_or(OVERLAP_S)) * 1000
    }
}

impl ApiKey {
    /// When the secret is due to be changed, if it is at all.
    pub fn rotation_due_ms(&self) -> Option<i64> {
        let days = self.rotation.every_days;
        (days > 0).then(|| self.secret_since_ms + i64::from(days) * DAY_MS)
    }

    /// When the secret ends that was not changed although it was due.
    pub fn secret_ends_ms(&self) -> Option<i64> {
        let due_ms = self.rotation_due_ms()?;
        Some(due_ms + self.rotation.overlap_ms())
    }
}

/// Which of the two secrets of a key somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    Current,
    Previous,
}

impl KeyState {
    /// Which of the secrets this is the digest of. Takes as long for none of them.
    pub(super) fn secret_of(&self, digest: &[u8; 32], now_ms: i64) -> Result<Secret, Rejection> {
        let is_current = bool::from(digest.ct_eq(&self.token_sha256));
        let previous = self.previous_sha256.as_ref();
        let is_previous = previous.is_some_and(|previous| bool::from(digest.ct_eq(previous)));
        let is_over = |end_ms: Option<i64>| end_ms.is_some_and(|end_ms| end_ms <= now_ms);
        match (is_current, is_previous) {
            (true, _) if is_over(self.key.secret_ends_ms()) => Err(Rejection::KeyExpired),
            (true, _) => Ok(Secret::Current),
            (_, true)
                if self
                    .key
                    .previous_until_ms
                    .is_none_or(|end_ms| end_ms <= now_ms) =>
            {
                Err(Rejection::KeyExpired)
            }
            (_, true) => Ok(Secret::Previous),
            (false, false) => Err(Rejection::KeyUnknown),
        }
    }
}

impl Auth {
    /// Gives a key another secret; the one before counts for `overlap_s` more, or as long as the key says. A secret before that
    /// one counts no more. `ApiKeyNotFound`, `ApiKeyRotation`.
    pub async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        overlap_s: Option<u32>,
    ) -> Result<CreatedApiKey, Error> {
        let overlap = Rotation {
            every_days: 0,
            overlap_s,
        };
        overlap.check()?;
        let auth = self.clone();
        self.change(async move {
            let now_ms = auth.inner.clock.now_ms();
            let live = auth.inner.directory.key(id).ok_or(Error::ApiKeyNotFound)?;
            let state: Arc<KeyState> = live.state.load_full();
            if !state.key.is_alive(now_ms) {
                return Err(Error::ApiKeyNotFound);
            }
            let overlap_ms = match overlap_s {
                Some(_) => overlap.overlap_ms(),
                None => state.key.rotation.overlap_ms(),
            };
            let token = token_of(id, &rand::random());
            let digest: [u8; 32] = Sha256::digest(&token).into();
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            let previous_until_ms = now_ms + overlap_ms;
            let stored = store
                .rotate_key(&mut transaction, id, &digest, previous_until_ms, now_ms)
                .await?;
            let event = Event::new("api_key.rotated", id);
            let event = event.with("previous_until", rfc3339(previous_until_ms));
            auth.commit(transaction, event).await?;
            let key = stored.key.clone();
            auth.inner.directory.put_key(stored);
            tracing::info!(api_key.id = %id, "An API key has another secret");
            Ok(CreatedApiKey { key, token })
        })
        .await
    }

    /// The same by whoever holds the key and its newest secret. `ApiKeyNotCurrent` with the one before, so that whoever has found
    /// an old one cannot keep the key.
    pub async fn rotate_own_key(&self, token: &str) -> Result<CreatedApiKey, Error> {
        let (id, secret) = self.own_key(token).ok_or(Error::ApiKeyNotFound)?;
        if secret != Secret::Current {
            return Err(Error::ApiKeyNotCurrent);
        }
        self.rotate_api_key(id, None).await
    }

    /// What is known about the key that this is the secret of.
    pub fn find_own_key(&self, token: &str) -> Option<ApiKey> {
        let (id, _) = self.own_key(token)?;
        Some(self.inner.directory.key(id)?.view())
    }

    /// Whether this is the newest secret of its key.
    pub fn is_newest_secret(&self, token: &str) -> bool {
        matches!(self.own_key(token), Some((_, Secret::Current)))
    }

    fn own_key(&self, token: &str) -> Option<(ApiKeyId, Secret)> {
        let id = super::api_keys::id_in(token)?;
        let live = self.inner.directory.key(id)?;
        let digest = Sha256::digest(token).into();
        let now_ms = self.inner.clock.now_ms();
        let secret = live.state.load().secret_of(&digest, now_ms);
        Some((id, secret.ok()?))
    }

    /// Says of each key once a day that its secret is due to be changed. To be called every minute.
    pub fn tend_api_keys(&self) {
        let now_ms = self.inner.clock.now_ms();
        for live in self.inner.directory.keys() {
            let state = live.state.load();
            let due_ms = state.key.rotation_due_ms();
            if state.key.is_alive(now_ms)
                && due_ms.is_some_and(|due_ms| due_ms <= now_ms)
                && live.remind(now_ms, DAY_MS)
            {
                let id = state.key.id;
                tracing::warn!(api_key.id = %id, "The secret of an API key is due to be changed");
                let ends = state.key.secret_ends_ms().map(rfc3339);
                self.inner
                    .store
                    .db
                    .note(Event::new("api_key.rotation_due", id).with("ends", ends));
            }
        }
    }
}
