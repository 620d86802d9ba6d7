//! Files, private to each plugin: objects by their names in buckets, uploads that can be resumed, signed links.
//!
//! The row is the truth: an object is there when its row is. Bytes lie in pieces under an id that nobody chose, and are
//! written before the row; readers of an object that is replaced meanwhile read it to its end. Who may open which bucket is
//! decided by the caller; here every call names its bucket. Work per process: opening the store. Per call: statements, and
//! requests to the store for each piece.

mod config;
mod content;
mod error;
pub mod host;
mod link;
mod metrics;
mod object;
mod publish;
mod removal;
mod resumable;
mod shelf;
mod store;
mod types;
mod upload;

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicU16},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::Stream;
use sha2::{Digest as _, Sha256};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::db::{Connection, Db};
use crate::ids::PluginName;
use crate::services::{Allowance, Charge, Quota, Turn, Turns};
use content::{Reader, Readers};
use link::Signer;
use metrics::Metrics;
use object::check_name;
use publish::require;
use shelf::Shelf;
use store::Change;
use upload::{Outcome, Pen, token};

pub use config::{BucketBounds, Config, S3Config, SecretKey, StoreKind};
pub use content::Content;
pub use error::{Error, Interrupted};
pub use link::{Access, LINK_PATH, Link, LinkOptions, bucket_of_link};
pub use object::{
    BucketId, Condition, InvalidPattern, LinkId, Metadata, NAME_BYTES_MAX, NewObject, Object,
    ObjectId, ObjectPage, Rules, TypePattern, Upload, UploadId, UploadPage, Usage, derived_folder,
    is_hosts,
};
pub use shelf::OpenError;
pub use upload::Writer;

/// Most objects or uploads on one page. Part of the contract.
pub const PAGE_MAX: u32 = 1000;

/// The files of all plugins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs(Arc<Inner>, Option<Allowance>);

#[derive(Debug)]
struct Inner {
    db: Db,
    config: Config,
    shelf: Shelf,
    signer: Signer,
    clock: Clock,
    turns: Turns,
    /// What uploads hold in memory.
    buffers: Quota,
    readers: Readers,
    metrics: Metrics,
    tasks: TaskTracker,
    /// Where the search for bytes that nobody knows goes on.
    next_shard: AtomicU16,
}

/// What files need of the host.
#[derive(Debug)]
pub struct Setting<'a> {
    pub db: Db,
    pub clock: Clock,
    /// For links, and to tell whose a store is: a key for this purpose only.
    pub key: [u8; 32],
    /// The folder for bytes, if they are kept in one.
    pub folder: &'a Path,
    pub metrics: &'a prometheus::Registry,
}

/// Why files cannot be kept at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("metrics of files cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Blobs {
    /// Opens the store. Blocks on the disk for a moment; a server need not be there yet.
    pub fn start(config: Config, setting: Setting<'_>) -> Result<Self, StartError> {
        let metrics = Metrics::register(setting.metrics)?;
        let owner = Sha256::new()
            .chain_update(b"owner")
            .chain_update(setting.key);
        let owner = hex::encode(&owner.finalize()[..16]);
        let shelf = Shelf::open(&config, setting.folder, owner, metrics.clone())?;
        let wait = Duration::from_millis(config.wait_ms);
        let inner = Inner {
            db: setting.db,
            shelf,
            signer: Signer::new(setting.key),
            clock: setting.clock,
            turns: Turns::new(config.reads_at_once_max, config.waiting_max, wait),
            buffers: Quota::new(config.buffers_bytes_max),
            readers: Readers::default(),
            metrics,
            tasks: TaskTracker::new(),
            next_shard: AtomicU16::new(0),
            config,
        };
        Ok(Self(Arc::new(inner), None))
    }

    /// The same files, for one call: what is computed is charged to it.
    #[must_use]
    pub fn charged_to(&self, call: &Allowance) -> Self {
        Self(Arc::clone(&self.0), Some(call.clone()))
    }

    /// What the operator decided.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The object with this name. [`Error::NotFound`] if there is none.
    pub async fn info(&self, bucket: &BucketId, name: &str) -> Result<Object, Error> {
        check_name(name)?;
        let _turn = self.read_turn(bucket).await?;
        let (mut connection, _charge) = self.reader().await?;
        let found = store::find(&mut connection, bucket, name).await;
        found.map_err(Error::rows)?.ok_or(Error::NotFound)
    }

    /// The bytes of this state of the object, or of a range of it, which must begin within it ([`Error::RangeInvalid`]) and
    /// may end beyond it. [`Error::NotFound`] if it was replaced or deleted since.
    pub async fn open(&self, object: &Object, range: Option<Range<u64>>) -> Result<Content, Error> {
        let size = object.size;
        let range = range.unwrap_or(0..size);
        let is_empty = range.start >= range.end || range.start >= size;
        if is_empty && (size > 0 || range.start > 0) {
            return Err(Error::RangeInvalid { size });
        }
        // First: who is there before it is looked up is seen by whoever removes it.
        let reader = Reader::begin(self, object.id);
        let _turn = self.read_turn(&object.bucket).await?;
        let (mut connection, _charge) = self.reader().await?;
        let is_there = store::is_there(&mut connection, object.id).await;
        if !is_there.map_err(Error::rows)? {
            return Err(Error::NotFound);
        }
        Ok(content::read(reader, range.start, range.end.min(size)))
    }

    /// Takes a whole body and makes it an object, in the place of the one that has the name. Nothing is there before all of
    /// it is; if it fails or this is dropped, nothing is left.
    pub async fn upload<S, E>(
        &self,
        bucket: &BucketId,
        new: NewObject,
        rules: &Rules,
        body: S,
    ) -> Result<Object, Interrupted<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Send,
    {
        let writer = self.writer(bucket, new, rules).await?;
        match writer.take(body).await? {
            Outcome::Object(object) => Ok(object),
            Outcome::Upload(_) => Err(Error::Failed.into()),
        }
    }

    /// The same in pieces: what is written becomes an object when it is finished.
    pub async fn writer(
        &self,
        bucket: &BucketId,
        new: NewObject,
        rules: &Rules,
    ) -> Result<Writer, Error> {
        let token = token();
        let upload = self.insert(bucket, new, rules, Some(&token)).await?;
        Ok(Pen::new(self.clone(), upload, token).spawn())
    }

    /// Deletes an object, with what was derived of it, and says whether there was one. Who reads it, reads it to its end.
    /// [`Error::Changed`] if the condition does not hold.
    pub async fn delete(
        &self,
        bucket: &BucketId,
        name: &str,
        condition: Condition,
    ) -> Result<bool, Error> {
        check_name(name)?;
        let _turn = self.write_turn(bucket).await?;
        let mut change = self.change(bucket).await?;
        let found = change.find(name).await.map_err(Error::rows)?;
        require(condition, found.as_ref())?;
        let Some(object) = found else {
            return Ok(false);
        };
        let mut gone = change.take_derived(name).await.map_err(Error::rows)?;
        change
            .take(object.id, object.size)
            .await
            .map_err(Error::rows)?;
        change.count(|usage| usage.objects = usage.objects.saturating_sub(1));
        change.commit().await.map_err(Error::rows)?;
        gone.push(object.id);
        for object in gone {
            self.remove_soon(object);
        }
        Ok(true)
    }

    /// Objects whose names begin with `prefix`, in ascending order of the bytes of their names, `max` (1 to 1000) at a time.
    pub async fn list(
        &self,
        bucket: &BucketId,
        prefix: &str,
        cursor: Option<&str>,
        max: u32,
    ) -> Result<ObjectPage, Error> {
        let limit = page_limit(max)?;
        if prefix.len() > NAME_BYTES_MAX || prefix.contains('\0') {
            return Err(Error::NameInvalid);
        }
        let after = cursor.map(decode_cursor).transpose()?;
        let after = after.unwrap_or_default();
        let _turn = self.read_turn(bucket).await?;
        let (mut connection, _charge) = self.reader().await?;
        let found = store::list(&mut connection, bucket, prefix, &after, limit).await;
        let mut objects = found.map_err(Error::rows)?;
        // Names are sorted, so those with the prefix stand together at the beginning.
        let mut those = objects.iter();
        let with_prefix = those.position(|object| !object.name.starts_with(prefix));
        objects.truncate(with_prefix.unwrap_or(objects.len()));
        let is_last = objects.len() <= max as usize;
        objects.truncate(max as usize);
        let last = objects
            .last()
            .map(|object| URL_SAFE_NO_PAD.encode(&object.name));
        let cursor = last.filter(|_| !is_last);
        Ok(ObjectPage { objects, cursor })
    }

    /// What a bucket keeps now.
    pub async fn usage(&self, bucket: &BucketId) -> Result<Usage, Error> {
        let label = Some(bucket.label.as_str());
        let usage = store::usage(&self.0.db, &bucket.plugin, label).await;
        usage.map_err(Error::rows)
    }

    /// What a plugin keeps now, over all its buckets.
    pub async fn usage_of(&self, plugin: &PluginName) -> Result<Usage, Error> {
        store::usage(&self.0.db, plugin, None)
            .await
            .map_err(Error::rows)
    }

    /// A link to an object, from `/` on, that is good for `seconds`. Whoever has it may do with the object what it says.
    pub fn sign(
        &self,
        access: Access,
        bucket: &BucketId,
        name: &str,
        seconds: u64,
        options: LinkOptions,
    ) -> Result<String, Error> {
        let seconds_max = self.config().link_seconds_max;
        if !(1..=seconds_max).contains(&seconds) {
            return Err(Error::LinkTtlInvalid { seconds_max });
        }
        self.0.signer.sign(&Link {
            access,
            bucket: bucket.clone(),
            name: name.to_owned(),
            expires_at_ms: self
                .0
                .clock
                .now_ms()
                .saturating_add_unsigned(seconds.saturating_mul(1000)),
            options,
        })
    }

    /// What a link allows: `path` from `/` on, as it came, and the query without `?`. [`Error::LinkInvalid`] or
    /// [`Error::LinkExpired`].
    pub fn verify(&self, path: &str, query: &str) -> Result<Link, Error> {
        self.0.signer.verify(path, query, self.0.clock.now_ms())
    }

    /// By what a link is remembered once it was used.
    pub fn link_id(&self, link: &Link) -> LinkId {
        LinkId {
            digest: self.0.signer.digest(link),
            expires_at_ms: link.expires_at_ms,
        }
    }

    /// Waits for what is under way. Nothing more may be begun.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    async fn change(&self, bucket: &BucketId) -> Result<Change, Error> {
        let (transaction, meter) = self.0.db.begin_metered().await.map_err(Error::rows)?;
        let charge = Charge::new(meter, self.1.as_ref());
        Change::begin(transaction, charge, bucket)
            .await
            .map_err(Error::rows)
    }

    async fn reader(&self) -> Result<(Connection, Charge), Error> {
        let (connection, meter) = self.0.db.metered_reader().await.map_err(Error::rows)?;
        Ok((connection, Charge::new(meter, self.1.as_ref())))
    }

    async fn read_turn(&self, bucket: &BucketId) -> Result<Turn, Error> {
        self.0.turns.read(&bucket.plugin).await.ok_or(Error::Busy)
    }

    async fn write_turn(&self, bucket: &BucketId) -> Result<Turn, Error> {
        self.0.turns.write(&bucket.plugin).await.ok_or(Error::Busy)
    }
}

/// One more than wanted tells whether there is another page.
fn page_limit(max: u32) -> Result<i64, Error> {
    if (1..=PAGE_MAX).contains(&max) {
        Ok(i64::from(max) + 1)
    } else {
        Err(Error::PageSizeInvalid { max: PAGE_MAX })
    }
}

fn decode_cursor(cursor: &str) -> Result<String, Error> {
    let name = (cursor.len() <= NAME_BYTES_MAX * 2).then(|| URL_SAFE_NO_PAD.decode(cursor));
    let name = name
        .and_then(Result::ok)
        .and_then(|bytes| String::from_utf8(bytes).ok());
    name.filter(|name| check_name(name).is_ok())
        .ok_or(Error::CursorInvalid)
}
