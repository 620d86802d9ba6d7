//! Removing bytes that nobody needs: of what was deleted, replaced or given up, of uploads whose time is over, and what no
//! row knows of. Whatever is left by a host that died is found here.

mod store;

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::{Instant, interval, interval_at};
use tokio_util::sync::CancellationToken;

use super::shelf::SHARDS;
use super::{Blobs, Error, ObjectId, resumable};
use crate::ids::PluginName;

/// Places that are looked through in one hour; all of them in a day.
const SHARDS_PER_HOUR: u16 = SHARDS / 16;
const HOUR_MS: u64 = 3_600_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_millis(HOUR_MS);

impl Blobs {
    /// Looks after what is left, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut minute = interval(MINUTE);
        let mut hour = interval_at(Instant::now() + HOUR, HOUR);
        loop {
            let work = async {
                tokio::select! {
                    _ = minute.tick() => self.sweep().await,
                    _ = hour.tick() => self.sweep_unknown().await,
                }
            };
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = work => done,
            };
            if let Err(error) = done {
                tracing::warn!(error.cause = %error, "Files that nobody needs cannot be removed now");
            }
        }
    }

    /// Gives up uploads whose time is over and removes bytes that nobody needs and nobody reads. A chore.
    pub async fn sweep(&self) -> Result<(), Error> {
        let inner = &self.0;
        let limit = inner.config.removals_at_once_max;
        let forgotten = store::forget_links(&inner.db, inner.clock.now_ms()).await;
        forgotten.map_err(Error::rows)?;
        loop {
            let now = inner.clock.now_ms();
            let expired = resumable::store::expired_uploads(&inner.db, now, limit.into()).await;
            let expired = expired.map_err(Error::rows)?;
            for upload in &expired {
                if upload.finished_at.is_none() {
                    inner.metrics.expired.inc();
                }
                self.discard(upload, None, upload.taken).await?;
            }
            if expired.len() < limit as usize {
                break;
            }
        }
        let mut after = String::new();
        loop {
            let removals = store::removals(&inner.db, &after, limit.into()).await;
            let removals = removals.map_err(Error::rows)?;
            for removal in &removals {
                self.remove(removal.object).await?;
            }
            match removals.last() {
                Some(last) if removals.len() >= limit as usize => after = last.object.to_string(),
                _ => return Ok(()),
            }
        }
    }

    /// Removes bytes that are old and that no row knows of, in a part of the store; the next call goes on with the next
    /// part. They are there if rows were lost, as after a backup was restored. A chore, for each hour.
    pub async fn sweep_unknown(&self) -> Result<(), Error> {
        let first = self.0.next_shard.load(Relaxed);
        for shard in first..(first + SHARDS_PER_HOUR).min(SHARDS) {
            self.sweep_shard(u8::try_from(shard).unwrap_or(0)).await?;
        }
        let next = (first + SHARDS_PER_HOUR) % SHARDS;
        self.0.next_shard.store(next, Relaxed);
        Ok(())
    }

    /// Takes all names and uploads from a plugin; their bytes go.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), Error> {
        store::delete_plugin(&self.0.db, plugin)
            .await
            .map_err(Error::rows)?;
        // What cannot be removed now, the chore removes.
        if let Err(error) = self.sweep().await {
            tracing::warn!(plugin.name = %plugin, error.cause = %error, "Bytes of files wait to be removed");
        }
        Ok(())
    }

    async fn sweep_shard(&self, shard: u8) -> Result<(), Error> {
        let inner = &self.0;
        let hours = inner.config.unknown_hours;
        if hours == 0 {
            return Ok(());
        }
        let ids = inner.shelf.ids(shard).await?;
        let old = inner
            .clock
            .now_ms()
            .saturating_sub_unsigned(hours.saturating_mul(HOUR_MS));
        let mut is_own = false;
        for id in ids {
            if id.made_at_ms().is_none_or(|made_at| made_at >= old) {
                continue;
            }
            if store::is_known(&inner.db, id).await.map_err(Error::rows)? {
                continue;
            }
            is_own = is_own || inner.shelf.is_own().await?;
            if !is_own {
                tracing::error!(
                    "Another host keeps files under `blobs.s3.prefix`; give each host one of its own"
                );
                return Ok(());
            }
            tracing::info!(blob.id = %id, "Bytes of a file that no row knows of are removed");
            inner.shelf.remove(id, &HashSet::new()).await?;
        }
        Ok(())
    }

    /// Removes the bytes of an object without anybody waiting for it.
    pub(super) fn remove_soon(&self, object: ObjectId) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let blobs = self.clone();
        self.0.tasks.spawn(async move {
            if let Err(error) = blobs.remove(object).await {
                tracing::debug!(blob.id = %object, error.cause = %error, "Bytes of a file are removed later");
            }
        });
    }

    /// Removes bytes that were noted to be, unless somebody reads them here.
    async fn remove(&self, object: ObjectId) -> Result<(), Error> {
        let inner = &self.0;
        let noted = store::removal(&inner.db, object)
            .await
            .map_err(Error::rows)?;
        let Some(noted) = noted else { return Ok(()) };
        if !inner.readers.may_remove(object) {
            return Ok(());
        }
        let keep = store::kept_parts(&inner.db, object)
            .await
            .map_err(Error::rows)?;
        inner.shelf.remove(object, &keep).await?;
        let mut change = self.change(&noted.bucket).await?;
        let removed = change.removed(object, keep.is_empty()).await;
        // Nothing if another one was faster.
        if let Some(bytes) = removed.map_err(Error::rows)? {
            change.count(|usage| usage.bytes = usage.bytes.saturating_sub(bytes));
            change.commit().await.map_err(Error::rows)?;
        }
        Ok(())
    }

    /// Removes what came for an upload after it was given up.
    pub(super) async fn remove_unknown(&self, object: ObjectId) -> Result<(), Error> {
        if store::is_known(&self.0.db, object)
            .await
            .map_err(Error::rows)?
        {
            return Ok(());
        }
        self.0.shelf.remove(object, &HashSet::new()).await
    }
}
