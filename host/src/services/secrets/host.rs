//! The WIT side: `gantry:secrets/store` and `gantry:secrets/reveal`.

use crate::bindings::gantry::secrets::{reveal, store};
use crate::bindings::gantry::types::types;
use crate::bindings::{HasData, Resource, ResourceTable, Result};
use crate::ids::{Label, PluginName};
use crate::services::Error;
use crate::services::Timed;
use crate::services::rehearsal::{Rehearsal, rehearse};
use crate::services::secrets::Secrets;
use crate::services::{Refusals, granted};

/// A secret that the plugin may ask for.
#[derive(Debug, Clone)]
pub struct Granted {
    pub label: Label,
    /// Whether the plugin may read the value, or only have it put into requests by the host.
    pub is_revealed: bool,
}

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    pub secrets: &'a Secrets,
    pub plugin: &'a PluginName,
    pub granted: &'a [Granted],
    /// Hears of labels that are not granted.
    pub refusals: Refusals<'a>,
    pub table: &'a mut ResourceTable,
    /// Times the call of this service until it is dropped.
    pub timed: Timed<'a>,
}

/// Tells the linker which view this service takes.
pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// What a guest's handle to a secret stands for. It holds no value: a secret that was replaced in the meantime is read
/// anew.
struct Handle {
    granted: Granted,
    revision: String,
}

type Guest<T> = Result<std::result::Result<T, types::Error>>;

impl View<'_> {
    fn handle(&self, secret: &Resource<store::Secret>) -> Result<&Handle> {
        Ok(self.table.get(&Resource::new_borrow(secret.rep()))?)
    }
}

impl store::Host for View<'_> {
    async fn get(&mut self, label: String) -> Guest<Resource<store::Secret>> {
        rehearse!(self, secrets.get);
        let granted = match granted(
            &label,
            "secrets",
            self.granted,
            |granted| &granted.label,
            self.refusals,
        ) {
            Ok(granted) => granted.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        match self.secrets.get(self.plugin, &granted.label).await {
            Ok(secret) => {
                let handle = self.table.push(Handle {
                    granted,
                    revision: secret.revision,
                })?;
                Ok(Ok(Resource::new_own(handle.rep())))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl store::HostSecret for View<'_> {
    async fn revision(&mut self, this: Resource<store::Secret>) -> Result<String> {
        Ok(self.handle(&this)?.revision.clone())
    }

    async fn drop(&mut self, this: Resource<store::Secret>) -> Result<()> {
        self.table.delete(Resource::<Handle>::new_own(this.rep()))?;
        Ok(())
    }
}

impl reveal::Host for View<'_> {
    async fn reveal(&mut self, secret: Resource<store::Secret>) -> Guest<Vec<u8>> {
        rehearse!(self, secrets.reveal);
        let granted = self.handle(&secret)?.granted.clone();
        if !granted.is_revealed {
            let message = format!(
                "the secret `{}` is declared with use = \"inject\": the host sends it, the plugin does not see it",
                granted.label
            );
            return Ok(Err(Error::denied("secrets.not_revealed", message).into()));
        }
        let secret = self.secrets.get(self.plugin, &granted.label).await;
        Ok(secret
            .map(|secret| secret.value.to_vec())
            .map_err(types::Error::from))
    }
}
