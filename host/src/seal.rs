//! Seals what must be kept in rows and may be read by nobody who has only the rows.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;

/// Sealed with another key, for another place, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub struct Unreadable;

/// Seals and opens with one key (XChaCha20-Poly1305).
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

impl Seal {
    /// A seal with this key, which is good for one purpose.
    pub fn new(key: [u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    /// Seals something for one place, for example a row's id. Moved elsewhere it does not open.
    pub fn close(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        // 192 random bits do not repeat, so no count has to be kept.
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: place.as_bytes(),
        };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("only texts of many gigabytes cannot be sealed");
        [nonce.as_slice(), &sealed].concat()
    }

    /// What was sealed for this place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let (nonce, msg) = sealed.split_first_chunk().ok_or(Unreadable)?;
        let nonce: [u8; NONCE_BYTES] = *nonce;
        let payload = Payload {
            msg,
            aad: place.as_bytes(),
        };
        let plain = self.0.decrypt(&XNonce::from(nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| Unreadable)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_and_unchanged() {
        let seal = Seal::new([1; 32]);
        let sealed = seal.close("row 1", b"secret");
        assert_ne!(sealed, seal.close("row 1", b"secret"));
        assert_eq!(seal.open("row 1", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(seal.open("row 2", &sealed), Err(Unreadable));
        assert_eq!(Seal::new([2; 32]).open("row 1", &sealed), Err(Unreadable));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open("row 1", &changed), Err(Unreadable));
        }
        assert_eq!(seal.open("row 1", &[]), Err(Unreadable));
    }
}
