//! What is kept: objects, by their names in the buckets of plugins.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Config, Error};
use crate::ids::{Digest, Label, PluginName};

/// Longest name of an object, in bytes. Part of the contract.
pub const NAME_BYTES_MAX: usize = 512;
/// Longest content type, in bytes.
const TYPE_BYTES_MAX: usize = 127;

/// A bucket: a plugin, and what it calls it. No object is in two, and no name leads from one into another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketId {
    pub plugin: PluginName,
    pub label: Label,
}

/// One state of an object. Another one with the same name has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(uuid::Uuid);

/// One resumable upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(uuid::Uuid);

impl ObjectId {
    /// A new id; later ones sort after earlier ones.
    pub(super) fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// When it was made, in milliseconds; nothing if it was not made here.
    pub(super) fn made_at_ms(&self) -> Option<i64> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        i64::try_from(seconds * 1000 + u64::from(nanoseconds) / 1_000_000).ok()
    }
}

impl UploadId {
    /// A new id, which nobody can guess: who has it may add to the upload, as far as this service knows.
    pub(super) fn new() -> Self {
        Self(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }
}

macro_rules! id {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(ObjectId);
id!(UploadId);

/// An object as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: BucketId,
    pub name: String,
    /// Changes with each write, also of the same bytes. Without quotation marks it is the strong `ETag`.
    pub id: ObjectId,
    pub size: u64,
    /// As it was declared, or as the bytes look; checked against the bytes.
    pub content_type: String,
    pub sha256: Digest,
    pub metadata: Metadata,
    /// The id of the principal who sent it; nothing for what the plugin wrote.
    pub owner: Option<String>,
    pub created_at_ms: i64,
}

impl Object {
    /// The `ETag` of the object, without quotation marks.
    pub fn etag(&self) -> String {
        self.id.to_string()
    }
}

/// Small texts that are kept with an object.
pub type Metadata = BTreeMap<String, String>;

/// What is going to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewObject {
    pub name: String,
    /// As the sender declares it; nothing leaves it to the bytes.
    pub content_type: Option<String>,
    pub metadata: Metadata,
    /// The id of the principal who sends it.
    pub owner: Option<String>,
    /// How many bytes it has, if the sender knows. Reserved before the first is taken; more or fewer are an error.
    pub length: Option<u64>,
    pub condition: Condition,
    /// The link by which it comes, which is good once. Only for what comes in one go.
    pub link: Option<LinkId>,
}

/// What is remembered of a link that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkId {
    /// A digest of everything that the link says.
    pub(super) digest: String,
    /// When it is worth nothing anyway.
    pub(super) expires_at_ms: i64,
}

/// When an object is written or deleted; else [`Error::Changed`]. Looked at when the object is whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// Only if nothing has this name.
    Absent,
    /// Only if this is still what has the name.
    Is(ObjectId),
}

/// What a route or a link allows beside what the operator does. The narrower one holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Most bytes of one object.
    pub bytes_max: Option<u64>,
    /// Only these types; empty means all.
    pub types: Vec<TypePattern>,
}

/// Media types: `image/png`, `image/*` or `*/*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TypePattern(Arc<str>);

/// A text that is no pattern of media types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no media type, like `image/png` or `image/*`")]
pub struct InvalidPattern(String);

impl TypePattern {
    /// Whether a media type, in small letters and without parameters, is one of these.
    pub fn matches(&self, essence: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some("*/") => true,
            Some(beginning) => essence.starts_with(beginning),
            None => essence == &*self.0,
        }
    }
}

impl FromStr for TypePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let lower = text.to_ascii_lowercase();
        let is_valid = match lower.split_once('/') {
            Some(("*", "*")) => true,
            Some((kind, "*")) => is_token(kind),
            Some((kind, subtype)) => is_token(kind) && is_token(subtype),
            None => false,
        };
        if is_valid && lower.len() <= TYPE_BYTES_MAX && !lower.starts_with("*/") || lower == "*/*" {
            Ok(Self(lower.into()))
        } else {
            Err(InvalidPattern(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for TypePattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> Self {
        pattern.0.as_ref().to_owned()
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_token(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
    !text.is_empty() && text.chars().all(is_allowed)
}

/// Whether an object can have this name. Names are opaque: a slash divides them for people and for listing by prefix.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let has_bad = name.chars().any(|c| c.is_control() || c == '\\');
    if name.len() > NAME_BYTES_MAX || has_bad || !name.split('/').all(is_plain) {
        return Err(Error::NameInvalid);
    }
    Ok(())
}

/// What the names of objects begin with that the host made and plugins cannot write.
const HOSTS: char = '~';

/// Whether only the host writes objects with this name.
pub fn is_hosts(name: &str) -> bool {
    name.starts_with(HOSTS)
}

/// What the names of all objects begin with that were derived of the one with this name. They go with it.
pub fn derived_folder(name: &str) -> String {
    format!("{HOSTS}renditions/{name}/")
}

/// A content type in small letters, parameters and all, if it is one: a header must be able to carry it.
pub(super) fn read_type(text: &str) -> Result<String, Error> {
    let (essence, parameters) = match text.split_once(';') {
        Some((essence, parameters)) => (essence.trim(), Some(parameters.trim())),
        None => (text.trim(), None),
    };
    let essence = essence.to_ascii_lowercase();
    let is_visible = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let is_type = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if text.len() > TYPE_BYTES_MAX || !is_type || !parameters.is_none_or(is_visible) {
        return Err(Error::TypeInvalid);
    }
    Ok(match parameters {
        Some(parameters) if !parameters.is_empty() => format!("{essence}; {parameters}"),
        _ => essence,
    })
}

/// Whether these texts may be kept with an object.
pub(super) fn check_metadata(metadata: &Metadata, config: &Config) -> Result<(), Error> {
    let (entries_max, bytes_max) = (config.metadata_entries_max, config.metadata_bytes_max);
    let is_key = |key: &str| {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        (1..=64).contains(&key.len()) && key.chars().all(is_allowed)
    };
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let has_nul = metadata.values().any(|value| value.contains('\0'));
    if metadata.len() > entries_max
        || bytes > bytes_max
        || has_nul
        || !metadata.keys().all(|key| is_key(key))
    {
        let rule = format!(
            "at most {entries_max} entries and {bytes_max} bytes; keys have 1 to 64 small letters, digits, hyphens and \
             underscores"
        );
        return Err(Error::MetadataInvalid { rule });
    }
    Ok(())
}

/// An upload that may take several requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub id: UploadId,
    pub bucket: BucketId,
    pub name: String,
    /// As it was declared.
    pub content_type: Option<String>,
    pub metadata: Metadata,
    pub owner: Option<String>,
    /// How many bytes it will have; nothing until the sender says so.
    pub length: Option<u64>,
    /// How many bytes are kept; the next piece begins here.
    pub offset: u64,
    /// What it became; then nothing can be added.
    pub finished: Option<ObjectId>,
    pub created_at_ms: i64,
    /// When it goes, if nobody adds to it; of a finished one, when it is forgotten.
    pub expires_at_ms: i64,
}

/// Some of the objects of a bucket, by their names in ascending order of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectPage {
    pub objects: Vec<Object>,
    /// Leads to the next page; nothing means that this was the last.
    pub cursor: Option<String>,
}

/// Some of the open uploads of a bucket, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    pub uploads: Vec<Upload>,
    /// Leads to the next page; nothing means that this was the last.
    pub cursor: Option<String>,
}

/// What a plugin or a bucket keeps now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub objects: u64,
    /// Bytes that are stored, those of replaced objects too until they are removed.
    pub bytes: u64,
    /// Bytes that are reserved for uploads.
    pub reserved_bytes: u64,
    /// Uploads that are open.
    pub uploads: u64,
}
