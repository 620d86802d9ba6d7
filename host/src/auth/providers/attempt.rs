//! A login that has begun at a provider and not come back. The host keeps nothing of it: the browser has it, sealed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::seal::Seal;

/// How long a login may take at the provider.
pub(super) const LIFE_MS: i64 = 600_000;
/// Longest sealed attempt that is looked at, in bytes.
const SEALED_BYTES_MAX: usize = 4096;
/// For what it is sealed.
const PLACE: &str = "login attempt";

/// What has to be the same when the browser comes back.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    /// At which provider.
    pub(super) provider: String,
    /// Comes back in the address. Whoever has no cookie with it did not begin this login.
    pub(super) state: String,
    /// Comes back in the ID token: it was made for this login.
    pub(super) nonce: String,
    /// Shows the provider that the code was asked for here (RFC 7636).
    pub(super) verifier: String,
    /// Where the browser goes in the end.
    pub(super) return_to: String,
    /// Of an app that fetches the tokens itself: the SHA-256 of what it will show.
    pub(super) challenge: Option<String>,
    began_ms: i64,
}

impl Attempt {
    pub(super) fn new(
        provider: &str,
        return_to: String,
        challenge: Option<String>,
        now_ms: i64,
    ) -> Self {
        let text = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        Self {
            provider: provider.to_owned(),
            state: text(),
            nonce: text(),
            verifier: text(),
            return_to,
            challenge,
            began_ms: now_ms,
        }
    }

    /// For the browser.
    pub(super) fn seal(&self, seal: &Seal) -> String {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(seal.close(PLACE, &plain))
    }

    /// The attempt that a browser has kept, if it is ours, of this provider, still in time, and the one that the address
    /// speaks of.
    pub(super) fn open(
        seal: &Seal,
        sealed: &str,
        provider: &str,
        state: &str,
        now_ms: i64,
    ) -> Option<Self> {
        if sealed.len() > SEALED_BYTES_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plain = seal.open(PLACE, &sealed).ok()?;
        let attempt: Self = serde_json::from_slice(&plain).ok()?;
        let is_right = bool::from(attempt.state.as_bytes().ct_eq(state.as_bytes()));
        let is_in_time = (0..LIFE_MS).contains(&(now_ms - attempt.began_ms));
        (is_right && is_in_time && attempt.provider == provider).then_some(attempt)
    }

    /// When nobody can come back with it any more.
    pub(super) fn ends_ms(&self) -> i64 {
        self.began_ms + LIFE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_browser_and_the_login_that_it_was_made_for_open_an_attempt() {
        let seal = Seal::new([1; 32]);
        let attempt = Attempt::new("shop", "/".to_owned(), None, 1000);
        let sealed = attempt.seal(&seal);
        let open = |seal: &Seal, sealed: &str, provider: &str, state: &str, now_ms| {
            Attempt::open(seal, sealed, provider, state, now_ms).is_some()
        };
        let state = attempt.state.as_str();
        assert!(open(&seal, &sealed, "shop", state, 1000));
        assert!(open(&seal, &sealed, "shop", state, 1000 + LIFE_MS - 1));
        let other = Attempt::new("shop", "/".to_owned(), None, 1000);
        assert!(
            !open(&seal, &sealed, "shop", &other.state, 1000),
            "another login"
        );
        assert!(!open(&seal, &sealed, "shop", "", 1000), "no state");
        assert!(
            !open(&seal, &sealed, "club", state, 1000),
            "another provider"
        );
        assert!(
            !open(&seal, &sealed, "shop", state, 1000 + LIFE_MS),
            "too late"
        );
        assert!(!open(&seal, &sealed, "shop", state, 999), "before it began");
        assert!(
            !open(&Seal::new([2; 32]), &sealed, "shop", state, 1000),
            "another host"
        );
        assert!(!open(&seal, "", "shop", state, 1000), "no cookie");
        assert!(
            !open(&seal, &"A".repeat(5000), "shop", state, 1000),
            "a huge cookie"
        );
        assert!(!sealed.contains(&attempt.verifier) && !sealed.contains(state));
    }
}
