//! Files in memory. Types are taken as declared: how bytes look is for the real host to say.

use std::cell::RefCell;

use super::{Error, check, detail};
pub(crate) use crate::bindings::module::gantry::blobs::store::{
    Access, LinkOptions, Object, ObjectPage, PutOptions,
};
use crate::testing::{BlobEntry, with};

pub(crate) struct Bucket {
    label: String,
}

pub(crate) struct Upload {
    label: String,
    name: String,
    length: Option<u64>,
    options: PutOptions,
    content: RefCell<Vec<u8>>,
}

impl Bucket {
    pub(crate) fn open(label: &str) -> Result<Self, Error> {
        check("blobs.open")?;
        Ok(Self {
            label: label.to_owned(),
        })
    }

    fn key(&self, name: &str) -> (String, String) {
        (self.label.clone(), name.to_owned())
    }

    pub(crate) fn info(&self, name: &str) -> Result<Option<Object>, Error> {
        check("blobs.info")?;
        Ok(with(|host| {
            let entry = host.blobs.get(&self.key(name));
            entry.map(|entry| entry.object.clone())
        }))
    }

    pub(crate) fn read(
        &self,
        name: &str,
        if_etag: Option<&str>,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, Error> {
        check("blobs.read")?;
        with(|host| {
            let entry = host.blobs.get(&self.key(name)).ok_or_else(not_found)?;
            if if_etag.is_some_and(|etag| etag != entry.object.etag) {
                return Err(changed());
            }
            let size = entry.content.len();
            let begin = usize::try_from(offset).unwrap_or(size).min(size);
            let end = begin.saturating_add(length as usize).min(size);
            Ok(entry.content[begin..end].to_vec())
        })
    }

    pub(crate) fn put(
        &self,
        name: &str,
        content: &[u8],
        options: &PutOptions,
    ) -> Result<Object, Error> {
        check("blobs.put")?;
        keep(self.key(name), content.to_vec(), options.clone())
    }

    pub(crate) fn upload(
        &self,
        name: &str,
        length: Option<u64>,
        options: &PutOptions,
    ) -> Result<Upload, Error> {
        check("blobs.upload")?;
        Ok(Upload {
            label: self.label.clone(),
            name: name.to_owned(),
            length,
            options: options.clone(),
            content: RefCell::default(),
        })
    }

    pub(crate) fn delete(&self, name: &str, if_etag: Option<&str>) -> Result<bool, Error> {
        check("blobs.delete")?;
        with(|host| {
            let key = self.key(name);
            let there = host.blobs.get(&key).map(|entry| entry.object.etag.as_str());
            if if_etag.is_some() && if_etag != there {
                return Err(changed());
            }
            Ok(host.blobs.remove(&key).is_some())
        })
    }

    pub(crate) fn list_objects(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        max: u32,
    ) -> Result<ObjectPage, Error> {
        check("blobs.list_objects")?;
        Ok(with(|host| {
            let of_bucket = host
                .blobs
                .iter()
                .filter(|((label, _), _)| *label == self.label);
            let those = of_bucket.filter(|((_, name), _)| {
                name.starts_with(prefix) && cursor.is_none_or(|cursor| name.as_str() > cursor)
            });
            let mut objects: Vec<Object> = those.map(|(_, entry)| entry.object.clone()).collect();
            let is_last = objects.len() <= max as usize;
            objects.truncate(max as usize);
            let last = objects.last().map(|object| object.name.clone());
            ObjectPage {
                objects,
                cursor: last.filter(|_| !is_last),
            }
        }))
    }

    pub(crate) fn signed_url(
        &self,
        name: &str,
        access: Access,
        options: &LinkOptions,
    ) -> Result<String, Error> {
        check("blobs.signed_url")?;
        let access = match access {
            Access::Get => "GET",
            Access::Put => "PUT",
        };
        let expires = with(|host| host.now_ms) + options.ttl_s * 1000;
        let label = &self.label;
        Ok(format!(
            "/_gantry/blobs/test/{label}/{name}?access={access}&expires={expires}&signature=test"
        ))
    }
}

impl Upload {
    pub(crate) fn write(&self, piece: &[u8]) -> Result<(), Error> {
        check("blobs.write")?;
        self.content.borrow_mut().extend_from_slice(piece);
        Ok(())
    }

    pub(crate) fn finish(this: Self) -> Result<Object, Error> {
        check("blobs.finish")?;
        let content = this.content.into_inner();
        if this
            .length
            .is_some_and(|length| length != content.len() as u64)
        {
            let message = "other bytes than were declared";
            return Err(Error::Invalid(detail("blobs.length_mismatch", message)));
        }
        keep((this.label, this.name), content, this.options)
    }
}

fn keep(key: (String, String), content: Vec<u8>, options: PutOptions) -> Result<Object, Error> {
    with(|host| {
        let there = host.blobs.get(&key).map(|entry| entry.object.etag.clone());
        let is_changed = options.if_etag.is_some() && options.if_etag != there;
        if options.if_absent && there.is_some() || is_changed {
            return Err(changed());
        }
        host.writes += 1;
        let object = Object {
            name: key.1.clone(),
            etag: format!("{:032x}", host.writes),
            size: content.len() as u64,
            content_type: options
                .content_type
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            // Not computed: the SDK has no digest of its own.
            sha256: "0".repeat(64),
            metadata: options.metadata,
            owner: options.owner,
            created_at_ms: host.now_ms,
        };
        let entry = BlobEntry {
            object: object.clone(),
            content,
        };
        host.blobs.insert(key, entry);
        Ok(object)
    })
}

fn not_found() -> Error {
    Error::NotFound(detail("blobs.not_found", "there is no such object"))
}

fn changed() -> Error {
    Error::Conflict(detail("blobs.changed", "the object was changed"))
}
