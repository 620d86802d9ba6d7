//! Guests: what they told us when they booked.

mod store;

use gantry_sdk::prelude::*;

use crate::check::Check;

pub use store::find_or_insert;

/// A guest. Address and number may be empty if the staff took the booking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    pub name: String,
    pub email: String,
    pub phone: String,
}

/// A guest as clients write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    name: String,
    email: String,
    phone: String,
}

/// Whether we must be able to write to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Email {
    Needed,
    Optional,
}

impl Input {
    /// Mistakes are below `/guest`.
    pub fn checked(&self, check: &mut Check, email: Email) -> Guest {
        let guest = Guest {
            name: check.text("/guest/name", &self.name, 1..=120),
            email: check.email("/guest/email", &self.email),
            phone: check.phone("/guest/phone", &self.phone),
        };
        if email == Email::Needed && guest.email.is_empty() {
            check.mistake(
                "/guest/email",
                "required",
                "the confirmation goes to this address",
            );
        }
        guest
    }
}
