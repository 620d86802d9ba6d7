//! Keys that sign plugins: how they are written, what they are called, and which plugins one may sign. It leaves the file of
//! a private key to the command line.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::PluginName;

/// What a key is called: the first half of the SHA-256 of its public part, as 32 hexadecimal digits. Enough to tell keys
/// apart; what is trusted is the whole public key that the list has under this name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 16]);

/// Why a text is no key, no name of one, or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("`{0}` is not the id of a key: 32 hexadecimal digits in small letters")]
    Id(String),
    #[error(
        "`{0}` is not a public key: write it as `ed25519:` and 44 characters of base64, as in the .pub file of \
         `gantry plugin keygen`"
    )]
    Public(String),
    #[error("the public key is a weak one, with which signatures can be forged; generate another")]
    Weak,
    #[error(
        "`{0}` does not say which plugins a key may sign: write a name, the beginning of names and `*`, or `*` for all"
    )]
    Pattern(String),
}

impl KeyId {
    /// The name of this key.
    pub fn of(key: &VerifyingKey) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = [0; 16];
        let is_small = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if is_small => Ok(Self(bytes)),
            _ => Err(InvalidKey::Id(shown(text))),
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A public key as people pass it on: `ed25519:` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The public part of a key pair.
    pub fn new(key: VerifyingKey) -> Self {
        Self(key)
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// The key itself, to verify with.
    pub(super) fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let parse = || {
            let bytes = BASE64_STANDARD
                .decode(text.trim().strip_prefix("ed25519:")?)
                .ok()?;
            VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()
        };
        let key = parse().ok_or_else(|| InvalidKey::Public(shown(text)))?;
        if key.is_weak() {
            return Err(InvalidKey::Weak);
        }
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", BASE64_STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which plugins a key may sign: `shop`, `shop-*`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether a plugin of this name is meant.
    pub fn matches(&self, name: &PluginName) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.as_str().starts_with(beginning),
            None => name.as_str() == self.0,
        }
    }
}

impl FromStr for NamePattern {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let is_valid = match text.strip_suffix('*') {
            // `a-*` begins names, although `a-` is none.
            Some(beginning) => {
                beginning.is_empty() || format!("{beginning}a").parse::<PluginName>().is_ok()
            }
            None => text.parse::<PluginName>().is_ok(),
        };
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidKey::Pattern(shown(text)))
        }
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn a_key_is_written_and_read_back_and_has_one_name() {
        let key = PublicKey::new(SigningKey::from_bytes(&[7; 32]).verifying_key());
        let read: PublicKey = key.to_string().parse().unwrap();
        assert_eq!(read, key);
        assert_eq!(read.id(), key.id());
        assert_eq!(key.id().to_string().parse::<KeyId>().unwrap(), key.id());
        let other = PublicKey::new(SigningKey::from_bytes(&[8; 32]).verifying_key());
        assert_ne!(other.id(), key.id());
    }

    #[test]
    fn what_is_no_key_is_refused_and_so_is_a_key_with_which_everybody_can_sign() {
        for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "\u{1b}[2J"] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert!(matches!(error, InvalidKey::Public(_)), "{text}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        // The neutral point of the curve: the signature of 64 zero bytes and one would do for everything.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = format!("ed25519:{}", BASE64_STANDARD.encode(neutral));
        assert_eq!(weak.parse::<PublicKey>(), Err(InvalidKey::Weak));
        for text in ["", "abc", "00112233445566778899AABBCCDDEEFF"] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_means_one_name_or_a_beginning_or_all() {
        let name: PluginName = "shop-cart".parse().unwrap();
        for (pattern, is_meant) in [
            ("shop-cart", true),
            ("shop-*", true),
            ("shop*", true),
            ("*", true),
            ("shop", false),
            ("cart*", false),
            ("shop-cart-2", false),
        ] {
            let pattern: NamePattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&name), is_meant, "{pattern}");
        }
        for text in ["", "Shop", "a b", "*shop", "sh*op", "**", "a/../b"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }
}
