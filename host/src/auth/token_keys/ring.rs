//! The keys in memory, as they sign and verify now. Replaced as a whole.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::auth::token_keys::store::Row;
use crate::auth::token_keys::{KeyState, place_of};
use crate::auth::{Config, Error};
use crate::seal::Seal;

/// The type of our tokens (RFC 9068).
pub(in crate::auth) const KIND: &str = "at+jwt";

pub(in crate::auth) struct Ring {
    rows: Vec<Row>,
    signing: Signing,
    /// By id.
    verifying: HashMap<String, Verifying>,
    jwks: Arc<str>,
    /// Differs from ring to ring: what one has verified, the next one has not.
    pub(in crate::auth) epoch: u64,
}

struct Signing {
    id: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

struct Verifying {
    key: DecodingKey,
    /// Takes the algorithm of this key and no other.
    validation: Validation,
}

impl Ring {
    /// The keys of these rows. One of them must be active.
    pub(super) fn new(
        rows: Vec<Row>,
        seal: &Seal,
        config: &Config,
        epoch: u64,
    ) -> Result<Self, Error> {
        let mut signing = None;
        let mut verifying = HashMap::new();
        let mut public = Vec::new();
        for row in &rows {
            let key = &row.key;
            if key.state == KeyState::Revoked {
                continue;
            }
            let corrupt = |problem: &str| Error::Corrupt {
                table: "token_keys",
                id: key.id.clone(),
                problem: problem.to_owned(),
            };
            let jwk: Value = serde_json::from_str(&row.public_jwk)
                .map_err(|error| corrupt(&error.to_string()))?;
            let decoding = key.algorithm.decoding_key(&jwk);
            let decoding = decoding.ok_or_else(|| corrupt("its public part is none"))?;
            let algorithm = key.algorithm.as_jwa();
            let mut validation = Validation::new(algorithm);
            validation.set_issuer(&[&config.issuer]);
            validation.set_audience(&[&config.audience]);
            validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
            // Checked by the clock that tests can move.
            validation.validate_exp = false;
            let verifying_key = Verifying {
                key: decoding,
                validation,
            };
            verifying.insert(key.id.clone(), verifying_key);
            public.push(jwk);
            if key.state == KeyState::Active {
                let pkcs8 = seal
                    .open(&place_of(&key.id), &row.sealed)
                    .map_err(|error| corrupt(&error.to_string()))?;
                signing = Some(Signing {
                    id: key.id.clone(),
                    algorithm,
                    key: key.algorithm.encoding_key(&pkcs8),
                });
            }
        }
        Ok(Self {
            signing: signing.ok_or(Error::Key("there is no key that signs access tokens"))?,
            verifying,
            jwks: json!({ "keys": public }).to_string().into(),
            rows,
            epoch,
        })
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The public keys as a JSON Web Key Set (RFC 7517, RFC 8037).
    pub(in crate::auth) fn jwks(&self) -> Arc<str> {
        Arc::clone(&self.jwks)
    }

    pub(in crate::auth) fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let mut header = Header::new(self.signing.algorithm);
        header.typ = Some(KIND.to_owned());
        header.kid = Some(self.signing.id.clone());
        Ok(encode(&header, claims, &self.signing.key)?)
    }

    /// What a token claims, if the key with this id has signed it, by its own algorithm.
    pub(in crate::auth) fn open<T: DeserializeOwned>(&self, token: &str, id: &str) -> Option<T> {
        let verifying = self.verifying.get(id)?;
        let opened = decode::<T>(token, &verifying.key, &verifying.validation);
        opened.ok().map(|token| token.claims)
    }
}
