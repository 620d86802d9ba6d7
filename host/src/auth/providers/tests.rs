//! What an ID token must say, and what one may not get away with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use openidconnect::{AccessToken, IssuerUrl, core::CoreJsonWebKeySet};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::auth::external::{ExternalAlgorithm, all_algorithms};
use crate::auth::providers::oidc::{self, Expected, Token};

const NOW_S: i64 = 1_700_000_000;
const ISSUER: &str = "https://login.example";

fn signing(seed: u8) -> (EncodingKey, String) {
    let pair = SigningKey::from_bytes(&[seed; 32]);
    let x = URL_SAFE_NO_PAD.encode(pair.verifying_key().to_bytes());
    let der = pair.to_pkcs8_der().unwrap();
    (EncodingKey::from_ed_der(der.as_bytes()), x)
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "shop", "sub": "ann-1", "nonce": "n-1", "iat": NOW_S, "exp": NOW_S + 60,
        "email": "ann@example.org", "email_verified": true, "hd": "example.org",
    })
}

fn token(algorithm: Algorithm, kid: &str, key: &EncodingKey, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.to_owned());
    encode(&header, claims, key).unwrap()
}

/// Why a token is refused, if it is.
fn problem(
    token: &str,
    keys: &Value,
    algorithms: &[ExternalAlgorithm],
    at_s: i64,
) -> Option<String> {
    let Ok(token) = token.parse::<Token>() else {
        return Some("it cannot be read".to_owned());
    };
    let keys: CoreJsonWebKeySet = serde_json::from_value(keys.clone()).unwrap();
    let expected = Expected {
        issuer: &IssuerUrl::new(ISSUER.to_owned()).unwrap(),
        client_id: "shop",
        nonce: "n-1",
        algorithms,
        skew_ms: 30_000,
        now_ms: at_s * 1000,
    };
    let access_token = AccessToken::new("at-1".to_owned());
    let seen = oidc::verify(&token, &access_token, &keys, &expected);
    match seen {
        Ok(claims) => {
            assert_eq!(claims.subject().as_str(), "ann-1");
            assert_eq!(
                claims.additional_claims().hd.as_deref(),
                Some("example.org")
            );
            None
        }
        Err(error) => Some(oidc::causes(&error)),
    }
}

#[test]
fn only_an_id_token_of_the_provider_for_this_login_and_for_now_counts() {
    let (key, x) = signing(1);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "use": "sig" });
    let keys = json!({ "keys": [jwk, { "kty": "oct", "k": "AAAA", "kid": "k2" }, 7] });
    let all = all_algorithms();
    let see = |token: &str| problem(token, &keys, &all, NOW_S);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        token(Algorithm::EdDSA, "k1", &key, &claims)
    };
    let good = token(Algorithm::EdDSA, "k1", &key, &claims());
    assert_eq!(see(&good), None);
    let half = URL_SAFE_NO_PAD.encode(&Sha512::digest("at-1")[..32]);
    assert_eq!(see(&with("at_hash", json!(half))), None);
    assert_eq!(see(&with("aud", json!(["shop"]))), None);
    assert_eq!(see(&with("azp", json!("shop"))), None);

    let parts: Vec<&str> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": "k1" }).to_string());
    let secret = |bytes: &[u8]| EncodingKey::from_secret(bytes);
    let public = URL_SAFE_NO_PAD.decode(&x).unwrap();
    for (what, token) in [
        ("another nonce", with("nonce", json!("n-2"))),
        ("no nonce", with("nonce", Value::Null)),
        ("another audience", with("aud", json!("bank"))),
        ("several audiences", with("aud", json!(["shop", "bank"]))),
        ("another party", with("azp", json!("bank"))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        (
            "an issuer that looks alike",
            with("iss", json!("https://login.example/")),
        ),
        (
            "another access token",
            with("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ),
        ("no end", with("exp", Value::Null)),
        (
            "another key",
            token(Algorithm::EdDSA, "k1", &signing(2).0, &claims()),
        ),
        (
            "a key that is not shown",
            token(Algorithm::EdDSA, "k9", &key, &claims()),
        ),
        (
            "the public key as a secret",
            token(Algorithm::HS256, "k1", &secret(&public), &claims()),
        ),
        (
            "a secret in the key set",
            token(Algorithm::HS256, "k2", &secret(&[0; 3]), &claims()),
        ),
        ("no algorithm", format!("{none}.{}.", parts[1])),
        (
            "no algorithm and a signature",
            format!("{none}.{}.{}", parts[1], parts[2]),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no token", "nonsense".to_owned()),
    ] {
        assert!(see(&token).is_some(), "{what}");
    }
    // An algorithm that the operator has not named.
    assert!(problem(&good, &keys, &[ExternalAlgorithm::Rs256], NOW_S).is_some());
    // Its clock may be off by as much as was said.
    for (at_s, is_good) in [
        (NOW_S - 31, false),
        (NOW_S - 30, true),
        (NOW_S + 89, true),
        (NOW_S + 90, false),
    ] {
        let seen = problem(&good, &keys, &all, at_s);
        assert_eq!(seen.is_none(), is_good, "{at_s}: {seen:?}");
    }
}
