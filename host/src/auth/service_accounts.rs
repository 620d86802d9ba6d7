//! Accounts of programs: they have roles and own API keys, and no password, so nobody logs in with one.

use crate::auth::{Auth, Error};
use crate::ids::{RoleName, ServiceAccountId};
use crate::ledger::Event;

const NAME_CHARS_MAX: usize = 100;

/// The account of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    pub id: ServiceAccountId,
    /// For people: which program it is. No other account has it.
    pub name: String,
    /// Sorted, each once. Its keys carry them.
    pub roles: Vec<RoleName>,
    /// The keys of a disabled account open nothing.
    pub is_disabled: bool,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

impl Auth {
    /// All accounts of programs, the oldest first.
    pub fn list_service_accounts(&self) -> Vec<ServiceAccount> {
        self.inner.directory.service_accounts()
    }

    /// The account with this id. `ServiceAccountNotFound`.
    pub fn service_account(&self, id: ServiceAccountId) -> Result<ServiceAccount, Error> {
        let found = self.inner.directory.service_account(id);
        found.ok_or(Error::ServiceAccountNotFound)
    }

    /// Makes an account for a program. `ServiceAccountName`, `ServiceAccountTaken`, `RoleNotFound`, `TooMany`.
    pub async fn create_service_account(
        &self,
        name: String,
        roles: Vec<RoleName>,
    ) -> Result<ServiceAccount, Error> {
        let is_length = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        if !is_length || name.chars().any(char::is_control) {
            return Err(Error::ServiceAccountName);
        }
        let auth = self.clone();
        self.change(async move {
            let max = auth.inner.config.service_accounts_max;
            if auth.inner.directory.service_accounts().len() >= max {
                let what = "service accounts";
                return Err(Error::TooMany { what, max });
            }
            let now_ms = auth.inner.clock.now_ms();
            let account = ServiceAccount {
                id: ServiceAccountId::new(),
                name,
                roles: auth.check_roles(roles)?,
                is_disabled: false,
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
            };
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            store
                .insert_service_account(&mut transaction, &account)
                .await?;
            let event = Event::new("service_account.created", account.id)
                .with("name", account.name.as_str())
                .with("roles", texts(&account.roles));
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_service_account(account.clone());
            Ok(account)
        })
        .await
    }

    /// Gives an account these roles instead of those before, or disables or enables it; it counts at once for all of its
    /// keys. `ServiceAccountNotFound`, `RoleNotFound`, `TooMany`.
    pub async fn set_service_account(
        &self,
        id: ServiceAccountId,
        roles: Option<Vec<RoleName>>,
        is_disabled: Option<bool>,
    ) -> Result<ServiceAccount, Error> {
        let auth = self.clone();
        self.change(async move {
            let before = auth.service_account(id)?;
            let mut account = before.clone();
            if let Some(roles) = roles {
                account.roles = auth.check_roles(roles)?;
            }
            account.is_disabled = is_disabled.unwrap_or(account.is_disabled);
            account.updated_at_ms = auth.inner.clock.now_ms();
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            store
                .set_service_account(&mut transaction, &account)
                .await?;
            let shown = |account: &ServiceAccount| {
                let roles = texts(&account.roles);
                serde_json::json!({ "roles": roles, "is_disabled": account.is_disabled })
            };
            let event =
                Event::new("service_account.set", id).changed(shown(&before), shown(&account));
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_service_account(account.clone());
            Ok(account)
        })
        .await
    }

    /// Deletes an account and revokes its keys. `ServiceAccountNotFound`.
    pub async fn delete_service_account(&self, id: ServiceAccountId) -> Result<(), Error> {
        let auth = self.clone();
        self.change(async move {
            let store = &auth.inner.store;
            let now_ms = auth.inner.clock.now_ms();
            let mut transaction = store.db.begin().await?;
            let revoked = store
                .delete_service_account(&mut transaction, id, now_ms)
                .await?;
            let event = Event::new("service_account.deleted", id);
            let event = event.with("keys_revoked", revoked.len());
            auth.commit(transaction, event).await?;
            auth.inner.directory.remove_service_account(id);
            for key in revoked {
                auth.inner.directory.put_key(key);
            }
            Ok(())
        })
        .await
    }
}

fn texts(roles: &[RoleName]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}
