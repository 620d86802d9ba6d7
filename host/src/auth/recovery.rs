//! Passwords that are changed by their owners, or were forgotten.

use crate::auth::codes::Purpose;
use crate::auth::even::evenly;
use crate::auth::password::Verdict;
use crate::auth::shared_revocations::Revocation;
use crate::auth::store::Account;
use crate::auth::throttle::Parties;
use crate::auth::{Auth, Client, Error, Tokens, codes};
use crate::ids::UserId;
use crate::ledger::Event;

impl Auth {
    /// Sets a new password for a user who knows the old one. All sessions end, and a new one begins. `CredentialsWrong`,
    /// `PasswordTooShort`, `PasswordTooLong`, `TooManyAttempts`, `Busy`, `UserNotFound`.
    pub async fn change_password(
        &self,
        id: UserId,
        old: &str,
        new: &str,
        client: &Client,
    ) -> Result<Tokens, Error> {
        let inner = &self.inner;
        inner.passwords.check_rules(new)?;
        let account = self.check_password(id, old, &client.network).await?;
        let hash = inner.passwords.turn().await?.hash(new).await?;
        let generation = self
            .put_password(id, hash, Some(account.generation), None)
            .await?;
        self.begin_session(id, generation, client).await
    }

    /// The account of a user who shows once more that they know the password.
    pub(super) async fn check_password(
        &self,
        id: UserId,
        password: &str,
        network: &str,
    ) -> Result<Account, Error> {
        let inner = &self.inner;
        inner
            .passwords
            .check_length(password)
            .map_err(|_| Error::CredentialsWrong)?;
        let account = inner.store.user_by_id(id).await?;
        let account = account.ok_or(Error::UserNotFound)?;
        let parties = Parties::new(&account.user.email, network);
        self.check_wait(&parties)?;
        let turn = inner.passwords.turn().await?;
        self.check_wait(&parties)?;
        let hash = match account.has_password() {
            true => account.password_hash.as_str(),
            false => inner.passwords.nobody(),
        };
        let Verdict { is_right, turn, .. } = turn.verify(password, hash).await?;
        if !is_right || !account.has_password() {
            inner.throttle.fail(&parties, inner.clock.now_ms());
            tracing::warn!(user.id = %id, "A user who is logged in did not know the password");
            let event = Event::failed("login.failed", id, "auth.credentials_wrong");
            self.note_failure(event.by("user", id), &parties);
            return Err(Error::CredentialsWrong);
        }
        drop(turn);
        Ok(account)
    }

    /// Sends a code with which a new password can be set, if there is such an account. Ends alike, and after the same time,
    /// if there is none. `ResetOff`, `EmailInvalid`, `Busy`.
    pub async fn request_reset(&self, email: &str) -> Result<(), Error> {
        let inner = &self.inner;
        if !inner.mail.is_on() {
            return Err(Error::ResetOff);
        }
        let email = super::users::normal_email(email)?;
        let minutes = inner.config.reset_minutes;
        let life_ms = i64::from(minutes) * 60_000;
        evenly(inner.config.beat(), async {
            let account = inner.store.user_by_email(&email).await?;
            let user = account.map(|account| account.user);
            let user = user.filter(|user| !user.is_disabled);
            if let Some(user) = &user {
                inner
                    .store
                    .db
                    .note(Event::new("password_reset.requested", user.id));
            }
            let (purpose, payload) = match &user {
                Some(user) => (Purpose::ResetPassword, user.id.to_string()),
                None => (Purpose::Notice, String::new()),
            };
            let to = user.map(|user| user.email);
            self.send_code(purpose, email, payload, life_ms, move |auth, code| {
                to.map(|to| auth.inner.letters.reset(&to, code, minutes))
            })
            .await
        })
        .await
    }

    /// Sets the new password that a code was sent for. All sessions end. `CodeWrong`, `PasswordTooShort`,
    /// `PasswordTooLong`, `TooManyAttempts`, `Busy`.
    pub async fn confirm_reset(
        &self,
        code: &str,
        password: &str,
        client: &str,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        inner.passwords.check_rules(password)?;
        let redeemed = self
            .check_code(Purpose::ResetPassword, code, client)
            .await?;
        let id: UserId = redeemed.payload.parse().map_err(|_| Error::CodeWrong)?;
        let hash = inner.passwords.turn().await?.hash(password).await?;
        match self.put_password(id, hash, None, Some(redeemed)).await {
            Ok(_) => Ok(()),
            Err(Error::UserNotFound) => Err(Error::CodeWrong),
            Err(error) => Err(error),
        }
    }

    /// Puts a password in the place of the old one, ends all sessions, and tells the owner. The generation from then on.
    /// With a generation, only if the account is still the one of it: else `CredentialsWrong`.
    pub(super) async fn put_password(
        &self,
        id: UserId,
        hash: String,
        generation: Option<i64>,
        code: Option<codes::Redeemed>,
    ) -> Result<i64, Error> {
        let auth = self.clone();
        self.change(async move {
            let inner = &auth.inner;
            let now_ms = inner.clock.now_ms();
            let mut transaction = inner.store.db.begin().await?;
            if let Some(code) = &code {
                inner.codes.spend(&mut transaction, code).await?;
            }
            let account = inner
                .store
                .set_password(&mut transaction, id, &hash, generation, now_ms)
                .await?;
            // The code came back by mail. Whoever had linked a login to the account before may be somebody else.
            let mut unlinked = 0;
            if code.is_some() && inner.store.confirm_email(&mut transaction, id).await? {
                unlinked = auth.drop_identities(&mut transaction, id).await?;
            }
            let email = &account.user.email;
            inner
                .codes
                .void(&mut transaction, Purpose::ResetPassword, email)
                .await?;
            let letter = inner.letters.password_changed(email);
            auth.post(&mut transaction, &letter, None).await?;
            let how = match (&code, generation) {
                (Some(_), _) => "by a code that was sent by mail",
                (None, Some(_)) => "by somebody who knew the old one",
                (None, None) => "by an administrator",
            };
            let mut event = Event::new("user.password_changed", id).with("how", how);
            if unlinked > 0 {
                event = event.with("unlinked", unlinked);
            }
            auth.commit(transaction, event).await?;
            inner.mail.wake();
            inner.directory.put_user(&account);
            let revocation = Revocation::User(id, account.generation);
            inner.untold.add([revocation]);
            tracing::info!(user.id = %id, "A password was changed");
            Ok(account.generation)
        })
        .await
    }
}
