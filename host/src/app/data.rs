//! The folder that holds everything a host keeps: only its owner reads it, and one host at a time uses it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::app::rehearsal;
use crate::auth::Auth;

/// The folder that holds everything, readable by its owner only.
pub(super) struct DataDir {
    path: PathBuf,
    _lock: Lock,
}

/// How long a start waits for the lock: a child that a host was starting when it was killed holds it for a moment longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Held while a host uses a data directory. The system lets go of it when the process ends, however it ends.
type Lock = fs::File;

/// Folders in it. What is in them is as private as they are.
const FOLDERS: [&str; 6] = [
    "artifacts",
    "blobs",
    "compiled",
    "keys",
    rehearsal::FOLDER,
    "sql",
];
/// Files in it.
const FILES: [&str; 6] = [
    "admin.key",
    "audit.head",
    "gantry.db",
    "gantry.db-shm",
    "gantry.db-wal",
    "lock",
];

impl DataDir {
    pub(super) async fn open(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create the data directory {}", path.display()))?;
        let path = path.canonicalize()?;
        close_to_others(&path)
            .with_context(|| format!("cannot keep {} from others", path.display()))?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        let patient_until = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < patient_until => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    return Err(error.context(format!(
                        "another host uses the data directory {}; stop it, or give this one a directory of its own",
                        path.display()
                    )));
                }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Sees to it that a file that somebody else is going to create is for its owner only.
    pub(super) fn keep_private(&self, file: &Path) -> anyhow::Result<()> {
        let created = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(file);
        created.with_context(|| format!("cannot open {}", file.display()))?;
        Ok(())
    }
}

/// At the first start, makes an administrator and leaves the key where only the owner of the data can read it, so that
/// the command line on this machine needs no set-up.
pub(super) async fn write_admin_key(auth: &Auth, data: &DataDir) -> anyhow::Result<Option<String>> {
    let path = data.file("admin.key");
    let created = auth.ensure_admin(move |token| write_private(&path, token));
    Ok(created.await?.map(|created| created.token.clone()))
}

/// Writes a file that is there whole or not at all, and that only its owner reads.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("key.partial");
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Takes from others what they can do here. A folder in which other things are, too, stays as it is: it may be meant for
/// others, like `/tmp`; what is ours in it does not.
fn close_to_others(folder: &Path) -> io::Result<()> {
    for name in FOLDERS {
        close(&folder.join(name), 0o700)?;
    }
    for name in FILES {
        close(&folder.join(name), 0o600)?;
    }
    let metadata = fs::metadata(folder)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let is_owner = metadata.uid() == rustix::process::geteuid().as_raw();
    let shown = folder.display();
    if is_owner && is_all_ours(folder)? {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        tracing::info!(
            "Others could look into {shown} (mode {mode:o}); it is for its owner only now"
        );
    } else {
        tracing::warn!(
            "Others can look into {shown} (mode {mode:o}), but not into the host's files there; give the host a folder of its \
             own, or run `chmod 700 {shown}`"
        );
    }
    Ok(())
}

fn close(path: &Path, mode: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        // A link leads to where somebody has wanted it to be.
        Ok(metadata) if metadata.is_symlink() => Ok(()),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_all_ours(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_known = |name: &str| FOLDERS.contains(&name) || FILES.contains(&name);
        if !name.to_str().is_some_and(is_known) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn open_to_all(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn what_others_could_read_of_a_data_folder_they_cannot_read_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::create_dir(data.join("blobs")).unwrap();
        fs::write(data.join("gantry.db"), "rows").unwrap();
        open_to_all(&data, 0o755);
        open_to_all(&data.join("blobs"), 0o755);
        open_to_all(&data.join("gantry.db"), 0o644);
        let opened = DataDir::open(&data).await.unwrap();
        opened.keep_private(&opened.file("gantry.db")).unwrap();
        assert_eq!(
            fs::read_to_string(opened.file("gantry.db")).unwrap(),
            "rows"
        );
        for (path, wanted) in [
            ("", 0o700),
            ("blobs", 0o700),
            ("gantry.db", 0o600),
            ("lock", 0o600),
        ] {
            assert_eq!(mode(&data.join(path)), wanted, "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_others_use_too_stays_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("shared");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("letter.txt"), "theirs").unwrap();
        fs::write(data.join("gantry.db"), "ours").unwrap();
        open_to_all(&data, 0o755);
        open_to_all(&data.join("letter.txt"), 0o644);
        open_to_all(&data.join("gantry.db"), 0o644);
        DataDir::open(&data).await.unwrap();
        assert_eq!(mode(&data), 0o755);
        assert_eq!(mode(&data.join("letter.txt")), 0o644);
        assert_eq!(mode(&data.join("gantry.db")), 0o600);
    }
}
