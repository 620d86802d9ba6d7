//! The keys that sign access tokens, one after the other.

use super::*;
use crate::auth::{Begin, KeyState, TokenAlgorithm, TokenKey};

const MINUTE_MS: u32 = 60_000;

impl Host {
    fn states(&self) -> Vec<&'static str> {
        let keys = self.auth.list_token_keys();
        keys.iter().map(|key| key.state.as_str()).collect()
    }

    fn active(&self) -> TokenKey {
        let keys = self.auth.list_token_keys();
        let is_active = |key: &TokenKey| key.state == KeyState::Active;
        keys.into_iter().find(is_active).unwrap()
    }

    fn shown(&self) -> Vec<String> {
        let jwks: serde_json::Value = serde_json::from_str(&self.auth.jwks()).unwrap();
        let keys = jwks["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn tend(&self) {
        self.auth.tend_token_keys().await.unwrap();
    }
}

fn header_of(token: &str) -> serde_json::Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

#[tokio::test]
async fn a_new_key_is_shown_then_signs_and_the_old_one_stays_until_its_tokens_are_over() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let first = host.active();
    let old = host.token_of("ann@example.org").await;
    host.clock.advance_ms(1);
    let next = host
        .auth
        .add_token_key(None, Begin::WhenShown)
        .await
        .unwrap();
    assert_eq!(host.states(), ["active", "standby"]);
    assert_eq!(host.shown(), [first.id.clone(), next.id.clone()]);
    host.clock.advance_ms(10 * MINUTE_MS - 1);
    host.tend().await;
    let still_old = host.token_of("ann@example.org").await;
    assert_eq!(header_of(&still_old)["kid"], first.id);
    host.clock.advance_ms(1);
    host.tend().await;
    assert_eq!(host.states(), ["retiring", "active"]);
    let new = host.token_of("ann@example.org").await;
    assert_eq!(header_of(&new)["kid"], next.id);
    host.restart().await;
    for token in [&old, &still_old, &new] {
        assert!(host.see(token).is_ok());
    }
    host.clock.advance_ms(15 * MINUTE_MS - 1000);
    host.tend().await;
    assert_eq!(host.states(), ["retiring", "active"]);
    assert!(host.see(&still_old).is_ok() && host.see(&new).is_ok());
    host.clock.advance_ms(6_000);
    host.tend().await;
    assert_eq!(host.states(), ["revoked", "active"]);
    assert_eq!(host.shown(), [next.id]);
    host.restart().await;
    assert_eq!(host.states(), ["revoked", "active"]);
}

#[tokio::test]
async fn keys_follow_each_other_by_themselves() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let first = host.active();
    host.clock
        .set_ms(START_MS + 90 * 24 * 3_600_000 - 11 * 60_000);
    host.tend().await;
    assert_eq!(host.states(), ["active"]);
    // Minute by minute, as the host does it: at every moment, a token that was just made is good.
    for _ in 0..60 {
        host.clock.advance_ms(MINUTE_MS);
        let token = host.token_of("ann@example.org").await;
        host.tend().await;
        assert!(host.see(&token).is_ok());
    }
    assert_eq!(host.states(), ["revoked", "active"]);
    assert_ne!(host.active().id, first.id);
    // What was revoked long ago is not even listed.
    host.clock.set_ms(START_MS + 400 * 24 * 3_600_000);
    for _ in 0..40 {
        host.clock.advance_ms(MINUTE_MS);
        host.tend().await;
    }
    let ids: Vec<String> = host
        .auth
        .list_token_keys()
        .into_iter()
        .map(|key| key.id)
        .collect();
    assert!(!ids.contains(&first.id));
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_from_that_moment_and_sessions_stay() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let login = host.auth.log_in("ann@example.org", PASSWORD, "x").await;
    let tokens = login.unwrap().tokens;
    assert!(host.see(&tokens.access_token).is_ok());
    let first = host.active().id;
    host.clock.advance_ms(1);
    host.auth.revoke_token_key(first.clone()).await.unwrap();
    assert_eq!(host.states(), ["revoked", "active"]);
    let seen = host.see(&tokens.access_token);
    assert_eq!(seen.unwrap_err(), Rejection::TokenInvalid);
    let next = host.auth.refresh(&tokens.refresh_token).await.unwrap();
    assert!(host.see(&next.access_token).is_ok());
    assert!(!host.shown().contains(&first));
    // The file of the first key does not bring it back.
    host.restart().await;
    assert!(host.see(&tokens.access_token).is_err());
    assert!(host.see(&next.access_token).is_ok());
    host.auth.revoke_token_key(first).await.unwrap();
    let unknown = host.auth.revoke_token_key("x".to_owned()).await;
    assert!(matches!(unknown, Err(Error::TokenKeyNotFound)));
}

#[tokio::test]
async fn keys_of_both_algorithms_verify_what_they_have_signed_and_nothing_else() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let old = host.token_of("ann@example.org").await;
    let p256 = host
        .auth
        .add_token_key(Some(TokenAlgorithm::Es256), Begin::AtOnce)
        .await
        .unwrap();
    assert_eq!(p256.state, KeyState::Active);
    let new = host.token_of("ann@example.org").await;
    assert_eq!(header_of(&new)["alg"], "ES256");
    assert!(host.see(&old).is_ok() && host.see(&new).is_ok());
    let [_, claims, signature] = new.split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let old_header = header_of(&old);
    // The key decides the algorithm, whatever the token says; and which key it was, the signature.
    for (alg, kid) in [
        ("EdDSA", &p256.id),
        ("none", &p256.id),
        ("HS256", &p256.id),
        ("ES384", &p256.id),
        ("ES256", &old_header["kid"].as_str().unwrap().to_owned()),
        ("EdDSA", &old_header["kid"].as_str().unwrap().to_owned()),
    ] {
        let header = json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        let forged = format!("{header}.{claims}.{signature}");
        assert_eq!(
            host.see(&forged).unwrap_err(),
            Rejection::TokenInvalid,
            "{alg}"
        );
    }
    // A key that the token brings along, or says where to find, is not looked at.
    let mut header = header_of(&new);
    header["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" });
    header["jku"] = json!("https://evil.example/jwks.json");
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    assert!(host.see(&format!("{header}.{claims}.{signature}")).is_err());
}

#[tokio::test]
async fn private_parts_are_sealed_and_go_when_they_are_not_needed() {
    let host = Host::start().await;
    for _ in 0..3 {
        let begin = Begin::AtOnce;
        host.auth.add_token_key(None, begin).await.unwrap();
    }
    let first = host.auth.list_token_keys()[0].id.clone();
    host.auth.revoke_token_key(first).await.unwrap();
    // A folder with another master key cannot use the rows.
    let elsewhere = tempfile::tempdir().unwrap();
    let keys = Keys::open(elsewhere.path()).unwrap();
    let (db, clock) = (host.db.clone(), host.clock.clone());
    let mail = mail(&db, &clock);
    let opened = Auth::open(db, &keys, clock, mail, host.config.clone()).await;
    assert!(matches!(
        opened,
        Err(Error::Corrupt {
            table: "token_keys",
            ..
        })
    ));
    for _ in 0..20 {
        let made = host.auth.add_token_key(None, Begin::WhenShown).await;
        if matches!(made, Err(Error::TooMany { max: 16, .. })) {
            return;
        }
    }
    panic!("there is no bound");
}

#[tokio::test]
async fn a_key_that_another_host_has_changed_meanwhile_is_not_said_to_be_revoked() {
    let host = Host::start().await;
    let active = host.active();
    let keys = &host.auth.inner.access_tokens.keys;
    // As if it had been read when it was not yet the active one.
    for state in [KeyState::Standby, KeyState::Retiring] {
        let is_revoked = keys.revoke(&active.id, state, host.clock.now_ms()).await;
        assert!(!is_revoked.unwrap());
    }
    host.auth.revoke_token_key(active.id.clone()).await.unwrap();
    assert_ne!(host.active().id, active.id);
    assert!(!host.shown().contains(&active.id));
    // Once more changes nothing.
    host.auth.revoke_token_key(active.id).await.unwrap();
}
