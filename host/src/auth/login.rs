//! Logging in with e-mail address and password.

use std::fmt;

use crate::auth::password::Verdict;
use crate::auth::throttle::Parties;
use crate::auth::tokens::Bearer;
use crate::auth::users::normal_email;
use crate::auth::{Auth, Client, Error, Tokens, User};
use crate::ids::UserId;
use crate::ledger::Event;

/// Stands for accounts that do not exist: what was typed may be a password.
const UNKNOWN: &str = "unknown account";

/// What a successful login gives.
#[derive(Clone)]
pub struct Login {
    pub tokens: Tokens,
    pub user: User,
}

impl Auth {
    /// Checks an e-mail address and a password and begins a session. `client` says where the attempt comes from.
    /// `CredentialsWrong` says the same, and takes as long, whether or not the account
    /// exists; `AccountDisabled` only to who has the password; `TooManyAttempts` and `Busy` say when to come back. Users who
    /// have a second factor need a `code` of it: `TotpRequired`, which is told only to who has the password, and `TotpWrong`.
    pub async fn login(
        &self,
        email: &str,
        password: &str,
        code: Option<&str>,
        client: &Client,
    ) -> Result<Login, Error> {
        let inner = &self.inner;
        // Too long to belong to an account: not worth hashing.
        inner
            .passwords
            .check_length(password)
            .map_err(|_| Error::CredentialsWrong)?;
        let email = normal_email(email).map_err(|_| Error::CredentialsWrong)?;
        let parties = Parties::new(&email, &client.network);
        self.check_wait(&parties)?;
        let turn = inner.passwords.turn().await?;
        // Again, because others may have failed while this one waited: a crowd of guesses gets no further than a few.
        self.check_wait(&parties)?;

        let account = inner.store.user_by_email(&email).await?;
        let with_password = account.as_ref().filter(|account| account.has_password());
        let hash = match with_password {
            Some(account) => account.password_hash.as_str(),
            None => inner.passwords.nobody(),
        };
        let Verdict {
            is_right,
            better_hash,
            turn,
        } = turn.verify(password, hash).await?;
        let now_ms = inner.clock.now_ms();
        let account = match account {
            Some(account) if is_right && account.has_password() => account,
            known => {
                inner.throttle.fail(&parties, now_ms);
                let target = match known {
                    Some(account) => {
                        tracing::warn!(user.id = %account.user.id, "A login failed");
                        account.user.id.to_string()
                    }
                    None => {
                        tracing::warn!("A login to an unknown account failed");
                        UNKNOWN.to_owned()
                    }
                };
                let event = Event::failed("login.failed", target, "auth.credentials_wrong");
                self.note_failure(event, &parties);
                return Err(Error::CredentialsWrong);
            }
        };
        let user = account.user;
        if user.is_disabled {
            tracing::warn!(user.id = %user.id, "A login to a disabled account was refused");
            let event = Event::refused("login.failed", user.id, "auth.account_disabled");
            self.note_failure(event, &parties);
            return Err(Error::AccountDisabled);
        }
        if let Err(error) = self.check_second_factor(user.id, code).await {
            if matches!(error, Error::TotpWrong) {
                inner.throttle.fail(&parties, now_ms);
                tracing::warn!(user.id = %user.id, "A login with a wrong second factor failed");
                let event = Event::failed("login.failed", user.id, "auth.totp_wrong");
                self.note_failure(event, &parties);
            }
            return Err(error);
        }
        inner.throttle.succeed(&parties);
        drop(turn);
        if let Some(better) = better_hash {
            inner
                .store
                .replace_hash(user.id, &account.password_hash, &better)
                .await?;
        }
        // If the account was changed meanwhile, its generation is no longer this one and there is no session.
        let tokens = self
            .begin_session(user.id, account.generation, client)
            .await?;
        tracing::info!(user.id = %user.id, session.id = %tokens.session, "A user logged in");
        Ok(Login { tokens, user })
    }
}

impl Auth {
    /// Goes on if neither the account nor the client has to wait. `TooManyAttempts`, which is recorded.
    pub(super) fn check_wait(&self, parties: &Parties) -> Result<(), Error> {
        let checked = self
            .inner
            .throttle
            .check(parties, self.inner.clock.now_ms());
        if checked.is_err() {
            let event = Event::refused("login.failed", UNKNOWN, "auth.too_many_attempts");
            self.note_failure(event, parties);
        }
        checked
    }

    /// An access token of this user, without a password: for hosts on which plugins are rehearsed. `UserNotFound`.
    pub(crate) async fn access_token(&self, id: UserId) -> Result<String, Error> {
        let account = self.inner.store.user_by_id(id).await?;
        let account = account.ok_or(Error::UserNotFound)?;
        let bearer = Bearer {
            user: id,
            roles: &account.user.roles,
            generation: account.generation,
            session: None,
            ends_ms: i64::MAX,
        };
        let now_ms = self.inner.clock.now_ms();
        Ok(self.inner.access_tokens.sign(&bearer, now_ms)?.0)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user.id", &self.user.id)
            .finish_non_exhaustive()
    }
}
