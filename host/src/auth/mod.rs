//! Who is calling and what they may do: accounts, logins elsewhere, sessions, roles, API keys, access tokens, guest tokens. What a refusal looks
//! like on the wire is for the front doors to know.

mod api_keys;
mod codes;
mod config;
mod directory;
mod error;
mod even;
mod external;
pub mod guest;
mod identities;
mod introspection;
pub mod keys;
mod letters;
mod login;
mod password;
pub mod permissions;
mod principal;
mod providers;
mod recovery;
mod registration;
mod roles;
mod rotation;
mod scopes;
mod service_accounts;
mod sessions;
mod shared_revocations;
mod shared_rows;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
mod token_keys;
mod tokens;
mod totp;
mod users;

pub use api_keys::{ApiKey, ApiKeyId, CreatedApiKey, InvalidApiKeyId, NewApiKey};
pub use config::Config;
pub use error::{Error, Rejection};
pub use external::{ExternalAlgorithm, Issuer};
pub use guest::GuestTokens;
pub use identities::Identity;
pub use keys::Keys;
pub use login::Login;
pub use password::{HashCosts, hash_child};
pub use permissions::{PermissionSet, PlatformPermission, RolePermission};
pub use principal::{Beyond, Forbidden, Principal, PrincipalKind, Rate};
pub use providers::{
    CodeHolder, LoginBegun, LoginEnd, LoginOutcome, LoginWish, Provider, ProviderAnswer,
    ProviderChoice, ProviderKind,
};
pub use registration::Registration;
pub use roles::{ADMIN, Role};
pub use rotation::Rotation;
pub use scopes::Scope;
pub use service_accounts::ServiceAccount;
pub use sessions::{Client, Session, Tokens};
pub use shared_rows::Behind;
pub use token_keys::{Begin, KeyState, TokenAlgorithm, TokenKey};
pub use totp::{TotpBegun, TotpStatus};
pub use users::{NewUser, User, UserPage};

use std::{net::IpAddr, sync::Arc};

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::db::{Db, Rows, Transaction};
use crate::ids::{RoleName, SessionId, UserId};
use crate::ledger::{Event, carried};
use crate::mail::Mail;

/// Longest credential that is looked at, in bytes. Our own are far shorter.
const CREDENTIAL_BYTES_MAX: usize = 4096;
/// Uses of API keys that wait to be noted in the rows.
const USED_KEYS_MAX: usize = 256;

/// Knows everybody who may call. Cheap to clone; one per process, because it keeps the rows in memory.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    clock: Clock,
    store: store::Store,
    directory: directory::Directory,
    passwords: password::Passwords,
    throttle: throttle::Throttle,
    access_tokens: tokens::AccessTokens,
    sessions: sessions::Sessions,
    revoked: sessions::Revoked,
    external: external::External,
    untold: shared_revocations::Untold,
    codes: codes::Codes,
    factors: totp::SecondFactors,
    letters: letters::Letters,
    providers: providers::Providers,
    mail: Mail,
    used_keys: mpsc::Sender<(ApiKeyId, i64)>,
    /// Held while rows and memory change together.
    changes: tokio::sync::Mutex<()>,
}

impl Auth {
    /// Loads everybody into memory. Needs a tokio runtime, on which it notes the use of API keys until it is dropped.
    pub async fn open(
        db: Db,
        keys: &Keys,
        clock: Clock,
        mail: Mail,
        config: Config,
    ) -> Result<Self, Error> {
        config.check()?;
        config.check_mail(mail.is_on())?;
        let db = db.one_by_one(Rows::Accounts);
        let accepted_ms = tokens::accepted_ms(&config);
        let (rows, time) = (db.clone(), clock.clone());
        let token_keys =
            token_keys::TokenKeys::open(rows, keys, time, &config, accepted_ms).await?;
        let access_tokens = tokens::AccessTokens::new(token_keys, &config);
        let sessions =
            sessions::Sessions::new(db.clone(), keys, clock.clone(), &config, accepted_ms);
        let store = store::Store { db };
        let directory = directory::Directory::default();
        for role in store.all_roles().await? {
            directory.put_role(role);
        }
        for account in store.all_users().await? {
            directory.put_user(&account);
        }
        for account in store.all_service_accounts().await? {
            directory.put_service_account(account);
        }
        for key in store.all_keys().await? {
            directory.put_key(key);
        }
        let (used_keys, uses) = mpsc::channel(USED_KEYS_MAX);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last clone; the times it notes may be lost"
        )]
        tokio::spawn(note_uses(store.clone(), uses));
        Ok(Self {
            inner: Arc::new(Inner {
                passwords: password::Passwords::new(&config).await?,
                throttle: throttle::Throttle::new(&config),
                external: external::External::new(&config.issuers, config.verified_tokens_max),
                codes: codes::Codes::new(&config),
                factors: totp::SecondFactors::new(keys.derive("totp"), &config.service_name),
                letters: letters::Letters::new(&config),
                providers: providers::Providers::new(&config, keys)?,
                mail,
                access_tokens,
                untold: shared_revocations::Untold::default(),
                revoked: sessions.revoked().await?,
                sessions,
                changes: tokio::sync::Mutex::default(),
                config,
                clock,
                store,
                directory,
                used_keys,
            }),
        })
    }

    /// Lets these metrics tell how often passwords are hashed, which is what logins cost.
    pub fn register_metrics(&self, metrics: &prometheus::Registry) -> prometheus::Result<()> {
        let hashed = self.inner.passwords.hashed().clone();
        metrics.register(Box::new(hashed))
    }

    /// Who sent these headers (`Authorization` and `X-API-Key`); None if there are none. Answers from memory: an
    /// access token seen before costs a digest and a look-up, an API key always. A key that is bound to networks counts only
    /// `from` one of them.
    pub fn authenticate(
        &self,
        authorization: Option<&str>,
        api_key: Option<&str>,
        from: Option<IpAddr>,
    ) -> Result<Option<Arc<Principal>>, Rejection> {
        let credential = match (authorization, api_key) {
            (None, None) => return Ok(None),
            // Which of the two counts must not be a matter of taste.
            (Some(_), Some(_)) => return Err(Rejection::Malformed),
            (None, Some(key)) if !key.starts_with(api_keys::PREFIX) => {
                return Err(Rejection::Malformed);
            }
            (None, Some(key)) => key,
            (Some(authorization), None) => bearer(authorization)?,
        };
        // Where nobody knows from where, a key that is bound to somewhere does not count.
        let from = from.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        self.owner_of(credential, Some(from)).map(Some)
    }

    /// Whose access token or API key this is, as things are now, for those who ask about credentials of others. Without an
    /// address, where a key may be used from is not asked.
    pub fn owner_of(
        &self,
        credential: &str,
        from: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Rejection> {
        if credential.len() > CREDENTIAL_BYTES_MAX {
            return Err(Rejection::Malformed);
        }
        if credential.starts_with(api_keys::PREFIX) {
            return self.check_api_key(credential, from);
        }
        match self.check_access_token(credential) {
            Ok(seen) => Ok(seen.principal),
            Err(Rejection::TokenInvalid) => {
                let (directory, clock) = (&self.inner.directory, &self.inner.clock);
                let found = self.inner.external.verify(credential, directory, clock);
                found.unwrap_or(Err(Rejection::TokenInvalid))
            }
            Err(rejection) => Err(rejection),
        }
    }

    /// The user who sent this `Authorization`, and the session that the access token came of. None for everybody else:
    /// an API key is nobody's session.
    pub fn user_of(
        &self,
        authorization: Option<&str>,
    ) -> Result<Option<(UserId, Option<SessionId>)>, Rejection> {
        let Some(authorization) = authorization else {
            return Ok(None);
        };
        let credential = bearer(authorization)?;
        if credential.starts_with(api_keys::PREFIX) {
            return Ok(None);
        }
        let seen = self.check_access_token(credential)?;
        Ok(Some((seen.user, seen.session)))
    }

    /// Forgets sessions, codes and attempts that nobody can use any more. To be called now and then.
    pub async fn sweep(&self) -> Result<(), Error> {
        self.sweep_sessions().await?;
        let mut transaction = self.inner.store.db.begin().await?;
        let now_ms = self.inner.clock.now_ms();
        self.inner.codes.sweep(&mut transaction, now_ms).await?;
        transaction.commit().await?;
        self.sweep_attempts().await
    }

    /// Who a page acts for, by the access token in its cookie. Only tokens of a session count there.
    pub fn authenticate_page(
        &self,
        token: &str,
    ) -> Result<(Arc<Principal>, UserId, SessionId), Rejection> {
        let seen = self.check_access_token(token)?;
        let session = seen.session.ok_or(Rejection::TokenInvalid)?;
        Ok((seen.principal, seen.user, session))
    }

    fn check_access_token(&self, token: &str) -> Result<tokens::Seen, Rejection> {
        // A refresh token opens nothing but the exchange.
        if token.starts_with(sessions::PREFIX) || token.len() > CREDENTIAL_BYTES_MAX {
            return Err(Rejection::Malformed);
        }
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        inner
            .access_tokens
            .verify(token, &inner.directory, &inner.revoked, now_ms)
    }

    /// The public keys that verify access tokens, as a JSON Web Key Set (`application/jwk-set+json`).
    pub fn jwks(&self) -> Arc<str> {
        self.inner.access_tokens.keys.ring().jwks()
    }

    /// An account as a caller, as things are now; nothing if it is disabled or does not exist.
    pub fn principal_of_user(&self, id: UserId) -> Option<Arc<Principal>> {
        self.inner.directory.user(id)?.principal()
    }

    /// All permissions of these roles together, from memory. A role that does not exist carries none.
    pub fn permissions_of(&self, roles: &[RoleName]) -> Arc<PermissionSet> {
        self.inner.directory.permissions_of(roles)
    }

    /// Runs a change of rows and memory, one at a time, to its end: if the caller goes away in between, memory must
    /// not be left behind the rows.
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller waits for it; it must end even if the caller gives up"
    )]
    async fn change<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let auth = self.clone();
        let change = async move {
            let _alone = auth.inner.changes.lock().await;
            work.await
        };
        tokio::spawn(carried(change)).await?
    }

    /// Commits a change together with its record.
    async fn commit(&self, mut transaction: Transaction, event: Event) -> Result<(), Error> {
        let db = &self.inner.store.db;
        db.record(&mut transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    /// Notes a failure of somebody who comes from this network, about an account that `parties` tell apart.
    fn note_failure(&self, event: Event, parties: &throttle::Parties) {
        self.inner.store.db.note(event.marked(parties.mark()));
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

fn bearer(authorization: &str) -> Result<&str, Rejection> {
    let (scheme, credential) = authorization.split_once(' ').ok_or(Rejection::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Rejection::SchemeUnsupported);
    }
    let credential = credential.trim();
    let is_plain = |c: u8| c.is_ascii_graphic();
    if credential.is_empty() || !credential.bytes().all(is_plain) {
        return Err(Rejection::Malformed);
    }
    Ok(credential)
}

async fn note_uses(store: store::Store, mut uses: mpsc::Receiver<(ApiKeyId, i64)>) {
    while let Some((id, used_at_ms)) = uses.recv().await {
        if let Err(error) = store.touch_key(id, used_at_ms).await {
            tracing::warn!(api_key.id = %id, %error, "The use of an API key was not noted");
        }
    }
}
