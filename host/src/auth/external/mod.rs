//! Access tokens of others: issuers that the operator trusts, whose public keys are fetched and kept in memory. A request never
//! waits for them.

mod keys;
mod revoked;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, Validation, dangerous::insecure_decode_claims, decode, decode_header,
};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use url::Url;

use crate::auth::directory::Directory;
use crate::auth::{ADMIN, Principal, PrincipalKind, Rejection};
use crate::clock::Clock;
use crate::ids::RoleName;

use keys::KeySet;
use revoked::Revoked;

/// Longest subject and name that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Pause after keys could not be fetched.
const RETRY: Duration = Duration::from_secs(10);

/// Whose access tokens are taken beside the host's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// As it stands in `iss`, letter by letter.
    pub issuer: String,
    /// Where its public keys are (JSON Web Key Set), `https://…`; `http://` only on this machine.
    pub jwks_url: String,
    /// For whom its tokens must be made (`aud`).
    pub audience: String,
    /// How its tokens may be signed. Default: `["RS256", "ES256", "EdDSA"]`.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<ExternalAlgorithm>,
    /// Roles of everybody who comes with its tokens. Default: none.
    #[serde(default)]
    pub roles: Vec<RoleName>,
    /// How far its clock may be off, in seconds, at most 300. Default: 30.
    #[serde(default = "default_skew_s")]
    pub skew_s: u32,
    /// How often its keys are fetched, in seconds, 10 to 86400; also when a token names another key, but not more often than
    /// every ten seconds. Default: 300.
    #[serde(default = "default_refresh_s")]
    pub refresh_s: u32,
}

/// How a token of an issuer may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum ExternalAlgorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl ExternalAlgorithm {
    fn as_jwa(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl Issuer {
    /// The first mistake in these settings.
    pub(super) fn mistake(&self, own: &str) -> Option<&'static str> {
        let url = Url::parse(&self.jwks_url).ok();
        let scheme = url.as_ref().map_or("", Url::scheme);
        let host = url.as_ref().and_then(Url::host_str);
        let is_local = matches!(host, Some("127.0.0.1" | "localhost" | "[::1]"));
        match () {
            () if self.issuer.is_empty() || self.issuer == own => {
                Some("`auth.issuers` have an `issuer` that is not the host's own")
            }
            () if self.audience.is_empty() => Some("`auth.issuers` have an `audience`"),
            () if scheme != "https" && !(is_local && scheme == "http") => {
                Some("`jwks_url` of `auth.issuers` begins with `https://`")
            }
            () if self.algorithms.is_empty() => Some("`auth.issuers` have `algorithms`"),
            () if self.skew_s > 300 => Some("`skew_s` of `auth.issuers` is at most 300"),
            () if !(10..=86_400).contains(&self.refresh_s) => {
                Some("`refresh_s` of `auth.issuers` is 10 to 86400")
            }
            () if self.roles.iter().any(|role| role.as_str() == ADMIN) => {
                Some("`roles` of `auth.issuers` must not have `admin` in them")
            }
            () => None,
        }
    }
}

/// The issuers and their keys.
pub(super) struct External {
    issuers: Vec<Arc<Live>>,
    /// By the token's SHA-256: the signature is good. Everything else is asked each time.
    verified: Cache<[u8; 32], Verified>,
}

struct Live {
    issuer: Issuer,
    keys: ArcSwap<KeySet>,
    changes: Mutex<()>,
    revoked: Revoked,
    /// Somebody came with a key that is not known.
    is_wanted: Notify,
}

#[derive(Clone)]
struct Verified {
    issuer: usize,
    /// Of the keys that have verified it.
    epoch: u64,
    claims: Arc<Claims>,
    scopes: Arc<[Box<str>]>,
    /// What conditions of routes may ask for.
    others: Arc<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    /// What the token may be used for (RFC 8693, section 4.2).
    #[serde(default)]
    scope: Option<String>,
    /// The rest, which conditions of routes may ask for.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

impl External {
    /// Needs a tokio runtime, on which it fetches keys until it is dropped.
    pub(super) fn new(issuers: &[Issuer], verified_max: u64) -> Self {
        let live = |issuer: &Issuer| {
            Arc::new(Live {
                issuer: issuer.clone(),
                keys: ArcSwap::from_pointee(KeySet::default()),
                changes: Mutex::default(),
                revoked: Revoked::default(),
                is_wanted: Notify::new(),
            })
        };
        let issuers: Vec<Arc<Live>> = issuers.iter().map(live).collect();
        for live in &issuers {
            #[expect(
                clippy::disallowed_methods,
                reason = "ends when the issuer is dropped; it keeps nothing that must be finished"
            )]
            tokio::spawn(keep_fetching(Arc::downgrade(live)));
        }
        Self {
            issuers,
            verified: Cache::builder()
                .max_capacity(verified_max)
                .time_to_live(Duration::from_secs(3600))
                .build(),
        }
    }

    /// Who holds this token, if it says that it is of one of these issuers; nothing if it does not.
    pub(super) fn verify(
        &self,
        token: &str,
        directory: &Directory,
        clock: &Clock,
    ) -> Option<Result<Arc<Principal>, Rejection>> {
        if self.issuers.is_empty() {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.verified.get(&digest);
        let is_current = |known: &Verified| {
            let issuer = self.issuers.get(known.issuer);
            issuer.is_some_and(|live| live.keys.load().epoch == known.epoch)
        };
        let known = match remembered.filter(is_current) {
            Some(known) => known,
            None => {
                // Only to find whose keys to ask; nothing else of it is believed yet.
                let claimed: Claimed = insecure_decode_claims(token).ok()?;
                let is_its = |live: &Arc<Live>| live.issuer.issuer == claimed.iss;
                let issuer = self.issuers.iter().position(is_its)?;
                match self.issuers[issuer].open(token) {
                    Ok((claims, epoch)) => {
                        let known = Verified {
                            issuer,
                            epoch,
                            scopes: scopes_of(&claims),
                            others: Arc::new(token_claims(&claims)),
                            claims: Arc::new(claims),
                        };
                        self.verified.insert(digest, known.clone());
                        known
                    }
                    Err(rejection) => return Some(Err(rejection)),
                }
            }
        };
        let Live {
            issuer, revoked, ..
        } = &*self.issuers[known.issuer];
        if revoked.contains(&known.claims.sub, &known.others) {
            return Some(Err(Rejection::TokenRevoked));
        }
        Some(admit(issuer, &known, directory, clock.now_ms()))
    }

    /// Remembers a revocation, with `iss` and what is revoked, if it is of one of these issuers.
    pub(super) fn learn(&self, told: &HashMap<String, String>) {
        let issuer = told.get("iss");
        let its = |live: &&Arc<Live>| issuer.is_some_and(|issuer| *issuer == live.issuer.issuer);
        let Some(live) = self.issuers.iter().find(its) else {
            return;
        };
        match told.contains_key("kid") {
            true => live.drop_key(told),
            false => live.revoked.learn(told),
        }
    }

    /// Asks all issuers for their keys: what they have told of them may have been missed.
    pub(super) fn ask_again(&self) {
        for live in &self.issuers {
            live.is_wanted.notify_one();
        }
    }
}

impl Live {
    /// Takes nothing any more that a key has signed that was revoked, also if the issuer still shows it, and asks for the one
    /// that has taken its place.
    fn drop_key(&self, told: &HashMap<String, String>) {
        let _alone = self.alone();
        let Some(id) = self.revoked.learn_key(told) else {
            return;
        };
        let Some(next) = self.keys.load().without(id) else {
            return;
        };
        self.keys.store(Arc::new(next));
        tracing::warn!(issuer = %self.issuer.issuer, token_key.id = %id, "An issuer has revoked one of its keys");
        self.is_wanted.notify_one();
    }

    /// Takes over the keys that the issuer shows, if they are others. Whether they were.
    fn take_over(&self, shown: &Value) -> bool {
        let _alone = self.alone();
        let next = self
            .keys
            .load()
            .followed_by(shown, |id| self.revoked.has_key(id));
        let is_another = next.is_some();
        if let Some(next) = next {
            self.keys.store(Arc::new(next));
        }
        is_another
    }

    /// Held while the keys change: one that is shown and one that is revoked must not miss each other.
    fn alone(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the token claims, if one of the issuer's keys has signed it, and the epoch of the keys.
    fn open(&self, token: &str) -> Result<(Claims, u64), Rejection> {
        let header = decode_header(token).map_err(|_| Rejection::TokenInvalid)?;
        let is_token = header.typ.as_deref().is_none_or(|typ| {
            ["jwt", "at+jwt", "application/at+jwt"]
                .iter()
                .any(|known| typ.eq_ignore_ascii_case(known))
        });
        let is_taken = |taken: &ExternalAlgorithm| taken.as_jwa() == header.alg;
        if !is_token || header.crit.is_some() || !self.issuer.algorithms.iter().any(is_taken) {
            return Err(Rejection::TokenInvalid);
        }
        let keys = self.keys.load_full();
        let Some(key) = keys.find(header.kid.as_deref(), header.alg) else {
            self.is_wanted.notify_one();
            return Err(Rejection::TokenInvalid);
        };
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer.issuer]);
        validation.set_audience(&[&self.issuer.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Checked by the clock that tests can move.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, key, &validation)
            .map_err(|_| Rejection::TokenInvalid)?
            .claims;
        if claims.sub.is_empty() || claims.sub.len() > TEXT_BYTES_MAX {
            return Err(Rejection::TokenInvalid);
        }
        Ok((claims, keys.epoch))
    }
}

fn admit(
    issuer: &Issuer,
    known: &Verified,
    directory: &Directory,
    now_ms: i64,
) -> Result<Arc<Principal>, Rejection> {
    let claims = &known.claims;
    let skew_ms = i64::from(issuer.skew_s) * 1000;
    let ms = |s: i64| s.saturating_mul(1000).clamp(i64::MIN / 2, i64::MAX / 2);
    if now_ms >= ms(claims.exp) + skew_ms {
        return Err(Rejection::TokenExpired);
    }
    if now_ms < ms(claims.nbf) - skew_ms {
        return Err(Rejection::TokenInvalid);
    }
    // A subject of one issuer is nobody at another, and a text of theirs is no id of ours.
    let id = Sha256::new()
        .chain_update(&issuer.issuer)
        .chain_update([0])
        .chain_update(&claims.sub)
        .finalize();
    let is_name = |email: &&String| claims.email_verified && email.len() <= TEXT_BYTES_MAX;
    let name = claims.email.as_ref().filter(is_name);
    Ok(Arc::new(Principal {
        id: format!("ext_{}", hex::encode(&id[..16])),
        kind: PrincipalKind::User,
        name: name.unwrap_or(&claims.sub).clone(),
        roles: issuer.roles.as_slice().into(),
        permissions: directory.permissions_of(&issuer.roles),
        scopes: Some(Arc::clone(&known.scopes)),
        token_claims: Some(Arc::clone(&known.others)),
        rate: None,
    }))
}

/// A token that names no scopes has none: it was made for somebody who asked for none.
fn scopes_of(claims: &Claims) -> Arc<[Box<str>]> {
    let scope = claims.scope.as_deref().unwrap_or_default();
    let mut scopes: Vec<Box<str>> = scope
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .map(Into::into)
        .collect();
    // Some issuers write a list under this name.
    if let Some(list) = claims.others.get("scp").and_then(Value::as_array) {
        scopes.extend(list.iter().filter_map(Value::as_str).map(Into::into));
    }
    scopes.into()
}

fn token_claims(claims: &Claims) -> Map<String, Value> {
    let mut all = claims.others.clone();
    all.insert("sub".to_owned(), claims.sub.as_str().into());
    all.insert("exp".to_owned(), claims.exp.into());
    if let Some(email) = claims.email.as_deref().filter(|_| claims.email_verified) {
        all.insert("email".to_owned(), email.into());
    }
    all
}

async fn keep_fetching(live: std::sync::Weak<Live>) {
    let client = keys::client();
    loop {
        let Some(issuer) = live.upgrade() else { return };
        let url = &issuer.issuer.jwks_url;
        let every = Duration::from_secs(issuer.issuer.refresh_s.into());
        let pause = match keys::fetch(&client, url).await {
            Ok(fetched) => {
                if issuer.take_over(&fetched) {
                    tracing::info!(issuer = %issuer.issuer.issuer, "The keys of an issuer are known");
                }
                every
            }
            Err(error) => {
                // What is known stays good: an issuer that is away for a moment logs nobody out.
                tracing::warn!(
                    issuer = %issuer.issuer.issuer, error.cause = %error,
                    "The keys of an issuer cannot be fetched"
                );
                RETRY.min(every)
            }
        };
        // Not more often, however many tokens with unknown keys come.
        tokio::time::sleep(RETRY.min(pause)).await;
        tokio::select! {
            () = issuer.is_wanted.notified() => {}
            () = tokio::time::sleep(pause.saturating_sub(RETRY)) => {}
        }
    }
}

pub(super) fn all_algorithms() -> Vec<ExternalAlgorithm> {
    use ExternalAlgorithm::{EdDsa, Es256, Rs256};
    vec![Rs256, Es256, EdDsa]
}

pub(super) fn default_skew_s() -> u32 {
    30
}

fn default_refresh_s() -> u32 {
    300
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn signing(seed: u8) -> (EncodingKey, String) {
        let pair = SigningKey::from_bytes(&[seed; 32]);
        let x = URL_SAFE_NO_PAD.encode(pair.verifying_key().to_bytes());
        let der = pair.to_pkcs8_der().unwrap();
        (EncodingKey::from_ed_der(der.as_bytes()), x)
    }

    fn external(keys: &Value) -> External {
        let issuer = Issuer {
            issuer: "https://login.example".to_owned(),
            jwks_url: "https://login.example/keys".to_owned(),
            audience: "shop".to_owned(),
            algorithms: all_algorithms(),
            roles: Vec::new(),
            skew_s: 30,
            refresh_s: 300,
        };
        let keys = KeySet::default().followed_by(keys, |_| false).unwrap();
        let live = Live {
            issuer,
            keys: ArcSwap::from_pointee(keys),
            changes: Mutex::default(),
            revoked: Revoked::default(),
            is_wanted: Notify::new(),
        };
        External {
            issuers: vec![Arc::new(live)],
            verified: Cache::new(10),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://login.example", "aud": "shop", "sub": "ann-1", "nbf": NOW_S,
            "exp": NOW_S + 60, "email": "ann@example.org", "email_verified": true,
        })
    }

    fn token(alg: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        let mut header = Header::new(alg);
        header.kid = Some("k1".to_owned());
        encode(&header, claims, key).unwrap()
    }

    #[test]
    fn only_what_the_issuer_has_signed_for_us_and_for_now_opens_the_door() {
        let (key, x) = signing(1);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1" });
        let external = external(&json!({ "keys": [jwk] }));
        let (directory, clock) = (Directory::default(), Clock::manual(NOW_S * 1000));
        let see = |token: &str| external.verify(token, &directory, &clock);
        let good = token(Algorithm::EdDSA, &key, &claims());
        for _ in 0..2 {
            let ann = see(&good).unwrap().unwrap();
            assert_eq!(ann.name, "ann@example.org");
            assert!(ann.id.starts_with("ext_") && ann.id.len() == 36);
        }
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            token(Algorithm::EdDSA, &key, &claims)
        };
        let parts: Vec<&str> = good.split('.').collect();
        let none = json!({ "alg": "none", "kid": "k1" }).to_string();
        let none = URL_SAFE_NO_PAD.encode(none);
        let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(&x).unwrap());
        let refused = [
            with("aud", json!("bank")),
            with("sub", json!("")),
            with("sub", json!("x".repeat(300))),
            with("exp", Value::Null),
            token(Algorithm::EdDSA, &signing(2).0, &claims()),
            // A public key is no secret, whatever the token says of itself.
            token(Algorithm::HS256, &secret, &claims()),
            format!("{}.{}.{}", none, parts[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
        ];
        for (at, token) in refused.iter().enumerate() {
            let seen = see(token).map(|seen| seen.map(drop));
            // A token that cannot be read says of nobody that they are its issuer.
            let is_refused = matches!(seen, None | Some(Err(Rejection::TokenInvalid)));
            assert!(is_refused, "case {at}: {seen:?}");
        }
        assert!(see(&with("iss", json!("https://evil.example"))).is_none());
        // An address that the issuer has not seen to is no name.
        let unsure = see(&with("email_verified", json!(false))).unwrap().unwrap();
        assert_eq!(unsure.name, "ann-1");
        // Its clock may be off by as much as was said.
        for (at_s, wanted) in [
            (NOW_S - 31, Some(Rejection::TokenInvalid)),
            (NOW_S - 30, None),
            (NOW_S + 89, None),
            (NOW_S + 90, Some(Rejection::TokenExpired)),
        ] {
            clock.set_ms(at_s * 1000);
            assert_eq!(see(&good).unwrap().err(), wanted, "{at_s}");
        }
    }

    #[test]
    fn what_a_token_says_of_itself_is_told_and_never_stands_above_what_the_host_knows() {
        let (key, x) = signing(1);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1" });
        let external = external(&json!({ "keys": [jwk] }));
        let (directory, clock) = (Directory::default(), Clock::manual(NOW_S * 1000));
        let see = |claims: &Value| {
            let token = token(Algorithm::EdDSA, &key, claims);
            external
                .verify(&token, &directory, &clock)
                .unwrap()
                .unwrap()
        };
        let plain = see(&claims());
        assert!(!plain.has_scope("orders:read"));
        let mut more = claims();
        more["scope"] = json!("orders:read  orders:write");
        more["tenant"] = json!("north");
        more["roles"] = json!(["admin"]);
        more["kind"] = json!("api-key");
        let ann = see(&more);
        assert!(ann.has_scope("orders:write") && !ann.has_scope("orders"));
        let seen = ann.claims();
        assert_eq!(seen["tenant"], "north");
        assert_eq!(seen["sub"], "ann-1");
        assert_eq!(seen["kind"], "user");
        assert_ne!(seen["roles"], json!(["admin"]));
        assert_eq!(seen["id"], ann.id);
        let mut list = claims();
        list["scp"] = json!(["orders:read"]);
        assert!(see(&list).has_scope("orders:read"));
        // Of keys of the host these stand for many; what they mean elsewhere is not known here.
        let mut wild = claims();
        wild["scope"] = json!("* orders:*");
        assert!(!see(&wild).has_scope("orders:read"));
    }

    #[test]
    fn a_key_that_is_shown_no_more_opens_nothing() {
        let (key, x) = signing(1);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1" });
        let external = external(&json!({ "keys": [jwk] }));
        let (directory, clock) = (Directory::default(), Clock::manual(NOW_S * 1000));
        let good = token(Algorithm::EdDSA, &key, &claims());
        assert!(external.verify(&good, &directory, &clock).unwrap().is_ok());
        let live = &external.issuers[0];
        assert!(live.take_over(&json!({ "keys": [] })));
        assert!(!live.take_over(&json!({ "keys": [] })));
        let seen = external.verify(&good, &directory, &clock).unwrap();
        assert_eq!(seen.unwrap_err(), Rejection::TokenInvalid);
    }

    #[test]
    fn a_key_that_was_revoked_opens_nothing_also_while_it_is_still_shown() {
        let [(key, x), (next_key, next_x)] = [signing(1), signing(2)];
        let jwk = |id: &str, x: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id });
        let shown = json!({ "keys": [jwk("k1", &x)] });
        let external = external(&shown);
        let (directory, clock) = (Directory::default(), Clock::manual(NOW_S * 1000));
        let see = |token: &str| external.verify(token, &directory, &clock).unwrap();
        let good = token(Algorithm::EdDSA, &key, &claims());
        see(&good).unwrap();
        let told = |issuer: &str| -> HashMap<String, String> {
            let pairs = [("iss", issuer), ("kid", "k1")];
            let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            owned.into()
        };
        external.learn(&told("https://other.example"));
        see(&good).unwrap();
        external.learn(&told("https://login.example"));
        assert_eq!(see(&good).unwrap_err(), Rejection::TokenInvalid);
        let live = &external.issuers[0];
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("k2".to_owned());
        let next = encode(&header, &claims(), &next_key).unwrap();
        for shown in [
            shown,
            json!({ "keys": [jwk("k1", &x), jwk("k2", &next_x)] }),
            json!({ "keys": [jwk("k2", &next_x)] }),
        ] {
            live.take_over(&shown);
            assert_eq!(see(&good).unwrap_err(), Rejection::TokenInvalid);
        }
        see(&next).unwrap();
    }

    #[test]
    fn secrets_and_keys_for_other_things_are_no_keys() {
        let (_, x) = signing(1);
        let okp = |extra: Value| {
            let mut jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1" });
            for (name, value) in extra.as_object().unwrap() {
                jwk[name] = value.clone();
            }
            jwk
        };
        for (jwk, is_key) in [
            (okp(json!({})), true),
            (okp(json!({ "alg": "EdDSA", "use": "sig" })), true),
            (okp(json!({ "use": "enc" })), false),
            (okp(json!({ "alg": "ES256" })), false),
            (json!({ "kty": "oct", "k": "AAAA", "kid": "k1" }), false),
            (json!({ "kty": "unknown" }), false),
            (json!(7), false),
        ] {
            let set = KeySet::default().followed_by(&json!({ "keys": [jwk] }), |_| false);
            let found = set.unwrap().find(Some("k1"), Algorithm::EdDSA).is_some();
            assert_eq!(found, is_key, "{jwk}");
        }
    }
}
