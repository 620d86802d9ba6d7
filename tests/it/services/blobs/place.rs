//! Files without a host around them: rows, a store, and a clock that can be moved.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use gantry::clock::Clock;
use gantry::db::Db;
use gantry::services::blobs::{Blobs, BucketId, Config, NewObject, Object, Rules, Setting};
use gantry_harness::S3Server;
use tempfile::TempDir;

pub(super) const KEY: [u8; 32] = [7; 32];
/// Small, so that a test's objects have many.
const PART_BYTES: usize = 64 << 10;

/// Whatever the operator allows.
pub(super) static ANY: Rules = Rules {
    bytes_max: None,
    types: Vec::new(),
};

pub(super) struct Place {
    pub(super) blobs: Blobs,
    pub(super) clock: Clock,
    pub(super) config: Config,
    /// Only where bytes lie on a server.
    pub(super) server: Option<S3Server>,
    db: Db,
    dir: TempDir,
}

/// Makes a place whose settings were changed like this.
pub(super) type Make = fn(fn(&mut Config)) -> std::pin::Pin<Box<dyn Future<Output = Place> + Send>>;

impl Place {
    pub(super) fn folder(
        change: fn(&mut Config),
    ) -> std::pin::Pin<Box<dyn Future<Output = Self> + Send>> {
        Box::pin(Self::open(Config::default(), change, None))
    }

    pub(super) fn s3(
        change: fn(&mut Config),
    ) -> std::pin::Pin<Box<dyn Future<Output = Self> + Send>> {
        Box::pin(async move {
            let server = S3Server::start().await;
            Self::open(server.config(), change, Some(server)).await
        })
    }

    async fn open(mut config: Config, change: fn(&mut Config), server: Option<S3Server>) -> Self {
        config.part_bytes = PART_BYTES;
        change(&mut config);
        assert_eq!(config.mistakes(), Vec::<String>::new());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gantry.db");
        let db = Db::open(&file, &Default::default()).await.unwrap();
        // As ids are made: what is old is told by them.
        let clock = Clock::manual(Clock::system().now_ms());
        let mut place = Self {
            blobs: start(&config, &db, &clock, &dir, KEY),
            clock,
            config,
            server,
            db,
            dir,
        };
        place.blobs = place.twin();
        place
    }

    /// Another host with the same rows and the same store.
    pub(super) fn twin(&self) -> Blobs {
        start(&self.config, &self.db, &self.clock, &self.dir, KEY)
    }

    /// A host with the same store and no rows.
    pub(super) async fn without_rows(&self, key: [u8; 32]) -> Blobs {
        let file = self.dir.path().join(format!("other-{}.db", key[0]));
        let db = Db::open(&file, &Default::default()).await.unwrap();
        start(&self.config, &db, &self.clock, &self.dir, key)
    }

    /// The pieces that lie in the store, whoever knows of them.
    pub(super) fn stored(&self) -> Vec<PathBuf> {
        let folder = match &self.server {
            Some(server) => server.folder(),
            None => self.dir.path().join("blobs"),
        };
        let mut found = Vec::new();
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            for entry in entries.map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false if entry.file_name() == "owner" => {}
                    false => found.push(entry.path()),
                }
            }
        }
        found
    }

    /// Waits until so many bytes are counted and as many pieces lie in the store: what nobody needs goes by itself, soon.
    pub(super) async fn settles_at(&self, bucket: &BucketId, bytes: u64, pieces: usize) {
        let mut last = String::new();
        for _ in 0..200 {
            let usage = self.blobs.usage(bucket).await.unwrap();
            let stored = self.stored();
            if usage.bytes == bytes && stored.len() == pieces && usage.reserved_bytes == 0 {
                return;
            }
            last = format!("{usage:?}, {stored:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not {bytes} bytes in {pieces} pieces: {last}");
    }
}

fn start(config: &Config, db: &Db, clock: &Clock, dir: &TempDir, key: [u8; 32]) -> Blobs {
    let setting = Setting {
        db: db.clone(),
        clock: clock.clone(),
        key,
        folder: &dir.path().join("blobs"),
        metrics: &prometheus::Registry::new(),
    };
    Blobs::start(config.clone(), setting).unwrap()
}

pub(super) fn bucket(text: &str) -> BucketId {
    let (plugin, label) = text.split_once('/').unwrap();
    BucketId {
        plugin: plugin.parse().unwrap(),
        label: label.parse().unwrap(),
    }
}

pub(super) fn named(name: &str) -> NewObject {
    NewObject {
        name: name.to_owned(),
        ..NewObject::default()
    }
}

/// Bytes without a pattern that are the same in each run, and a text as far as types go.
pub(super) fn bytes(length: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b'a' + (state % 26) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A body that comes in pieces of this size.
pub(super) fn body(
    bytes: &Bytes,
    piece: usize,
) -> impl Stream<Item = Result<Bytes, &'static str>> + Send + use<> {
    let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces.into_iter().map(Ok))
}

/// The same, cut off after so many bytes.
pub(super) fn broken_body(
    bytes: &Bytes,
    after: usize,
) -> impl Stream<Item = Result<Bytes, &'static str>> + Send + use<> {
    let first = bytes.slice(..after);
    stream::iter([Ok(first), Err("the client is gone")])
}

pub(super) async fn put(blobs: &Blobs, bucket: &BucketId, name: &str, bytes: &Bytes) -> Object {
    let kept = blobs.upload(bucket, named(name), &ANY, body(bytes, 10_000));
    kept.await.unwrap()
}

pub(super) async fn get(blobs: &Blobs, object: &Object) -> Vec<u8> {
    let content = blobs.open(object, None).await.unwrap();
    content.try_collect::<Vec<_>>().await.unwrap().concat()
}
