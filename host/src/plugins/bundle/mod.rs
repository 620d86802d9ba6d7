//! One upload as one file, `name-version.gantry`: a zip of `plugin.toml`, the component as `plugin.wasm`, and
//! `migrations/<label>/NNNN_name.sql`, and perhaps its signature. Other entries are refused. The manifest is stored as its
//! author wrote it; its `[component] path` and migration folders describe the author's folder and are read only when packing.

mod pack;
mod read;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Label, PluginName};
use crate::plugins::Mistake;
use crate::plugins::manifest::{Auth, Manifest};
use crate::plugins::mistake;

pub use pack::{pack, pack_component, with_signature};

/// The name of the manifest in a bundle.
const MANIFEST: &str = "plugin.toml";
/// The name of the component in a bundle.
const COMPONENT: &str = "plugin.wasm";
/// The name of the signature in a bundle; `trust` knows what is in it.
const SIGNATURE: &str = "plugin.sig";

/// How large an upload may be.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most bytes of the upload as it comes. Default: 32 MiB.
    pub bytes_max: usize,
    /// Most bytes of all its files, unpacked. Default: 128 MiB.
    pub unpacked_bytes_max: usize,
    /// Most files in it. Default: 1000.
    pub entries_max: usize,
    /// How many times larger than packed a file may be, from 64 KiB on. Default: 100.
    pub ratio_max: usize,
    /// Most bytes of a file's name. Default: 256.
    pub path_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bytes_max: 32 << 20,
            unpacked_bytes_max: 128 << 20,
            entries_max: 1000,
            ratio_max: 100,
            path_bytes_max: 256,
        }
    }
}

/// Why an upload cannot be read, or a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the upload has {bytes} bytes, at most {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    #[error("the upload is neither a bundle nor a component, or its end is missing; send it again")]
    NotABundle,
    #[error("the bundle is damaged: {reason}; pack it again with `gantry plugin build`")]
    Damaged { reason: String },
    #[error("the bundle has {entries} files, at most {max} are allowed")]
    TooManyEntries { entries: usize, max: usize },
    #[error("the bundle's files have more than {max} bytes unpacked")]
    UnpackedTooLarge { max: usize },
    #[error("`{path}` is more than {max} times larger unpacked than packed")]
    RatioTooHigh { path: String, max: usize },
    #[error("the bundle's file `{path}` {rule}")]
    Path { path: String, rule: &'static str },
    #[error("the bundle has two files that some systems take for one: `{path}`")]
    Duplicate { path: String },
    #[error(
        "a bundle has no file `{path}`; it has plugin.toml, plugin.wasm, migrations/<label>/ and plugin.sig"
    )]
    Unexpected { path: String },
    #[error("the bundle has no `{path}`")]
    Missing { path: &'static str },
    #[error("`{path}` is not UTF-8 text")]
    NotText { path: String },
    #[error("`{path}` is no migration; name it like `0001_create_orders.sql`")]
    MigrationName { path: String },
    #[error("the database `{label}` has two migrations with the number {version}")]
    MigrationTwice { label: Label, version: i64 },
    #[error("a component alone needs a name for its plugin")]
    NameMissing,
    #[error("the manifest has {}", mistake::count(.0))]
    Manifest(Vec<Mistake>),
    #[error("cannot read {}; check the paths in plugin.toml, and whether the plugin was built", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// One step of the schema of a plugin's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Which database.
    pub label: Label,
    /// Steps run in ascending order; gaps are allowed. From 1.
    pub version: i64,
    /// The rest of the file's name.
    pub name: String,
    /// One or more statements.
    pub sql: String,
}

/// One file of a bundle, as a signature names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    /// As in the bundle; no blanks, ASCII only.
    pub path: String,
    pub bytes: u64,
    /// Of the file, unpacked.
    pub digest: Digest,
}

/// What was uploaded, unpacked. The manifest and the component are not checked yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The text of `plugin.toml`.
    pub manifest: String,
    /// What should be a component.
    pub component: Bytes,
    /// By label and version.
    pub migrations: Vec<Migration>,
    /// Every file but the signature, by path. Empty for a component that came without a manifest.
    pub files: Vec<FileDigest>,
    /// The text of `plugin.sig`, not checked yet.
    pub signature: Option<String>,
}

impl Bundle {
    /// Unpacks an upload. It may block for as long as unpacking takes; nothing is written to disk.
    pub fn read(bytes: &Bytes, config: &Config) -> Result<Self, BundleError> {
        read::read(bytes, config)
    }

    /// A bundle around a component that comes without a manifest. Its routes begin at `path`, below the mount.
    pub fn from_component(
        name: &PluginName,
        path: &str,
        auth: Auth,
        component: Bytes,
        config: &Config,
    ) -> Result<Self, BundleError> {
        read::check_size(component.len(), config)?;
        let manifest = Manifest::for_bare_component(name, path, auth);
        Ok(Self {
            manifest,
            component,
            migrations: Vec::new(),
            files: Vec::new(),
            signature: None,
        })
    }

    /// Whether these bytes begin like WebAssembly, and so are a component alone and not a bundle.
    pub fn is_component(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\0asm")
    }
}

/// The number and the name in `0001_create_orders.sql`.
fn migration_name(file: &str) -> Option<(i64, &str)> {
    let (digits, name) = file.strip_suffix(".sql")?.split_once('_')?;
    let is_number = digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_name = (1..=100).contains(&name.len()) && name.chars().all(is_plain);
    let version = digits.parse().ok().filter(|version| *version > 0)?;
    (is_number && is_name).then_some((version, name))
}
