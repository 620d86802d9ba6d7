//! What other hosts change in the rows that they share: this one keeps the same in memory, and takes it over as soon as the
//! trail tells of it.

use std::collections::BTreeSet;

use crate::auth::{Auth, Error};
use crate::ids::UserId;

/// How far the clocks of hosts that share rows may be apart.
const CLOCKS_APART_MS: i64 = 60_000;

/// What of memory may be behind the rows.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    users: BTreeSet<UserId>,
    all_users: bool,
    sessions: bool,
    /// Sessions are to be looked for as far back as they matter.
    old_sessions: bool,
    roles: bool,
    keys: bool,
    token_keys: bool,
}

impl Behind {
    /// All of it.
    pub fn everything() -> Self {
        Self {
            users: BTreeSet::new(),
            all_users: true,
            sessions: true,
            old_sessions: true,
            roles: true,
            keys: true,
            token_keys: true,
        }
    }

    /// What others have done: number, action and target of each.
    pub fn add(&mut self, told: &[(i64, String, String)]) {
        for (_, action, target) in told {
            let (thing, _) = action.split_once('.').unwrap_or((action, ""));
            match thing {
                "session" => self.sessions = true,
                "role" => self.roles = true,
                "api_key" | "service_account" => self.keys = true,
                "token_key" => self.token_keys = true,
                // These change nobody.
                "login" | "permission" | "capability" => {}
                _ => self.users.extend(target.parse::<UserId>()),
            }
        }
    }

    fn has_accounts(&self) -> bool {
        !self.users.is_empty() || self.all_users || self.roles || self.keys || self.token_keys
    }
}

impl Auth {
    /// Takes over what others have done. What is revoked in the rows is revoked here afterwards. What could not be read stays
    /// in `behind`, and holds up nothing else.
    pub async fn catch_up(&self, behind: &mut Behind) -> Result<(), Error> {
        let mut sessions = Ok(());
        if behind.sessions {
            let before_ms = match behind.old_sessions {
                true => CLOCKS_APART_MS + self.inner.sessions.access_ms(),
                false => CLOCKS_APART_MS,
            };
            sessions = self.learn_revoked(before_ms).await;
            if sessions.is_ok() {
                (behind.sessions, behind.old_sessions) = (false, false);
            }
        }
        if !behind.has_accounts() {
            return sessions;
        }
        let (auth, again) = (self.clone(), behind.clone());
        // One at a time with changes that are made here: what is read now is not older than what is there.
        let read = self.change(async move { Ok(auth.read_again(again).await) });
        let (left, accounts) = read.await?;
        *behind = left;
        sessions.and(accounts)
    }

    /// Lets memory know an account of another host, if it does not know its present state.
    pub(super) async fn know(&self, user: UserId, generation: i64) -> Result<(), Error> {
        let inner = &self.inner;
        let known = inner.directory.user(user);
        let is_known = known.is_some_and(|user| user.principal_of(generation).is_some());
        if is_known || !inner.store.db.is_shared() {
            return Ok(());
        }
        let auth = self.clone();
        let behind = Behind {
            users: [user].into(),
            ..Behind::default()
        };
        self.change(async move { auth.read_again(behind).await.1 })
            .await
    }

    /// What is still behind, and why the first of it is.
    async fn read_again(&self, mut behind: Behind) -> (Behind, Result<(), Error>) {
        let mut outcome = Ok(());
        if behind.roles {
            let read = self.read_roles().await;
            behind.roles = read.is_err();
            outcome = outcome.and(read);
        }
        if behind.all_users {
            let read = self.read_users().await;
            behind.all_users = read.is_err();
            outcome = outcome.and(read);
        }
        let mut left = BTreeSet::new();
        for id in std::mem::take(&mut behind.users) {
            let read = self.read_user(id).await;
            if read.is_err() {
                left.insert(id);
            }
            outcome = outcome.and(read);
        }
        behind.users = left;
        if behind.keys {
            let read = self.read_keys().await;
            behind.keys = read.is_err();
            outcome = outcome.and(read);
        }
        if behind.token_keys {
            let read = self.inner.access_tokens.keys.refresh().await;
            behind.token_keys = read.is_err();
            outcome = outcome.and(read);
        }
        (behind, outcome)
    }

    async fn read_roles(&self) -> Result<(), Error> {
        let roles = self.inner.store.all_roles().await?;
        self.inner.directory.set_roles(roles);
        Ok(())
    }

    async fn read_users(&self) -> Result<(), Error> {
        let accounts = self.inner.store.all_users().await?;
        self.inner.directory.set_users(&accounts);
        Ok(())
    }

    async fn read_user(&self, id: UserId) -> Result<(), Error> {
        let directory = &self.inner.directory;
        match self.inner.store.user_by_id(id).await {
            Ok(Some(account)) => directory.put_user(&account),
            Ok(None) => directory.remove_user(id),
            Err(error) => {
                // A row that was changed and cannot be understood may be one of somebody who was disabled.
                if matches!(error, Error::Corrupt { .. }) {
                    directory.remove_user(id);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn read_keys(&self) -> Result<(), Error> {
        let (store, directory) = (&self.inner.store, &self.inner.directory);
        let (accounts, keys) = (store.all_service_accounts().await?, store.all_keys().await?);
        directory.set_service_accounts(accounts);
        directory.set_keys(keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_trail_tells_says_what_to_read() {
        let user = UserId::new();
        let behind = |action: &str, target: &str| {
            let mut behind = Behind::default();
            behind.add(&[(1, action.to_owned(), target.to_owned())]);
            behind
        };
        let id = user.to_string();
        for action in ["user.roles_set", "user.deleted", "totp.enabled"] {
            assert!(behind(action, &id).users.contains(&user), "{action}");
        }
        for action in ["session.begun", "login.failed", "permission.refused"] {
            assert!(!behind(action, &id).has_accounts(), "{action}");
        }
        assert!(behind("session.ended", &id).sessions);
        assert!(behind("role.deleted", "clerk").roles);
        assert!(behind("api_key.revoked", "x").keys);
        assert!(behind("service_account.set", "x").keys);
        assert!(behind("token_key.revoked", "x").token_keys);
        assert!(!behind("plugin.deployed", "shop").has_accounts());
    }
}
