//! Who is calling. The host has authenticated the caller; a plugin only asks what it may do.

use crate::extract::FromRequest;
use crate::host::identity as host;
use crate::{Error, ErrorKind, Request, Result};

/// Somebody the host has authenticated.
///
/// As an argument of a handler it answers 401 by itself if nobody is logged in; `Option<Principal>` does not.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// fn me(principal: Principal) -> String {
///     principal.name()
/// }
///
/// fn cancel(principal: Principal, Path(id): Path<u64>) -> Result<()> {
///     principal.require("reservations.write")?;
///     log::info(format!("{} cancels {id}", principal.id()));
///     Ok(())
/// }
/// # let _ = (me, cancel);
/// ```
pub struct Principal(host::Principal);

impl Principal {
    /// Stable for the life of the account.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// `user` or `api-key`. Expect new words.
    pub fn kind(&self) -> String {
        self.0.kind()
    }

    /// The name to show to people: for a user the e-mail address.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// The names of the roles the operator gave to this principal.
    pub fn roles(&self) -> Vec<String> {
        self.0.roles()
    }

    /// All permissions of those roles.
    pub fn permissions(&self) -> Vec<String> {
        self.0.permissions()
    }

    /// Whether one of the roles carries this permission.
    pub fn has_permission(&self, permission: &str) -> bool {
        self.0.has_permission(permission)
    }

    /// 403 `auth.permission_missing` without this permission.
    pub fn require(&self, permission: &str) -> Result<()> {
        if self.has_permission(permission) {
            Ok(())
        } else {
            Err(forbidden(permission))
        }
    }
}

/// The caller, or nothing if the route is open to everybody and nobody logged in.
pub fn current() -> Option<Principal> {
    host::current().map(Principal)
}

/// The caller, if it has the permission; else 401 `auth.required` or 403 `auth.permission_missing`.
pub fn require(permission: &str) -> Result<Principal> {
    host::require(permission).map(Principal).map_err(|error| {
        let error = Error::service(error);
        match (error.kind(), host::current()) {
            (ErrorKind::Denied, None) => unauthenticated(),
            (ErrorKind::Denied, Some(_)) => forbidden(permission),
            _ => error,
        }
    })
}

impl FromRequest for Principal {
    fn from_request(_request: &mut Request) -> Result<Self> {
        current().ok_or_else(unauthenticated)
    }
}

impl FromRequest for Option<Principal> {
    fn from_request(_request: &mut Request) -> Result<Self> {
        Ok(current())
    }
}

fn unauthenticated() -> Error {
    Error::new(401, "auth.required", "log in first").with_header("www-authenticate", "Bearer")
}

fn forbidden(permission: &str) -> Error {
    Error::forbidden(
        "auth.permission_missing",
        format!("this needs the permission `{permission}`"),
    )
}
