//! What the operator decides about files.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{BucketId, TypePattern};
use crate::ids::{Label, PluginName};

/// Where the files of plugins are kept, and how much.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where bytes are kept: `folder` (under the data directory) or `s3`. Default: `folder`.
    pub store: StoreKind,
    /// The S3-compatible server, with `store = "s3"`.
    pub s3: S3Config,
    /// Longest object. Default: 256 MiB.
    pub object_bytes_max: u64,
    /// Most bytes of one plugin, over all its buckets. What is replaced or deleted counts until its bytes are removed, and
    /// what is being sent counts before it is there. Default: 1 GiB.
    pub bytes_per_plugin_max: u64,
    /// Most bytes of what one user or API key has sent to one plugin, what is being sent included. Default: none, and one alone
    /// can send all that the plugin may have.
    pub bytes_per_owner_max: Option<u64>,
    /// Most objects of one plugin, over all its buckets. Default: 100000.
    pub objects_per_plugin_max: u64,
    /// Bounds of single buckets, within those of their plugin: `[[blobs.buckets]]` with `plugin`, `bucket`, and `bytes_max` or
    /// `objects_max` or both. Default: none.
    pub buckets: Vec<BucketBounds>,
    /// Uploads of one plugin that are open at the same time. Default: 256.
    pub uploads_per_plugin_max: u64,
    /// The same of one user or API key; all who are nobody have half of the plugin's together. Who has several open has no
    /// more reserved for them than is left for others. Default: 32.
    pub uploads_per_owner_max: u64,
    /// How long an upload is kept to which nobody adds; at least `lease_ms`, or it would go while it belongs to somebody.
    /// Default: 86400000, a day.
    pub upload_idle_ms: u64,
    /// How long an upload belongs to a request of which nothing more is heard, because its host died. At least 1000; a host
    /// that lives says so every third of it. Default: 30000.
    pub lease_ms: u64,
    /// Size of the pieces in which bytes are kept, 64 KiB to 64 MiB. Default: 4 MiB.
    pub part_bytes: usize,
    /// Most pieces of one object: uploads in many small steps have more. Default: 10000.
    pub parts_max: u64,
    /// Most pieces of one object beside one for each 16 KiB of it: each is a file of its own, however short it is. Default: 128.
    pub parts_small_max: u64,
    /// Most bytes of uploads that the host holds in memory, all together. With less to spare, pieces become smaller.
    /// Default: 64 MiB.
    pub buffers_bytes_max: usize,
    /// Longest piece of an object in one call of a plugin's `read`, and of an upload's `write`. Default: 4 MiB.
    pub call_bytes_max: usize,
    /// Most entries of an object's metadata. Default: 16.
    pub metadata_entries_max: usize,
    /// Most bytes of an object's metadata. Default: 2048.
    pub metadata_bytes_max: usize,
    /// Only these media types are taken, like `image/*`; empty means all. Default: empty.
    pub types_allowed: Vec<TypePattern>,
    /// These media types are not taken. Default: empty.
    pub types_refused: Vec<TypePattern>,
    /// Longest life of a signed link. Default: 604800, a week.
    pub link_seconds_max: u64,
    /// Calls for the files of one plugin that read rows at the same time. One writes. Default: 2.
    pub reads_at_once_max: usize,
    /// Calls of one plugin that wait for that. Default: 256.
    pub waiting_max: usize,
    /// How long they wait. Default: 5000.
    pub wait_ms: u64,
    /// Objects whose bytes are removed in one go. Default: 100.
    pub removals_at_once_max: u32,
    /// Bytes that no row knows of, as after a backup was restored, are removed when they are this old. Nothing of it is
    /// removed if 0. Default: 168, a week.
    pub unknown_hours: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreKind::Folder,
            s3: S3Config::default(),
            object_bytes_max: 256 << 20,
            bytes_per_plugin_max: 1 << 30,
            bytes_per_owner_max: None,
            objects_per_plugin_max: 100_000,
            buckets: Vec::new(),
            uploads_per_plugin_max: 256,
            uploads_per_owner_max: 32,
            upload_idle_ms: 86_400_000,
            lease_ms: 30_000,
            part_bytes: 4 << 20,
            parts_max: 10_000,
            parts_small_max: 128,
            buffers_bytes_max: 64 << 20,
            call_bytes_max: 4 << 20,
            metadata_entries_max: 16,
            metadata_bytes_max: 2048,
            types_allowed: Vec::new(),
            types_refused: Vec::new(),
            link_seconds_max: 7 * 24 * 3600,
            reads_at_once_max: 2,
            waiting_max: 256,
            wait_ms: 5000,
            removals_at_once_max: 100,
            unknown_hours: 168,
        }
    }
}

/// Where bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    Folder,
    S3,
}

/// What one bucket may hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BucketBounds {
    pub plugin: PluginName,
    pub bucket: Label,
    pub bytes_max: Option<u64>,
    pub objects_max: Option<u64>,
}

/// A server that speaks the protocol of S3.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Its address, like `https://s3.example.com`. Addresses of objects are `ENDPOINT/BUCKET/KEY`. `http://` only where
    /// nobody listens. Default: empty, and the one of Amazon in the region.
    pub endpoint: String,
    /// The bucket, which must exist.
    pub bucket: String,
    /// The region that requests are signed for. Default: `us-east-1`.
    pub region: String,
    /// What every key begins with. Each host has its own: what it does not know there, it removes. Default: `gantry`.
    pub prefix: String,
    /// The id of the access key.
    pub access_key: String,
    /// Its secret. Better in the environment (`GANTRY_BLOBS__S3__SECRET_KEY`) or in `secret_key_file` than in a file of
    /// settings.
    pub secret_key: SecretKey,
    /// A file with the secret. Default: none.
    pub secret_key_file: Option<PathBuf>,
    /// A file with certificates (PEM) of authorities that may vouch for the server, beside the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect. Default: 3000.
    pub connect_timeout_ms: u64,
    /// Longest time without a byte from the server. Default: 15000.
    pub read_timeout_ms: u64,
    /// Longest time for one request with everything that is tried again. Default: 30000.
    pub timeout_ms: u64,
    /// How often a request that failed is tried again. Default: 3.
    pub retries_max: usize,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            prefix: "gantry".to_owned(),
            access_key: String::new(),
            secret_key: SecretKey::default(),
            secret_key_file: None,
            ca_file: None,
            connect_timeout_ms: 3000,
            read_timeout_ms: 15_000,
            timeout_ms: 30_000,
            retries_max: 3,
        }
    }
}

/// A secret within settings; it does not show itself.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct SecretKey(Zeroizing<String>);

impl From<String> for SecretKey {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl Serialize for SecretKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl S3Config {
    /// The secret, wherever it is. Blocks on the disk for a moment.
    pub(super) fn secret(&self) -> std::io::Result<Zeroizing<String>> {
        let Some(file) = &self.secret_key_file else {
            return Ok(self.secret_key.0.clone());
        };
        let text = Zeroizing::new(std::fs::read_to_string(file)?);
        Ok(Zeroizing::new(
            text.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    }
}

impl Config {
    /// What one bucket may hold, if the operator said so.
    pub(super) fn bounds_of(&self, bucket: &BucketId) -> Option<&BucketBounds> {
        let is_it = |bounds: &&BucketBounds| {
            bounds.plugin == bucket.plugin && bounds.bucket == bucket.label
        };
        self.buckets.iter().find(is_it)
    }

    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<String> {
        let s3 = &self.s3;
        let is_s3 = self.store == StoreKind::S3;
        let is_url = s3.endpoint.is_empty()
            || ["https://", "http://"]
                .iter()
                .any(|scheme| s3.endpoint.starts_with(scheme));
        let has_secret = !s3.secret_key.0.is_empty() || s3.secret_key_file.is_some();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_prefix = !s3.prefix.is_empty()
            && s3
                .prefix
                .split('/')
                .all(|part| !matches!(part, "" | "." | "..") && part.chars().all(is_plain));
        let rules = [
            (
                (64 << 10..=64 << 20).contains(&self.part_bytes),
                "`blobs.part_bytes` must be 65536 to 67108864",
            ),
            (
                self.buffers_bytes_max >= self.part_bytes,
                "`blobs.buffers_bytes_max` must be at least `blobs.part_bytes`",
            ),
            (
                [
                    self.parts_max,
                    self.parts_small_max,
                    self.removals_at_once_max.into(),
                ]
                .iter()
                .all(|number| *number >= 1),
                "`blobs.parts_max`, `blobs.parts_small_max` and `blobs.removals_at_once_max` must be at least 1",
            ),
            (
                self.lease_ms >= 1000,
                "`blobs.lease_ms` must be at least 1000",
            ),
            (
                self.upload_idle_ms >= self.lease_ms,
                "`blobs.upload_idle_ms` must be at least `blobs.lease_ms`: an upload would go while it belongs to somebody",
            ),
            (
                self.parts_max.saturating_mul(self.part_bytes as u64) >= self.object_bytes_max,
                "`blobs.parts_max` pieces of `blobs.part_bytes` must be able to hold `blobs.object_bytes_max`",
            ),
            (
                !is_s3 || (is_url && !s3.bucket.is_empty() && !s3.region.is_empty()),
                "`blobs.s3.endpoint` is an address like `https://s3.example.com`, and `blobs.s3.bucket` and \
                 `blobs.s3.region` must be set",
            ),
            (
                !is_s3 || (!s3.access_key.is_empty() && has_secret),
                "`blobs.s3.access_key` and `blobs.s3.secret_key` (or `secret_key_file`) must be set",
            ),
            (
                s3.secret_key.0.is_empty() || s3.secret_key_file.is_none(),
                "`blobs.s3.secret_key` and `blobs.s3.secret_key_file`: one of the two is enough",
            ),
            (
                !is_s3 || is_prefix,
                "`blobs.s3.prefix` has letters, digits, points, hyphens and underscores, in parts between slashes",
            ),
            (
                s3.connect_timeout_ms > 0 && s3.read_timeout_ms > 0 && s3.timeout_ms > 0,
                "`blobs.s3.connect_timeout_ms`, `read_timeout_ms` and `timeout_ms` must be at least 1",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_by_the_name_of_the_setting_and_secrets_are_not_shown() {
        let s3 = "store = 's3'\ns3 = { bucket = 'files', access_key = 'A', secret_key = 's3cret' }";
        for (text, told) in [
            ("", None),
            (s3, None),
            ("part_bytes = 60000", Some("part_bytes")),
            ("buffers_bytes_max = 100", Some("buffers_bytes_max")),
            ("parts_max = 10", Some("parts_max")),
            ("lease_ms = 10", Some("lease_ms")),
            ("upload_idle_ms = 10", Some("upload_idle_ms")),
            ("upload_idle_ms = 30000", None),
            ("lease_ms = 86400001", Some("upload_idle_ms")),
            ("lease_ms = 3600000\nupload_idle_ms = 3600000", None),
            (
                "store = 's3'\ns3 = { bucket = 'files', access_key = 'A' }",
                Some("secret_key"),
            ),
            (
                "store = 's3'\ns3 = { access_key = 'A', secret_key = 'x' }",
                Some("s3.bucket"),
            ),
            (
                &s3.replace("'A'", "'A', endpoint = 'files'"),
                Some("endpoint"),
            ),
            (&s3.replace("'A'", "'A', prefix = '../x'"), Some("prefix")),
            (
                &s3.replace("'A'", "'A', secret_key_file = '/x'"),
                Some("secret_key_file"),
            ),
            (
                &s3.replace("'A'", "'A', timeout_ms = 0"),
                Some("timeout_ms"),
            ),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let mistakes = config.mistakes();
            let holds = match told {
                Some(name) => mistakes.len() == 1 && mistakes[0].contains(name),
                None => mistakes.is_empty(),
            };
            assert!(holds, "{text}: {mistakes:?}");
            let shown = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        for text in [
            "types_allowed = ['image']",
            "buckets = [{ plugin = 'a' }]",
            "unknown = 1",
        ] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let config = S3Config {
            secret_key_file: Some(file.path().to_owned()),
            ..S3Config::default()
        };
        assert_eq!(config.secret().unwrap().as_str(), "s3cret");
    }
}
