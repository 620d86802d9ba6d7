//! Who does something, for the history of a reservation.

use gantry_sdk::prelude::*;

/// A guest, or somebody the host has authenticated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Actor {
    /// `guest`, or the kind of the principal: `user`, `api-key`.
    pub kind: String,
    /// The principal's id.
    pub id: Option<String>,
    pub name: String,
}

impl Actor {
    /// Somebody without an account.
    pub fn guest(name: &str) -> Self {
        Self {
            kind: "guest".to_owned(),
            id: None,
            name: name.to_owned(),
        }
    }
}

impl From<Principal> for Actor {
    fn from(principal: Principal) -> Self {
        Self {
            kind: principal.kind(),
            id: Some(principal.id()),
            name: principal.name(),
        }
    }
}

impl FromRequest for Actor {
    /// The caller of a route of the staff.
    fn from_request(request: &mut Request) -> Result<Self> {
        Principal::from_request(request).map(Self::from)
    }
}
