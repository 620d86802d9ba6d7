//! Sessions: what a login begins. A session has one refresh token at a time; it is exchanged for the next one together
//! with an access token, and using an old one again ends the session.

mod exchange;
mod revoked;
mod store;
mod token;

pub(super) use revoked::Revoked;
pub(super) use token::PREFIX;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use subtle::ConstantTimeEq as _;

use crate::auth::shared_revocations::Revocation;
use crate::auth::{Auth, Config, Error, Keys, Principal};
use crate::clock::Clock;
use crate::db::Db;
use crate::ids::{SessionId, UserId};
use crate::ledger::Event;

use exchange::Exchanges;
use store::{Exchange, Exchanged, Row, Store};
use token::{Mint, RefreshToken};

/// Longest text that is kept of what a client says it is, in characters.
const AGENT_CHARS_MAX: usize = 200;
/// Exchanges that are remembered for the grace; of further ones, the rows still know the last.
const RECENT_MAX: u64 = 50_000;
/// The longest grace that can be set.
const RECENT_FOR: Duration = Duration::from_secs(60);
/// Sessions that have ended and are forgotten in one go, so that other writers get their turn.
const SWEEP_MAX: u32 = 1000;

/// A login that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    /// The network where it began. Not for logs.
    pub client: String,
    /// What the client says it is. Not for logs.
    pub agent: String,
    pub created_at_ms: i64,
    /// When its refresh token was last exchanged.
    pub used_at_ms: i64,
    /// When it ends at the latest.
    pub expires_at_ms: i64,
}

/// Where a login comes from.
#[derive(Debug)]
pub struct Client {
    /// Names the client for the counts of failures; usually its network.
    pub network: String,
    /// What it says it is (`User-Agent`).
    pub agent: String,
}

/// What a login and each exchange give.
#[derive(Clone)]
pub struct Tokens {
    /// To be sent as `Authorization: Bearer …`.
    pub access_token: String,
    pub expires_in_s: u64,
    /// To be exchanged once, for the next ones.
    pub refresh_token: String,
    /// How long it can be exchanged, if it is not before.
    pub refresh_expires_in_s: u64,
    pub session: SessionId,
}

pub(super) struct Sessions {
    store: Store,
    mint: Mint,
    exchanges: Exchanges,
    /// By the digest of the refresh token that was exchanged. What is returned again is computed, so nothing secret is
    /// kept.
    recent: Cache<[u8; 32], Recent>,
    clock: Clock,
    life_ms: i64,
    idle_ms: i64,
    grace_ms: i64,
    per_user_max: i64,
    /// How long an access token that is out may still be used.
    access_ms: i64,
    /// When the last of the sessions was revoked that were learned from the rows.
    learned_ms: AtomicI64,
}

#[derive(Clone, Copy)]
struct Recent {
    exchanged: Exchanged,
    at_ms: i64,
}

impl Sessions {
    /// Needs a tokio runtime, on which it writes until it is dropped.
    pub(super) fn new(db: Db, keys: &Keys, clock: Clock, config: &Config, access_ms: i64) -> Self {
        let store = Store { db };
        Self {
            exchanges: Exchanges::new(store.clone(), config.refresh_queue_max),
            mint: Mint::new(keys.derive("refresh-tokens")),
            recent: recent_ones(RECENT_MAX),
            store,
            clock,
            life_ms: i64::from(config.session_days) * 24 * 3_600_000,
            idle_ms: i64::from(config.session_idle_hours) * 3_600_000,
            grace_ms: i64::from(config.refresh_grace_ms),
            per_user_max: i64::from(config.sessions_per_user_max),
            access_ms,
            learned_ms: AtomicI64::new(0),
        }
    }

    /// The sessions of which access tokens may be out although they were revoked.
    pub(super) async fn revoked(&self) -> Result<Revoked, Error> {
        let revoked = Revoked::default();
        let since_ms = self.clock.now_ms() - self.access_ms;
        for (id, at_ms) in self.store.revoked_since(since_ms).await? {
            revoked.add([id], at_ms + self.access_ms, at_ms);
        }
        Ok(revoked)
    }

    /// How long an access token that is out may still be used.
    pub(super) fn access_ms(&self) -> i64 {
        self.access_ms
    }

    fn idle_since_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.idle_ms
    }

    /// How long a session can still be used, in seconds, if nobody uses it.
    fn rest_s(&self, expires_at_ms: i64, now_ms: i64) -> u64 {
        let end_ms = expires_at_ms.min(now_ms + self.idle_ms);
        (end_ms - now_ms).max(0).unsigned_abs() / 1000
    }

    fn recent(&self, token: &RefreshToken, now_ms: i64) -> Option<Exchanged> {
        let recent = self.recent.get(&token.sha256())?;
        (now_ms - recent.at_ms <= self.grace_ms).then_some(recent.exchanged)
    }
}

impl Auth {
    /// Begins a session for a user who has proved who they are. `CredentialsWrong` if the account was changed since.
    pub(super) async fn begin_session(
        &self,
        user: UserId,
        generation: i64,
        client: &Client,
    ) -> Result<Tokens, Error> {
        let sessions = &self.inner.sessions;
        let now_ms = sessions.clock.now_ms();
        let id = SessionId::new();
        let token = sessions.mint.first(id);
        let row = Row {
            session: Session {
                id,
                user,
                client: shown(&client.network),
                agent: shown(&client.agent),
                created_at_ms: now_ms,
                used_at_ms: now_ms,
                expires_at_ms: now_ms + sessions.life_ms,
            },
            generation,
            token_sha256: hex::encode(token.sha256()),
            previous_sha256: None,
        };
        let expires_at_ms = row.session.expires_at_ms;
        let auth = self.clone();
        self.change(async move {
            let sessions = &auth.inner.sessions;
            let mut transaction = sessions.store.begin().await?;
            if !sessions.store.insert(&mut transaction, &row).await? {
                return Err(Error::CredentialsWrong);
            }
            let keep = sessions.per_user_max;
            let ended = sessions
                .store
                .revoke_oldest(&mut transaction, user, keep, now_ms)
                .await?;
            let event = Event::new("session.begun", user).by("user", user);
            let event = event.with("session", id.to_string());
            auth.commit(transaction, event).await?;
            auth.deny(ended, now_ms);
            Ok(())
        })
        .await?;
        let exchanged = Exchanged {
            user,
            generation,
            expires_at_ms,
        };
        self.know(user, generation).await?;
        self.tokens(&token, exchanged, now_ms)
    }

    /// Exchanges a refresh token for the next one and an access token. Whoever sends the same token again within the
    /// grace is given the same next one. `RefreshInvalid`, `SessionEnded`, `Busy`; `RefreshReused` ends the session.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, Error> {
        let sessions = &self.inner.sessions;
        let token = sessions.mint.read(refresh_token);
        let token = token.ok_or(Error::RefreshInvalid)?;
        let now_ms = sessions.clock.now_ms();
        let exchanged = match sessions.recent(&token, now_ms) {
            Some(exchanged) if !self.inner.revoked.contains(token.session) => exchanged,
            Some(_) => return Err(Error::RefreshInvalid),
            None => self.exchange(&token, now_ms).await?,
        };
        let successor = sessions.mint.successor_of(&token);
        self.know(exchanged.user, exchanged.generation).await?;
        self.tokens(&successor, exchanged, now_ms)
    }

    async fn exchange(&self, token: &RefreshToken, now_ms: i64) -> Result<Exchanged, Error> {
        let sessions = &self.inner.sessions;
        let digest = token.sha256();
        let exchange = Exchange {
            session: token.session,
            presented_sha256: hex::encode(digest),
            successor_sha256: hex::encode(sessions.mint.successor_of(token).sha256()),
            now_ms,
            idle_since_ms: sessions.idle_since_ms(now_ms),
        };
        if let Some(exchanged) = sessions.exchanges.exchange(exchange).await? {
            let at_ms = now_ms;
            sessions.recent.insert(digest, Recent { exchanged, at_ms });
            return Ok(exchanged);
        }
        // Somebody else may have exchanged it while this one waited.
        match sessions.recent(token, now_ms) {
            Some(exchanged) => Ok(exchanged),
            None => self.explain(token, now_ms).await,
        }
    }

    /// Why a token could not be exchanged.
    async fn explain(&self, token: &RefreshToken, now_ms: i64) -> Result<Exchanged, Error> {
        let sessions = &self.inner.sessions;
        let row = sessions.store.find(token.session).await?;
        let row = row.ok_or(Error::RefreshInvalid)?;
        let session = &row.session;
        let is_over =
            session.expires_at_ms <= now_ms || session.used_at_ms <= sessions.idle_since_ms(now_ms);
        let is = |sha256: &str| {
            let digest = hex::encode(token.sha256());
            bool::from(sha256.as_bytes().ct_eq(digest.as_bytes()))
        };
        if is_over || is(&row.token_sha256) {
            return Err(Error::SessionEnded);
        }
        let is_in_grace = now_ms - session.used_at_ms <= sessions.grace_ms;
        if is_in_grace && row.previous_sha256.as_deref().is_some_and(is) {
            return Ok(Exchanged {
                user: session.user,
                generation: row.generation,
                expires_at_ms: session.expires_at_ms,
            });
        }
        // The tag says that it was once the right one: it was copied, or its owner lost the next one.
        tracing::warn!(
            user.id = %session.user, session.id = %session.id,
            "A refresh token was used again; its session was ended"
        );
        self.end_copied(session.user, session.id).await?;
        Err(Error::RefreshReused)
    }

    /// Ends a session that was used twice, notes why, and writes to its owner: all of it or nothing.
    async fn end_copied(&self, user: UserId, id: SessionId) -> Result<(), Error> {
        let letter = match self.inner.store.user_by_id(user).await? {
            Some(account) => Some(self.inner.letters.session_copied(&account.user.email)),
            None => None,
        };
        let auth = self.clone();
        self.change(async move {
            let sessions = &auth.inner.sessions;
            let now_ms = sessions.clock.now_ms();
            let mut transaction = sessions.store.begin().await?;
            let store = &sessions.store;
            let reused = Event::refused("refresh_token.reused", user, "auth.refresh_reused");
            let reused = reused.with("session", id.to_string());
            if !store.revoke(&mut transaction, user, id, now_ms).await? {
                // Somebody else was faster.
                store.db.note(reused);
                return Ok(());
            }
            store.db.record(&mut transaction, reused.clone()).await?;
            if let Some(letter) = letter {
                auth.post(&mut transaction, &letter, None).await?;
            }
            let event = Event::new("session.ended", user).with("session", id.to_string());
            auth.commit(transaction, event).await?;
            auth.deny([id], now_ms);
            store.db.note_recorded(reused);
            auth.inner.mail.wake();
            Ok(())
        })
        .await
    }

    fn tokens(
        &self,
        token: &RefreshToken,
        exchanged: Exchanged,
        now_ms: i64,
    ) -> Result<Tokens, Error> {
        let inner = &self.inner;
        let user = inner.directory.user(exchanged.user);
        let principal = user.and_then(|user| user.principal_of(exchanged.generation));
        let principal: Arc<Principal> = principal.ok_or(Error::RefreshInvalid)?;
        let bearer = super::tokens::Bearer {
            user: exchanged.user,
            roles: &principal.roles,
            generation: exchanged.generation,
            session: Some(token.session),
            ends_ms: exchanged.expires_at_ms,
        };
        let (access_token, expires_in_s) = inner.access_tokens.sign(&bearer, now_ms)?;
        Ok(Tokens {
            access_token,
            expires_in_s,
            refresh_token: token.as_str().to_owned(),
            refresh_expires_in_s: inner.sessions.rest_s(exchanged.expires_at_ms, now_ms),
            session: token.session,
        })
    }

    /// The session of a refresh token that this host has made, whether or not it counts.
    pub fn session_of_refresh_token(&self, refresh_token: &str) -> Option<SessionId> {
        let token = self.inner.sessions.mint.read(refresh_token)?;
        Some(token.session)
    }

    /// What pages of a session send with requests that change something, to show that they are theirs. The same for the
    /// whole session.
    pub fn csrf_token(&self, session: SessionId) -> String {
        self.inner.sessions.mint.csrf_token(session)
    }

    /// Whether it is that of this session. Takes as long for a wrong one.
    pub fn is_csrf_token(&self, session: SessionId, token: &str) -> bool {
        let right = self.csrf_token(session);
        right.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// When a session of this user began, if it has not ended.
    pub(super) async fn session_began_ms(
        &self,
        user: UserId,
        id: SessionId,
    ) -> Result<Option<i64>, Error> {
        let row = self.inner.sessions.store.find(id).await?;
        let row = row.filter(|row| row.session.user == user);
        Ok(row.map(|row| row.session.created_at_ms))
    }

    /// The sessions of a user that have not ended, the one used last first.
    pub async fn list_sessions(&self, user: UserId) -> Result<Vec<Session>, Error> {
        let sessions = &self.inner.sessions;
        let now_ms = sessions.clock.now_ms();
        let idle_since_ms = sessions.idle_since_ms(now_ms);
        sessions.store.of_user(user, now_ms, idle_since_ms).await
    }

    /// Ends a session of a user, and with it at once the access tokens that came of it. `SessionNotFound`.
    pub async fn end_session(&self, user: UserId, id: SessionId) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move {
            let sessions = &auth.inner.sessions;
            let now_ms = sessions.clock.now_ms();
            let mut transaction = sessions.store.begin().await?;
            let store = &sessions.store;
            if !store.revoke(&mut transaction, user, id, now_ms).await? {
                return Err(Error::SessionNotFound);
            }
            let event = Event::new("session.ended", user).with("session", id.to_string());
            auth.commit(transaction, event).await?;
            auth.deny([id], now_ms);
            Ok(())
        })
        .await
    }

    /// Ends all sessions of a user, but for one if so wanted. How many there were.
    pub async fn end_sessions(&self, user: UserId, but: Option<SessionId>) -> Result<usize, Error> {
        let auth = self.clone();
        self.change(async move {
            let sessions = &auth.inner.sessions;
            let now_ms = sessions.clock.now_ms();
            let mut transaction = sessions.store.begin().await?;
            let store = &sessions.store;
            let ended = store
                .revoke_all(&mut transaction, user, but, now_ms)
                .await?;
            let count = ended.len();
            let event = Event::new("session.all_ended", user).with("count", count);
            auth.commit(transaction, event).await?;
            auth.deny(ended, now_ms);
            tracing::info!(user.id = %user, count, "Sessions of a user were ended");
            Ok(count)
        })
        .await
    }

    /// Ends the session of this refresh token, whether or not it is the one that counts: who has it has had the session.
    /// A text that is no such token, or a session that has ended, is not an error.
    pub async fn log_out(&self, refresh_token: &str) -> Result<(), Error> {
        let sessions = &self.inner.sessions;
        let Some(token) = sessions.mint.read(refresh_token) else {
            return Ok(());
        };
        let Some(row) = sessions.store.find(token.session).await? else {
            return Ok(());
        };
        match self.end_session(row.session.user, token.session).await {
            Err(Error::SessionNotFound) => Ok(()),
            ended => ended,
        }
    }

    pub(super) async fn sweep_sessions(&self) -> Result<(), Error> {
        let sessions = &self.inner.sessions;
        loop {
            let now_ms = sessions.clock.now_ms();
            let idle_since_ms = sessions.idle_since_ms(now_ms);
            let revoked_before_ms = now_ms - sessions.access_ms;
            let swept = sessions
                .store
                .sweep(now_ms, idle_since_ms, revoked_before_ms, SWEEP_MAX)
                .await?;
            if swept < SWEEP_MAX as usize {
                return Ok(());
            }
        }
    }

    /// Refuses the access tokens of sessions that other hosts have ended since this host last looked, and somewhat before.
    pub(super) async fn learn_revoked(&self, before_ms: i64) -> Result<(), Error> {
        let sessions = &self.inner.sessions;
        let (now_ms, access_ms) = (sessions.clock.now_ms(), sessions.access_ms);
        let learned_ms = sessions.learned_ms.load(Relaxed);
        let since_ms = learned_ms.max(now_ms - access_ms) - before_ms;
        let mut last_ms = learned_ms;
        for (id, at_ms) in sessions.store.revoked_since(since_ms).await? {
            // As long as if it were now: clocks differ.
            self.inner
                .revoked
                .add([id], now_ms.max(at_ms) + access_ms, now_ms);
            last_ms = last_ms.max(at_ms);
        }
        sessions.learned_ms.fetch_max(last_ms, Relaxed);
        Ok(())
    }

    fn deny(&self, ended: impl IntoIterator<Item = SessionId>, now_ms: i64) {
        let until_ms = now_ms + self.inner.sessions.access_ms;
        let ended: Vec<SessionId> = ended.into_iter().collect();
        self.inner
            .untold
            .add(ended.iter().copied().map(Revocation::Session));
        self.inner.revoked.add(ended, until_ms, now_ms);
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Exchanges of just now. The oldest goes first: each is asked for once at most, so how often one was says nothing.
fn recent_ones(max: u64) -> Cache<[u8; 32], Recent> {
    Cache::builder()
        .max_capacity(max)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(RECENT_FOR)
        .build()
}

/// What a client says, as it may be kept and shown.
fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(AGENT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_exchange_is_remembered_however_many_there_were_before() {
        let recent = recent_ones(10);
        let exchange = |at: u8| {
            let exchanged = Exchanged {
                user: UserId::new(),
                generation: 1,
                expires_at_ms: 0,
            };
            recent.insert(
                [at; 32],
                Recent {
                    exchanged,
                    at_ms: 0,
                },
            );
            recent.run_pending_tasks();
        };
        let is_known = |at: u8| recent.get(&[at; 32]).is_some();
        for at in 0..10 {
            exchange(at);
            // Clients that ask again and again keep no room from others.
            assert!((0..5).all(|_| is_known(at)), "{at}");
        }
        for at in 10..50 {
            exchange(at);
            assert!(is_known(at) && is_known(at - 1), "{at}");
        }
        assert!(!is_known(0));
    }
}
