//! API keys: long random secrets for programs, recognised by their digest. The secret is shown once, when it is made.

use std::{fmt, io, net::IpAddr, str::FromStr, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::auth::permissions::PermissionSet;
use crate::auth::store::StoredKey;
use crate::auth::{ADMIN, Auth, Error, Principal, Rejection, Rotation, Scope};
use crate::clock::rfc3339;
use crate::ids::{Network, RoleName, ServiceAccountId};
use crate::ledger::Event;

/// How every API key begins, so that people and secret scanners know one when they see it.
pub(super) const PREFIX: &str = "gk_";
const SECRET_BYTES: usize = 32;
const NAME_CHARS_MAX: usize = 100;
/// Most scopes of one key.
const SCOPES_MAX: usize = 100;
/// Most networks of one key.
const NETWORKS_MAX: usize = 100;

/// Names an API key without its secret: `gk_` and 16 hexadecimal digits. May be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKeyId([u8; 8]);

/// What is known about an API key. The secret is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    /// For people: who uses it and what for.
    pub name: String,
    /// Sorted, each once. Empty if an account owns the key: then that one's count.
    pub roles: Vec<RoleName>,
    /// What of the roles' permissions the key carries, and words that routes ask for. Empty: not narrowed.
    pub scopes: Vec<Scope>,
    /// From where it may be used. Empty: from everywhere.
    pub networks: Vec<Network>,
    /// How often it may be used: so many requests in so many seconds.
    pub rate: Option<(u32, u32)>,
    /// The account of a program that it belongs to.
    pub service_account: Option<ServiceAccountId>,
    pub created_at_ms: i64,
    /// Refused from this moment on. None means never.
    pub expires_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    /// To the minute after a restart.
    pub last_used_at_ms: Option<i64>,
    /// Since when the secret is the one that it is.
    pub secret_since_ms: i64,
    /// How long the secret before counts, if there was one.
    pub previous_until_ms: Option<i64>,
    pub rotation: Rotation,
}

/// What an API key is made of.
#[derive(Debug, Clone, Default)]
pub struct NewApiKey {
    pub name: String,
    /// Empty if it is to belong to an account.
    pub roles: Vec<RoleName>,
    pub scopes: Vec<Scope>,
    pub networks: Vec<Network>,
    pub rate: Option<(u32, u32)>,
    pub service_account: Option<ServiceAccountId>,
    pub expires_at_ms: Option<i64>,
    pub rotation: Rotation,
}

/// An API key just made, with the only copy of its secret.
#[derive(Clone)]
pub struct CreatedApiKey {
    pub key: ApiKey,
    /// The whole key: `gk_<id>_<secret>`. Show it to its owner and forget it.
    pub token: String,
}

impl ApiKey {
    /// Whether the key is neither revoked nor past its end.
    pub fn is_alive(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end_ms| now_ms < end_ms)
    }
}

impl Auth {
    /// Makes an API key. `ApiKeyName`, `ApiKeyExpiry`, `RoleNotFound`, `TooMany`.
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<CreatedApiKey, Error> {
        let is_length = (1..=NAME_CHARS_MAX).contains(&new.name.chars().count());
        if !is_length || new.name.chars().any(char::is_control) {
            return Err(Error::ApiKeyName);
        }
        let auth = self.clone();
        self.change(async move { auth.make_key(new, |_| Ok(())).await })
            .await
    }

    /// What a key may do. `ApiKeyNotFound`.
    pub fn permissions_of_key(&self, id: ApiKeyId) -> Result<Arc<PermissionSet>, Error> {
        let live = self.inner.directory.key(id).ok_or(Error::ApiKeyNotFound)?;
        let state = live.state.load();
        let principal = state.principal.as_ref();
        Ok(principal
            .map(|principal| Arc::clone(&principal.permissions))
            .unwrap_or_default())
    }

    /// All API keys, also those revoked or expired, oldest first. When other hosts saw them last is read from the rows.
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        if self.inner.store.db.is_shared() {
            for stored in self.inner.store.all_keys().await? {
                self.inner.directory.note_use(&stored.key);
            }
        }
        let mut keys: Vec<_> = self
            .inner
            .directory
            .keys()
            .iter()
            .map(|key| key.view())
            .collect();
        keys.sort_by_key(|key| (key.created_at_ms, key.id));
        Ok(keys)
    }

    /// Revokes an API key at once and for good. `ApiKeyNotFound`.
    pub async fn revoke_api_key(&self, id: ApiKeyId) -> Result<ApiKey, Error> {
        let auth = self.clone();
        self.change(async move {
            let now_ms = auth.inner.clock.now_ms();
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            let stored = store.revoke_key(&mut transaction, id, now_ms).await?;
            let event = Event::new("api_key.revoked", id);
            auth.commit(transaction, event).await?;
            let key = stored.key.clone();
            auth.inner.directory.put_key(stored);
            tracing::info!(api_key.id = %id, "An API key was revoked");
            Ok(key)
        })
        .await
    }

    /// Makes an API key for the administrator if nobody, user or key, holds the role `admin`; otherwise None. Made to
    /// be called at the start. `keep` is given the token before the key counts: if the host dies in between, the next
    /// start makes another one, and no key is lost that nobody has seen.
    pub async fn ensure_admin(
        &self,
        keep: impl FnOnce(&str) -> io::Result<()> + Send + 'static,
    ) -> Result<Option<CreatedApiKey>, Error> {
        let auth = self.clone();
        self.change(async move {
            let admin: RoleName = ADMIN.parse().expect("the built-in name is a role name");
            let directory = &auth.inner.directory;
            let now_ms = auth.inner.clock.now_ms();
            if directory.has_active_user_with(&admin)
                || directory.has_active_key_with(&admin, now_ms)
            {
                return Ok(None);
            }
            let name = "first administrator".to_owned();
            let new = NewApiKey {
                name,
                roles: vec![admin],
                ..NewApiKey::default()
            };
            auth.make_key(new, keep).await.map(Some)
        })
        .await
    }

    async fn make_key(
        &self,
        new: NewApiKey,
        keep: impl FnOnce(&str) -> io::Result<()>,
    ) -> Result<CreatedApiKey, Error> {
        let roles = self.check_roles(new.roles)?;
        new.rotation.check()?;
        if new.scopes.len() > SCOPES_MAX || new.networks.len() > NETWORKS_MAX {
            let (what, max) = ("scopes or networks of one API key", SCOPES_MAX);
            return Err(Error::TooMany { what, max });
        }
        let is_rate = |(limit, window_s): (u32, u32)| limit > 0 && (1..=86_400).contains(&window_s);
        if !new.rate.is_none_or(is_rate) {
            return Err(Error::ApiKeyRate);
        }
        if let Some(account) = new.service_account {
            self.service_account(account)?;
            if !roles.is_empty() {
                return Err(Error::ApiKeyRoles);
            }
        }
        let now_ms = self.inner.clock.now_ms();
        if new.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            return Err(Error::ApiKeyExpiry);
        }
        let max = self.inner.config.api_keys_max;
        if self.inner.directory.keys().len() >= max {
            self.inner.store.delete_dead_keys(now_ms).await?;
            self.inner.directory.remove_dead_keys(now_ms);
        }
        if self.inner.directory.keys().len() >= max {
            return Err(Error::TooMany {
                what: "API keys",
                max,
            });
        }
        let id = ApiKeyId(rand::random());
        let token = token_of(id, &rand::random());
        let key = ApiKey {
            id,
            name: new.name,
            roles,
            scopes: new.scopes,
            networks: new.networks,
            rate: new.rate,
            service_account: new.service_account,
            created_at_ms: now_ms,
            expires_at_ms: new.expires_at_ms,
            revoked_at_ms: None,
            last_used_at_ms: None,
            secret_since_ms: now_ms,
            previous_until_ms: None,
            rotation: new.rotation,
        };
        let stored = StoredKey {
            key: key.clone(),
            token_sha256: Sha256::digest(&token).into(),
            previous_sha256: None,
        };
        keep(&token).map_err(Error::AdminKey)?;
        let store = &self.inner.store;
        let mut transaction = store.db.begin().await?;
        store.insert_key(&mut transaction, &stored).await?;
        let roles: Vec<_> = key.roles.iter().map(ToString::to_string).collect();
        let event = Event::new("api_key.created", id)
            .with("name", key.name.as_str())
            .with("roles", roles)
            .with("scopes", texts(&key.scopes))
            .with("networks", texts(&key.networks))
            .with(
                "service_account",
                key.service_account.map(|id| id.to_string()),
            )
            .with(
                "rate",
                key.rate
                    .map(|(limit, window_s)| format!("{limit}/{window_s}")),
            )
            .with("rotate_days", key.rotation.every_days)
            .with("expires_at", key.expires_at_ms.map(rfc3339));
        self.commit(transaction, event).await?;
        self.inner.directory.put_key(stored);
        tracing::info!(api_key.id = %id, "An API key was made");
        Ok(CreatedApiKey { key, token })
    }

    /// Who has this key, if it counts where it comes from. Without an address, that is not asked.
    pub(super) fn check_api_key(
        &self,
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Rejection> {
        let id = id_in(token).ok_or(Rejection::Malformed)?;
        // A slip or a guess costs nothing more.
        if !is_whole(token) {
            return Err(Rejection::KeyUnknown);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let live = self.inner.directory.key(id).ok_or(Rejection::KeyUnknown)?;
        let state = live.state.load();
        // First of all: whoever does not have the secret learns nothing about the key.
        let now_ms = self.inner.clock.now_ms();
        let secret = state.secret_of(&digest, now_ms);
        if secret == Err(Rejection::KeyUnknown) {
            return Err(Rejection::KeyUnknown);
        }
        if state.key.revoked_at_ms.is_some() {
            return Err(Rejection::KeyRevoked);
        }
        if !state.key.is_alive(now_ms) {
            return Err(Rejection::KeyExpired);
        }
        secret?;
        let networks = &state.key.networks;
        let is_from = |from: IpAddr| networks.iter().any(|network| network.contains(from));
        if !networks.is_empty() && !from.is_none_or(is_from) {
            return Err(Rejection::KeyElsewhere);
        }
        let principal = state.principal.clone().ok_or(Rejection::KeyRevoked)?;
        if live.touch(now_ms) {
            // If the queue is full, the next use after a minute is noted instead.
            let _ = self.inner.used_keys.try_send((id, now_ms));
        }
        Ok(principal)
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

/// Not the id of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of an API key is `{PREFIX}` and 16 hexadecimal digits")]
pub struct InvalidApiKeyId;

impl FromStr for ApiKeyId {
    type Err = InvalidApiKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidApiKeyId> {
        let mut id = [0; 8];
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidApiKeyId)?;
        hex::decode_to_slice(digits, &mut id).map_err(|_| InvalidApiKeyId)?;
        Ok(Self(id))
    }
}

impl fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedApiKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// `gk_<id>_<secret><checksum>`: the checksum lets a scanner or a form tell a key from a slip without asking us.
pub(super) fn token_of(id: ApiKeyId, secret: &[u8; SECRET_BYTES]) -> String {
    let plain = format!("{id}_{}", hex::encode(secret));
    let checksum = checksum_of(&plain);
    plain + &checksum
}

/// The id in a token of the right form. Whether the secret is right is another question.
pub(super) fn id_in(token: &str) -> Option<ApiKeyId> {
    let (id, rest) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let is_form = rest.len() == SECRET_BYTES * 2 + CHECKSUM_DIGITS
        && rest.bytes().all(|digit| digit.is_ascii_hexdigit());
    let mut bytes = [0; 8];
    hex::decode_to_slice(id, &mut bytes).ok()?;
    is_form.then_some(ApiKeyId(bytes))
}

const CHECKSUM_DIGITS: usize = 8;

/// Whether the checksum is that of the rest, so that it is no slip.
fn is_whole(token: &str) -> bool {
    let at = token.len().saturating_sub(CHECKSUM_DIGITS);
    let parts = token.split_at_checked(at);
    parts.is_some_and(|(plain, checksum)| checksum_of(plain) == checksum)
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn checksum_of(plain: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(plain).into();
    hex::encode(&digest[..CHECKSUM_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_carries_its_id_and_a_checksum() {
        let id = ApiKeyId(*b"\x01\x23\x45\x67\x89\xab\xcd\xef");
        let token = token_of(id, &[7; 32]);
        assert_eq!(token.len(), 3 + 16 + 1 + 64 + 8);
        assert!(token.starts_with("gk_0123456789abcdef_0707"));
        assert_eq!(
            checksum_of(&token[..token.len() - 8]),
            token[token.len() - 8..]
        );
        assert_eq!(id_in(&token), Some(id));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_does_not_look_like_a_key_is_none() {
        let token = token_of(ApiKeyId([1; 8]), &[7; 32]);
        let cases = [
            "",
            "gk_",
            "gk__",
            "gk_01_02",
            "gk_0101010101010101",
            &token[1..],
        ];
        for case in cases
            .into_iter()
            .chain([&token[..token.len() - 1], &format!("{token}0")])
        {
            assert_eq!(id_in(case), None, "{case}");
        }
    }
}
