//! Accounts that people open themselves, if the operator lets them. Nobody learns which addresses have one.

use serde::{Deserialize, Serialize};

use crate::auth::codes::{self, Purpose};
use crate::auth::even::evenly;
use crate::auth::identities::NewIdentity;
use crate::auth::store::Account;
use crate::auth::throttle::Parties;
use crate::auth::users::normal_email;
use crate::auth::{Auth, Error, User};
use crate::db::Transaction;
use crate::ids::{RoleName, UserId};
use crate::ledger::Event;
use crate::mail::{self, Letter};

/// Who may open an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody; administrators make accounts.
    #[default]
    Off,
    /// Everybody, at once. Whoever tries to log in afterwards learns whether the address was free.
    Open,
    /// Everybody who can read mail to the address.
    Confirmed,
}

/// What an account begins with.
pub(super) struct NewAccount {
    /// In its normal form.
    pub(super) email: String,
    pub(super) roles: Vec<RoleName>,
    /// Empty if there is no password.
    pub(super) password_hash: String,
    pub(super) is_email_confirmed: bool,
    /// What it takes, and uses up.
    pub(super) code: Option<codes::Redeemed>,
    /// A login elsewhere that opens it.
    pub(super) identity: Option<NewIdentity>,
}

impl Auth {
    /// Opens an account, or sends a code with which it is opened. Ends alike, and after the same time, whether or not
    /// the address has an account. `RegistrationOff`, `EmailInvalid`, `PasswordTooShort`, `PasswordTooLong`, `Busy`.
    pub async fn register(&self, email: &str, password: &str) -> Result<(), Error> {
        let config = &self.inner.config;
        if config.registration == Registration::Off {
            return Err(Error::RegistrationOff);
        }
        let email = normal_email(email)?;
        self.inner.passwords.check_rules(password)?;
        self.require_roles(&config.registration_roles)?;
        evenly(config.beat(), async {
            // Also where there is an account already: it must cost the same.
            let hash = self.inner.passwords.turn().await?.hash(password).await?;
            match config.registration {
                Registration::Confirmed => self.send_confirmation(email, hash).await,
                _ => self.open_account(email, hash).await,
            }
        })
        .await
    }

    async fn open_account(&self, email: String, password_hash: String) -> Result<(), Error> {
        let new = NewAccount {
            email: email.clone(),
            roles: self.inner.config.registration_roles.clone(),
            password_hash,
            is_email_confirmed: false,
            code: None,
            identity: None,
        };
        match self.add_account(new).await {
            Ok(_) => Ok(()),
            Err(Error::EmailTaken) => self.tell_registered(email).await,
            Err(error) => Err(error),
        }
    }

    async fn send_confirmation(&self, email: String, password_hash: String) -> Result<(), Error> {
        if self.inner.store.user_by_email(&email).await?.is_some() {
            return self.tell_registered(email).await;
        }
        let hours = self.inner.config.confirm_hours;
        let life_ms = i64::from(hours) * 3_600_000;
        let (purpose, payload) = (Purpose::Register, password_hash);
        self.send_code(
            purpose,
            email.clone(),
            payload,
            life_ms,
            move |auth, code| Some(auth.inner.letters.confirm(&email, code, hours, None)),
        )
        .await
    }

    pub(super) async fn tell_registered(&self, email: String) -> Result<(), Error> {
        let life_ms = 3_600_000;
        let (purpose, payload) = (Purpose::Notice, String::new());
        self.send_code(purpose, email.clone(), payload, life_ms, move |auth, _| {
            Some(auth.inner.letters.registered_already(&email))
        })
        .await
    }

    /// Opens the account that a code was sent for. `CodeWrong`, `TooManyAttempts`, `TooMany`.
    pub async fn confirm_registration(&self, code: &str, client: &str) -> Result<User, Error> {
        let redeemed = self.check_code(Purpose::Register, code, client).await?;
        // A hash is no JSON.
        let identity: Option<NewIdentity> = serde_json::from_str(&redeemed.payload).ok();
        let (roles, password_hash) = match &identity {
            None => (
                self.inner.config.registration_roles.clone(),
                redeemed.payload.clone(),
            ),
            Some(identity) => {
                let live = self.inner.providers.find(&identity.provider);
                let live = live.map_err(|_| Error::CodeWrong)?;
                (live.settings.roles.clone(), String::new())
            }
        };
        self.require_roles(&roles)?;
        let new = NewAccount {
            email: redeemed.subject.clone(),
            roles,
            password_hash,
            // A login elsewhere that says this address may be that of somebody who does not have it. If the one who does sets
            // a password, it opens nothing any more.
            is_email_confirmed: identity.is_none(),
            code: Some(redeemed),
            identity,
        };
        match self.add_account(new).await {
            // Somebody else has opened it meanwhile; that is nobody's business.
            Err(Error::EmailTaken | Error::IdentityTaken) => Err(Error::CodeWrong),
            done => done,
        }
    }

    /// Adds an account, with all that it begins with, and uses up the code that it takes.
    pub(super) async fn add_account(&self, new: NewAccount) -> Result<User, Error> {
        let auth = self.clone();
        self.change(async move {
            let max = auth.inner.config.users_max;
            if auth.inner.directory.users_count() >= max {
                return Err(Error::TooMany { what: "users", max });
            }
            let now_ms = auth.inner.clock.now_ms();
            let user = User {
                id: UserId::new(),
                email: new.email,
                roles: auth.check_roles(new.roles)?,
                is_disabled: false,
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
            };
            let account = Account {
                user,
                password_hash: new.password_hash,
                generation: 1,
                is_email_confirmed: new.is_email_confirmed,
            };
            let mut transaction = auth.inner.store.db.begin().await?;
            if let Some(code) = &new.code {
                auth.inner.codes.spend(&mut transaction, code).await?;
            }
            auth.inner
                .store
                .insert_user(&mut transaction, &account)
                .await?;
            if let Some(identity) = &new.identity {
                auth.add_identity(&mut transaction, account.user.id, identity)
                    .await?;
            }
            let user = &account.user;
            let roles: Vec<_> = user.roles.iter().map(ToString::to_string).collect();
            let mut event = Event::new("user.created", user.id).with("roles", roles);
            if let Some(identity) = &new.identity {
                event = event.with("provider", identity.provider.as_str());
            }
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_user(&account);
            tracing::info!(user.id = %account.user.id, "An account was made");
            Ok(account.user)
        })
        .await
    }

    /// Makes a code and posts the letter that carries it, together or not at all. A subject that was written to often
    /// enough in the last hour is not written to again, and nobody is told.
    pub(super) async fn send_code(
        &self,
        purpose: Purpose,
        subject: String,
        payload: String,
        life_ms: i64,
        letter: impl FnOnce(&Self, &str) -> Option<Letter> + Send + 'static,
    ) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move {
            let inner = &auth.inner;
            let now_ms = inner.clock.now_ms();
            let mut transaction = inner.store.db.begin().await?;
            let code = inner
                .codes
                .make(
                    &mut transaction,
                    purpose,
                    &subject,
                    &payload,
                    life_ms,
                    now_ms,
                )
                .await?;
            match code {
                Some(code) => {
                    if let Some(letter) = letter(&auth, &code) {
                        auth.post(&mut transaction, &letter, Some(life_ms)).await?;
                    }
                }
                None => tracing::warn!("A code was not sent: there were several within an hour"),
            }
            transaction.commit().await?;
            inner.mail.wake();
            Ok(())
        })
        .await
    }

    /// Puts a letter into the outbox, if there is a mail server. That there is no room is for the operator to know.
    pub(super) async fn post(
        &self,
        transaction: &mut Transaction,
        letter: &Letter,
        useful_ms: Option<i64>,
    ) -> Result<(), Error> {
        match self.inner.mail.post(transaction, letter, useful_ms).await {
            Ok(()) | Err(mail::Error::Off) => Ok(()),
            Err(mail::Error::Rows(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(error.cause = %error, "A message was not kept for sending");
                Ok(())
            }
        }
    }

    /// Looks whether a code is right. Wrong ones are counted, of the code and of the client, and cost a growing wait.
    pub(super) async fn check_code(
        &self,
        purpose: Purpose,
        code: &str,
        client: &str,
    ) -> Result<codes::Redeemed, Error> {
        let inner = &self.inner;
        let parties = Parties::new(&codes::name_of(code), client);
        self.check_wait(&parties)?;
        let mut transaction = inner.store.db.begin().await?;
        let now_ms = inner.clock.now_ms();
        let checked = inner
            .codes
            .check(&mut transaction, purpose, code, now_ms)
            .await?;
        transaction.commit().await?;
        if checked.is_err() {
            inner.throttle.fail(&parties, now_ms);
            tracing::warn!("A one-time code was refused");
            let event = Event::failed("code.failed", "one-time code", "auth.code_wrong");
            self.note_failure(event, &parties);
        }
        checked
    }
}
