//! The WIT side: `gantry:tokens/tokens`.

use crate::auth::{GuestTokens, guest};
use crate::bindings::HasData;
use crate::bindings::gantry::tokens::tokens;
use crate::bindings::gantry::types::types;
use crate::ids::PluginName;
use crate::services::rehearsal::{Rehearsal, call};
use crate::services::{Error, Kind, Timed};

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    pub tokens: &'a GuestTokens,
    pub plugin: &'a PluginName,
    /// Times the call of this service until it is dropped.
    pub timed: Timed<'a>,
}

/// Tells the linker which view this service takes.
pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn refuse(error: &guest::Error) -> types::Error {
    let (kind, code) = match error {
        guest::Error::Invalid => (Kind::Denied, "token.invalid"),
        guest::Error::Expired => (Kind::Denied, "token.expired"),
        guest::Error::Purpose => (Kind::Invalid, "token.purpose_invalid"),
        guest::Error::Subject => (Kind::Invalid, "token.subject_invalid"),
        guest::Error::Ttl => (Kind::Invalid, "token.ttl_invalid"),
    };
    Error::new(kind, code, error.to_string()).into()
}

impl tokens::Host for View<'_> {
    fn sign(
        &mut self,
        purpose: String,
        subject: String,
        ttl_ms: u64,
    ) -> Result<String, types::Error> {
        let tokens = self.tokens.of_plugin(self.plugin);
        tokens
            .sign(&purpose, &subject, ttl_ms)
            .map_err(|error| refuse(&error))
    }

    fn verify(&mut self, purpose: String, token: String) -> Result<String, types::Error> {
        if let Some(error) = self
            .rehearsal
            .and_then(|rehearsal| rehearsal.meet(call!(tokens.verify)))
        {
            return Err(error.into());
        }
        let tokens = self.tokens.of_plugin(self.plugin);
        tokens
            .verify(&purpose, &token)
            .map_err(|error| refuse(&error))
    }
}
