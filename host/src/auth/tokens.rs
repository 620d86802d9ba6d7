//! Access tokens: short JWTs in the shape of RFC 9068, signed with Ed25519, recognised by the key's id.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::directory::{Directory, LiveUser};
use crate::auth::sessions::Revoked;
use crate::auth::{Config, Error, Keys, Principal, Rejection};
use crate::ids::{RoleName, SessionId, UserId};

/// Other nodes' clocks may be behind ours by this much.
const LEEWAY_MS: i64 = 5_000;
const KIND: &str = "at+jwt";
/// RFC 9068 asks who obtained the token; so far it is always our own login.
const CLIENT_ID: &str = "gantry";

/// Whom an access token is for.
pub(super) struct Bearer<'a> {
    pub(super) user: UserId,
    pub(super) roles: &'a [RoleName],
    pub(super) generation: i64,
    /// None for tokens that come of no login.
    pub(super) session: Option<SessionId>,
    /// The token is good no longer than this.
    pub(super) ends_ms: i64,
}

/// Who sent an access token.
pub(super) struct Seen {
    pub(super) principal: Arc<Principal>,
    pub(super) user: UserId,
    pub(super) session: Option<SessionId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims<R> {
    iss: String,
    aud: String,
    sub: UserId,
    client_id: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    /// For other services. The host itself asks what the roles are now.
    roles: R,
    generation: i64,
}

pub(super) struct AccessTokens {
    signing: EncodingKey,
    key_id: String,
    /// By key id.
    verifying: HashMap<String, DecodingKey>,
    validation: Validation,
    issuer: String,
    audience: String,
    life_ms: i64,
    jwks: String,
    /// By the token's SHA-256. An entry says that the signature is good; everything else is asked each time.
    verified: Cache<[u8; 32], Verified>,
}

#[derive(Clone)]
struct Verified {
    live: Arc<LiveUser>,
    user: UserId,
    session: Option<SessionId>,
    generation: i64,
    begins_ms: i64,
    expires_ms: i64,
}

impl AccessTokens {
    pub(super) fn new(keys: &Keys, config: &Config) -> Result<Self, Error> {
        let pair = SigningKey::from_bytes(keys.access_token_seed());
        let pkcs8 = pair
            .to_pkcs8_der()
            .map_err(|error| Error::Config(error.to_string()))?;
        let public = pair.verifying_key().to_bytes();
        let x = URL_SAFE_NO_PAD.encode(public);
        let key_id = thumbprint(&x);
        let jwks = serde_json::json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "alg": "EdDSA", "use": "sig",
        }]});
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Checked below, by the clock that tests can move.
        validation.validate_exp = false;
        let life_ms = i64::from(config.access_token_minutes) * 60_000;
        let remembered_ms = (life_ms + LEEWAY_MS).unsigned_abs();
        Ok(Self {
            signing: EncodingKey::from_ed_der(pkcs8.as_bytes()),
            verifying: HashMap::from([(key_id.clone(), DecodingKey::from_ed_der(&public))]),
            key_id,
            validation,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            life_ms,
            jwks: jwks.to_string(),
            verified: Cache::builder()
                .max_capacity(config.verified_tokens_max)
                .time_to_live(Duration::from_millis(remembered_ms))
                .build(),
        })
    }

    /// How long an access token that was signed now may be accepted at most.
    pub(super) fn accepted_ms(&self) -> i64 {
        self.life_ms + LEEWAY_MS
    }

    /// The public keys as a JSON Web Key Set (RFC 7517, RFC 8037).
    pub(super) fn jwks(&self) -> &str {
        &self.jwks
    }

    /// A token for this bearer, and for how many seconds it is good.
    pub(super) fn sign(&self, bearer: &Bearer<'_>, now_ms: i64) -> Result<(String, u64), Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(KIND.to_owned());
        header.kid = Some(self.key_id.clone());
        let life_ms = self.life_ms.min(bearer.ends_ms - now_ms).max(0);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: bearer.user,
            client_id: CLIENT_ID.to_owned(),
            iat: now_ms / 1000,
            nbf: now_ms / 1000,
            exp: (now_ms + life_ms) / 1000,
            jti: uuid::Uuid::now_v7().to_string(),
            sid: bearer.session,
            roles: bearer.roles,
            generation: bearer.generation,
        };
        let token = encode(&header, &claims, &self.signing)?;
        Ok((token, life_ms.unsigned_abs() / 1000))
    }

    /// Who holds this token, as things are now: a revoked generation or session, a disabled user and changed roles count
    /// at once.
    pub(super) fn verify(
        &self,
        token: &str,
        directory: &Directory,
        revoked: &Revoked,
        now_ms: i64,
    ) -> Result<Seen, Rejection> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(verified) => verified,
            None => {
                let verified = self.read(token, directory)?;
                self.verified.insert(digest, verified.clone());
                verified
            }
        };
        if now_ms >= verified.expires_ms + LEEWAY_MS {
            return Err(Rejection::TokenExpired);
        }
        if now_ms < verified.begins_ms - LEEWAY_MS {
            return Err(Rejection::TokenInvalid);
        }
        let Verified { user, session, .. } = verified;
        if session.is_some_and(|session| revoked.contains(session)) {
            return Err(Rejection::TokenRevoked);
        }
        let principal = verified.live.principal_of(verified.generation);
        let principal = principal.ok_or(Rejection::TokenRevoked)?;
        Ok(Seen {
            principal,
            user,
            session,
        })
    }

    fn read(&self, token: &str, directory: &Directory) -> Result<Verified, Rejection> {
        let header = decode_header(token).map_err(|_| Rejection::TokenInvalid)?;
        let is_access_token = header.typ.is_some_and(|typ| {
            typ.eq_ignore_ascii_case(KIND) || typ.eq_ignore_ascii_case("application/at+jwt")
        });
        // We understand no critical extension, so a token that has one must be refused (RFC 7515).
        if !is_access_token || header.crit.is_some() {
            return Err(Rejection::TokenInvalid);
        }
        let key = header.kid.and_then(|key_id| self.verifying.get(&key_id));
        let key = key.ok_or(Rejection::TokenInvalid)?;
        let claims = decode::<Claims<Vec<RoleName>>>(token, key, &self.validation)
            .map_err(|_| Rejection::TokenInvalid)?
            .claims;
        let live = directory.user(claims.sub).ok_or(Rejection::TokenRevoked)?;
        let ms = |s: i64| s.saturating_mul(1000).clamp(i64::MIN / 2, i64::MAX / 2);
        Ok(Verified {
            live,
            user: claims.sub,
            session: claims.sid,
            generation: claims.generation,
            begins_ms: ms(claims.nbf),
            expires_ms: ms(claims.exp),
        })
    }
}

/// The id of an Ed25519 key by RFC 7638.
fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_8037() {
        let id = super::thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
