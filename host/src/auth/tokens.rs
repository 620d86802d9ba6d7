//! Access tokens: short JWTs in the shape of RFC 9068. Which key has signed one, its id says; how, the key.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::decode_header;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::auth::directory::{Directory, LiveUser};
use crate::auth::sessions::Revoked;
use crate::auth::token_keys::{KIND, Ring, TokenKeys};
use crate::auth::{Config, Error, Principal, Rejection};
use crate::ids::{RoleName, SessionId, UserId};

/// Other nodes' clocks may be behind ours by this much.
const LEEWAY_MS: i64 = 5_000;
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
    pub(super) keys: TokenKeys,
    issuer: String,
    audience: String,
    life_ms: i64,
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
    /// Of the keys that have verified it.
    epoch: u64,
}

impl AccessTokens {
    pub(super) fn new(keys: TokenKeys, config: &Config) -> Self {
        let life_ms = life_ms(config);
        let remembered_ms = (life_ms + LEEWAY_MS).unsigned_abs();
        Self {
            keys,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            life_ms,
            verified: Cache::builder()
                .max_capacity(config.verified_tokens_max)
                .time_to_live(Duration::from_millis(remembered_ms))
                .build(),
        }
    }

    /// A token for this bearer, and for how many seconds it is good.
    pub(super) fn sign(&self, bearer: &Bearer<'_>, now_ms: i64) -> Result<(String, u64), Error> {
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
        let token = self.keys.ring().sign(&claims)?;
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
        let ring = self.keys.ring();
        let remembered = self.verified.get(&digest);
        // A key that has verified it may have been revoked.
        let remembered = remembered.filter(|verified| verified.epoch == ring.epoch);
        let verified = match remembered {
            Some(verified) => verified,
            None => {
                let verified = read(token, &ring, directory, self.life_ms)?;
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
}

/// How long an access token that was signed now may be accepted at most.
pub(super) fn accepted_ms(config: &Config) -> i64 {
    life_ms(config) + LEEWAY_MS
}

pub(super) fn life_ms(config: &Config) -> i64 {
    i64::from(config.access_token_minutes) * 60_000
}

/// When a token is over that says when it was made and when it ends, in seconds. What was revoked is remembered for as long as
/// a token lives now; one that was made to live longer ends then, too.
pub(super) fn end_ms(made_s: i64, ends_s: i64, life_ms: i64) -> i64 {
    ms(ends_s).min(ms(made_s) + life_ms)
}

fn ms(seconds: i64) -> i64 {
    seconds
        .saturating_mul(1000)
        .clamp(i64::MIN / 2, i64::MAX / 2)
}

fn read(
    token: &str,
    ring: &Ring,
    directory: &Directory,
    life_ms: i64,
) -> Result<Verified, Rejection> {
    let header = decode_header(token).map_err(|_| Rejection::TokenInvalid)?;
    let is_access_token = header.typ.is_some_and(|typ| {
        typ.eq_ignore_ascii_case(KIND) || typ.eq_ignore_ascii_case("application/at+jwt")
    });
    // We understand no critical extension, so a token that has one must be refused (RFC 7515).
    if !is_access_token || header.crit.is_some() {
        return Err(Rejection::TokenInvalid);
    }
    let id = header.kid.ok_or(Rejection::TokenInvalid)?;
    let claims = ring.open::<Claims<Vec<RoleName>>>(token, &id);
    let claims = claims.ok_or(Rejection::TokenInvalid)?;
    let live = directory.user(claims.sub).ok_or(Rejection::TokenRevoked)?;
    Ok(Verified {
        live,
        user: claims.sub,
        session: claims.sid,
        generation: claims.generation,
        begins_ms: ms(claims.nbf),
        expires_ms: end_ms(claims.iat, claims.exp, life_ms),
        epoch: ring.epoch,
    })
}
