//! The WIT side: `gantry:kv/store`.

use crate::bindings::gantry::kv::store;
use crate::bindings::gantry::types::types;
use crate::bindings::{HasData, Resource, ResourceTable, Result};
use crate::ids::{Label, PluginName};
use crate::services;
use crate::services::Allowance;
use crate::services::Timed;
use crate::services::kv::{Entry, Kv, PutOptions};
use crate::services::rehearsal::{Rehearsal, rehearse};
use crate::services::{Refusals, granted};

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    /// Charged to the call.
    pub kv: Kv,
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

/// What a guest's handle to a bucket stands for.
struct Bucket(Label);

type Guest<T> = Result<std::result::Result<T, types::Error>>;

impl View<'_> {
    fn label(&self, bucket: &Resource<store::Bucket>) -> Result<Label> {
        let bucket: &Bucket = self.table.get(&Resource::new_borrow(bucket.rep()))?;
        Ok(bucket.0.clone())
    }

    /// An answer, counted for the call until the guest has it.
    fn counted<T>(
        &self,
        answer: T,
        bytes: impl Fn(&T) -> usize,
    ) -> std::result::Result<T, services::Error> {
        self.allowance.hold_answer(bytes(&answer))?;
        Ok(answer)
    }
}

fn entry_bytes(entry: &Option<Entry>) -> usize {
    entry.as_ref().map_or(0, |entry| entry.value.len())
}

/// To the guest: its errors in its own words.
fn answer<T, U: From<T>>(result: std::result::Result<T, services::Error>) -> Guest<U> {
    Ok(result.map(U::from).map_err(types::Error::from))
}

impl From<Entry> for store::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            value: entry.value,
            version: entry.version,
        }
    }
}

impl store::Host for View<'_> {}

impl store::HostBucket for View<'_> {
    async fn open(&mut self, label: String) -> Guest<Resource<store::Bucket>> {
        rehearse!(self, kv.open);
        let label = match granted(&label, "kv", self.granted, |label| label, self.refusals) {
            Ok(label) => label.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        let bucket = self.table.push(Bucket(label))?;
        Ok(Ok(Resource::new_own(bucket.rep())))
    }

    async fn get(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
    ) -> Guest<Option<store::Entry>> {
        rehearse!(self, kv.get);
        let label = self.label(&this)?;
        let entry = self.kv.get(self.plugin, &label, &key).await;
        let entry = entry.and_then(|entry| self.counted(entry, entry_bytes));
        answer(entry.map(|entry| entry.map(store::Entry::from)))
    }

    async fn get_many(
        &mut self,
        this: Resource<store::Bucket>,
        keys: Vec<String>,
    ) -> Guest<Vec<Option<store::Entry>>> {
        rehearse!(self, kv.get_many);
        let label = self.label(&this)?;
        let entries = self.kv.get_many(self.plugin, &label, &keys).await;
        let bytes = |entries: &Vec<_>| entries.iter().map(entry_bytes).sum();
        let entries = entries.and_then(|entries| self.counted(entries, bytes));
        answer(entries.map(|entries| {
            entries
                .into_iter()
                .map(|entry| entry.map(store::Entry::from))
                .collect::<Vec<_>>()
        }))
    }

    async fn put(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
        value: Vec<u8>,
        options: store::PutOptions,
    ) -> Guest<store::Version> {
        rehearse!(self, kv.put);
        let label = self.label(&this)?;
        // Writes wait for one another, each with its value.
        let _held = match self.allowance.hold(value.len()) {
            Ok(held) => held,
            Err(error) => return Ok(Err(error.into())),
        };
        let options = PutOptions {
            ttl_ms: options.ttl_ms,
            if_absent: options.if_absent,
            if_version: options.if_version,
        };
        answer(
            self.kv
                .put(self.plugin, &label, &key, &value, &options)
                .await,
        )
    }

    async fn delete(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
        if_version: Option<store::Version>,
    ) -> Guest<bool> {
        rehearse!(self, kv.delete);
        let label = self.label(&this)?;
        answer(
            self.kv
                .delete(self.plugin, &label, &key, if_version.as_deref())
                .await,
        )
    }

    async fn increment(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Guest<i64> {
        rehearse!(self, kv.increment);
        let label = self.label(&this)?;
        answer(
            self.kv
                .increment(self.plugin, &label, &key, delta, ttl_ms)
                .await,
        )
    }

    async fn keys(
        &mut self,
        this: Resource<store::Bucket>,
        prefix: String,
        cursor: Option<String>,
        max: u32,
    ) -> Guest<store::KeyPage> {
        rehearse!(self, kv.keys);
        let label = self.label(&this)?;
        let page = self
            .kv
            .keys(self.plugin, &label, &prefix, cursor.as_deref(), max)
            .await;
        answer(page.map(|page| store::KeyPage {
            keys: page.keys,
            cursor: page.cursor,
        }))
    }

    async fn drop(&mut self, this: Resource<store::Bucket>) -> Result<()> {
        self.table.delete(Resource::<Bucket>::new_own(this.rep()))?;
        Ok(())
    }
}
