//! The secrets the host is born with: one master key from which other modules derive theirs, and the key that signs
//! access tokens. They live in files that only the host's user can read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const LENGTH: usize = 32;

/// Why the host's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read or create the key file {path}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{path} is open to other users (mode {mode:04o}); make it private with `chmod {wanted} {path}` and, if others \
         may have read it, replace it"
    )]
    TooOpen {
        path: PathBuf,
        mode: u32,
        wanted: &'static str,
    },
    #[error("{path} holds {found} bytes instead of {LENGTH}; restore it from a backup")]
    Length { path: PathBuf, found: usize },
}

/// The host's keys. Created at the first start; losing the master key loses every secret sealed with it.
#[derive(Clone)]
pub struct Keys {
    master: Zeroizing<[u8; LENGTH]>,
    access_token: Zeroizing<[u8; LENGTH]>,
}

impl Keys {
    /// Reads the keys in `data_dir/keys`, or creates them with mode 0600 if they are not there. Refuses files that
    /// others can read and a folder that others can write. Blocks on the disk for a moment.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let folder = data_dir.join("keys");
        let failed = |source| Error::File {
            path: folder.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        require_private(&folder, 0o022, "700")?;
        Ok(Self {
            master: open_or_create(&folder.join("master.key"))?,
            // Apart from the master key, so that it can be replaced without losing what the master key seals.
            access_token: open_or_create(&folder.join("access-token.key"))?,
        })
    }

    /// The key for one purpose, for example `secrets`. The same label gives the same key at every start; a key tells
    /// nothing about the others. (HKDF-Expand of RFC 5869 with SHA-256.)
    pub fn derive(&self, label: &str) -> [u8; LENGTH] {
        expand(&self.master, &[b"gantry/", label.as_bytes()])
    }

    /// Tells the master key without giving it away.
    pub fn fingerprint(&self) -> String {
        hex::encode(self.derive("fingerprint"))
    }

    pub(super) fn access_token_seed(&self) -> &[u8; LENGTH] {
        &self.access_token
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

fn expand(key: &[u8; LENGTH], info: &[&[u8]]) -> [u8; LENGTH] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in info {
        mac.update(part);
    }
    mac.update(&[1]);
    mac.finalize().into_bytes().into()
}

fn open_or_create(path: &Path) -> Result<Zeroizing<[u8; LENGTH]>, Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    if !path.exists() {
        create(path).map_err(failed)?;
    }
    require_private(path, 0o077, "600")?;
    let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
    let key = <[u8; LENGTH]>::try_from(bytes.as_slice());
    key.map(Zeroizing::new).map_err(|_| Error::Length {
        path: path.to_owned(),
        found: bytes.len(),
    })
}

/// Writes a new key so that the file is there whole or not at all, and never over an old one.
fn create(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; LENGTH]);
    rand::fill(key.as_mut_slice());
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    // Left by a start that was cut off; in a container each start has the same id.
    let _ = fs::remove_file(&draft);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            // Another process was faster; its key is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })();
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn require_private(path: &Path, forbidden: u32, wanted: &'static str) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden == 0 {
        Ok(())
    } else {
        Err(Error::TooOpen {
            path: path.to_owned(),
            mode,
            wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_stay_the_same_from_start_to_start_and_differ_by_label() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::open(folder.path()).unwrap();
        let second = Keys::open(folder.path()).unwrap();
        assert_eq!(first.derive("secrets"), second.derive("secrets"));
        assert_eq!(first.access_token_seed(), second.access_token_seed());
        assert_ne!(first.derive("secrets"), first.derive("tokens"));
        assert_ne!(&first.derive("secrets"), first.access_token_seed());
    }

    #[test]
    fn key_files_are_made_private_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path()).unwrap();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.path().join("keys")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["access-token.key", "master.key"]);
    }

    #[test]
    fn a_key_that_others_may_read_stops_the_start_and_says_how_to_mend_it() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path()).unwrap();
        let path = folder.path().join("keys/master.key");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let message = Keys::open(folder.path()).unwrap_err().to_string();
            assert!(message.contains("chmod 600"), "{message}");
            assert!(message.contains("master.key"), "{message}");
        }
    }

    #[test]
    fn a_folder_that_others_may_write_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path()).unwrap();
        let keys = folder.path().join("keys");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            Keys::open(folder.path()),
            Err(Error::TooOpen { .. })
        ));
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path()).unwrap();
        let path = folder.path().join("keys/master.key");
        fs::write(&path, b"short").unwrap();
        assert!(matches!(
            Keys::open(folder.path()),
            Err(Error::Length { found: 5, .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn derived_keys_follow_rfc_5869() {
        // Test case 1 of the RFC: the first block of its output.
        let mut key = [0; LENGTH];
        let prk = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        hex::decode_to_slice(prk, &mut key).unwrap();
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(expand(&key, &[&info])), okm);
    }

    #[test]
    fn keys_do_not_show_themselves() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(format!("{:?}", Keys::open(folder.path()).unwrap()), "Keys");
    }
}
