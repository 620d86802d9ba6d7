//! Accounts of people.

use crate::auth::registration::NewAccount;
use crate::auth::shared_revocations::Revocation;
use crate::auth::{Auth, Error};
use crate::ids::{RoleName, UserId};
use crate::ledger::Event;

const EMAIL_BYTES_MAX: usize = 254;
const LOCAL_PART_BYTES_MAX: usize = 64;
const PAGE_MAX: u32 = 200;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// In its normal form: without blanks around it, in small letters. Not for logs.
    pub email: String,
    /// Sorted, each once.
    pub roles: Vec<RoleName>,
    /// A disabled user can neither log in nor use a token.
    pub is_disabled: bool,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

/// What an account is made of.
#[derive(Clone)]
pub struct NewUser {
    pub email: String,
    pub password: String,
    pub roles: Vec<RoleName>,
}

/// Some users, and where to go on.
#[derive(Debug, Clone)]
pub struct UserPage {
    pub users: Vec<User>,
    /// What to pass as `after` for the next page. None on the last one.
    pub next: Option<UserId>,
}

impl Auth {
    /// Makes an account. `EmailInvalid`, `EmailTaken`, `PasswordTooShort`, `PasswordTooLong`, `RoleNotFound`,
    /// `TooMany`, `Busy`.
    pub async fn create_user(&self, new: NewUser) -> Result<User, Error> {
        let email = normal_email(&new.email)?;
        self.inner.passwords.check_rules(&new.password)?;
        self.check_roles(new.roles.clone())?;
        let password_hash = self
            .inner
            .passwords
            .turn()
            .await?
            .hash(&new.password)
            .await?;
        let new = NewAccount {
            email,
            roles: new.roles,
            password_hash,
            is_email_confirmed: false,
            code: None,
            identity: None,
        };
        self.add_account(new).await
    }

    /// The user with this id, if there is one.
    pub async fn find_user(&self, id: UserId) -> Result<Option<User>, Error> {
        Ok(self
            .inner
            .store
            .user_by_id(id)
            .await?
            .map(|account| account.user))
    }

    /// The user with this e-mail address, if there is one. The address need not be in its normal form.
    pub async fn find_user_by_email(&self, email: &str) -> Result<Option<User>, Error> {
        let Ok(email) = normal_email(email) else {
            return Ok(None);
        };
        Ok(self
            .inner
            .store
            .user_by_email(&email)
            .await?
            .map(|account| account.user))
    }

    /// Users in the order of their creation, `limit` (1 to 200) at a time.
    pub async fn list_users(&self, after: Option<UserId>, limit: u32) -> Result<UserPage, Error> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut users = self.inner.store.users_after(after, limit + 1).await?;
        let has_more = users.len() > limit as usize;
        users.truncate(limit as usize);
        let next = users.last().filter(|_| has_more).map(|user| user.id);
        Ok(UserPage { users, next })
    }

    /// How many accounts there are.
    pub fn count_users(&self) -> usize {
        self.inner.directory.users_count()
    }

    /// Sets a new password and revokes all access tokens of the user. `UserNotFound`, `PasswordTooShort`,
    /// `PasswordTooLong`, `Busy`.
    pub async fn set_password(&self, id: UserId, password: &str) -> Result<(), Error> {
        self.inner.passwords.check_rules(password)?;
        let hash = self.inner.passwords.turn().await?.hash(password).await?;
        self.put_password(id, hash, None, None).await.map(drop)
    }

    /// Gives a user these roles instead of those before; it counts at once. `UserNotFound`, `RoleNotFound`, `TooMany`.
    pub async fn set_user_roles(&self, id: UserId, roles: Vec<RoleName>) -> Result<User, Error> {
        let auth = self.clone();
        self.change(async move {
            let roles = auth.check_roles(roles)?;
            let now_ms = auth.inner.clock.now_ms();
            let store = &auth.inner.store;
            let before = store
                .user_by_id(id)
                .await?
                .map(|account| account.user.roles);
            let mut transaction = store.db.begin().await?;
            let account = store
                .set_user_roles(&mut transaction, id, &roles, now_ms)
                .await?;
            let texts = |roles: &[RoleName]| -> Vec<String> {
                roles.iter().map(ToString::to_string).collect()
            };
            let before = texts(&before.unwrap_or_default());
            let event = Event::new("user.roles_set", id).changed(before, texts(&roles));
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_user(&account);
            Ok(account.user)
        })
        .await
    }

    /// Disables a user or enables it again. Its access tokens are revoked at once, either way. `UserNotFound`.
    pub async fn set_disabled(&self, id: UserId, is_disabled: bool) -> Result<User, Error> {
        let auth = self.clone();
        self.change(async move {
            let now_ms = auth.inner.clock.now_ms();
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            let account = store
                .set_disabled(&mut transaction, id, is_disabled, now_ms)
                .await?;
            let action = match is_disabled {
                true => "user.disabled",
                false => "user.enabled",
            };
            auth.commit(transaction, Event::new(action, id)).await?;
            auth.inner.directory.put_user(&account);
            let revocation = Revocation::User(id, account.generation);
            auth.inner.untold.add([revocation]);
            Ok(account.user)
        })
        .await
    }

    /// Deletes an account and revokes its access tokens. `UserNotFound`.
    pub async fn delete_user(&self, id: UserId) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move {
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            store.delete_user(&mut transaction, id).await?;
            auth.commit(transaction, Event::new("user.deleted", id))
                .await?;
            auth.inner.directory.remove_user(id);
            auth.inner.untold.add([Revocation::User(id, i64::MAX)]);
            tracing::info!(user.id = %id, "An account was deleted");
            Ok(())
        })
        .await
    }
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser")
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// The normal form of an address: small letters, no blanks around it. Only ASCII, because two addresses that look the
/// same must be the same.
pub(super) fn normal_email(email: &str) -> Result<String, Error> {
    let email = email.trim();
    if email.len() > EMAIL_BYTES_MAX {
        return Err(Error::EmailInvalid("it has more than 254 characters"));
    }
    let Some((local, domain)) = email.rsplit_once('@') else {
        return Err(Error::EmailInvalid("it has no @"));
    };
    let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
    let is_dotted = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    let is_length = (1..=LOCAL_PART_BYTES_MAX).contains(&local.len());
    if !is_length || is_dotted || !local.chars().all(is_local) {
        return Err(Error::EmailInvalid("the part before the @ is not usable"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        return Err(Error::EmailInvalid(
            "the part after the @ is not a host name",
        ));
    }
    Ok(email.to_ascii_lowercase())
}
