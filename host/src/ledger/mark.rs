//! Places of the chain that the host has signed: where it ends, where it begins, and where it was when somebody took a
//! copy.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::rfc3339;
use crate::ledger::canonical::canonical;

/// The hash before the first entry.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a place is signed as; one cannot stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last entry. Signed anew with each change.
    Head,
    /// The last entry that was removed because of its age.
    Base,
    /// The last entry at some time, kept elsewhere.
    Checkpoint,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Base => "base",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A signed place of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) seq: i64,
    pub(super) at_ms: i64,
    pub(super) hash: String,
    /// Hexadecimal.
    pub(super) signature: String,
}

impl Mark {
    pub(super) fn sign(key: &SigningKey, kind: Kind, seq: i64, at_ms: i64, hash: &str) -> Self {
        let signature = key.sign(&statement(kind, seq, at_ms, hash));
        Self {
            seq,
            at_ms,
            hash: hash.to_owned(),
            signature: hex::encode(signature.to_bytes()),
        }
    }

    pub(super) fn is_signed(&self, key: &VerifyingKey, kind: Kind) -> bool {
        let mut bytes = [0; Signature::BYTE_SIZE];
        if hex::decode_to_slice(&self.signature, &mut bytes).is_err()
            || hex::encode(bytes) != self.signature
        {
            return false;
        }
        let statement = statement(kind, self.seq, self.at_ms, &self.hash);
        let signature = Signature::from_bytes(&bytes);
        key.verify_strict(&statement, &signature).is_ok()
    }
}

fn statement(kind: Kind, seq: i64, at_ms: i64, hash: &str) -> Vec<u8> {
    let kind = kind.as_str();
    let mark = json!({ "kind": kind, "seq": seq, "at": rfc3339(at_ms), "hash": hash });
    format!("gantry audit\n{}", canonical(&mark)).into_bytes()
}

/// Where the chain was at some time, signed by the host, to be kept where nobody can change it together with the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The number of the last entry.
    pub seq: i64,
    pub at: String,
    /// The hash of the last entry.
    pub hash: String,
    /// The key that has signed: `ed25519:` and hexadecimal digits.
    pub key: String,
    pub signature: String,
}

impl Checkpoint {
    pub(super) fn sign(key: &SigningKey, seq: i64, at_ms: i64, hash: &str) -> Self {
        let mark = Mark::sign(key, Kind::Checkpoint, seq, at_ms, hash);
        Self {
            seq,
            at: rfc3339(at_ms),
            hash: mark.hash,
            key: key_text(&key.verifying_key()),
            signature: mark.signature,
        }
    }

    /// Whether this key has signed it.
    pub fn is_signed(&self, key: &VerifyingKey) -> bool {
        let at: Result<jiff::Timestamp, _> = self.at.parse();
        at.is_ok_and(|at| {
            let mark = Mark {
                seq: self.seq,
                at_ms: at.as_millisecond(),
                hash: self.hash.clone(),
                signature: self.signature.clone(),
            };
            rfc3339(mark.at_ms) == self.at && mark.is_signed(key, Kind::Checkpoint)
        })
    }

    /// The key that it names.
    pub fn named_key(&self) -> Option<VerifyingKey> {
        key_of(&self.key)
    }
}

/// A key as it is shown: `ed25519:` and 64 hexadecimal digits.
pub fn key_text(key: &VerifyingKey) -> String {
    format!("ed25519:{}", hex::encode(key.as_bytes()))
}

/// A key as it is shown, read.
pub fn key_of(text: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim().strip_prefix("ed25519:")?, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}
