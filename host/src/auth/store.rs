//! The rows of users, roles and API keys.

use std::str::FromStr;

use sqlx::{Row as _, any::AnyRow};

use crate::auth::permissions::RolePermission;
use crate::auth::{ApiKey, ApiKeyId, Error, Role, Rotation, ServiceAccount, User};
use crate::db::{Db, Transaction};
use crate::ids::{RoleName, ServiceAccountId, UserId};

/// A user with what only logging in may see.
pub(super) struct Account {
    pub(super) user: User,
    /// Empty if there is no password: only logins elsewhere open it.
    pub(super) password_hash: String,
    pub(super) generation: i64,
    /// Whether somebody has shown to read mail to the address.
    pub(super) is_email_confirmed: bool,
}

impl Account {
    pub(super) fn has_password(&self) -> bool {
        !self.password_hash.is_empty()
    }
}

/// An API key with the digest that recognises it.
pub(super) struct StoredKey {
    pub(super) key: ApiKey,
    pub(super) token_sha256: [u8; 32],
    pub(super) previous_sha256: Option<[u8; 32]>,
}

#[derive(Clone)]
pub(super) struct Store {
    pub(super) db: Db,
}

impl Store {
    pub(super) async fn all_users(&self) -> Result<Vec<Account>, Error> {
        let rows = sqlx::query("SELECT * FROM users")
            .fetch_all(self.db.reader())
            .await?;
        rows.iter().map(read_account).collect()
    }

    pub(super) async fn user_by_id(&self, id: UserId) -> Result<Option<Account>, Error> {
        let query = sqlx::query("SELECT * FROM users WHERE id = $1").bind(id.to_string());
        query
            .fetch_optional(self.db.reader())
            .await?
            .as_ref()
            .map(read_account)
            .transpose()
    }

    /// Users whose rows were changed since then, and their generations.
    pub(super) async fn users_changed_since(
        &self,
        since_ms: i64,
        limit: i64,
    ) -> Result<Vec<(UserId, i64)>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM users WHERE updated_at > $1 AND generation > 1 ORDER BY updated_at DESC LIMIT $2",
        )
        .bind(since_ms)
        .bind(limit)
        .fetch_all(self.db.reader())
        .await?;
        rows.iter()
            .map(|row| read_account(row).map(|account| (account.user.id, account.generation)))
            .collect()
    }

    pub(super) async fn user_by_email(&self, email: &str) -> Result<Option<Account>, Error> {
        let query = sqlx::query("SELECT * FROM users WHERE email = $1").bind(email);
        query
            .fetch_optional(self.db.reader())
            .await?
            .as_ref()
            .map(read_account)
            .transpose()
    }

    /// Users in the order of their creation, after this one.
    pub(super) async fn users_after(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, Error> {
        let rows = sqlx::query("SELECT * FROM users WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(self.db.reader())
            .await?;
        rows.iter()
            .map(|row| read_account(row).map(|account| account.user))
            .collect()
    }

    pub(super) async fn insert_user(
        &self,
        transaction: &mut Transaction,
        account: &Account,
    ) -> Result<(), Error> {
        let user = &account.user;
        let inserted = sqlx::query(
            "INSERT INTO users
             (id, email, password_hash, roles, is_disabled, generation, created_at, updated_at,
              is_email_confirmed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(user.id.to_string())
        .bind(&user.email)
        .bind(&account.password_hash)
        .bind(to_json(&user.roles))
        .bind(i64::from(user.is_disabled))
        .bind(account.generation)
        .bind(user.created_at_ms)
        .bind(user.updated_at_ms)
        .bind(i64::from(account.is_email_confirmed))
        .execute(&mut **transaction)
        .await;
        inserted
            .map(drop)
            .map_err(|error| if_taken(error, Error::EmailTaken))
    }

    /// Sets the password and ends all sessions; with a generation, only if it is still that of the account.
    pub(super) async fn set_password(
        &self,
        transaction: &mut Transaction,
        id: UserId,
        password_hash: &str,
        generation: Option<i64>,
        now_ms: i64,
    ) -> Result<Account, Error> {
        let row = sqlx::query(
            "UPDATE users SET password_hash = $1, generation = generation + 1, updated_at = $2
             WHERE id = $3 AND ($4 < 0 OR generation = $4) RETURNING *",
        )
        .bind(password_hash)
        .bind(now_ms)
        .bind(id.to_string())
        .bind(generation.unwrap_or(-1))
        .fetch_optional(&mut **transaction)
        .await?;
        let missing = match generation {
            None => Error::UserNotFound,
            Some(_) => Error::CredentialsWrong,
        };
        read_account(&row.ok_or(missing)?)
    }

    /// Notes that somebody has shown to read mail to the address of this account. False if that was known.
    pub(super) async fn confirm_email(
        &self,
        transaction: &mut Transaction,
        id: UserId,
    ) -> Result<bool, Error> {
        let done = sqlx::query(
            "UPDATE users SET is_email_confirmed = 1 WHERE id = $1 AND is_email_confirmed = 0",
        )
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Replaces the hash of an unchanged password, unless the password was changed meanwhile.
    pub(super) async fn replace_hash(&self, id: UserId, old: &str, new: &str) -> Result<(), Error> {
        sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3")
            .bind(new)
            .bind(id.to_string())
            .bind(old)
            .execute(self.db.writer())
            .await?;
        Ok(())
    }

    pub(super) async fn set_user_roles(
        &self,
        transaction: &mut Transaction,
        id: UserId,
        roles: &[RoleName],
        now_ms: i64,
    ) -> Result<Account, Error> {
        let query =
            sqlx::query("UPDATE users SET roles = $1, updated_at = $2 WHERE id = $3 RETURNING *")
                .bind(to_json(roles))
                .bind(now_ms)
                .bind(id.to_string());
        let row = query.fetch_optional(&mut **transaction).await?;
        read_account(&row.ok_or(Error::UserNotFound)?)
    }

    /// Disables or enables a user, and revokes the access tokens either way.
    pub(super) async fn set_disabled(
        &self,
        transaction: &mut Transaction,
        id: UserId,
        is_disabled: bool,
        now_ms: i64,
    ) -> Result<Account, Error> {
        let row = sqlx::query(
            "UPDATE users SET is_disabled = $1, generation = generation + 1, updated_at = $2
             WHERE id = $3 RETURNING *",
        )
        .bind(i64::from(is_disabled))
        .bind(now_ms)
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
        read_account(&row.ok_or(Error::UserNotFound)?)
    }

    pub(super) async fn delete_user(
        &self,
        transaction: &mut Transaction,
        id: UserId,
    ) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM users WHERE id = $1").bind(id.to_string());
        let done = query.execute(&mut **transaction).await?;
        if done.rows_affected() == 0 {
            Err(Error::UserNotFound)
        } else {
            Ok(())
        }
    }

    pub(super) async fn all_roles(&self) -> Result<Vec<Role>, Error> {
        let query = sqlx::query("SELECT * FROM roles ORDER BY name");
        query
            .fetch_all(self.db.reader())
            .await?
            .iter()
            .map(read_role)
            .collect()
    }

    pub(super) async fn insert_role(
        &self,
        transaction: &mut Transaction,
        role: &Role,
    ) -> Result<(), Error> {
        let inserted = sqlx::query(
            "INSERT INTO roles (name, permissions, created_at, updated_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(role.name.as_str())
        .bind(to_json(&role.permissions))
        .bind(role.created_at_ms)
        .bind(role.updated_at_ms)
        .execute(&mut **transaction)
        .await;
        inserted
            .map(drop)
            .map_err(|error| if_taken(error, Error::RoleTaken(role.name.clone())))
    }

    pub(super) async fn set_permissions(
        &self,
        transaction: &mut Transaction,
        name: &RoleName,
        permissions: &[RolePermission],
        now_ms: i64,
    ) -> Result<Role, Error> {
        let row = sqlx::query(
            "UPDATE roles SET permissions = $1, updated_at = $2 WHERE name = $3 RETURNING *",
        )
        .bind(to_json(permissions))
        .bind(now_ms)
        .bind(name.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
        read_role(&row.ok_or_else(|| Error::RoleNotFound(name.clone()))?)
    }

    pub(super) async fn delete_role(
        &self,
        transaction: &mut Transaction,
        name: &RoleName,
    ) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM roles WHERE name = $1").bind(name.as_str());
        let done = query.execute(&mut **transaction).await?;
        if done.rows_affected() == 0 {
            Err(Error::RoleNotFound(name.clone()))
        } else {
            Ok(())
        }
    }

    pub(super) async fn all_keys(&self) -> Result<Vec<StoredKey>, Error> {
        let rows = sqlx::query("SELECT * FROM api_keys")
            .fetch_all(self.db.reader())
            .await?;
        rows.iter().map(read_key).collect()
    }

    pub(super) async fn insert_key(
        &self,
        transaction: &mut Transaction,
        stored: &StoredKey,
    ) -> Result<(), Error> {
        let key = &stored.key;
        sqlx::query(
            "INSERT INTO api_keys (id, name, token_sha256, roles, created_at, expires_at, scopes, networks,
             rate_limit, rate_window_s, service_account, secret_since, rotate_days, overlap_s)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(key.id.to_string())
        .bind(&key.name)
        .bind(hex::encode(stored.token_sha256))
        .bind(to_json(&key.roles))
        .bind(key.created_at_ms)
        .bind(key.expires_at_ms)
        .bind(to_json(&key.scopes))
        .bind(to_json(&key.networks))
        .bind(key.rate.map(|(limit, _)| i64::from(limit)))
        .bind(key.rate.map(|(_, window_s)| i64::from(window_s)))
        .bind(key.service_account.map(|id| id.to_string()))
        .bind(key.secret_since_ms)
        .bind(i64::from(key.rotation.every_days))
        .bind(key.rotation.overlap_s.map(i64::from))
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Revokes a key; if it was revoked before, the first time stays.
    pub(super) async fn revoke_key(
        &self,
        transaction: &mut Transaction,
        id: ApiKeyId,
        now_ms: i64,
    ) -> Result<StoredKey, Error> {
        let row = sqlx::query(
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2 RETURNING *",
        )
        .bind(now_ms)
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
        read_key(&row.ok_or(Error::ApiKeyNotFound)?)
    }

    /// Puts another secret in the place of the one that counts, which goes on for a while.
    pub(super) async fn rotate_key(
        &self,
        transaction: &mut Transaction,
        id: ApiKeyId,
        token_sha256: &[u8; 32],
        previous_until_ms: i64,
        now_ms: i64,
    ) -> Result<StoredKey, Error> {
        let row = sqlx::query(
            "UPDATE api_keys SET previous_sha256 = token_sha256, previous_until = $1, token_sha256 = $2,
             secret_since = $3 WHERE id = $4 AND revoked_at IS NULL RETURNING *",
        )
        .bind(previous_until_ms)
        .bind(hex::encode(token_sha256))
        .bind(now_ms)
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await?;
        read_key(&row.ok_or(Error::ApiKeyNotFound)?)
    }

    pub(super) async fn all_service_accounts(&self) -> Result<Vec<ServiceAccount>, Error> {
        let rows = sqlx::query("SELECT * FROM service_accounts")
            .fetch_all(self.db.reader())
            .await?;
        rows.iter().map(read_service_account).collect()
    }

    pub(super) async fn insert_service_account(
        &self,
        transaction: &mut Transaction,
        account: &ServiceAccount,
    ) -> Result<(), Error> {
        let inserted = sqlx::query(
            "INSERT INTO service_accounts (id, name, roles, is_disabled, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(account.id.to_string())
        .bind(&account.name)
        .bind(to_json(&account.roles))
        .bind(i64::from(account.is_disabled))
        .bind(account.created_at_ms)
        .bind(account.updated_at_ms)
        .execute(&mut **transaction)
        .await;
        inserted
            .map(drop)
            .map_err(|error| if_taken(error, Error::ServiceAccountTaken))
    }

    pub(super) async fn set_service_account(
        &self,
        transaction: &mut Transaction,
        account: &ServiceAccount,
    ) -> Result<(), Error> {
        let query = sqlx::query(
            "UPDATE service_accounts SET roles = $1, is_disabled = $2, updated_at = $3 WHERE id = $4",
        );
        let done = query
            .bind(to_json(&account.roles))
            .bind(i64::from(account.is_disabled))
            .bind(account.updated_at_ms)
            .bind(account.id.to_string())
            .execute(&mut **transaction)
            .await?;
        match done.rows_affected() {
            0 => Err(Error::ServiceAccountNotFound),
            _ => Ok(()),
        }
    }

    /// Deletes an account and revokes its keys: they are given back.
    pub(super) async fn delete_service_account(
        &self,
        transaction: &mut Transaction,
        id: ServiceAccountId,
        now_ms: i64,
    ) -> Result<Vec<StoredKey>, Error> {
        let query = sqlx::query("DELETE FROM service_accounts WHERE id = $1").bind(id.to_string());
        if query.execute(&mut **transaction).await?.rows_affected() == 0 {
            return Err(Error::ServiceAccountNotFound);
        }
        let rows = sqlx::query(
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $1) WHERE service_account = $2 RETURNING *",
        )
        .bind(now_ms)
        .bind(id.to_string())
        .fetch_all(&mut **transaction)
        .await?;
        rows.iter().map(read_key).collect()
    }

    /// Forgets the keys that were revoked or have expired.
    pub(super) async fn delete_dead_keys(&self, now_ms: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM api_keys WHERE revoked_at IS NOT NULL OR expires_at <= $1")
            .bind(now_ms)
            .execute(self.db.writer())
            .await?;
        Ok(())
    }

    pub(super) async fn touch_key(&self, id: ApiKeyId, used_at_ms: i64) -> Result<(), Error> {
        let later = "UPDATE api_keys SET last_used_at = $1 WHERE id = $2 AND coalesce(last_used_at, $1) <= $1";
        sqlx::query(later)
            .bind(used_at_ms)
            .bind(id.to_string())
            .execute(self.db.writer())
            .await?;
        Ok(())
    }
}

fn if_taken(error: sqlx::Error, taken: Error) -> Error {
    let is_taken = error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation());
    if is_taken { taken } else { Error::Rows(error) }
}

fn read_account(row: &AnyRow) -> Result<Account, Error> {
    let id: String = row.try_get("id")?;
    let is_disabled: i64 = row.try_get("is_disabled")?;
    let is_email_confirmed: i64 = row.try_get("is_email_confirmed")?;
    Ok(Account {
        user: User {
            id: parse("users", &id, &id)?,
            email: row.try_get("email")?,
            roles: from_json("users", &id, row.try_get("roles")?)?,
            is_disabled: is_disabled != 0,
            created_at_ms: row.try_get("created_at")?,
            updated_at_ms: row.try_get("updated_at")?,
        },
        password_hash: row.try_get("password_hash")?,
        generation: row.try_get("generation")?,
        is_email_confirmed: is_email_confirmed != 0,
    })
}

fn read_role(row: &AnyRow) -> Result<Role, Error> {
    let name: String = row.try_get("name")?;
    Ok(Role {
        name: parse("roles", &name, &name)?,
        permissions: from_json("roles", &name, row.try_get("permissions")?)?,
        created_at_ms: row.try_get("created_at")?,
        updated_at_ms: row.try_get("updated_at")?,
    })
}

fn read_key(row: &AnyRow) -> Result<StoredKey, Error> {
    let id: String = row.try_get("id")?;
    let digest = |text: &str| {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest)
            .map(|()| digest)
            .map_err(|problem| corrupt("api_keys", &id, &problem))
    };
    let token_sha256 = digest(row.try_get("token_sha256")?)?;
    let previous: Option<String> = row.try_get("previous_sha256")?;
    let previous_sha256 = previous.as_deref().map(digest).transpose()?;
    let number = |name: &str| -> Result<Option<u32>, Error> {
        let number: Option<i64> = row.try_get(name)?;
        let number = number.map(u32::try_from).transpose();
        number.map_err(|problem| corrupt("api_keys", &id, &problem))
    };
    let created_at_ms = row.try_get("created_at")?;
    let service_account: Option<String> = row.try_get("service_account")?;
    let key = ApiKey {
        id: parse("api_keys", &id, &id)?,
        name: row.try_get("name")?,
        roles: from_json("api_keys", &id, row.try_get("roles")?)?,
        scopes: from_json("api_keys", &id, row.try_get("scopes")?)?,
        networks: from_json("api_keys", &id, row.try_get("networks")?)?,
        rate: number("rate_limit")?.zip(number("rate_window_s")?),
        service_account: service_account
            .map(|account| parse("api_keys", &id, &account))
            .transpose()?,
        created_at_ms,
        expires_at_ms: row.try_get("expires_at")?,
        revoked_at_ms: row.try_get("revoked_at")?,
        last_used_at_ms: row.try_get("last_used_at")?,
        // Keys of earlier releases were never changed.
        secret_since_ms: row
            .try_get::<Option<i64>, _>("secret_since")?
            .unwrap_or(created_at_ms),
        previous_until_ms: row.try_get("previous_until")?,
        rotation: Rotation {
            every_days: number("rotate_days")?.unwrap_or(0),
            overlap_s: number("overlap_s")?,
        },
    };
    Ok(StoredKey {
        key,
        token_sha256,
        previous_sha256,
    })
}

fn read_service_account(row: &AnyRow) -> Result<ServiceAccount, Error> {
    let id: String = row.try_get("id")?;
    let is_disabled: i64 = row.try_get("is_disabled")?;
    Ok(ServiceAccount {
        id: parse("service_accounts", &id, &id)?,
        name: row.try_get("name")?,
        roles: from_json("service_accounts", &id, row.try_get("roles")?)?,
        is_disabled: is_disabled != 0,
        created_at_ms: row.try_get("created_at")?,
        updated_at_ms: row.try_get("updated_at")?,
    })
}

fn to_json(items: &[impl ToString]) -> String {
    let items: Vec<_> = items
        .iter()
        .map(|item| serde_json::Value::String(item.to_string()))
        .collect();
    serde_json::Value::Array(items).to_string()
}

fn from_json<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    id: &str,
    json: &str,
) -> Result<Vec<T>, Error> {
    let items: Vec<String> =
        serde_json::from_str(json).map_err(|problem| corrupt(table, id, &problem))?;
    items.iter().map(|item| parse(table, id, item)).collect()
}

fn parse<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    id: &str,
    text: &str,
) -> Result<T, Error> {
    text.parse().map_err(|problem| corrupt(table, id, &problem))
}

fn corrupt(table: &'static str, id: &str, problem: &dyn std::fmt::Display) -> Error {
    Error::Corrupt {
        table,
        id: id.to_owned(),
        problem: problem.to_string(),
    }
}
