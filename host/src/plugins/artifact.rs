//! The uploaded components as files, each under its own digest: putting one twice is putting it once, and what is read
//! is what was put.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::ids::Digest;
use crate::plugins::store::Store;

/// Why an artifact could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no artifact {0}; restore it from a backup, or deploy the plugin again")]
    NotFound(Digest),
    #[error("the artifact {0} is damaged; restore it from a backup, or deploy the plugin again")]
    Damaged(Digest),
    #[error("cannot use the artifacts in {}", .folder.display())]
    Io { folder: PathBuf, source: io::Error },
    #[error("the artifacts in the rows cannot be reached")]
    Rows(#[from] sqlx::Error),
}

/// The folder of all artifacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
    /// Where they are, too, if the rows are on a server: other hosts have other folders.
    rows: Option<Store>,
}

impl Artifacts {
    /// Opens the folder, and creates it if need be. Once per process; blocks.
    pub fn open(folder: PathBuf) -> Result<Self, Error> {
        let mut builder = fs::DirBuilder::new();
        match builder.recursive(true).mode(0o700).create(&folder) {
            Ok(()) => Ok(Self { folder, rows: None }),
            Err(source) => Err(Error::Io { folder, source }),
        }
    }

    /// The same, with rows in which they are, too, if these are on a server.
    #[must_use]
    pub fn with_rows(mut self, rows: &Store) -> Self {
        self.rows = rows.is_on_server().then(|| rows.clone());
        self
    }

    /// Keeps these bytes, and returns their digest. When it returns, they survive a power cut.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Error> {
        let digest = self.put_file(bytes.clone()).await?;
        if let Some(rows) = &self.rows {
            rows.put_artifact(digest, &bytes).await?;
        }
        Ok(digest)
    }

    async fn put_file(&self, bytes: Bytes) -> Result<Digest, Error> {
        self.blocking(move |folder| put(folder, &bytes))
            .await?
            .map_err(|source| self.failed(source))
    }

    /// The bytes with this digest, checked against it.
    pub async fn get(&self, digest: Digest) -> Result<Bytes, Error> {
        let missing = match (self.get_file(digest).await, &self.rows) {
            (Err(error @ (Error::NotFound(_) | Error::Damaged(_))), Some(rows)) => (error, rows),
            (got, _) => return got,
        };
        let (error, rows) = missing;
        match rows.artifact(digest).await? {
            Some(bytes) if Digest::of(&bytes) == digest => {
                let bytes = Bytes::from(bytes);
                self.put_file(bytes.clone()).await?;
                Ok(bytes)
            }
            _ => Err(error),
        }
    }

    async fn get_file(&self, digest: Digest) -> Result<Bytes, Error> {
        let read = self
            .blocking(move |folder| fs::read(folder.join(digest.to_string())))
            .await?;
        match read {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(bytes.into()),
            Ok(_) => Err(Error::Damaged(digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(digest)),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// All artifacts there are.
    pub async fn list(&self) -> Result<BTreeSet<Digest>, Error> {
        self.blocking(list)
            .await?
            .map_err(|source| self.failed(source))
    }

    /// Removes what is not in `keep`, and returns how many files went. Files younger than `age_min` stay: somebody may
    /// be about to record them.
    pub async fn remove_unreferenced(
        &self,
        keep: BTreeSet<Digest>,
        age_min: Duration,
    ) -> Result<usize, Error> {
        if let Some(rows) = &self.rows {
            rows.remove_artifacts(age_min).await?;
        }
        let removed = self
            .blocking(move |folder| remove_unreferenced(folder, &keep, age_min))
            .await?;
        removed.map_err(|source| self.failed(source))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|error| self.failed(io::Error::other(error)))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io {
            folder: self.folder.clone(),
            source,
        }
    }
}

fn put(folder: &Path, bytes: &[u8]) -> io::Result<Digest> {
    let digest = Digest::of(bytes);
    let path = folder.join(digest.to_string());
    // A file that is there may be cut off by an earlier crash of the disk; then it is written again.
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        // Young again, so that nobody takes it for a leftover before it is recorded.
        File::open(&path)?.set_modified(SystemTime::now())?;
        return Ok(digest);
    }
    let partial = folder.join(format!("{}{PARTIAL}", uuid::Uuid::now_v7()));
    let written = write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
    if let Err(error) = written {
        // The first error is the one to tell.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    // The rename itself survives a power cut only when the folder is synchronised.
    File::open(folder)?.sync_all()?;
    Ok(digest)
}

/// The end of the names of files that are being written.
const PARTIAL: &str = ".partial";

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn list(folder: &Path) -> io::Result<BTreeSet<Digest>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        found.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Digest>().ok()),
        );
    }
    Ok(found)
}

fn remove_unreferenced(
    folder: &Path,
    keep: &BTreeSet<Digest>,
    age_min: Duration,
) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_leftover = match name.parse::<Digest>() {
            Ok(digest) => !keep.contains(&digest),
            Err(_) => name.ends_with(PARTIAL),
        };
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?);
        if is_leftover && age.unwrap_or_default() >= age_min {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifacts() -> (tempfile::TempDir, Artifacts) {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path().join("artifacts")).unwrap();
        (folder, artifacts)
    }

    #[tokio::test]
    async fn putting_twice_is_putting_once() {
        let (_folder, artifacts) = artifacts();

        let first = artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
        let second = artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();

        assert_eq!(first, second);
        assert_eq!(artifacts.get(first).await.unwrap(), "wasm");
        assert_eq!(artifacts.list().await.unwrap(), BTreeSet::from([first]));
    }

    #[tokio::test]
    async fn a_damaged_artifact_is_never_handed_out_and_can_be_put_again() {
        let (_folder, artifacts) = artifacts();
        let digest = artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
        fs::write(artifacts.folder.join(digest.to_string()), b"evil").unwrap();

        assert!(matches!(
            artifacts.get(digest).await,
            Err(Error::Damaged(_))
        ));
        artifacts.put(Bytes::from_static(b"wasm")).await.unwrap();
        assert_eq!(artifacts.get(digest).await.unwrap(), "wasm");
    }

    #[tokio::test]
    async fn what_nobody_refers_to_goes_unless_it_is_young() {
        let (_folder, artifacts) = artifacts();
        let kept = artifacts.put(Bytes::from_static(b"kept")).await.unwrap();
        let gone = artifacts.put(Bytes::from_static(b"gone")).await.unwrap();
        fs::write(artifacts.folder.join("x.partial"), b"cut off").unwrap();
        let keep = BTreeSet::from([kept]);

        let hour = Duration::from_secs(3600);
        assert_eq!(
            artifacts
                .remove_unreferenced(keep.clone(), hour)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            artifacts
                .remove_unreferenced(keep, Duration::ZERO)
                .await
                .unwrap(),
            2
        );

        assert!(matches!(artifacts.get(gone).await, Err(Error::NotFound(_))));
        assert_eq!(artifacts.get(kept).await.unwrap(), "kept");
    }
}
