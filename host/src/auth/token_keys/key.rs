//! One key that signs access tokens: how it is made, kept and shown. Its algorithm belongs to it and is never taken from a
//! token.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::auth::Error;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, utoipa::ToSchema)]
pub enum TokenAlgorithm {
    /// Ed25519.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl TokenAlgorithm {
    /// As it stands in a token (RFC 7518).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        [Self::EdDsa, Self::Es256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    pub(super) fn as_jwa(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
        }
    }

    pub(super) fn encoding_key(self, pkcs8: &[u8]) -> EncodingKey {
        match self {
            Self::EdDsa => EncodingKey::from_ed_der(pkcs8),
            Self::Es256 => EncodingKey::from_ec_der(pkcs8),
        }
    }

    /// The key that verifies, out of its public part.
    pub(super) fn decoding_key(self, jwk: &Value) -> Option<DecodingKey> {
        let part = |name: &str| jwk[name].as_str();
        match self {
            Self::EdDsa => DecodingKey::from_ed_components(part("x")?).ok(),
            Self::Es256 => DecodingKey::from_ec_components(part("x")?, part("y")?).ok(),
        }
    }
}

/// A key that was just made, or was there before.
pub(super) struct KeyPair {
    pub(super) id: String,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) jwk: Value,
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
}

impl KeyPair {
    /// A new key.
    pub(super) fn generate(algorithm: TokenAlgorithm) -> Result<Self, Error> {
        match algorithm {
            TokenAlgorithm::EdDsa => {
                let mut seed = Zeroizing::new([0; 32]);
                rand::fill(seed.as_mut_slice());
                Self::of_seed(&seed)
            }
            TokenAlgorithm::Es256 => {
                let random = SystemRandom::new();
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let failed = |_| Error::Key("a P-256 key could not be made");
                let document = EcdsaKeyPair::generate_pkcs8(signing, &random).map_err(failed)?;
                let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
                let pair = EcdsaKeyPair::from_pkcs8(signing, &pkcs8)
                    .map_err(|_| Error::Key("a P-256 key could not be read"))?;
                // Uncompressed: a byte that says so, then both coordinates.
                let (x, y) = match pair.public_key().as_ref() {
                    [4, point @ ..] if point.len() == 64 => point.split_at(32),
                    _ => return Err(Error::Key("a P-256 key has another form than expected")),
                };
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                // The members that RFC 7638 takes, in its order.
                let id = thumbprint(&format!(
                    r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#
                ));
                let jwk = json!({
                    "kty": "EC", "crv": "P-256", "x": x, "y": y,
                    "kid": id, "alg": "ES256", "use": "sig",
                });
                Ok(Self {
                    id,
                    algorithm,
                    jwk,
                    pkcs8,
                })
            }
        }
    }

    /// The Ed25519 key of this seed.
    pub(super) fn of_seed(seed: &[u8; 32]) -> Result<Self, Error> {
        let pair = ed25519_dalek::SigningKey::from_bytes(seed);
        let document = pair
            .to_pkcs8_der()
            .map_err(|_| Error::Key("an Ed25519 key could not be written"))?;
        let x = URL_SAFE_NO_PAD.encode(pair.verifying_key().to_bytes());
        let id = thumbprint(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
        let jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "alg": "EdDSA", "use": "sig",
        });
        Ok(Self {
            id,
            algorithm: TokenAlgorithm::EdDsa,
            jwk,
            pkcs8: Zeroizing::new(document.as_bytes().to_vec()),
        })
    }
}

/// The id of a key by RFC 7638.
fn thumbprint(canonical: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_key_is_the_thumbprint_of_rfc_8037() {
        // Appendix A.1 and A.3.
        let seed = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let pair = KeyPair::of_seed(&seed.try_into().unwrap()).unwrap();
        assert_eq!(pair.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(pair.jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn a_public_part_has_nothing_private_in_it() {
        for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256] {
            let pair = KeyPair::generate(algorithm).unwrap();
            assert!(pair.jwk.get("d").is_none());
            assert!(algorithm.decoding_key(&pair.jwk).is_some());
            assert_eq!(TokenAlgorithm::find(algorithm.as_str()), Some(algorithm));
            assert_ne!(pair.id, KeyPair::generate(algorithm).unwrap().id);
        }
    }
}
