//! Files, private to the plugin: objects by their names, with their types, digests and owners. Declare labels in
//! `plugin.toml`: `blobs = ["photos"]`.
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use gantry_sdk::blobs;
//! use std::time::Duration;
//!
//! fn keep(id: &str, photo: Vec<u8>) -> Result<String> {
//!     let photos = blobs::open("photos")?;
//!     // What is no picture, or no PNG, is refused.
//!     let kept = photos.put_with(&format!("{id}/full"), photo, blobs::Put::new().content_type("image/png"))?;
//!     photos.link(&kept.name, &blobs::Link::new(Duration::from_secs(600)))
//! }
//!
//! fn report(lines: Vec<String>) -> Result<blobs::Object> {
//!     let mut report = blobs::open("photos")?.upload("report.csv", blobs::Put::new().content_type("text/csv"))?;
//!     for line in lines {
//!         report.write(line.as_bytes())?;
//!     }
//!     report.finish()
//! }
//! # let _ = (keep, report);
//! ```

use std::time::Duration;

use crate::host::blobs as host;
use crate::{Error, Result};

/// One state of an object; a page of objects.
pub use crate::bindings::module::gantry::blobs::store::{Object, ObjectPage};

/// What one call carries. Larger objects are read and written in pieces of this size.
const PIECE_BYTES: u32 = 256 << 10;

/// One bucket. Names are 1 to 512 bytes, in parts between single slashes.
pub struct Bucket(host::Bucket);

/// How to keep an object.
#[derive(Debug, Clone, Default)]
pub struct Put {
    content_type: Option<String>,
    metadata: Vec<(String, String)>,
    owner: Option<String>,
    length: Option<u64>,
    if_absent: bool,
    if_etag: Option<String>,
}

impl Put {
    /// In the place of what has the name, of the type that the bytes look like.
    pub fn new() -> Self {
        Self::default()
    }

    /// A media type, which is checked against the bytes.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// A small text that is kept with the object.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// The id of the principal whom it belongs to.
    #[must_use]
    pub fn owner(mut self, id: impl Into<String>) -> Self {
        self.owner = Some(id.into());
        self
    }

    /// Of an upload: how many bytes it will have, which are reserved.
    #[must_use]
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Only if nothing has this name; else `conflict`.
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// Only if the object has this `etag` still; else `conflict`.
    #[must_use]
    pub fn if_etag(mut self, etag: impl Into<String>) -> Self {
        self.if_etag = Some(etag.into());
        self
    }

    fn into_options(self) -> host::PutOptions {
        host::PutOptions {
            content_type: self.content_type,
            metadata: self.metadata,
            owner: self.owner,
            if_absent: self.if_absent,
            if_etag: self.if_etag,
        }
    }
}

/// What somebody with a link may do, and for how long.
#[derive(Debug, Clone)]
pub struct Link {
    access: host::Access,
    options: host::LinkOptions,
}

impl Link {
    /// To get the object, which browsers save.
    pub fn new(ttl: Duration) -> Self {
        Self {
            access: host::Access::Get,
            options: host::LinkOptions {
                ttl_s: ttl.as_secs().max(1),
                inline: false,
                bytes_max: None,
                types: Vec::new(),
                owner: None,
            },
        }
    }

    /// To get the object, which browsers may show, in a sandbox.
    pub fn inline(ttl: Duration) -> Self {
        let mut link = Self::new(ttl);
        link.options.inline = true;
        link
    }

    /// To put the object.
    pub fn put(ttl: Duration) -> Self {
        Self {
            access: host::Access::Put,
            ..Self::new(ttl)
        }
    }

    /// To put: most bytes.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.options.bytes_max = Some(bytes);
        self
    }

    /// To put: only these types, like `image/png` or `image/*`. At most 16.
    #[must_use]
    pub fn content_type(mut self, pattern: impl Into<String>) -> Self {
        self.options.types.push(pattern.into());
        self
    }

    /// To put: the id of the principal whom the object will belong to.
    #[must_use]
    pub fn owner(mut self, id: impl Into<String>) -> Self {
        self.options.owner = Some(id.into());
        self
    }
}

/// Opens a bucket by its label; `denied` if the label is not declared or not granted.
pub fn open(label: &str) -> Result<Bucket> {
    let opened = host::Bucket::open(label);
    opened.map(Bucket).map_err(Error::service)
}

impl Bucket {
    /// What is known of an object, or nothing.
    pub fn info(&self, name: &str) -> Result<Option<Object>> {
        self.0.info(name).map_err(Error::service)
    }

    /// The whole object, or nothing. It must fit into the memory of the plugin.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(object) = self.info(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(object.size).unwrap_or(0));
        self.for_each(&object, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    /// Hands over an object in pieces; `conflict` if it is replaced meanwhile.
    pub fn for_each(
        &self,
        object: &Object,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < object.size {
            let piece = self
                .0
                .read(&object.name, Some(&object.etag), at, PIECE_BYTES);
            let piece = piece.map_err(Error::service)?;
            at += piece.len() as u64;
            take(&piece)?;
        }
        Ok(())
    }

    /// At most `length` bytes from `offset` on; fewer at the end, none beyond it.
    pub fn read(&self, name: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        let piece = self.0.read(name, None, offset, length);
        piece.map_err(Error::service)
    }

    /// Keeps an object in the place of what has the name.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> Result<Object> {
        self.put_with(name, content, Put::new())
    }

    /// Keeps an object, with a type, metadata, an owner, or under a condition.
    pub fn put_with(&self, name: &str, content: impl AsRef<[u8]>, how: Put) -> Result<Object> {
        let content = content.as_ref();
        if content.len() > PIECE_BYTES as usize {
            let mut upload = self.upload(name, how.length(content.len() as u64))?;
            upload.write(content)?;
            return upload.finish();
        }
        let put = self.0.put(name, content, &how.into_options());
        put.map_err(Error::service)
    }

    /// Begins an object that is written in pieces. Nothing is there before [`Upload::finish`].
    pub fn upload(&self, name: &str, how: Put) -> Result<Upload> {
        let length = how.length;
        let begun = self.0.upload(name, length, &how.into_options());
        begun.map(Upload).map_err(Error::service)
    }

    /// Deletes an object, and says whether there was one.
    pub fn delete(&self, name: &str) -> Result<bool> {
        self.0.delete(name, None).map_err(Error::service)
    }

    /// Deletes this state of an object; `conflict` if there is another.
    pub fn delete_if(&self, name: &str, etag: &str) -> Result<bool> {
        self.0.delete(name, Some(etag)).map_err(Error::service)
    }

    /// Objects whose names begin with this, in ascending order, `max` (1 to 1000) at a time.
    pub fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<ObjectPage> {
        self.0
            .list_objects(prefix, cursor, max)
            .map_err(Error::service)
    }

    /// A link to an object on this host, from `/` on, that needs no account.
    pub fn link(&self, name: &str, link: &Link) -> Result<String> {
        let url = self.0.signed_url(name, link.access, &link.options);
        url.map_err(Error::service)
    }
}

/// An object that is being written. Dropped before it is finished, it leaves nothing.
pub struct Upload(host::Upload);

impl Upload {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE_BYTES as usize) {
            self.0.write(piece).map_err(Error::service)?;
        }
        Ok(())
    }

    /// Makes it an object.
    pub fn finish(self) -> Result<Object> {
        host::Upload::finish(self.0).map_err(Error::service)
    }
}
