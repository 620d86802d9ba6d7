//! Roles: bundles of permissions that the operator gives to people and keys.

use crate::auth::permissions::RolePermission;
use crate::auth::{Auth, Error};
use crate::ids::RoleName;
use crate::ledger::Event;

/// The name of the role that may do everything. It is always there.
pub const ADMIN: &str = "admin";

/// A bundle of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: RoleName,
    /// Sorted, each once.
    pub permissions: Vec<RolePermission>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
}

impl Auth {
    /// All roles, by name.
    pub async fn list_roles(&self) -> Result<Vec<Role>, Error> {
        self.inner.store.all_roles().await
    }

    /// Makes a role. `RoleTaken`, `PermissionInvalid`, `TooMany`.
    pub async fn create_role(&self, name: RoleName, permissions: &[&str]) -> Result<Role, Error> {
        let permissions = self.parse_permissions(permissions)?;
        let auth = self.clone();
        self.change(async move {
            let max = auth.inner.config.roles_max;
            if auth.inner.directory.roles_count() >= max {
                return Err(Error::TooMany { what: "roles", max });
            }
            let now_ms = auth.inner.clock.now_ms();
            let role = Role {
                name,
                permissions,
                created_at_ms: now_ms,
                updated_at_ms: now_ms,
            };
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            store.insert_role(&mut transaction, &role).await?;
            let event = Event::new("role.created", &role.name);
            let event = event.with("permissions", texts(&role.permissions));
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_role(role.clone());
            Ok(role)
        })
        .await
    }

    /// Replaces the permissions of a role; everybody who holds it has the new ones at once. `RoleNotFound`,
    /// `RoleBuiltIn`, `PermissionInvalid`, `TooMany`.
    pub async fn set_role_permissions(
        &self,
        name: RoleName,
        permissions: &[&str],
    ) -> Result<Role, Error> {
        require_changeable(&name)?;
        let permissions = self.parse_permissions(permissions)?;
        let auth = self.clone();
        self.change(async move {
            let now_ms = auth.inner.clock.now_ms();
            let store = &auth.inner.store;
            let before = store.all_roles().await?;
            let before = before.iter().find(|role| role.name == name);
            let before = before.map_or(Vec::new(), |role| texts(&role.permissions));
            let mut transaction = store.db.begin().await?;
            let role = store
                .set_permissions(&mut transaction, &name, &permissions, now_ms)
                .await?;
            let event = Event::new("role.permissions_set", &name);
            let event = event.changed(before, texts(&permissions));
            auth.commit(transaction, event).await?;
            auth.inner.directory.put_role(role.clone());
            Ok(role)
        })
        .await
    }

    /// Deletes a role that nobody holds. `RoleNotFound`, `RoleBuiltIn`, `RoleInUse`, `RoleInSettings`.
    pub async fn delete_role(&self, name: RoleName) -> Result<(), Error> {
        require_changeable(&name)?;
        let mut given = self.inner.config.given_roles();
        if let Some((setting, role)) = given.find(|(_, role)| **role == name)
            && self.inner.directory.has_role(role)
        {
            let role = role.clone();
            return Err(Error::RoleInSettings { role, setting });
        }
        let auth = self.clone();
        self.change(async move {
            if auth
                .inner
                .directory
                .is_held(&name, auth.inner.clock.now_ms())
            {
                return Err(Error::RoleInUse(name));
            }
            let store = &auth.inner.store;
            let mut transaction = store.db.begin().await?;
            store.delete_role(&mut transaction, &name).await?;
            auth.commit(transaction, Event::new("role.deleted", &name))
                .await?;
            auth.inner.directory.remove_role(&name);
            Ok(())
        })
        .await
    }

    /// Settings that give roles which do not exist: a sentence for each. Whoever makes the role mends it.
    pub fn missing_roles(&self) -> Vec<String> {
        let given = self.inner.config.given_roles();
        let missing = given.filter(|(_, role)| !self.inner.directory.has_role(role));
        let told = missing.map(|(setting, role)| {
            format!(
                "{setting}: there is no role `{role}`; make it with `gantry role create {role}`"
            )
        });
        told.collect()
    }

    /// Refuses to open an account with roles that do not exist, before anything is sent or spent. `RolesMissing`.
    pub(super) fn require_roles(&self, given: &[RoleName]) -> Result<(), Error> {
        let missing = |role: &&RoleName| !self.inner.directory.has_role(role);
        let Some(role) = given.iter().find(missing) else {
            return Ok(());
        };
        tracing::warn!(role.name = %role, "An account was not opened: settings give it a role that does not exist");
        Err(Error::RolesMissing)
    }

    fn parse_permissions(&self, permissions: &[&str]) -> Result<Vec<RolePermission>, Error> {
        let max = self.inner.config.permissions_per_role_max;
        if permissions.len() > max {
            return Err(Error::TooMany {
                what: "permissions of one role",
                max,
            });
        }
        let parsed: Result<Vec<_>, _> = permissions.iter().map(|text| text.parse()).collect();
        let mut permissions = parsed?;
        permissions.sort();
        permissions.dedup();
        Ok(permissions)
    }

    /// Sorts the names and checks that all of these roles exist and that they are not too many.
    pub(super) fn check_roles(&self, mut roles: Vec<RoleName>) -> Result<Vec<RoleName>, Error> {
        roles.sort();
        roles.dedup();
        let max = self.inner.config.roles_per_principal_max;
        if roles.len() > max {
            return Err(Error::TooMany {
                what: "roles of one user or API key",
                max,
            });
        }
        match roles
            .iter()
            .find(|role| !self.inner.directory.has_role(role))
        {
            Some(unknown) => Err(Error::RoleNotFound(unknown.clone())),
            None => Ok(roles),
        }
    }
}

fn texts(permissions: &[RolePermission]) -> Vec<String> {
    permissions.iter().map(ToString::to_string).collect()
}

fn require_changeable(name: &RoleName) -> Result<(), Error> {
    if name.as_str() == ADMIN {
        Err(Error::RoleBuiltIn(name.clone()))
    } else {
        Ok(())
    }
}
