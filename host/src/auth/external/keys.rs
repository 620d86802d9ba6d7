//! The public keys of an issuer.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;

/// Most bytes of a key set.
const BYTES_MAX: usize = 128 << 10;
/// Most keys of a set; further ones are not looked at.
const KEYS_MAX: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0:?}")]
    Http(#[from] reqwest::Error),
    #[error("the answer is no key set")]
    NoKeySet,
    #[error("the key set has more than {BYTES_MAX} bytes")]
    TooLarge,
}

/// What an issuer has shown.
#[derive(Default)]
pub(super) struct KeySet {
    shown: Value,
    keys: Vec<Key>,
    /// Differs from set to set.
    pub(super) epoch: u64,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl KeySet {
    /// The key with this id that signs in this way; without an id, the only one that does.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(&first.key)
    }

    /// The set after this one, if it is another. Those that are `refused` are not in it, although they are shown.
    pub(super) fn followed_by(
        &self,
        shown: &Value,
        refused: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        if *shown == self.shown {
            return None;
        }
        let listed = shown["keys"].as_array().into_iter().flatten();
        let keys = listed.take(KEYS_MAX).filter_map(read);
        let is_taken = |key: &Key| !key.id.as_deref().is_some_and(&refused);
        Some(Self {
            keys: keys.filter(is_taken).collect(),
            shown: shown.clone(),
            epoch: self.epoch + 1,
        })
    }

    /// This set without the key with this id; nothing if it is not in it.
    pub(super) fn without(&self, id: &str) -> Option<Self> {
        let is_it = |key: &Key| key.id.as_deref() == Some(id);
        if !self.keys.iter().any(is_it) {
            return None;
        }
        let keys = self.keys.iter().filter(|key| !is_it(key));
        Some(Self {
            keys: keys.cloned().collect(),
            shown: self.shown.clone(),
            epoch: self.epoch + 1,
        })
    }
}

/// A key that verifies, if it is of a kind that is taken. The kind decides the algorithm; a secret one is never taken.
fn read(shown: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(shown.clone()).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let says_so = shown["alg"]
        .as_str()
        .is_none_or(|alg| alg == format!("{algorithm:?}"));
    let is_for_signatures = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    if !says_so || !is_for_signatures {
        return None;
    }
    Some(Key {
        id: jwk.common.key_id.clone(),
        algorithm,
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}

/// Asks as little as possible of other servers: no redirects, no proxies of the environment, a bound on time.
pub(super) fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT);
    builder.build().unwrap_or_default()
}

/// The key set at this address.
pub(super) async fn fetch(client: &reqwest::Client, url: &str) -> Result<Value, Error> {
    let mut answer = client.get(url).send().await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > BYTES_MAX {
            return Err(Error::TooLarge);
        }
    }
    let shown: Value = serde_json::from_slice(&bytes).map_err(|_| Error::NoKeySet)?;
    if shown["keys"].is_array() {
        Ok(shown)
    } else {
        Err(Error::NoKeySet)
    }
}
