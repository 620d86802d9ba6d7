//! The WIT side: `gantry:cache`.

use crate::bindings::gantry::cache::{purge, store};
use crate::bindings::gantry::types::types;
use crate::bindings::{HasData, Resource, ResourceTable, Result};
use crate::ids::{Label, PluginName};
use crate::services;
use crate::services::Allowance;
use crate::services::Timed;
use crate::services::cache::Values;
use crate::services::rehearsal::{Rehearsal, rehearse};
use crate::services::{Refusals, granted};

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    pub values: &'a Values,
    pub plugin: &'a PluginName,
    pub granted: &'a [Label],
    /// Hears of labels that are not granted.
    pub refusals: Refusals<'a>,
    pub allowance: &'a Allowance,
    pub table: &'a mut ResourceTable,
    /// Times the call of this service until it is dropped.
    pub timed: Timed<'a>,
}

/// Tells the linker which view this service takes.
pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// What a guest's handle to a cache stands for.
struct Bucket(Label);

type Guest<T> = Result<std::result::Result<T, types::Error>>;

impl View<'_> {
    fn label(&self, bucket: &Resource<store::Bucket>) -> Result<Label> {
        let bucket: &Bucket = self.table.get(&Resource::new_borrow(bucket.rep()))?;
        Ok(bucket.0.clone())
    }
}

/// To the guest: its errors in its own words.
fn answer<T>(result: std::result::Result<T, services::Error>) -> Guest<T> {
    Ok(result.map_err(types::Error::from))
}

impl store::Host for View<'_> {}

impl store::HostBucket for View<'_> {
    async fn open(&mut self, label: String) -> Guest<Resource<store::Bucket>> {
        rehearse!(self, cache.open);
        let label = match granted(&label, "cache", self.granted, |label| label, self.refusals) {
            Ok(label) => label.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        let bucket = self.table.push(Bucket(label))?;
        Ok(Ok(Resource::new_own(bucket.rep())))
    }

    async fn get(&mut self, this: Resource<store::Bucket>, key: String) -> Guest<Option<Vec<u8>>> {
        rehearse!(self, cache.get);
        let label = self.label(&this)?;
        let value = self.values.get(self.plugin, &label, &key).await;
        let value = value.and_then(|value| {
            let bytes = value.as_ref().map_or(0, bytes::Bytes::len);
            self.allowance.hold_answer(bytes)?;
            Ok(value.map(|value| value.to_vec()))
        });
        answer(value)
    }

    async fn set(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
        value: Vec<u8>,
        options: store::SetOptions,
    ) -> Guest<()> {
        rehearse!(self, cache.set);
        let label = self.label(&this)?;
        let _held = match self.allowance.hold(value.len()) {
            Ok(held) => held,
            Err(error) => return Ok(Err(error.into())),
        };
        let (values, plugin) = (self.values, self.plugin);
        let store::SetOptions { ttl_ms, tags } = options;
        answer(
            values
                .set(plugin, &label, &key, &value, ttl_ms, &tags)
                .await,
        )
    }

    async fn delete(&mut self, this: Resource<store::Bucket>, key: String) -> Guest<bool> {
        rehearse!(self, cache.delete);
        let label = self.label(&this)?;
        answer(self.values.delete(self.plugin, &label, &key).await)
    }

    async fn drop(&mut self, this: Resource<store::Bucket>) -> Result<()> {
        self.table.delete(Resource::<Bucket>::new_own(this.rep()))?;
        Ok(())
    }
}

impl purge::Host for View<'_> {
    async fn by_tag(&mut self, tag: String) -> Guest<u64> {
        rehearse!(self, cache.by_tag);
        answer(self.values.purge_tag(self.plugin, &tag).await)
    }

    async fn by_route(&mut self, pattern: String) -> Guest<u64> {
        rehearse!(self, cache.by_route);
        answer(self.values.purge_route(self.plugin, &pattern).await)
    }

    async fn everything(&mut self) -> Guest<u64> {
        rehearse!(self, cache.everything);
        answer(Ok(self.values.purge_everything(self.plugin).await))
    }
}
