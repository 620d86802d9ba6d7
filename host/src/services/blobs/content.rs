//! Reading what is kept. Bytes of an object that is read stay until its readers are done, whatever becomes of its name.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};

use super::store::Part;
use super::{Blobs, Error, ObjectId, store};

/// Rows of pieces that are looked up at once.
const PARTS_PER_PAGE: i64 = 64;

/// The bytes of an object, in pieces. As long as it is there, they stay.
pub type Content = BoxStream<'static, Result<Bytes, Error>>;

/// Who reads which object on this host.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<HashMap<ObjectId, Reading>>);

#[derive(Debug, Default)]
struct Reading {
    readers: usize,
    /// Whether its bytes go when nobody reads it any more.
    is_leaving: bool,
}

impl Readers {
    /// Whether the bytes of an object may be removed now; if not, the last reader sees to it.
    pub(super) fn may_remove(&self, object: ObjectId) -> bool {
        match self.lock().get_mut(&object) {
            Some(reading) => {
                reading.is_leaving = true;
                false
            }
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who reads an object, until it is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    blobs: Blobs,
    object: ObjectId,
}

impl Reader {
    pub(super) fn begin(blobs: &Blobs, object: ObjectId) -> Self {
        blobs.0.readers.lock().entry(object).or_default().readers += 1;
        Self {
            blobs: blobs.clone(),
            object,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let object = self.object;
        let mut readers = self.blobs.0.readers.lock();
        let Some(reading) = readers.get_mut(&object) else {
            return;
        };
        reading.readers -= 1;
        if reading.readers > 0 {
            return;
        }
        let is_leaving = reading.is_leaving;
        readers.remove(&object);
        drop(readers);
        if is_leaving {
            self.blobs.remove_soon(object);
        }
    }
}

/// Where somebody stands in an object.
struct Place {
    reader: Reader,
    at: u64,
    end: u64,
    /// The number of the next piece that was not looked up yet.
    next: u64,
    parts: VecDeque<Part>,
    open: Option<BoxStream<'static, Result<Bytes, Error>>>,
}

/// What is between `begin` and `end` of an object, which has at least as many bytes.
pub(super) fn read(reader: Reader, begin: u64, end: u64) -> Content {
    let place = Place {
        reader,
        at: begin,
        end,
        next: 0,
        parts: VecDeque::new(),
        open: None,
    };
    stream::try_unfold(place, |mut place| async move {
        let bytes = place.next().await?;
        Ok(bytes.map(|bytes| (bytes, place)))
    })
    .boxed()
}

impl Place {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(bytes) = open.try_next().await? {
                    self.at += bytes.len() as u64;
                    self.reader
                        .blobs
                        .0
                        .metrics
                        .bytes_given
                        .inc_by(bytes.len() as u64);
                    return Ok(Some(bytes));
                }
                self.open = None;
            }
            if self.at >= self.end {
                return Ok(None);
            }
            self.open = Some(self.open_next().await?);
        }
    }

    async fn open_next(&mut self) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let (inner, object) = (&self.reader.blobs.0, self.reader.object);
        if self.parts.is_empty() {
            let found = store::parts(
                &inner.db,
                object,
                self.at,
                self.end,
                self.next,
                PARTS_PER_PAGE,
            );
            self.parts = found.await.map_err(Error::rows)?.into();
        }
        let part = self
            .parts
            .pop_front()
            .filter(|part| part.begins_at <= self.at);
        let Some(part) = part else {
            tracing::error!(blob.id = %object, "Rows of a file are missing");
            return Err(Error::Damaged);
        };
        self.next = part.number + 1;
        let begin = self.at - part.begins_at;
        let end = (self.end - part.begins_at).min(part.size);
        inner.shelf.get(object, &part.key, begin, end).await
    }
}
