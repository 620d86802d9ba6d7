//! Whose account it is that somebody has who comes from a provider. An address alone links nothing: only where both sides
//! have verified it and the operator says so.

mod store;

use serde::{Deserialize, Serialize};

use crate::auth::codes::{self, Purpose};
use crate::auth::even::evenly;
use crate::auth::letters::IdentityChange;
use crate::auth::providers::{CodeHolder, Found, Live};
use crate::auth::registration::NewAccount;
use crate::auth::store::Account;
use crate::auth::{Auth, Client, Error};
use crate::db::Transaction;
use crate::ids::{IdentityId, SessionId, UserId};
use crate::ledger::Event;

/// A login elsewhere that opens an account here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: IdentityId,
    /// The name of the provider.
    pub provider: String,
    /// As the provider last said it. Not for logs.
    pub email: Option<String>,
    pub created_at_ms: i64,
    /// When somebody last logged in with it.
    pub used_at_ms: i64,
}

/// An identity that an account is to begin with, or is kept of somebody who has to confirm an address before there is one.
#[derive(Serialize, Deserialize)]
pub(super) struct NewIdentity {
    pub(super) provider: String,
    pub(super) found: Found,
}

impl Auth {
    /// The account of somebody who has come from a provider; a new one where people may sign up so. `AccountDisabled`,
    /// `EmailNotAllowed`, `IdentityUnknown`, `IdentityNotLinked`, `SignUpPending`, `TooMany`.
    pub(super) async fn account_of(&self, live: &Live, found: &Found) -> Result<Account, Error> {
        let settings = &live.settings;
        require_domain(live, found)?;
        if let Some(account) = self.linked_account(found).await? {
            return Ok(account);
        }
        let name = &settings.name;
        match &found.email {
            Some(email) if found.has_verified_email => {
                match self.inner.store.user_by_email(email).await? {
                    Some(account) if settings.links_by_email && account.is_email_confirmed => {
                        self.link_by_email(name, found, &account).await
                    }
                    // Two may have come at once, and the other one was faster.
                    Some(_) => {
                        let account = self.linked_account(found).await?;
                        account.ok_or(Error::IdentityNotLinked)
                    }
                    None if settings.may_sign_up => self.sign_up(live, email, found).await,
                    None => Err(Error::IdentityUnknown),
                }
            }
            // Whether the address has an account is for its owner to know, and this may be somebody else.
            Some(email) if settings.may_sign_up && self.inner.mail.is_on() => {
                let beat = self.inner.config.beat();
                evenly(beat, self.ask_to_confirm(name, email.clone(), found)).await?;
                Err(Error::SignUpPending)
            }
            _ => Err(Error::IdentityUnknown),
        }
    }

    async fn linked_account(&self, found: &Found) -> Result<Option<Account>, Error> {
        let (db, clock) = (&self.inner.store.db, &self.inner.clock);
        let Some(owner) = store::owner(db, found).await? else {
            return Ok(None);
        };
        // Deleted a moment ago: the identity has gone, too.
        let Some(account) = self.inner.store.user_by_id(owner).await? else {
            return Ok(None);
        };
        if account.user.is_disabled {
            tracing::warn!(user.id = %owner, "A login to a disabled account was refused");
            return Err(Error::AccountDisabled);
        }
        store::touch(db, found, clock.now_ms()).await?;
        Ok(Some(account))
    }

    async fn link_by_email(
        &self,
        provider: &str,
        found: &Found,
        account: &Account,
    ) -> Result<Account, Error> {
        if account.user.is_disabled {
            return Err(Error::AccountDisabled);
        }
        match self.link(account.user.id, provider, found, None).await {
            // Or linked by another login of the same person, which was faster.
            Ok(_) | Err(Error::IdentityTaken) => {}
            Err(error) => return Err(error),
        }
        let account = self.linked_account(found).await?;
        account.ok_or(Error::IdentityUnknown)
    }

    async fn sign_up(&self, live: &Live, email: &str, found: &Found) -> Result<Account, Error> {
        self.require_roles(&live.settings.roles)?;
        let new = NewAccount {
            email: email.to_owned(),
            roles: live.settings.roles.clone(),
            password_hash: String::new(),
            is_email_confirmed: true,
            code: None,
            identity: Some(NewIdentity {
                provider: live.settings.name.clone(),
                found: found.clone(),
            }),
        };
        match self.add_account(new).await {
            Ok(_) | Err(Error::IdentityTaken) => {}
            // Two came at once, and the other one was faster; or somebody else has taken the address just now.
            Err(Error::EmailTaken) => {
                let account = self.linked_account(found).await?;
                return account.ok_or(Error::IdentityNotLinked);
            }
            Err(error) => return Err(error),
        }
        let account = self.linked_account(found).await?;
        account.ok_or(Error::IdentityUnknown)
    }

    /// Sends a code with which the account is opened, or says to its owner that there is one. Ends alike.
    async fn ask_to_confirm(
        &self,
        provider: &str,
        email: String,
        found: &Found,
    ) -> Result<(), Error> {
        self.require_roles(&self.inner.providers.find(provider)?.settings.roles)?;
        if self.inner.store.user_by_email(&email).await?.is_some() {
            return self.tell_registered(email).await;
        }
        let unconfirmed = NewIdentity {
            provider: provider.to_owned(),
            found: found.clone(),
        };
        let payload = serde_json::to_string(&unconfirmed).map_err(|_| Error::ProviderRefused)?;
        let hours = self.inner.config.confirm_hours;
        let life_ms = i64::from(hours) * 3_600_000;
        let to = email.clone();
        let title = self.inner.providers.find(provider)?.settings.title();
        let title = title.to_owned();
        self.send_code(
            Purpose::Register,
            email,
            payload,
            life_ms,
            move |auth, code| {
                let letters = &auth.inner.letters;
                Some(letters.confirm(&to, code, hours, Some(&title)))
            },
        )
        .await
    }

    /// Links a login elsewhere to the account of a user, who has just logged in or shows the password. `code` is what the
    /// login there has ended with. `LoginNotFresh`, `CredentialsWrong`, `CodeWrong`, `IdentityTaken`, `EmailNotAllowed`,
    /// `TooMany`, `TooManyAttempts`.
    pub async fn link_identity(
        &self,
        (user, session): (UserId, Option<SessionId>),
        (code, verifier): (&str, &str),
        password: Option<&str>,
        client: &Client,
    ) -> Result<Identity, Error> {
        match password {
            Some(password) => drop(self.check_password(user, password, &client.network).await?),
            None => self.require_fresh(user, session).await?,
        }
        let holder = CodeHolder::Verifier(verifier);
        let (pending, redeemed) = self.check_pending(code, holder, client).await?;
        let live = self.inner.providers.find(&pending.provider)?;
        require_domain(live, &pending.found)?;
        self.link(user, &pending.provider, &pending.found, Some(redeemed))
            .await
    }

    async fn link(
        &self,
        user: UserId,
        provider: &str,
        found: &Found,
        code: Option<codes::Redeemed>,
    ) -> Result<Identity, Error> {
        let (auth, provider, found) = (self.clone(), provider.to_owned(), found.clone());
        self.change(async move {
            let inner = &auth.inner;
            let db = &inner.store.db;
            let max = inner.config.identities_per_user_max as usize;
            if store::of_user(db, user).await?.len() >= max {
                let what = "linked logins of one account";
                return Err(Error::TooMany { what, max });
            }
            let mut transaction = db.begin().await?;
            if let Some(code) = &code {
                inner.codes.spend(&mut transaction, code).await?;
            }
            let now_ms = inner.clock.now_ms();
            let linked = store::insert(&mut transaction, user, &provider, &found, now_ms).await?;
            let linked = linked.ok_or(Error::IdentityTaken)?;
            auth.end_identity_change(transaction, user, IdentityChange::Linked, &provider)
                .await?;
            Ok(linked)
        })
        .await
    }

    /// The logins elsewhere that open this account, the oldest first.
    pub async fn list_identities(&self, user: UserId) -> Result<Vec<Identity>, Error> {
        store::of_user(&self.inner.store.db, user).await
    }

    /// Takes a login elsewhere from the account of a user who has just logged in. `LoginNotFresh`, `IdentityNotFound`;
    /// `IdentityLast` if there would be no way left to log in.
    pub async fn unlink_identity(
        &self,
        (user, session): (UserId, Option<SessionId>),
        id: IdentityId,
    ) -> Result<(), Error> {
        self.require_fresh(user, session).await?;
        let auth = self.clone();
        self.change(async move {
            let inner = &auth.inner;
            let all = store::of_user(&inner.store.db, user).await?;
            let identity = all.iter().find(|one| one.id == id);
            let provider = identity.ok_or(Error::IdentityNotFound)?.provider.clone();
            let account = inner.store.user_by_id(user).await?;
            let has_password = account.ok_or(Error::UserNotFound)?.has_password();
            // One of a provider that is not in the settings any more opens nothing.
            let opens =
                |one: &Identity| one.id != id && inner.providers.find(&one.provider).is_ok();
            if !has_password && !all.iter().any(opens) {
                return Err(Error::IdentityLast);
            }
            let mut transaction = inner.store.db.begin().await?;
            if !store::delete(&mut transaction, user, id).await? {
                return Err(Error::IdentityNotFound);
            }
            auth.end_identity_change(transaction, user, IdentityChange::Unlinked, &provider)
                .await
        })
        .await
    }

    /// Keeps an identity together with the account that begins with it. `IdentityTaken`.
    pub(super) async fn add_identity(
        &self,
        transaction: &mut Transaction,
        user: UserId,
        new: &NewIdentity,
    ) -> Result<(), Error> {
        let now_ms = self.inner.clock.now_ms();
        let (provider, found) = (&new.provider, &new.found);
        let linked = store::insert(transaction, user, provider, found, now_ms).await?;
        linked.map(drop).ok_or(Error::IdentityTaken)
    }

    /// Takes all from an account whose address only now turns out to be its user's: somebody else may have linked them.
    pub(super) async fn drop_identities(
        &self,
        transaction: &mut Transaction,
        user: UserId,
    ) -> Result<u64, Error> {
        let dropped = store::delete_all(transaction, user).await?;
        if dropped > 0 {
            tracing::warn!(user.id = %user, dropped, "Linked logins were taken from an account whose address was confirmed");
        }
        Ok(dropped)
    }

    /// Commits a change together with the letter that tells the owner.
    async fn end_identity_change(
        &self,
        mut transaction: Transaction,
        user: UserId,
        what: IdentityChange,
        provider: &str,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let account = inner.store.user_by_id(user).await?;
        let account = account.ok_or(Error::UserNotFound)?;
        let live = inner.providers.find(provider);
        let title = live.map_or(provider, |live| live.settings.title());
        let letter = inner.letters.identity(&account.user.email, what, title);
        self.post(&mut transaction, &letter, None).await?;
        let action = match what {
            IdentityChange::Linked => "identity.linked",
            IdentityChange::Unlinked => "identity.unlinked",
        };
        let event = Event::new(action, user).by("user", user);
        self.commit(transaction, event.with("provider", provider))
            .await?;
        inner.mail.wake();
        tracing::info!(user.id = %user, change = ?what, provider, "The linked logins of an account were changed");
        Ok(())
    }

    /// Goes on if the session has just begun: who finds one open must not change how to log in.
    async fn require_fresh(&self, user: UserId, session: Option<SessionId>) -> Result<(), Error> {
        let inner = &self.inner;
        let life_ms = i64::from(inner.config.fresh_login_minutes) * 60_000;
        let began_ms = match session {
            Some(session) => self.session_began_ms(user, session).await?,
            None => None,
        };
        let now_ms = inner.clock.now_ms();
        match began_ms.is_some_and(|began_ms| now_ms - began_ms <= life_ms) {
            true => Ok(()),
            false => Err(Error::LoginNotFresh),
        }
    }
}

/// Goes on if people with this address may come from there. An address that is not verified is in no domain.
fn require_domain(live: &Live, found: &Found) -> Result<(), Error> {
    let domains = &live.settings.email_domains;
    let email = found.email.as_deref().filter(|_| found.has_verified_email);
    let domain = email.and_then(|email| email.rsplit_once('@'));
    let is_allowed = domain.is_some_and(|(_, domain)| domains.iter().any(|one| one == domain));
    match domains.is_empty() || is_allowed {
        true => Ok(()),
        false => Err(Error::EmailNotAllowed),
    }
}
