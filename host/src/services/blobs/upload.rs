//! Taking bytes: whoever sends them fills a small queue, and a task of its own empties it into the store, so that what is
//! begun is put in order also when the sender is gone in the middle.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use prometheus::IntGauge;
use sha2::digest::common::hazmat::SerializableState as _;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::resumable::store::{Stored, release_upload};
use super::store::Part;
use super::types::{HEAD_BYTES, decide};
use super::{Blobs, Error, Interrupted, Object, store};
use crate::db::ThreadClock;
use crate::ids::Digest;
use crate::services::Held;

/// Pieces of a body that wait for the store.
const QUEUE: usize = 1;
/// Bytes that are counted and digested before others get their turn.
const TAKEN_AT_ONCE: usize = 64 << 10;
/// Pieces shorter than this are small. So much of an upload may always be in memory.
const SMALL_BYTES: usize = 16 << 10;
/// How long to wait before looking again for room in memory.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// Pieces of an object sent in one go whose rows are written together.
const PARTS_UNRECORDED_MAX: usize = 64;

/// What a sender says.
enum Piece {
    Bytes(Bytes),
    /// That was all. Who is gone without saying so was cut off.
    End,
}

/// What became of what was sent.
#[derive(Debug)]
pub(super) enum Outcome {
    Object(Object),
    Upload(Stored),
}

/// An object that is being sent. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    pieces: mpsc::Sender<Piece>,
    task: JoinHandle<Result<Outcome, Error>>,
}

impl Writer {
    /// Adds bytes. After an error nothing can be added.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if self.pieces.send(Piece::Bytes(bytes)).await.is_ok() {
            return Ok(());
        }
        match (&mut self.task).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(Error::Failed),
        }
    }

    /// Makes it an object.
    pub async fn finish(self) -> Result<Object, Error> {
        match self.end().await? {
            Outcome::Object(object) => Ok(object),
            Outcome::Upload(_) => Err(Error::Failed),
        }
    }

    /// Sends a body to its end.
    pub(super) async fn take<S, E>(self, body: S) -> Result<Outcome, Interrupted<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Send,
    {
        let mut body = std::pin::pin!(body);
        while let Some(bytes) = body.next().await {
            match bytes {
                Ok(bytes) => {
                    if self.pieces.send(Piece::Bytes(bytes)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    drop(self.pieces);
                    // What came is put in order before the sender hears of it.
                    let _ = self.task.await;
                    return Err(Interrupted::Body(error));
                }
            }
        }
        Ok(self.end().await?)
    }

    async fn end(self) -> Result<Outcome, Error> {
        // A task that has ended says below why.
        let _ = self.pieces.send(Piece::End).await;
        drop(self.pieces);
        self.task.await.map_err(|_| Error::Failed)?
    }
}

/// The other side of a [`Writer`].
pub(super) struct Pen {
    blobs: Blobs,
    upload: Stored,
    token: String,
    renewed: Instant,
    /// Nothing if what was kept of it cannot be read any more, after an update of the host.
    hash: Option<Sha256>,
    buffer: BytesMut,
    held: Option<Held>,
    /// Pieces that are in the store and not in the rows.
    unrecorded: Vec<Part>,
    has_strays: bool,
    _in_progress: InProgress,
}

struct InProgress(IntGauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Pen {
    pub(super) fn new(blobs: Blobs, upload: Stored, token: String) -> Self {
        let in_progress = blobs.0.metrics.in_progress.clone();
        in_progress.inc();
        Self {
            hash: resume_hash(&upload),
            blobs,
            upload,
            token,
            renewed: Instant::now(),
            buffer: BytesMut::new(),
            held: None,
            unrecorded: Vec::new(),
            has_strays: false,
            _in_progress: InProgress(in_progress),
        }
    }

    /// Takes what a sender sends. The task is waited for when the host stops.
    pub(super) fn spawn(self) -> Writer {
        let (pieces, sent) = mpsc::channel(QUEUE);
        let tasks = self.blobs.0.tasks.clone();
        Writer {
            pieces,
            task: tasks.spawn(self.run(sent)),
        }
    }

    async fn run(mut self, sent: mpsc::Receiver<Piece>) -> Result<Outcome, Error> {
        let came = self.follow(sent).await;
        if matches!(came, Err(Error::UploadNotFound)) {
            // Given up by somebody else, who may not have seen the last pieces.
            self.blobs.remove_unknown(self.upload.object).await?;
            return Err(Error::UploadNotFound);
        }
        if self.upload.is_resumable {
            return self.leave(came).await;
        }
        let published = match came {
            Ok(true) => self.publish().await,
            // Nobody is there to hear it.
            Ok(false) => Err(Error::Failed),
            Err(error) => Err(error),
        };
        if published.is_err() {
            self.discard().await;
        }
        published.map(Outcome::Object)
    }

    /// Whether all came.
    async fn follow(&mut self, mut sent: mpsc::Receiver<Piece>) -> Result<bool, Error> {
        let pause = Duration::from_millis(self.blobs.config().lease_ms / 3);
        loop {
            let piece = timeout(pause, sent.recv()).await;
            if self.renewed.elapsed() >= pause {
                self.record().await?;
            }
            match piece {
                Err(_) => {}
                Ok(Some(Piece::Bytes(bytes))) => self.add(&bytes).await?,
                Ok(Some(Piece::End)) => return Ok(true),
                Ok(None) => return Ok(false),
            }
        }
    }

    async fn add(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let total = self.total() + bytes.len() as u64;
        let bytes_max = self.blobs.bytes_max(&self.upload.rules);
        if total > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        if let Some(declared) = self.upload.length.filter(|length| total > *length) {
            let given = total;
            return Err(Error::LengthMismatch { declared, given });
        }
        let part_bytes = self.blobs.config().part_bytes;
        while !bytes.is_empty() {
            let room = part_bytes.saturating_sub(self.buffer.len());
            let (piece, rest) = bytes.split_at(bytes.len().min(room).min(TAKEN_AT_ONCE));
            self.hold(piece.len()).await?;
            self.digest(piece);
            self.buffer.extend_from_slice(piece);
            self.look(piece)?;
            if self.buffer.len() >= part_bytes {
                self.flush().await?;
            }
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Counts bytes that are going to be in memory. If there is no room, what is there goes into the store first; so it does
    /// before one upload holds more than is left for others, or a few that come slowly would keep all others out.
    async fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let held = self.buffer.len() + bytes;
        let has_share = held <= self.blobs.0.buffers.free().max(SMALL_BYTES);
        let is_held = match &mut self.held {
            Some(_) if !has_share => false,
            Some(held) => held.grow(bytes).is_ok(),
            None => {
                self.held = self.blobs.0.buffers.hold(bytes).ok();
                self.held.is_some()
            }
        };
        if is_held {
            return Ok(());
        }
        self.flush().await?;
        let until = Instant::now() + Duration::from_millis(self.blobs.config().wait_ms);
        loop {
            self.held = self.blobs.0.buffers.hold(bytes).ok();
            if self.held.is_some() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::Busy);
            }
            // Others go to the store as well, and give back what they hold.
            tokio::time::sleep(ROOM_PAUSE).await;
        }
    }

    fn digest(&mut self, bytes: &[u8]) {
        let clock = ThreadClock::own();
        let began_ns = clock.ns();
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(payer) = &self.blobs.1 {
            payer.charge(Duration::from_nanos(clock.ns().saturating_sub(began_ns)));
        }
    }

    /// Refuses what is not what it was declared to be as soon as that can be seen.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let room = HEAD_BYTES - self.upload.head.len();
        if room == 0 {
            return Ok(());
        }
        let head = &bytes[..bytes.len().min(room)];
        self.upload.head.extend_from_slice(head);
        if self.upload.head.len() == HEAD_BYTES {
            self.decide()?;
        }
        Ok(())
    }

    fn decide(&self) -> Result<String, Error> {
        let Stored {
            content_type,
            head,
            rules,
            ..
        } = &self.upload;
        decide(content_type.as_deref(), head, rules, self.blobs.config())
    }

    /// How many bytes came so far.
    fn total(&self) -> u64 {
        self.upload.taken + self.buffer.len() as u64
    }

    /// Puts what is in memory into the store, as a piece of its own.
    async fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let config = self.blobs.config();
        // A piece takes more of a disk than its bytes: many that are tiny would take much of one and little of a quota.
        let of_size = self.total() / SMALL_BYTES as u64;
        let parts_max = config
            .parts_max
            .min(of_size.saturating_add(config.parts_small_max));
        if self.upload.parts >= parts_max {
            return Err(Error::TooManyParts { parts_max });
        }
        if self.total() > self.upload.reserved {
            self.reserve().await?;
        }
        let bytes = self.buffer.split().freeze();
        let part = Part {
            number: self.upload.parts,
            begins_at: self.upload.taken,
            size: bytes.len() as u64,
            // The token, because two who take each other for dead must not write the same piece.
            key: format!("{:06}-{}", self.upload.parts, self.token),
        };
        let put = self.blobs.0.shelf.put(self.upload.object, &part.key, bytes);
        put.await.inspect_err(|_| self.has_strays = true)?;
        self.held = None;
        self.blobs.0.metrics.bytes_taken.inc_by(part.size);
        self.upload.taken += part.size;
        self.upload.parts += 1;
        self.unrecorded.push(part);
        if self.upload.is_resumable || self.unrecorded.len() >= PARTS_UNRECORDED_MAX {
            self.record().await?;
        }
        Ok(())
    }

    /// Reserves what came beyond what was declared or reserved before.
    async fn reserve(&mut self) -> Result<(), Error> {
        let (blobs, more) = (self.blobs.clone(), self.total() - self.upload.reserved);
        let mut change = blobs.change(&self.upload.bucket).await?;
        blobs.require_room(&change, more)?;
        if blobs.config().bytes_per_owner_max.is_some() {
            let owner = self.upload.owner.as_deref();
            let (_, reserved) = change.open_of(owner).await.map_err(Error::rows)?;
            let open = reserved.saturating_add(more);
            blobs.require_own_room(&mut change, owner, open).await?;
        }
        change.count(|usage| usage.reserved_bytes += more);
        self.upload.reserved += more;
        let advanced = self.advance(&mut change).await;
        let committed = match advanced {
            Ok(()) => change.commit().await.map_err(Error::rows),
            Err(error) => Err(error),
        };
        committed.inspect_err(|_| self.upload.reserved -= more)
    }

    /// Writes into the rows how far this is; it stays with this sender for a while.
    async fn record(&mut self) -> Result<(), Error> {
        let blobs = self.blobs.clone();
        let written = async {
            let mut change = blobs.change(&self.upload.bucket).await?;
            self.advance(&mut change).await?;
            change.commit().await.map_err(Error::rows)
        };
        // What is in the store and not in the rows is nobody's.
        written.await.inspect_err(|_| self.has_strays = true)
    }

    async fn advance(&mut self, change: &mut store::Change) -> Result<(), Error> {
        let now = self.blobs.0.clock.now_ms();
        let lease = self.blobs.lease(&self.token, now);
        self.upload.expires_at = self.blobs.expiry(now, self.upload.is_resumable);
        if let Some(hash) = &self.hash
            && self.buffer.is_empty()
        {
            self.upload.hash = hash.serialize().to_vec();
        }
        let is_ours = change
            .advance_upload(&self.upload, lease)
            .await
            .map_err(Error::rows)?;
        if !is_ours {
            return Err(Error::UploadNotFound);
        }
        let parts = std::mem::take(&mut self.unrecorded);
        change
            .insert_parts(self.upload.object, &parts)
            .await
            .map_err(Error::rows)?;
        self.renewed = Instant::now();
        Ok(())
    }

    /// Keeps what came of a resumable upload, and lets the next one write.
    async fn leave(mut self, came: Result<bool, Error>) -> Result<Outcome, Error> {
        let came = match came {
            Ok(_) => self.flush().await,
            Err(error) => Err(error),
        };
        if matches!(
            &came,
            Err(Error::TypeMismatch { .. } | Error::TypeNotAllowed { .. })
        ) {
            self.discard().await;
        } else {
            let (db, id) = (&self.blobs.0.db, self.upload.id);
            let released = release_upload(db, id, &self.token, self.has_strays).await;
            released.map_err(Error::rows)?;
        }
        came.map(|()| Outcome::Upload(self.upload))
    }

    /// Makes what came in one go an object.
    async fn publish(&mut self) -> Result<Object, Error> {
        let given = self.total();
        if let Some(declared) = self.upload.length.filter(|length| *length != given) {
            return Err(Error::LengthMismatch { declared, given });
        }
        let content_type = self.decide()?;
        self.flush().await?;
        let hash = self.hash.take().ok_or(Error::Failed)?;
        let blobs = self.blobs.clone();
        let _turn = blobs.write_turn(&self.upload.bucket).await?;
        let mut change = blobs.change(&self.upload.bucket).await?;
        let held = change.find_upload(self.upload.id, Some(&self.token)).await;
        if held.map_err(Error::rows)?.is_none() {
            return Err(Error::UploadNotFound);
        }
        let parts = std::mem::take(&mut self.unrecorded);
        change
            .insert_parts(self.upload.object, &parts)
            .await
            .map_err(Error::rows)?;
        let sha256 = Digest::from_bytes(hash.finalize().into());
        blobs
            .publish(change, &self.upload, content_type, sha256, self.has_strays)
            .await
    }

    async fn discard(&mut self) {
        let taken = self.upload.taken;
        if let Err(error) = self
            .blobs
            .discard(&self.upload, Some(&self.token), taken)
            .await
        {
            // The chore does it when the lease is over.
            tracing::warn!(error.cause = %error, "What was sent of a file cannot be given up at once");
        }
    }
}

/// Where the digest stood when an upload was left.
fn resume_hash(upload: &Stored) -> Option<Sha256> {
    if upload.taken == 0 {
        return Some(Sha256::new());
    }
    let state = upload.hash.as_slice().try_into().ok()?;
    Sha256::deserialize(state).ok()
}

/// The digest of an upload that is whole, if what was kept of it can be read.
pub(super) fn digest_of(upload: &Stored) -> Option<Digest> {
    let hash = resume_hash(upload)?;
    Some(Digest::from_bytes(hash.finalize().into()))
}

/// Names one sender.
pub(super) fn token() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}
