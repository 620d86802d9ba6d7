//! The WIT side of the standard: `wasi:keyvalue`, on the same stores and under the same grants as `gantry:kv`.
//!
//! Its words are fewer, so what is denied for want of a grant is `access-denied` and everything else is told as text.

use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::bindings::{Resource, Result};
use crate::ids::{Label, PluginName};
use crate::services;
use crate::services::kv::host::View;
use crate::services::kv::{KEYS_PER_CALL_MAX, KEYS_PER_PAGE_MAX, Kv, PutOptions};
use crate::services::{Kind, granted};

/// What a guest's handle to a bucket stands for.
struct Bucket {
    label: Label,
    /// Where the last page of keys ended: how many keys came before, and our own cursor.
    page_end: Option<(u64, String)>,
}

type Guest<T> = Result<std::result::Result<T, store::Error>>;

/// To the guest: its errors in the standard's words.
fn answer<T>(result: std::result::Result<T, services::Error>) -> Guest<T> {
    Ok(result.map_err(store::Error::from))
}

impl From<services::Error> for store::Error {
    fn from(error: services::Error) -> Self {
        match error.kind {
            Kind::Denied => Self::AccessDenied,
            _ => Self::Other(format!("{}: {}", error.code, error.message)),
        }
    }
}

impl View<'_> {
    fn standard_label(&self, bucket: &Resource<store::Bucket>) -> Result<Label> {
        let bucket: &Bucket = self.table.get(&Resource::new_borrow(bucket.rep()))?;
        Ok(bucket.label.clone())
    }
}

/// One page of keys from the one at `offset` on. The standard counts where our cursors name a key, so a page that does not
/// follow the last one is counted out.
async fn page(
    kv: &Kv,
    plugin: &PluginName,
    label: &Label,
    from: Option<(u64, String)>,
    offset: u64,
) -> std::result::Result<(Vec<String>, Option<(u64, String)>), services::Error> {
    let (mut before, mut cursor) = match from {
        Some((end, cursor)) if end <= offset => (end, Some(cursor)),
        _ => (0, None),
    };
    loop {
        let skip = offset - before;
        let max = match skip {
            0 => KEYS_PER_PAGE_MAX,
            skip => u32::try_from(skip).map_or(KEYS_PER_PAGE_MAX, |n| n.min(KEYS_PER_PAGE_MAX)),
        };
        let page = kv.keys(plugin, label, "", cursor.as_deref(), max).await?;
        before += page.keys.len() as u64;
        if skip == 0 {
            return Ok((page.keys, page.cursor.map(|cursor| (before, cursor))));
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok((Vec::new(), None));
        }
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Guest<Resource<store::Bucket>> {
        let label = match granted(
            &identifier,
            "kv",
            self.granted,
            |label| label,
            self.refusals,
        ) {
            Ok(label) => label.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        let bucket = self.table.push(Bucket {
            label,
            page_end: None,
        })?;
        Ok(Ok(Resource::new_own(bucket.rep())))
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, this: Resource<store::Bucket>, key: String) -> Guest<Option<Vec<u8>>> {
        let label = self.standard_label(&this)?;
        let entry = self.kv.get(self.plugin, &label, &key).await;
        answer(entry.map(|entry| entry.map(|entry| entry.value)))
    }

    async fn set(
        &mut self,
        this: Resource<store::Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> Guest<()> {
        let label = self.standard_label(&this)?;
        let options = PutOptions::default();
        let put = self.kv.put(self.plugin, &label, &key, &value, &options);
        answer(put.await.map(drop))
    }

    async fn delete(&mut self, this: Resource<store::Bucket>, key: String) -> Guest<()> {
        let label = self.standard_label(&this)?;
        let deleted = self.kv.delete(self.plugin, &label, &key, None).await;
        answer(deleted.map(drop))
    }

    async fn exists(&mut self, this: Resource<store::Bucket>, key: String) -> Guest<bool> {
        let label = self.standard_label(&this)?;
        let entry = self.kv.get(self.plugin, &label, &key).await;
        answer(entry.map(|entry| entry.is_some()))
    }

    async fn list_keys(
        &mut self,
        this: Resource<store::Bucket>,
        cursor: Option<u64>,
    ) -> Guest<store::KeyResponse> {
        let handle = Resource::<Bucket>::new_borrow(this.rep());
        let bucket = self.table.get(&handle)?;
        let (label, from) = (bucket.label.clone(), bucket.page_end.clone());
        let offset = cursor.unwrap_or(0);
        let (keys, end) = match page(&self.kv, self.plugin, &label, from, offset).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.into())),
        };
        let cursor = end.as_ref().map(|(before, _)| *before);
        self.table.get_mut(&handle)?.page_end = end;
        Ok(Ok(store::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, this: Resource<store::Bucket>) -> Result<()> {
        self.table.delete(Resource::<Bucket>::new_own(this.rep()))?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<store::Bucket>,
        key: String,
        delta: u64,
    ) -> Guest<u64> {
        let label = self.standard_label(&bucket)?;
        let too_large = || {
            let message = "the number or the sum does not fit";
            services::Error::invalid("kv.number_overflow", message)
        };
        let sum = match i64::try_from(delta) {
            Ok(delta) => {
                self.kv
                    .increment(self.plugin, &label, &key, delta, None)
                    .await
            }
            Err(_) => Err(too_large()),
        };
        answer(sum.and_then(|sum| u64::try_from(sum).map_err(|_| too_large())))
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<store::Bucket>,
        keys: Vec<String>,
    ) -> Guest<Vec<Option<(String, Vec<u8>)>>> {
        let label = self.standard_label(&bucket)?;
        let entries = self.kv.get_many(self.plugin, &label, &keys).await;
        answer(entries.map(|entries| {
            let pairs = keys.into_iter().zip(entries);
            pairs
                .map(|(key, entry)| entry.map(|entry| (key, entry.value)))
                .collect()
        }))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<store::Bucket>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> Guest<()> {
        let label = self.standard_label(&bucket)?;
        if let Err(error) = check_number(key_values.len()) {
            return answer(Err(error));
        }
        for (key, value) in key_values {
            let options = PutOptions::default();
            let put = self.kv.put(self.plugin, &label, &key, &value, &options);
            if let Err(error) = put.await {
                return answer(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<store::Bucket>,
        keys: Vec<String>,
    ) -> Guest<()> {
        let label = self.standard_label(&bucket)?;
        if let Err(error) = check_number(keys.len()) {
            return answer(Err(error));
        }
        for key in keys {
            if let Err(error) = self.kv.delete(self.plugin, &label, &key, None).await {
                return answer(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

/// As many keys at once as `get-many` takes.
fn check_number(keys: usize) -> std::result::Result<(), services::Error> {
    if keys > KEYS_PER_CALL_MAX {
        let message = format!("at most {KEYS_PER_CALL_MAX} keys at once, not {keys}");
        return Err(services::Error::invalid("kv.too_many_keys", message));
    }
    Ok(())
}
