//! The WIT side: `gantry:tokens/tokens`.

use crate::auth::{GuestTokenError, GuestTokens};
use crate::bindings::HasData;
use crate::bindings::gantry::tokens::tokens;
use crate::bindings::gantry::types::types;
use crate::ids::PluginName;
use crate::services::{Error, Kind};

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    pub tokens: &'a GuestTokens,
    pub plugin: &'a PluginName,
}

/// Tells the linker which view this service takes.
pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn refuse(error: &GuestTokenError) -> types::Error {
    let code = error.code();
    let kind = match error {
        GuestTokenError::Invalid | GuestTokenError::Expired => Kind::Denied,
        _ => Kind::Invalid,
    };
    Error::new(kind, code, error.to_string()).into()
}

impl tokens::Host for View<'_> {
    fn sign(&mut self, purpose: String, subject: String, ttl_ms: u64) -> Result<String, types::Error> {
        self.tokens.sign(self.plugin, &purpose, &subject, ttl_ms).map_err(|error| refuse(&error))
    }

    fn verify(&mut self, purpose: String, token: String) -> Result<String, types::Error> {
        self.tokens.verify(self.plugin, &purpose, &token).map_err(|error| refuse(&error))
    }
}
