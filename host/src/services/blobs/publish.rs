//! How what is sent becomes an object, or nothing; and whether there is room for it.

use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::content::{self, Reader};
use super::object::{check_metadata, check_name};
use super::resumable::store::{Lease, Stored};
use super::store::Change;
use super::{
    Blobs, BucketId, Condition, Error, NewObject, Object, ObjectId, Rules, UploadId, types,
};
use crate::ids::Digest;

impl Blobs {
    /// Notes an object that is going to be sent, and reserves what it declares.
    pub(super) async fn insert(
        &self,
        bucket: &BucketId,
        new: NewObject,
        rules: &Rules,
        token: Option<&str>,
    ) -> Result<Stored, Error> {
        check_name(&new.name)?;
        check_metadata(&new.metadata, self.config())?;
        types::check_declared(new.content_type.as_deref(), rules, self.config())?;
        let bytes_max = self.bytes_max(rules);
        let reserved = new.length.unwrap_or(0);
        if reserved > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        let now = self.0.clock.now_ms();
        let upload = Stored {
            id: UploadId::new(),
            object: ObjectId::new(),
            bucket: bucket.clone(),
            name: new.name,
            content_type: new.content_type,
            metadata: new.metadata,
            owner: new.owner,
            length: new.length,
            rules: rules.clone(),
            condition: new.condition,
            link: new.link,
            is_resumable: token.is_none(),
            reserved,
            taken: 0,
            parts: 0,
            head: Vec::new(),
            hash: Vec::new(),
            created_at: now,
            expires_at: self.expiry(now, token.is_none()),
            finished_at: None,
        };
        let _turn = self.write_turn(bucket).await?;
        let mut change = self.change(bucket).await?;
        let there = change.find(&upload.name).await.map_err(Error::rows)?;
        // Now already, so that nobody sends much for nothing.
        require(new.condition, there.as_ref())?;
        self.require_unused(&mut change, &upload).await?;
        let uploads_max = self.config().uploads_per_plugin_max;
        if change.plugin_usage.uploads >= uploads_max {
            return Err(Error::TooManyUploads { uploads_max });
        }
        if there.is_none() {
            self.require_place(
                &change,
                change.plugin_usage.uploads,
                change.bucket_usage.uploads,
            )?;
        }
        self.require_room(&change, reserved)?;
        if upload.is_resumable || upload.owner.is_some() {
            self.require_share(&mut change, upload.owner.as_deref(), reserved, true)
                .await?;
        }
        change.count(|usage| {
            usage.uploads += 1;
            usage.reserved_bytes += reserved;
        });
        let lease = token.map(|token| self.lease(token, now));
        change
            .insert_upload(&upload, lease)
            .await
            .map_err(Error::rows)?;
        change.commit().await.map_err(Error::rows)?;
        Ok(upload)
    }

    /// Gives the name to what is whole, and takes it from what had it.
    pub(super) async fn publish(
        &self,
        mut change: Change,
        upload: &Stored,
        content_type: String,
        sha256: Digest,
        has_strays: bool,
    ) -> Result<Object, Error> {
        let old = change.find(&upload.name).await.map_err(Error::rows)?;
        require(upload.condition, old.as_ref())?;
        self.require_unused(&mut change, upload).await?;
        if let Some(link) = &upload.link {
            change.use_link(link).await.map_err(Error::rows)?;
        }
        let now = self.0.clock.now_ms();
        let object = Object {
            bucket: upload.bucket.clone(),
            name: upload.name.clone(),
            id: upload.object,
            size: upload.taken,
            content_type,
            sha256,
            metadata: upload.metadata.clone(),
            owner: upload.owner.clone(),
            created_at_ms: now,
        };
        let mut gone = Vec::new();
        match &old {
            None => {
                self.require_place(&change, 0, 0)?;
                change.count(|usage| usage.objects += 1);
            }
            Some(old) => {
                gone = change.take_derived(&old.name).await.map_err(Error::rows)?;
                change.take(old.id, old.size).await.map_err(Error::rows)?;
                gone.push(old.id);
            }
        }
        change.insert(&object).await.map_err(Error::rows)?;
        if has_strays {
            change
                .remove_later(object.id, 0)
                .await
                .map_err(Error::rows)?;
        }
        change.count(|usage| {
            usage.bytes += upload.taken;
            usage.reserved_bytes = usage.reserved_bytes.saturating_sub(upload.reserved);
            usage.uploads = usage.uploads.saturating_sub(1);
        });
        if upload.is_resumable {
            let finished = change
                .finish_upload(upload.id, now, self.expiry(now, true))
                .await;
            finished.map_err(Error::rows)?;
        } else {
            change.delete_upload(upload.id).await.map_err(Error::rows)?;
        }
        change.commit().await.map_err(Error::rows)?;
        for object in gone {
            self.remove_soon(object);
        }
        if has_strays {
            self.remove_soon(object.id);
        }
        Ok(object)
    }

    /// Gives up what was being sent, if it is there still (and theirs): its row goes, its bytes are going to.
    pub(super) async fn discard(
        &self,
        upload: &Stored,
        token: Option<&str>,
        taken: u64,
    ) -> Result<(), Error> {
        let mut change = self.change(&upload.bucket).await?;
        let found = change
            .find_upload(upload.id, token)
            .await
            .map_err(Error::rows)?;
        let Some(found) = found else { return Ok(()) };
        change.delete_upload(upload.id).await.map_err(Error::rows)?;
        let is_open = found.upload.finished_at.is_none();
        if is_open {
            let taken = taken.max(found.upload.taken);
            change.count(|usage| {
                usage.bytes += taken;
                usage.reserved_bytes = usage.reserved_bytes.saturating_sub(found.upload.reserved);
                usage.uploads = usage.uploads.saturating_sub(1);
            });
            let removed = change.remove_later(upload.object, taken).await;
            removed.map_err(Error::rows)?;
        }
        change.commit().await.map_err(Error::rows)?;
        if is_open {
            self.remove_soon(upload.object);
        }
        Ok(())
    }

    /// The digest of an upload whose own was kept by another version of the host.
    pub(super) async fn digest(&self, upload: &Stored) -> Result<Digest, Error> {
        let reader = Reader::begin(self, upload.object);
        let mut content = content::read(reader, 0, upload.taken);
        let mut hash = Sha256::new();
        while let Some(bytes) = content.try_next().await? {
            hash.update(&bytes);
            tokio::task::yield_now().await;
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// Most bytes of an object under these rules.
    pub(super) fn bytes_max(&self, rules: &Rules) -> u64 {
        let of_host = self.config().object_bytes_max;
        rules
            .bytes_max
            .map_or(of_host, |of_rules| of_rules.min(of_host))
    }

    /// Whether the plugin and the bucket may keep so many bytes more.
    pub(super) fn require_room(&self, change: &Change, more: u64) -> Result<(), Error> {
        let config = self.config();
        let of_bucket = config
            .bounds_of(change.bucket())
            .and_then(|bounds| bounds.bytes_max);
        for (usage, bytes_max) in [
            (change.plugin_usage, Some(config.bytes_per_plugin_max)),
            (change.bucket_usage, of_bucket),
        ] {
            let after = usage
                .bytes
                .saturating_add(usage.reserved_bytes)
                .saturating_add(more);
            if let Some(bytes_max) = bytes_max.filter(|bytes_max| more > 0 && after > *bytes_max) {
                return Err(Error::Full { bytes_max });
            }
        }
        Ok(())
    }

    /// Goes on unless what is sent comes by a link that has brought something already, whatever has become of that.
    async fn require_unused(&self, change: &mut Change, upload: &Stored) -> Result<(), Error> {
        let Some(link) = &upload.link else {
            return Ok(());
        };
        let (is_used, links) = change.used_links(link).await.map_err(Error::rows)?;
        let objects_max = self.config().objects_per_plugin_max;
        match is_used {
            true => Err(Error::Changed),
            false if links >= objects_max => Err(Error::TooManyObjects { objects_max }),
            false => Ok(()),
        }
    }

    /// Whether a sender may open one upload more, or reserve so much more for those that are open. What is promised and does
    /// not come must leave room for others; who has nothing else open may take what is there.
    pub(super) async fn require_share(
        &self,
        change: &mut Change,
        owner: Option<&str>,
        more: u64,
        is_new: bool,
    ) -> Result<(), Error> {
        let (uploads, reserved) = change.open_of(owner).await.map_err(Error::rows)?;
        let config = self.config();
        let uploads_max = match owner {
            Some(_) => config.uploads_per_owner_max,
            // All who are nobody: one of them must not be enough to keep the others out.
            None => config
                .uploads_per_owner_max
                .max(config.uploads_per_plugin_max / 2),
        };
        if is_new && uploads >= uploads_max {
            return Err(Error::TooManyUploads { uploads_max });
        }
        let has_others = is_new && uploads > 0 || uploads > 1;
        let bytes_max = self.room(change).saturating_sub(more);
        if more > 0 && has_others && reserved.saturating_add(more) > bytes_max {
            return Err(Error::Full { bytes_max });
        }
        self.require_own_room(change, owner, reserved.saturating_add(more))
            .await
    }

    /// Whether somebody may have so many bytes beside those of their objects.
    pub(super) async fn require_own_room(
        &self,
        change: &mut Change,
        owner: Option<&str>,
        open: u64,
    ) -> Result<(), Error> {
        let (Some(bytes_max), Some(owner)) = (self.config().bytes_per_owner_max, owner) else {
            return Ok(());
        };
        let stored = change.stored_of(owner).await.map_err(Error::rows)?;
        match open > 0 && stored.saturating_add(open) > bytes_max {
            true => Err(Error::Full { bytes_max }),
            false => Ok(()),
        }
    }

    /// What the plugin and the bucket may keep beside what they have.
    fn room(&self, change: &Change) -> u64 {
        let config = self.config();
        let of_bucket = config
            .bounds_of(change.bucket())
            .and_then(|bounds| bounds.bytes_max);
        let left = |usage: super::Usage, bytes_max: u64| {
            bytes_max.saturating_sub(usage.bytes.saturating_add(usage.reserved_bytes))
        };
        let of_plugin = left(change.plugin_usage, config.bytes_per_plugin_max);
        let of_bucket = of_bucket.map(|bytes_max| left(change.bucket_usage, bytes_max));
        of_plugin.min(of_bucket.unwrap_or(u64::MAX))
    }

    /// Whether the plugin and the bucket may keep one object more, if as many as these are being sent.
    fn require_place(&self, change: &Change, of_plugin: u64, of_bucket: u64) -> Result<(), Error> {
        let config = self.config();
        let bounds = config.bounds_of(change.bucket());
        for (objects, objects_max) in [
            (
                change.plugin_usage.objects + of_plugin,
                Some(config.objects_per_plugin_max),
            ),
            (
                change.bucket_usage.objects + of_bucket,
                bounds.and_then(|bounds| bounds.objects_max),
            ),
        ] {
            if let Some(objects_max) = objects_max.filter(|objects_max| objects >= *objects_max) {
                return Err(Error::TooManyObjects { objects_max });
            }
        }
        Ok(())
    }

    /// When an upload goes to which nobody adds. One that is sent in one go belongs to whoever sends it.
    pub(super) fn expiry(&self, now: i64, is_resumable: bool) -> i64 {
        let config = self.config();
        let idle_ms = if is_resumable {
            config.upload_idle_ms
        } else {
            config.lease_ms
        };
        now.saturating_add_unsigned(idle_ms)
    }

    pub(super) fn lease<'a>(&self, token: &'a str, now: i64) -> Lease<'a> {
        let until = now.saturating_add_unsigned(self.config().lease_ms);
        Lease { token, now, until }
    }
}

pub(super) fn require(condition: Condition, there: Option<&Object>) -> Result<(), Error> {
    let holds = match condition {
        Condition::Always => true,
        Condition::Absent => there.is_none(),
        Condition::Is(id) => there.is_some_and(|object| object.id == id),
    };
    if holds { Ok(()) } else { Err(Error::Changed) }
}
