//! Refresh tokens: opaque to everybody but the host, which knows its own by a tag and computes the successor of each, so
//! that no successor has to be kept.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ids::SessionId;

/// How every refresh token begins.
pub(in crate::auth) const PREFIX: &str = "gr_";

const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const BYTES: usize = ID_BYTES + SECRET_BYTES + TAG_BYTES;
const DIGITS: usize = (BYTES * 4).div_ceil(3);

/// Makes refresh tokens and recognises its own.
pub(super) struct Mint {
    key: Zeroizing<[u8; 32]>,
}

/// A refresh token that this host has made at some time; whether it still counts is for the rows to say.
pub(super) struct RefreshToken {
    pub(super) session: SessionId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    text: Zeroizing<String>,
}

impl Mint {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self {
            key: Zeroizing::new(key),
        }
    }

    /// The first token of a session.
    pub(super) fn first(&self, session: SessionId) -> RefreshToken {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        rand::fill(secret.as_mut_slice());
        self.token(session, secret)
    }

    /// What this token is exchanged for: always the same. Only whoever has the host's key can compute it.
    pub(super) fn successor_of(&self, token: &RefreshToken) -> RefreshToken {
        let mac = self.mac("next", token.session, &token.secret);
        self.token(
            token.session,
            Zeroizing::new(mac.finalize().into_bytes().into()),
        )
    }

    /// Tells requests of a session's own pages from those of others.
    pub(super) fn csrf_token(&self, session: SessionId) -> String {
        let mac = self.mac("csrf", session, &[0; SECRET_BYTES]);
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// The token in this text, if this host has made it.
    pub(super) fn read(&self, text: &str) -> Option<RefreshToken> {
        let digits = text.strip_prefix(PREFIX)?;
        if digits.len() != DIGITS {
            return None;
        }
        // Room for what the decoder estimates.
        let mut bytes = Zeroizing::new([0; BYTES + 3]);
        let length = URL_SAFE_NO_PAD
            .decode_slice(digits, bytes.as_mut_slice())
            .ok()?;
        if length != BYTES {
            return None;
        }
        let (id, rest) = bytes[..BYTES].split_first_chunk::<ID_BYTES>()?;
        let (secret, tag) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let session = SessionId::from_bytes(*id);
        self.mac("tag", session, secret)
            .verify_truncated_left(tag)
            .ok()?;
        Some(RefreshToken {
            session,
            secret: Zeroizing::new(*secret),
            text: Zeroizing::new(text.to_owned()),
        })
    }

    fn token(&self, session: SessionId, secret: Zeroizing<[u8; SECRET_BYTES]>) -> RefreshToken {
        let tag = self.mac("tag", session, &secret).finalize().into_bytes();
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..ID_BYTES].copy_from_slice(session.as_bytes());
        bytes[ID_BYTES..ID_BYTES + SECRET_BYTES].copy_from_slice(secret.as_slice());
        bytes[ID_BYTES + SECRET_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + DIGITS));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        RefreshToken {
            session,
            secret,
            text,
        }
    }

    fn mac(&self, purpose: &str, session: SessionId, secret: &[u8; SECRET_BYTES]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice())
            .expect("HMAC takes a key of any length");
        // The purposes are not beginnings of one another; what follows has a fixed length.
        mac.update(purpose.as_bytes());
        mac.update(session.as_bytes());
        mac.update(secret);
        mac
    }
}

impl RefreshToken {
    /// As it is sent.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// As it is kept.
    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_successor_and_others_cannot_make_it() {
        let (here, elsewhere) = (Mint::new([1; 32]), Mint::new([2; 32]));
        let first = here.first(SessionId::new());
        let second = here.successor_of(&first);
        assert_eq!(second.as_str(), here.successor_of(&first).as_str());
        assert_ne!(first.as_str(), second.as_str());
        assert_ne!(second.as_str(), elsewhere.successor_of(&first).as_str());
        for token in [&first, &second] {
            let read = here.read(token.as_str()).unwrap();
            assert_eq!(read.session, first.session);
            assert_eq!(read.sha256(), token.sha256());
            assert!(elsewhere.read(token.as_str()).is_none());
        }
    }

    #[test]
    fn a_token_changed_in_any_place_is_nobodys() {
        let mint = Mint::new([1; 32]);
        let token = mint.first(SessionId::new());
        let text = token.as_str();
        for at in 0..text.len() {
            let mut changed = text.to_owned().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(mint.read(&changed).is_none(), "{changed}");
        }
        for text in [
            "",
            "gr_",
            &text[1..],
            &format!("{text}A"),
            &"g".repeat(100_000),
        ] {
            assert!(mint.read(text).is_none());
        }
    }
}
