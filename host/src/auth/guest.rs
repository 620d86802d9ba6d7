//! Signed tokens that a plugin hands to people without an account, for example in a link. Nothing is stored: a token
//! proves itself, and only for the plugin and the purpose it was made for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::auth::Keys;
use crate::clock::Clock;
use crate::ids::PluginName;

/// Longest purpose, in bytes.
pub const PURPOSE_BYTES_MAX: usize = 64;
/// Longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;
/// Longest life of a token, in milliseconds: 400 days.
pub const TTL_MS_MAX: u64 = 400 * 24 * 3600 * 1000;

const VERSION: u8 = 1;
/// The version and the end of life.
const HEAD_BYTES: usize = 1 + 8;
/// 128 bits cannot be guessed, and half of the MAC makes for a shorter link.
const TAG_BYTES: usize = 16;
const TOKEN_BYTES_MAX: usize = HEAD_BYTES + SUBJECT_BYTES_MAX + TAG_BYTES;

/// Why there is no token, or no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a purpose has 1 to {PURPOSE_BYTES_MAX} bytes")]
    Purpose,
    #[error("a subject has 1 to {SUBJECT_BYTES_MAX} bytes")]
    Subject,
    #[error("a token lives for at least 1 ms and at most 400 days")]
    Ttl,
    #[error("the token was not made by this plugin for this purpose")]
    Invalid,
    #[error("the token is past its end")]
    Expired,
}

/// Makes and checks the guest tokens of all plugins.
#[derive(Clone)]
pub struct GuestTokens {
    key: [u8; 32],
    clock: Clock,
}

impl GuestTokens {
    /// Tokens signed with a key derived from the host's.
    pub fn new(keys: &Keys, clock: Clock) -> Self {
        Self {
            key: keys.derive("guest-tokens"),
            clock,
        }
    }

    /// The tokens of one plugin. Worth doing once per deployment.
    pub fn of_plugin(&self, plugin: &PluginName) -> PluginTokens {
        let mut mac = keyed(&self.key);
        mac.update(plugin.as_str().as_bytes());
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        PluginTokens {
            mac: keyed(&key),
            clock: self.clock.clone(),
        }
    }
}

/// Makes and checks the guest tokens of one plugin, with a key of its own.
#[derive(Clone)]
pub struct PluginTokens {
    mac: Hmac<Sha256>,
    clock: Clock,
}

impl PluginTokens {
    /// A token for `subject`, good for `purpose` during `ttl_ms`. Whoever holds it can read the subject.
    pub fn sign(&self, purpose: &str, subject: &str, ttl_ms: u64) -> Result<String, Error> {
        if !is_purpose(purpose) {
            return Err(Error::Purpose);
        }
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(Error::Subject);
        }
        if ttl_ms == 0 || ttl_ms > TTL_MS_MAX {
            return Err(Error::Ttl);
        }
        let expires_ms = self.clock.now_ms().saturating_add_unsigned(ttl_ms);
        let mut token = [0; TOKEN_BYTES_MAX];
        let end = HEAD_BYTES + subject.len();
        token[0] = VERSION;
        token[1..HEAD_BYTES].copy_from_slice(&expires_ms.to_be_bytes());
        token[HEAD_BYTES..end].copy_from_slice(subject.as_bytes());
        let tag = self.mac_of(purpose, &token[..end]).finalize().into_bytes();
        token[end..end + TAG_BYTES].copy_from_slice(&tag[..TAG_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(&token[..end + TAG_BYTES]))
    }

    /// The subject of a token that this plugin signed for this purpose and that is not past its end.
    pub fn verify(&self, purpose: &str, token: &str) -> Result<String, Error> {
        // Enough for what the decoder estimates for the longest token.
        let mut bytes = [0; TOKEN_BYTES_MAX + 3];
        if !is_purpose(purpose) || token.len() > TOKEN_BYTES_MAX.div_ceil(3) * 4 {
            return Err(Error::Invalid);
        }
        let length = URL_SAFE_NO_PAD
            .decode_slice(token, &mut bytes)
            .map_err(|_| Error::Invalid)?;
        let end = length.checked_sub(TAG_BYTES).ok_or(Error::Invalid)?;
        if end <= HEAD_BYTES || bytes[0] != VERSION {
            return Err(Error::Invalid);
        }
        let mac = self.mac_of(purpose, &bytes[..end]);
        mac.verify_truncated_left(&bytes[end..length])
            .map_err(|_| Error::Invalid)?;
        let expires_ms = bytes[1..HEAD_BYTES]
            .try_into()
            .map_err(|_| Error::Invalid)?;
        if self.clock.now_ms() >= i64::from_be_bytes(expires_ms) {
            return Err(Error::Expired);
        }
        let subject = std::str::from_utf8(&bytes[HEAD_BYTES..end]);
        subject.map(str::to_owned).map_err(|_| Error::Invalid)
    }

    fn mac_of(&self, purpose: &str, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        // The length keeps "ab" + "c" apart from "a" + "bc".
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(signed);
        mac
    }
}

fn is_purpose(purpose: &str) -> bool {
    (1..=PURPOSE_BYTES_MAX).contains(&purpose.len())
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> (GuestTokens, Clock) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000_000);
        (
            GuestTokens::new(&Keys::open(folder.path()).unwrap(), clock.clone()),
            clock,
        )
    }

    #[test]
    fn a_token_gives_back_its_subject_until_its_time_is_over() {
        let (tokens, clock) = tokens();
        let shop = tokens.of_plugin(&"shop".parse().unwrap());
        for subject in ["reservation-42", "é", &"x".repeat(SUBJECT_BYTES_MAX)] {
            let token = shop.sign("manage", subject, 60_000).unwrap();
            assert!(
                token
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            );
            assert_eq!(shop.verify("manage", &token).as_deref(), Ok(subject));
        }
        let token = shop.sign("manage", "x", 60_000).unwrap();
        clock.advance_ms(59_999);
        assert_eq!(shop.verify("manage", &token).as_deref(), Ok("x"));
        clock.advance_ms(1);
        assert_eq!(shop.verify("manage", &token), Err(Error::Expired));
    }

    #[test]
    fn a_token_is_worth_nothing_elsewhere() {
        let (here, clock) = tokens();
        let shop = here.of_plugin(&"shop".parse().unwrap());
        let token = shop.sign("manage", "x", 60_000).unwrap();
        let neighbour = here.of_plugin(&"shop-2".parse().unwrap());
        let elsewhere = tokens().0.of_plugin(&"shop".parse().unwrap());
        assert_eq!(neighbour.verify("manage", &token), Err(Error::Invalid));
        assert_eq!(elsewhere.verify("manage", &token), Err(Error::Invalid));
        assert_eq!(shop.verify("cancel", &token), Err(Error::Invalid));
        // An old token of another plugin is not called expired: that would say the signature was looked past.
        clock.advance_ms(60_000);
        assert_eq!(neighbour.verify("manage", &token), Err(Error::Invalid));
    }

    #[test]
    fn a_token_changed_in_any_place_is_refused() {
        let (tokens, _) = tokens();
        let shop = tokens.of_plugin(&"shop".parse().unwrap());
        let token = shop.sign("manage", "reservation-42", 60_000).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                shop.verify("manage", &changed),
                Err(Error::Invalid),
                "{changed}"
            );
        }
        for token in [
            "",
            "A",
            "====",
            &token[1..],
            &format!("{token}AA"),
            &"A".repeat(100_000),
        ] {
            assert_eq!(shop.verify("manage", token), Err(Error::Invalid));
        }
    }

    #[test]
    fn what_is_too_long_or_empty_is_not_signed() {
        let (tokens, _) = tokens();
        let shop = tokens.of_plugin(&"shop".parse().unwrap());
        let long = "x".repeat(257);
        let cases = [
            ("", "x", 1, Error::Purpose),
            (&long[..65], "x", 1, Error::Purpose),
            ("p", "", 1, Error::Subject),
            ("p", &long, 1, Error::Subject),
            ("p", "x", 0, Error::Ttl),
            ("p", "x", TTL_MS_MAX + 1, Error::Ttl),
        ];
        for (purpose, subject, ttl_ms, expected) in cases {
            assert_eq!(shop.sign(purpose, subject, ttl_ms), Err(expected));
        }
        assert!(shop.sign(&long[..64], &long[..256], TTL_MS_MAX).is_ok());
    }
}
