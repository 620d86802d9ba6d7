//! The WIT side: `gantry:blobs/store`.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use crate::bindings::gantry::blobs::store;
use crate::bindings::gantry::types::types;
use crate::bindings::{HasData, Resource, ResourceTable, Result};
use crate::ids::{Label, PluginName};
use crate::services;
use crate::services::Allowance;
use crate::services::Timed;
use crate::services::blobs::{
    Access, Blobs, BucketId, Condition, Error, LinkOptions, NewObject, Object, Rules, Writer,
    is_hosts,
};
use crate::services::rehearsal::{Rehearsal, rehearse};
use crate::services::{Refusals, granted};

/// Most patterns of types in a link.
const TYPES_MAX: usize = 16;

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    /// Charged to the call.
    pub blobs: Blobs,
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

type Guest<T> = Result<std::result::Result<T, types::Error>>;
type Answer<T> = std::result::Result<T, services::Error>;

/// To the guest: its errors in its own words.
fn answer<T>(result: Answer<T>) -> Guest<T> {
    Ok(result.map_err(types::Error::from))
}

impl View<'_> {
    fn bucket(&self, bucket: &Resource<store::Bucket>) -> Result<BucketId> {
        let bucket: &BucketId = self.table.get(&Resource::new_borrow(bucket.rep()))?;
        Ok(bucket.clone())
    }

    /// Whether a piece may be as long as this in one call.
    fn check_piece(&self, bytes: usize) -> Answer<()> {
        let bytes_max = self.blobs.config().call_bytes_max;
        if bytes > bytes_max {
            let message = format!("at most {bytes_max} bytes in one call, not {bytes}");
            return Err(services::Error::limit("blobs.piece_too_large", message));
        }
        Ok(())
    }

    async fn info(&mut self, bucket: &BucketId, name: &str) -> Answer<Option<store::Object>> {
        let found = match self.blobs.info(bucket, name).await {
            Err(Error::NotFound) => return Ok(None),
            found => found?,
        };
        self.allowance.hold_answer(bytes_of(&found))?;
        Ok(Some(found.into()))
    }

    async fn read(
        &mut self,
        bucket: &BucketId,
        name: &str,
        if_etag: Option<&str>,
        offset: u64,
        length: usize,
    ) -> Answer<Vec<u8>> {
        self.check_piece(length)?;
        let object = self.blobs.info(bucket, name).await?;
        if if_etag.is_some_and(|etag| etag != object.etag()) {
            return Err(Error::Changed.into());
        }
        let end = object.size.min(offset.saturating_add(length as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let length = usize::try_from(end - offset).map_err(|_| Error::Failed)?;
        self.allowance.hold_answer(length)?;
        let content = match self.blobs.open(&object, Some(offset..end)).await {
            // Replaced in this very moment.
            Err(Error::NotFound) => return Err(Error::Changed.into()),
            content => content?,
        };
        let bytes = BytesMut::with_capacity(length);
        let add = async |mut bytes: BytesMut, piece: Bytes| {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        };
        let bytes = content.try_fold(bytes, add).await?;
        Ok(bytes.into())
    }

    async fn begin(
        &mut self,
        bucket: &BucketId,
        name: String,
        length: Option<u64>,
        options: store::PutOptions,
    ) -> Answer<Writer> {
        check_own(&name)?;
        let condition = match (options.if_absent, &options.if_etag) {
            (true, _) => Condition::Absent,
            (false, Some(etag)) => read_etag(etag)?,
            (false, None) => Condition::Always,
        };
        let new = NewObject {
            name,
            content_type: options.content_type,
            metadata: options.metadata.into_iter().collect(),
            owner: options.owner,
            length,
            condition,
            link: None,
        };
        Ok(self.blobs.writer(bucket, new, &Rules::default()).await?)
    }

    async fn put(
        &mut self,
        bucket: &BucketId,
        name: String,
        content: Vec<u8>,
        options: store::PutOptions,
    ) -> Answer<store::Object> {
        self.check_piece(content.len())?;
        // Writes wait for one another, each with its content.
        let _held = self.allowance.hold(content.len())?;
        let length = Some(content.len() as u64);
        let mut writer = self.begin(bucket, name, length, options).await?;
        writer.write(content.into()).await?;
        Ok(writer.finish().await?.into())
    }

    async fn list(
        &mut self,
        bucket: &BucketId,
        prefix: &str,
        cursor: Option<&str>,
        max: u32,
    ) -> Answer<store::ObjectPage> {
        let page = self.blobs.list(bucket, prefix, cursor, max).await?;
        self.allowance
            .hold_answer(page.objects.iter().map(bytes_of).sum())?;
        Ok(store::ObjectPage {
            objects: page.objects.into_iter().map(store::Object::from).collect(),
            cursor: page.cursor,
        })
    }

    fn sign(
        &self,
        bucket: &BucketId,
        name: &str,
        access: store::Access,
        options: store::LinkOptions,
    ) -> Answer<String> {
        let access = match access {
            store::Access::Get => Access::Get,
            store::Access::Put => Access::Put,
        };
        if access == Access::Put {
            check_own(name)?;
        }
        let too_many = options.types.len() > TYPES_MAX;
        let types = options.types.iter().map(|text| text.parse());
        let types: std::result::Result<Vec<_>, _> = types.collect();
        let types = types.ok().filter(|_| !too_many).ok_or(Error::TypeInvalid)?;
        let more = LinkOptions {
            is_inline: options.inline,
            rules: Rules {
                bytes_max: options.bytes_max,
                types,
            },
            owner: options.owner,
        };
        Ok(self.blobs.sign(access, bucket, name, options.ttl_s, more)?)
    }
}

/// What a description takes of the host's memory.
fn bytes_of(object: &Object) -> usize {
    let texts = object
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len());
    let owner = object.owner.as_ref().map_or(0, String::len);
    256 + object.name.len() + object.content_type.len() + owner + texts.sum::<usize>()
}

/// Whether a plugin may write an object with this name.
fn check_own(name: &str) -> std::result::Result<(), Error> {
    match is_hosts(name) {
        true => Err(Error::NameReserved),
        false => Ok(()),
    }
}

/// What was never an etag is not that of the object.
fn read_etag(etag: &str) -> std::result::Result<Condition, Error> {
    etag.parse().map(Condition::Is).map_err(|_| Error::Changed)
}

impl From<Object> for store::Object {
    fn from(object: Object) -> Self {
        Self {
            etag: object.etag(),
            name: object.name,
            size: object.size,
            content_type: object.content_type,
            sha256: object.sha256.to_string(),
            metadata: object.metadata.into_iter().collect(),
            owner: object.owner,
            created_at_ms: object.created_at_ms.try_into().unwrap_or(0),
        }
    }
}

impl store::Host for View<'_> {}

impl store::HostBucket for View<'_> {
    async fn open(&mut self, label: String) -> Guest<Resource<store::Bucket>> {
        rehearse!(self, blobs.open);
        let label = match granted(&label, "blobs", self.granted, |label| label, self.refusals) {
            Ok(label) => label.clone(),
            Err(error) => return Ok(Err(error.into())),
        };
        let plugin = self.plugin.clone();
        let bucket = self.table.push(BucketId { plugin, label })?;
        Ok(Ok(Resource::new_own(bucket.rep())))
    }

    async fn info(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
    ) -> Guest<Option<store::Object>> {
        rehearse!(self, blobs.info);
        let bucket = self.bucket(&this)?;
        answer(View::info(self, &bucket, &name).await)
    }

    async fn read(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
        if_etag: Option<String>,
        offset: u64,
        length: u32,
    ) -> Guest<Vec<u8>> {
        rehearse!(self, blobs.read);
        let bucket = self.bucket(&this)?;
        let length = length as usize;
        answer(View::read(self, &bucket, &name, if_etag.as_deref(), offset, length).await)
    }

    async fn put(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
        content: Vec<u8>,
        options: store::PutOptions,
    ) -> Guest<store::Object> {
        rehearse!(self, blobs.put);
        let bucket = self.bucket(&this)?;
        answer(View::put(self, &bucket, name, content, options).await)
    }

    async fn upload(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
        length: Option<u64>,
        options: store::PutOptions,
    ) -> Guest<Resource<store::Upload>> {
        rehearse!(self, blobs.upload);
        let bucket = self.bucket(&this)?;
        match self.begin(&bucket, name, length, options).await {
            Ok(writer) => {
                let upload = self.table.push(writer)?;
                Ok(Ok(Resource::new_own(upload.rep())))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn delete(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
        if_etag: Option<String>,
    ) -> Guest<bool> {
        rehearse!(self, blobs.delete);
        let bucket = self.bucket(&this)?;
        let condition = if_etag.as_deref().map_or(Ok(Condition::Always), read_etag);
        let deleted = match condition {
            Ok(condition) => self.blobs.delete(&bucket, &name, condition).await,
            Err(error) => Err(error),
        };
        answer(deleted.map_err(services::Error::from))
    }

    async fn list_objects(
        &mut self,
        this: Resource<store::Bucket>,
        prefix: String,
        cursor: Option<String>,
        max: u32,
    ) -> Guest<store::ObjectPage> {
        rehearse!(self, blobs.list_objects);
        let bucket = self.bucket(&this)?;
        answer(self.list(&bucket, &prefix, cursor.as_deref(), max).await)
    }

    async fn signed_url(
        &mut self,
        this: Resource<store::Bucket>,
        name: String,
        access: store::Access,
        options: store::LinkOptions,
    ) -> Guest<String> {
        rehearse!(self, blobs.signed_url);
        let bucket = self.bucket(&this)?;
        answer(self.sign(&bucket, &name, access, options))
    }

    async fn drop(&mut self, this: Resource<store::Bucket>) -> Result<()> {
        self.table
            .delete(Resource::<BucketId>::new_own(this.rep()))?;
        Ok(())
    }
}

impl store::HostUpload for View<'_> {
    async fn write(&mut self, this: Resource<store::Upload>, piece: Vec<u8>) -> Guest<()> {
        rehearse!(self, blobs.write);
        let held = self
            .check_piece(piece.len())
            .and_then(|()| self.allowance.hold(piece.len()));
        // Until the next piece: it may wait for the store.
        match held {
            Ok(held) => self.allowance.answer(Some(held)),
            Err(error) => return Ok(Err(error.into())),
        }
        let writer: &mut Writer = self.table.get_mut(&Resource::new_borrow(this.rep()))?;
        let written = writer.write(piece.into()).await;
        answer(written.map_err(services::Error::from))
    }

    async fn finish(&mut self, this: Resource<store::Upload>) -> Guest<store::Object> {
        let writer = self.table.delete(Resource::<Writer>::new_own(this.rep()))?;
        rehearse!(self, blobs.finish);
        let finished = writer.finish().await;
        answer(
            finished
                .map(store::Object::from)
                .map_err(services::Error::from),
        )
    }

    async fn drop(&mut self, this: Resource<store::Upload>) -> Result<()> {
        self.table.delete(Resource::<Writer>::new_own(this.rep()))?;
        Ok(())
    }
}
