//! Where bytes lie: a folder or an S3-compatible server. Each object has a place of its own by its id, with its pieces in
//! it; a piece is there whole or not at all, and is never changed.

use std::{
    collections::HashSet,
    fmt, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    BackoffConfig, Certificate, ClientOptions, GetOptions, GetRange, GetResultPayload, ObjectStore,
    ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    local::LocalFileSystem,
    path::Path as Key,
};
use tokio::sync::OnceCell;

use super::metrics::{Metrics, Operation};
use super::{Config, Error, ObjectId, StoreKind};

/// Places are spread over as many folders, by the last byte of the id.
pub(super) const SHARDS: u16 = 256;
/// What is read of a file at once.
const FILE_READ_BYTES: usize = 128 << 10;
/// The name of the object that says whose a store is.
const OWNER: &str = "owner";

/// Why the store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the folder {path} for files")]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot read `blobs.s3.{setting}`")]
    File {
        setting: &'static str,
        source: io::Error,
    },
    #[error("`blobs.s3` cannot be used")]
    Settings(#[source] object_store::Error),
}

pub(super) struct Shelf {
    store: Store,
    prefix: Key,
    /// Says whose the store is.
    owner: String,
    is_own: OnceCell<bool>,
    /// For one request to a server, with everything that is tried again.
    timeout: Duration,
    metrics: Metrics,
}

enum Store {
    Folder(Arc<LocalFileSystem>, PathBuf),
    S3(Arc<AmazonS3>),
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Store::Folder(_, path) => write!(f, "Shelf({})", path.display()),
            Store::S3(_) => write!(f, "Shelf(S3, {})", self.prefix),
        }
    }
}

impl Shelf {
    /// Opens the folder, or gets ready for the server, which need not be there yet.
    pub(super) fn open(
        config: &Config,
        folder: &Path,
        owner: String,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let (store, prefix) = match config.store {
            StoreKind::Folder => (open_folder(folder)?, Key::default()),
            StoreKind::S3 => {
                let prefix = Key::parse(&config.s3.prefix)
                    .map_err(|error| OpenError::Settings(error.into()))?;
                (open_s3(config)?, prefix)
            }
        };
        Ok(Self {
            store,
            prefix,
            owner,
            is_own: OnceCell::new(),
            timeout: Duration::from_millis(config.s3.timeout_ms),
            metrics,
        })
    }

    /// Keeps a piece. When this returns, it is there whole, and stays.
    pub(super) async fn put(
        &self,
        object: ObjectId,
        part: &str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        if !self.is_own().await? {
            tracing::error!(
                "Another host keeps files under `blobs.s3.prefix`; give each host one of its own"
            );
            return Err(Error::Unavailable);
        }
        let key = self.place(object).join(part);
        let put = self.store().put(&key, PutPayload::from_bytes(bytes));
        self.request(Operation::Put, put).await?;
        Ok(())
    }

    /// The bytes of a piece from `begin` to `end`, in pieces; exactly as many, or an error.
    pub(super) async fn get(
        &self,
        object: ObjectId,
        part: &str,
        begin: u64,
        end: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let key = self.place(object).join(part);
        let options = GetOptions {
            range: Some(GetRange::Bounded(begin..end)),
            ..GetOptions::default()
        };
        let found = self
            .request(Operation::Get, self.store().get_opts(&key, options))
            .await;
        let found = found.map_err(|failed| match failed {
            Failed::Missing => damaged(&key),
            Failed::Unavailable => Error::Unavailable,
        })?;
        let bytes = match found.payload {
            GetResultPayload::File(file, _) => read_file(file, begin, end),
            GetResultPayload::Stream(bytes) => {
                let bytes = bytes.map_err(|error| {
                    tracing::warn!(error.cause = %error, "The store broke off while a file was read");
                    Error::Unavailable
                });
                bytes.boxed()
            }
        };
        Ok(counted(bytes, end - begin, key))
    }

    /// Removes what lies at the place of an object, but for these pieces.
    pub(super) async fn remove(
        &self,
        object: ObjectId,
        keep: &HashSet<String>,
    ) -> Result<(), Error> {
        let place = self.place(object);
        match &self.store {
            Store::Folder(_, root) => {
                // By itself, because the store does not see what a write left that was cut off.
                let (folder, keep) = (root.join(place.as_ref()), keep.clone());
                let removed = tokio::task::spawn_blocking(move || clear(&folder, &keep)).await;
                let removed = removed.map_err(io::Error::other).flatten();
                self.metrics.count(Operation::Delete, removed.is_ok());
                removed.map_err(|error| {
                    tracing::warn!(error.cause = %error, "Bytes of files cannot be removed");
                    Error::Unavailable
                })
            }
            Store::S3(store) => {
                let is_kept = |key: &Key| key.filename().is_some_and(|name| keep.contains(name));
                let mut found = store.list(Some(&place)).fuse();
                loop {
                    // A page at a time: what an object can have at most is much.
                    let mut keys = Vec::new();
                    while keys.len() < 1000 {
                        match self.request(Operation::List, found.try_next()).await? {
                            Some(meta) if !is_kept(&meta.location) => keys.push(meta.location),
                            Some(_) => {}
                            None => break,
                        }
                    }
                    if keys.is_empty() {
                        return Ok(());
                    }
                    let keys = stream::iter(keys).map(Ok).boxed();
                    let mut removed = store.delete_stream(keys).fuse();
                    loop {
                        match self.request(Operation::Delete, removed.try_next()).await {
                            Ok(Some(_)) | Err(Failed::Missing) => {}
                            Ok(None) => break,
                            Err(failed) => return Err(failed.into()),
                        }
                    }
                }
            }
        }
    }

    /// The objects that have a place in this shard, whoever knows of them.
    pub(super) async fn ids(&self, shard: u8) -> Result<Vec<ObjectId>, Error> {
        let shard = self.prefix.clone().join(format!("{shard:02x}"));
        let list = self.store().list_with_delimiter(Some(&shard));
        let list = match self.request(Operation::List, list).await {
            Ok(list) => list,
            Err(Failed::Missing) => return Ok(Vec::new()),
            Err(failed) => return Err(failed.into()),
        };
        let ids = list.common_prefixes.iter();
        Ok(ids
            .filter_map(|prefix| prefix.filename()?.parse().ok())
            .collect())
    }

    /// Whether the store is this host's alone: the first one who keeps something there says so. The data directory has a
    /// lock instead.
    pub(super) async fn is_own(&self) -> Result<bool, Error> {
        if matches!(self.store, Store::Folder(..)) {
            return Ok(true);
        }
        let is_own = self.is_own.get_or_try_init(|| self.claim()).await?;
        Ok(*is_own)
    }

    async fn claim(&self) -> Result<bool, Error> {
        let key = self.prefix.clone().join(OWNER);
        // Not by a condition alone, which not every server knows.
        let told = async || {
            let read = async { self.store().get(&key).await?.bytes().await };
            match self.request(Operation::Get, read).await {
                Ok(owner) => Ok(Some(owner == self.owner.as_bytes())),
                Err(Failed::Missing) => Ok(None),
                Err(Failed::Unavailable) => Err(Error::Unavailable),
            }
        };
        if let Some(is_own) = told().await? {
            return Ok(is_own);
        }
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .store()
            .put_opts(&key, self.owner.clone().into(), options);
        let put = async {
            match put.await {
                Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                put => put.map(drop),
            }
        };
        self.request(Operation::Put, put).await?;
        Ok(told().await? == Some(true))
    }

    fn store(&self) -> &dyn ObjectStore {
        match &self.store {
            Store::Folder(store, _) => store.as_ref(),
            Store::S3(store) => store.as_ref(),
        }
    }

    fn place(&self, object: ObjectId) -> Key {
        let id = object.to_string();
        let shard = &id[id.len() - 2..];
        self.prefix.clone().join(shard).join(id.as_str())
    }

    /// A request to the store, which ends in time, and is counted.
    async fn request<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failed> {
        let began = Instant::now();
        let answer = tokio::time::timeout(self.timeout, request).await;
        self.metrics.observe(operation, began.elapsed());
        let failed = match answer {
            Ok(Ok(answer)) => {
                self.metrics.count(operation, true);
                return Ok(answer);
            }
            Ok(Err(object_store::Error::NotFound { .. })) => {
                self.metrics.count(operation, true);
                return Err(Failed::Missing);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.metrics.count(operation, false);
        let operation = operation.as_str();
        tracing::warn!(error.cause = %failed, operation, "The store of files cannot be used");
        Err(Failed::Unavailable)
    }
}

/// How a request to the store ended.
enum Failed {
    Missing,
    Unavailable,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Missing => Self::Damaged,
            Failed::Unavailable => Self::Unavailable,
        }
    }
}

fn damaged(key: &Key) -> Error {
    tracing::error!(blob.key = %key, "Bytes of a file are missing in the store");
    Error::Damaged
}

fn open_folder(folder: &Path) -> Result<Store, OpenError> {
    let failed = |source| OpenError::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(failed)?;
    let root = folder.canonicalize().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(OpenError::Settings)?;
    Ok(Store::Folder(Arc::new(store.with_fsync(true)), root))
}

fn open_s3(config: &Config) -> Result<Store, OpenError> {
    let s3 = &config.s3;
    let read = |setting| move |source| OpenError::File { setting, source };
    let secret = s3.secret().map_err(read("secret_key_file"))?;
    let ms = Duration::from_millis;
    let mut client = ClientOptions::new()
        .with_allow_http(s3.endpoint.starts_with("http://"))
        .with_connect_timeout(ms(s3.connect_timeout_ms))
        .with_read_timeout(ms(s3.read_timeout_ms))
        .with_timeout_disabled();
    if let Some(file) = &s3.ca_file {
        let pem = fs::read(file).map_err(read("ca_file"))?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(OpenError::Settings)?;
        for certificate in bundle {
            client = client.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig {
            max_backoff: ms(2000),
            ..BackoffConfig::default()
        },
        max_retries: s3.retries_max,
        retry_timeout: ms(s3.timeout_ms),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_access_key_id(&s3.access_key)
        .with_secret_access_key(secret.as_str())
        .with_virtual_hosted_style_request(false)
        .with_client_options(client)
        .with_retry(retry);
    if !s3.endpoint.is_empty() {
        builder = builder.with_endpoint(&s3.endpoint);
    }
    let store = builder.build().map_err(OpenError::Settings)?;
    Ok(Store::S3(Arc::new(store)))
}

/// Removes the files of a place that are not to be kept, and the place if it is empty then.
fn clear(folder: &Path, keep: &HashSet<String>) -> io::Result<()> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| keep.contains(name))
        {
            match fs::remove_file(entry.path()) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    if keep.is_empty() {
        match fs::remove_dir(folder) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read_file(file: fs::File, begin: u64, end: u64) -> BoxStream<'static, Result<Bytes, Error>> {
    use std::os::unix::fs::FileExt as _;
    let file = Arc::new(file);
    let read = move |at: u64| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok(None);
            }
            let length =
                usize::try_from(end - at).map_or(FILE_READ_BYTES, |left| left.min(FILE_READ_BYTES));
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            match read.await.map_err(io::Error::other).flatten() {
                Ok(bytes) => Ok(Some((Bytes::from(bytes), at + length as u64))),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Damaged),
                Err(error) => {
                    tracing::warn!(error.cause = %error, "The store broke off while a file was read");
                    Err(Error::Unavailable)
                }
            }
        }
    };
    stream::try_unfold(begin, read).boxed()
}

/// The same, with an error in the place of an end that comes too early, and nothing beyond it.
fn counted(
    bytes: BoxStream<'static, Result<Bytes, Error>>,
    length: u64,
    key: Key,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let state = (bytes, length, key);
    stream::try_unfold(state, |(mut bytes, left, key)| async move {
        match bytes.try_next().await? {
            Some(piece) if piece.len() as u64 <= left => {
                let left = left - piece.len() as u64;
                Ok(Some((piece, (bytes, left, key))))
            }
            None if left == 0 => Ok(None),
            _ => Err(damaged(&key)),
        }
    })
    .boxed()
}
