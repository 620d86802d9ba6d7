//! Unpacks a bundle from somebody who may mean harm: sizes are counted while reading, whatever the headers say.

use std::{
    collections::{BTreeSet, HashSet},
    io::{Cursor, Read},
};

use bytes::Bytes;
use zip::{ZipArchive, result::ZipError};

use super::{
    Bundle, BundleError, COMPONENT, Config, FileDigest, MANIFEST, Migration, SIGNATURE,
    migration_name,
};
use crate::ids::{Digest, Label};

/// Below this size a high ratio is no danger.
const RATIO_COUNTS_FROM: usize = 64 << 10;

pub(super) fn read(bytes: &Bytes, config: &Config) -> Result<Bundle, BundleError> {
    check_size(bytes.len(), config)?;
    check_end(bytes, config)?;
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    if archive.offset() != 0 || archive.has_duplicate_names() {
        let reason = "there is data before it, or one name twice".to_owned();
        return Err(BundleError::Damaged { reason });
    }
    if archive
        .has_overlapping_files()
        .map_err(|error| damaged(&error))?
    {
        return Err(BundleError::Damaged {
            reason: "its files overlap".to_owned(),
        });
    }
    let mut files = Files::new(config);
    for index in 0..archive.len() {
        files.add(archive.by_index(index).map_err(|error| damaged(&error))?)?;
    }
    files.finish()
}

pub(super) fn check_size(bytes: usize, config: &Config) -> Result<(), BundleError> {
    let max = config.bytes_max;
    if bytes > max {
        Err(BundleError::TooLarge { bytes, max })
    } else {
        Ok(())
    }
}

/// The end of a zip says how many files there are. It is read here first, so that a table of a million entries is
/// never built. Comments and the 64-bit form are refused: a bundle within its limits needs neither.
fn check_end(bytes: &[u8], config: &Config) -> Result<(), BundleError> {
    const END: usize = 22;
    const LOCATOR: usize = 20;
    let start = bytes
        .len()
        .checked_sub(END)
        .ok_or(BundleError::NotABundle)?;
    let end = &bytes[start..];
    if !end.starts_with(b"PK\x05\x06") || end[20..22] != [0, 0] {
        return Err(BundleError::NotABundle);
    }
    if start >= LOCATOR && bytes[start - LOCATOR..].starts_with(b"PK\x06\x07") {
        return Err(BundleError::Damaged {
            reason: "it is in the 64-bit form".to_owned(),
        });
    }
    let entries = usize::from(u16::from_le_bytes([end[10], end[11]]));
    let max = config.entries_max;
    if entries > max {
        return Err(BundleError::TooManyEntries { entries, max });
    }
    Ok(())
}

/// The files of a bundle so far.
struct Files<'c> {
    config: &'c Config,
    unpacked_bytes: usize,
    /// In small letters, because some systems do not tell large from small.
    names: HashSet<String>,
    manifest: Option<String>,
    component: Option<Bytes>,
    migrations: Vec<Migration>,
    versions: BTreeSet<(Label, i64)>,
    digests: Vec<FileDigest>,
    signature: Option<String>,
}

impl<'c> Files<'c> {
    fn new(config: &'c Config) -> Self {
        Self {
            config,
            unpacked_bytes: 0,
            names: HashSet::new(),
            manifest: None,
            component: None,
            migrations: Vec::new(),
            versions: BTreeSet::new(),
            digests: Vec::new(),
            signature: None,
        }
    }

    fn add(&mut self, file: zip::read::ZipFile<'_, impl Read>) -> Result<(), BundleError> {
        let path = String::from_utf8_lossy(file.name_raw()).into_owned();
        // Some packers name the folders too.
        let name = if file.is_dir() {
            path.trim_end_matches('/')
        } else {
            &path
        };
        if let Some(rule) = broken_rule(name, self.config.path_bytes_max) {
            let path = path.chars().take(80).flat_map(char::escape_debug).collect();
            return Err(BundleError::Path { path, rule });
        }
        if !self.names.insert(name.to_ascii_lowercase()) {
            return Err(BundleError::Duplicate { path });
        }
        let kind = file.unix_mode().map_or(0, |mode| mode & 0o170_000);
        if file.is_symlink() || !matches!(kind, 0 | 0o100_000 | 0o040_000) {
            return Err(BundleError::Path {
                path,
                rule: "is a link or a device",
            });
        }
        if file.encrypted() {
            return Err(BundleError::Path {
                path,
                rule: "is encrypted",
            });
        }
        if file.is_dir() {
            return Ok(());
        }
        if path == MANIFEST {
            self.manifest = Some(self.text(file, path)?);
        } else if path == COMPONENT {
            self.component = Some(self.unpack(file, &path)?.into());
        } else if path == SIGNATURE {
            self.signature = Some(self.text(file, path)?);
        } else if let Some(rest) = path.strip_prefix("migrations/") {
            let (label, name) = rest
                .split_once('/')
                .ok_or_else(|| BundleError::Unexpected { path: path.clone() })?;
            let wrong = || BundleError::MigrationName { path: path.clone() };
            let label: Label = label.parse().map_err(|_| wrong())?;
            let (version, name) = migration_name(name).ok_or_else(wrong)?;
            if !self.versions.insert((label.clone(), version)) {
                return Err(BundleError::MigrationTwice { label, version });
            }
            let name = name.to_owned();
            let sql = self.text(file, path.clone())?;
            self.migrations.push(Migration {
                label,
                version,
                name,
                sql,
            });
        } else {
            return Err(BundleError::Unexpected { path });
        }
        Ok(())
    }

    fn text(
        &mut self,
        file: zip::read::ZipFile<'_, impl Read>,
        path: String,
    ) -> Result<String, BundleError> {
        let bytes = self.unpack(file, &path)?;
        String::from_utf8(bytes).map_err(|_| BundleError::NotText { path })
    }

    fn unpack(
        &mut self,
        file: zip::read::ZipFile<'_, impl Read>,
        path: &str,
    ) -> Result<Vec<u8>, BundleError> {
        let left = self.config.unpacked_bytes_max - self.unpacked_bytes;
        let packed = usize::try_from(file.compressed_size()).unwrap_or(usize::MAX);
        let by_ratio = packed
            .saturating_mul(self.config.ratio_max)
            .max(RATIO_COUNTS_FROM);
        let most = left.min(by_ratio);
        let mut bytes = Vec::new();
        file.take(most as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| BundleError::Damaged {
                reason: format!("`{path}`: {error}"),
            })?;
        if bytes.len() > left {
            return Err(BundleError::UnpackedTooLarge {
                max: self.config.unpacked_bytes_max,
            });
        }
        if bytes.len() > by_ratio {
            let max = self.config.ratio_max;
            return Err(BundleError::RatioTooHigh {
                path: path.to_owned(),
                max,
            });
        }
        self.unpacked_bytes += bytes.len();
        // Here, so that no kind of file can be left out of what a signature covers.
        if path != SIGNATURE {
            self.digests.push(FileDigest {
                path: path.to_owned(),
                bytes: bytes.len() as u64,
                digest: Digest::of(&bytes),
            });
        }
        Ok(bytes)
    }

    fn finish(mut self) -> Result<Bundle, BundleError> {
        self.migrations
            .sort_by(|a, b| (&a.label, a.version).cmp(&(&b.label, b.version)));
        self.digests.sort();
        Ok(Bundle {
            manifest: self
                .manifest
                .ok_or(BundleError::Missing { path: MANIFEST })?,
            component: self
                .component
                .ok_or(BundleError::Missing { path: COMPONENT })?,
            migrations: self.migrations,
            files: self.digests,
            signature: self.signature,
        })
    }
}

/// What is wrong with a file's name.
fn broken_rule(name: &str, bytes_max: usize) -> Option<&'static str> {
    if name.len() > bytes_max {
        return Some("has a name that is too long");
    }
    if name.starts_with('/') {
        return Some("has an absolute path");
    }
    if name
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Some("has `.`, `..` or an empty part in its path");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\\:".contains(&byte))
    {
        return Some("has a character in its path that not all systems know");
    }
    None
}

fn damaged(error: &ZipError) -> BundleError {
    BundleError::Damaged {
        reason: error.to_string(),
    }
}
