//! The caller, as the rest of the host sees it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::auth::ApiKeyId;
use crate::auth::permissions::{PermissionSet, PlatformPermission, RolePermission};
use crate::auth::scopes::covers;
use crate::ids::{PluginName, RoleName};

/// What kind of caller this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    User,
    ApiKey,
    /// A program, by one of its keys.
    ServiceAccount,
}

impl PrincipalKind {
    /// The word for it in the contract: `user`, `api-key` or `service-account`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiKey => "api-key",
            Self::ServiceAccount => "service-account",
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
    /// What the credential was narrowed to; nothing means that it was not: logins of the host are not.
    pub scopes: Option<Arc<[Box<str>]>>,
    /// What a token of another issuer says beside that, an object.
    pub token_claims: Option<Arc<Map<String, Value>>>,
    /// The key that they came with, if it has a limit of its own.
    pub rate: Option<Rate>,
}

/// How often one key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub key: ApiKeyId,
    /// Requests in each window.
    pub limit: u32,
    pub window_s: u32,
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

    /// Whether the credential has this scope. What `*` means in a token of another issuer, the host does not know.
    pub fn has_scope(&self, scope: &str) -> bool {
        let Some(scopes) = self.scopes.as_deref() else {
            return true;
        };
        let is_own = self.token_claims.is_none();
        let has = |known: &str| known == scope || (is_own && covers(known, scope));
        scopes.iter().any(|known| has(known))
    }

    /// What conditions see: `id`, `kind`, `name`, `roles`, `scopes` as the host knows them, and beside these what the token
    /// of another issuer says. Of accounts of the host, `sub` is the id.
    pub fn claims(&self) -> Value {
        let mut claims = self.token_claims.as_deref().cloned().unwrap_or_default();
        if self.token_claims.is_none() {
            claims.insert("sub".to_owned(), self.id.as_str().into());
        }
        let roles: Vec<&str> = self.roles.iter().map(RoleName::as_str).collect();
        let scopes: Vec<&str> = self
            .scopes
            .iter()
            .flat_map(|scopes| scopes.iter())
            .map(|scope| &**scope)
            .collect();
        for (name, value) in [
            ("id", self.id.as_str().into()),
            ("kind", self.kind.as_str().into()),
            ("name", self.name.as_str().into()),
            ("roles", roles.into()),
            ("scopes", scopes.into()),
        ] {
            claims.insert(name.to_owned(), value);
        }
        Value::Object(claims)
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
