//! Uploads that take several requests, on any host.

pub(super) mod store;

use bytes::Bytes;
use futures_util::Stream;

use super::store::Change;
use super::upload::{self, Outcome, Pen, token};
use super::{
    Blobs, BucketId, Error, Interrupted, NewObject, Object, ObjectId, Rules, Upload, UploadId,
    UploadPage, page_limit, types,
};
use store::Stored;

impl Blobs {
    /// Begins an upload that may take several requests, on any host. Its declared length is reserved.
    pub async fn begin(
        &self,
        bucket: &BucketId,
        new: NewObject,
        rules: &Rules,
    ) -> Result<Upload, Error> {
        let upload = self.insert(bucket, new, rules, None).await?;
        Ok(upload.into())
    }

    /// The upload with this id in this bucket, open or finished. [`Error::UploadNotFound`] if there is none.
    pub async fn resume(&self, bucket: &BucketId, id: UploadId) -> Result<Upload, Error> {
        Ok(self.find_upload(bucket, id).await?.into())
    }

    /// Says how long an upload will be that began without a length. Saying the same again changes nothing.
    pub async fn declare_length(
        &self,
        bucket: &BucketId,
        id: UploadId,
        length: u64,
    ) -> Result<Upload, Error> {
        let _turn = self.write_turn(bucket).await?;
        let mut change = self.change(bucket).await?;
        let mut upload = find_open(&mut change, id).await?.upload;
        match upload.length {
            Some(declared) if declared == length => return Ok(upload.into()),
            Some(declared) => {
                let given = length;
                return Err(Error::LengthMismatch { declared, given });
            }
            None => {}
        }
        let bytes_max = self.bytes_max(&upload.rules);
        if length > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        if length < upload.taken {
            let given = upload.taken;
            return Err(Error::LengthMismatch {
                declared: length,
                given,
            });
        }
        let more = length.saturating_sub(upload.reserved);
        self.require_room(&change, more)?;
        self.require_share(&mut change, upload.owner.as_deref(), more, false)
            .await?;
        change.count(|usage| usage.reserved_bytes += more);
        upload.reserved += more;
        upload.length = Some(length);
        let declared = change.declare_length(id, length, upload.reserved).await;
        declared.map_err(Error::rows)?;
        change.commit().await.map_err(Error::rows)?;
        Ok(upload.into())
    }

    /// Adds to an upload from `offset` on, which must be where it stands. What came before a body ended early is kept: ask
    /// [`Blobs::resume`] how much. One request at a time ([`Error::UploadBusy`]). What is not of its declared type is given up
    /// as soon as that can be seen.
    pub async fn append<S, E>(
        &self,
        bucket: &BucketId,
        id: UploadId,
        offset: u64,
        body: S,
    ) -> Result<Upload, Interrupted<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Send,
    {
        let (token, db) = (token(), &self.0.db);
        let lease = self.lease(&token, self.0.clock.now_ms());
        let taken = store::take_upload(db, bucket, id, lease).await;
        let Some(upload) = taken.map_err(Error::rows)? else {
            let there = self.find_upload(bucket, id).await?;
            let is_finished = there.finished_at.is_some();
            return Err(if is_finished {
                Error::UploadFinished
            } else {
                Error::UploadBusy
            }
            .into());
        };
        if upload.taken != offset {
            let released = store::release_upload(db, id, &token, false).await;
            released.map_err(Error::rows)?;
            let offset = upload.taken;
            return Err(Error::OffsetMismatch { offset }.into());
        }
        match Pen::new(self.clone(), upload, token)
            .spawn()
            .take(body)
            .await?
        {
            Outcome::Upload(upload) => Ok(upload.into()),
            Outcome::Object(_) => Err(Error::Failed.into()),
        }
    }

    /// Makes an upload an object, if all of it is there; one without a declared length has as many bytes as came. Twice is
    /// once: a finished upload gives its object again. What is not of its declared type is given up.
    pub async fn finish(&self, bucket: &BucketId, id: UploadId) -> Result<Object, Error> {
        let seen = self.find_upload(bucket, id).await?;
        let sha256 = match upload::digest_of(&seen) {
            Some(sha256) => sha256,
            None => self.digest(&seen).await?,
        };
        let _turn = self.write_turn(bucket).await?;
        let mut change = self.change(bucket).await?;
        let found = change.find_upload(id, None).await.map_err(Error::rows)?;
        let held = found.ok_or(Error::UploadNotFound)?;
        let upload = held.upload;
        if upload.finished_at.is_some() {
            let object = change.find(&upload.name).await.map_err(Error::rows)?;
            return object
                .filter(|object| object.id == upload.object)
                .ok_or(Error::NotFound);
        }
        // Of one that is whole nobody who writes can change anything: to wait for them would be to leave it in the middle.
        let is_whole = upload.length == Some(upload.taken);
        let is_written_to = !is_whole && held.is_free_at > self.0.clock.now_ms();
        if is_written_to || upload.taken != seen.taken {
            return Err(Error::UploadBusy);
        }
        if upload.length.is_some_and(|length| length != upload.taken) {
            let offset = upload.taken;
            return Err(Error::UploadIncomplete { offset });
        }
        let Stored {
            content_type,
            head,
            rules,
            ..
        } = &upload;
        match types::decide(content_type.as_deref(), head, rules, self.config()) {
            Ok(kind) => {
                self.publish(change, &upload, kind, sha256, held.has_strays)
                    .await
            }
            Err(error) => {
                drop(change);
                self.discard(&upload, None, upload.taken).await?;
                Err(error)
            }
        }
    }

    /// Gives an upload up; its bytes go. Says whether there was one. What a finished one became stays.
    pub async fn abort(&self, bucket: &BucketId, id: UploadId) -> Result<bool, Error> {
        let upload = match self.find_upload(bucket, id).await {
            Err(Error::UploadNotFound) => return Ok(false),
            upload => upload?,
        };
        let _turn = self.write_turn(bucket).await?;
        self.discard(&upload, None, upload.taken).await?;
        Ok(upload.finished_at.is_none())
    }

    /// The open uploads of a bucket, of one owner or of all, the oldest first, `max` (1 to 1000) at a time.
    pub async fn uploads(
        &self,
        bucket: &BucketId,
        owner: Option<&str>,
        cursor: Option<&str>,
        max: u32,
    ) -> Result<UploadPage, Error> {
        let limit = page_limit(max)?;
        let after = cursor.map(str::parse::<ObjectId>).transpose();
        let after = after.map_err(|_| Error::CursorInvalid)?;
        let after = after.map_or(String::new(), |id| id.to_string());
        let _turn = self.read_turn(bucket).await?;
        let (mut connection, _charge) = self.reader().await?;
        let found = store::uploads(&mut connection, bucket, owner, &after, limit).await;
        let mut found = found.map_err(Error::rows)?;
        let is_last = found.len() <= max as usize;
        found.truncate(max as usize);
        let last = found.last().map(|upload| upload.object.to_string());
        Ok(UploadPage {
            cursor: last.filter(|_| !is_last),
            uploads: found.into_iter().map(Upload::from).collect(),
        })
    }

    async fn find_upload(&self, bucket: &BucketId, id: UploadId) -> Result<Stored, Error> {
        let _turn = self.read_turn(bucket).await?;
        let (mut connection, _charge) = self.reader().await?;
        let found = store::find_upload(&mut connection, bucket, id).await;
        let now = self.0.clock.now_ms();
        let found = found.map_err(Error::rows)?;
        found
            .filter(|upload| upload.expires_at > now)
            .ok_or(Error::UploadNotFound)
    }
}

impl From<Stored> for Upload {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            bucket: stored.bucket,
            name: stored.name,
            content_type: stored.content_type,
            metadata: stored.metadata,
            owner: stored.owner,
            length: stored.length,
            offset: stored.taken,
            finished: stored.finished_at.map(|_| stored.object),
            created_at_ms: stored.created_at,
            expires_at_ms: stored.expires_at,
        }
    }
}

async fn find_open(change: &mut Change, id: UploadId) -> Result<store::Held, Error> {
    let found = change.find_upload(id, None).await.map_err(Error::rows)?;
    let held = found
        .filter(|held| held.upload.is_resumable)
        .ok_or(Error::UploadNotFound)?;
    if held.upload.finished_at.is_some() {
        return Err(Error::UploadFinished);
    }
    Ok(held)
}
