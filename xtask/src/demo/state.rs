//! What a later start has to know of an earlier one: a file beside the server's data, for its owner only, because it
//! holds the passwords of the demo's accounts.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Names and values.
pub(super) struct State {
    path: PathBuf,
    values: Map<String, Value>,
}

impl State {
    pub(super) fn open(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("demo.json");
        let values = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Map::new(),
        };
        Ok(Self { path, values })
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.values.get(name)?.as_str().map(str::to_owned)
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    pub(super) fn save(&self) -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        file.write_all(&serde_json::to_vec_pretty(&self.values)?)?;
        Ok(())
    }
}

/// Tells one bundle from another; nobody has a reason to deceive it.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A password that nobody guesses.
pub(super) fn new_password() -> anyhow::Result<String> {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
