//! The caller, as the rest of the host sees it.

use std::sync::Arc;

use crate::auth::permissions::{PermissionSet, PlatformPermission, RolePermission};
use crate::ids::{PluginName, RoleName};

/// What kind of caller this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    User,
    ApiKey,
}

impl PrincipalKind {
    /// The word for it in the contract: `user` or `api-key`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiKey => "api-key",
        }
    }
}

/// Somebody the host has authenticated. Handed around as `Arc<Principal>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The id of the user, or of the API key (`gk_…`, without its secret). May be logged.
    pub id: String,
    pub kind: PrincipalKind,
    /// The e-mail address of a user, the name of an API key. Not for logs.
    pub name: String,
    pub roles: Arc<[RoleName]>,
    pub permissions: Arc<PermissionSet>,
}

/// The caller is known but may not do this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this needs the permission `{permission}`")]
pub struct Forbidden {
    /// With the plugin's name in front, if it is a plugin's: as it would stand in a role.
    pub permission: String,
}

/// The caller would give away what they do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this gives the permission `{permission}`, which you do not have yourself; ask somebody who has it"
)]
pub struct Beyond {
    pub permission: RolePermission,
}

impl Beyond {
    /// The stable code of this refusal.
    pub const CODE: &'static str = "auth.permission_beyond";
}

impl Forbidden {
    /// The stable code of this refusal.
    pub const CODE: &'static str = "auth.permission_missing";
}

impl Principal {
    /// Whether the caller has this permission: of the plugin, by the plugin's own name for it, or of the host.
    pub fn has(&self, plugin: Option<&PluginName>, permission: &str) -> bool {
        self.permissions.has(plugin, permission)
    }

    /// Like [`Self::has`], for `?`.
    pub fn require(&self, plugin: Option<&PluginName>, permission: &str) -> Result<(), Forbidden> {
        if self.has(plugin, permission) {
            return Ok(());
        }
        let permission = match plugin {
            Some(plugin) => format!("{plugin}:{permission}"),
            None => permission.to_owned(),
        };
        Err(Forbidden { permission })
    }

    /// Requires that all of these are the caller's, too: what somebody does not have they cannot give.
    pub fn require_all_of(&self, given: &PermissionSet) -> Result<(), Beyond> {
        match self.permissions.missing_of(given) {
            Some(permission) => Err(Beyond { permission }),
            None => Ok(()),
        }
    }

    /// Requires a right on the host itself.
    pub fn require_platform(&self, permission: PlatformPermission) -> Result<(), Forbidden> {
        self.require(None, permission.as_str())
    }
}
