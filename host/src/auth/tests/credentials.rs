//! Access tokens and API keys: which open the door, and which do not or no longer.

use super::*;

#[tokio::test]
async fn revocation_counts_at_once_also_for_tokens_seen_before() {
    let mut host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    for step in ["password", "disable", "delete"] {
        let token = host.token_of("ann@example.org").await;
        assert!(host.see(&token).is_ok() && host.see(&token).is_ok());
        match step {
            "password" => host.auth.set_password(ann.id, PASSWORD).await.unwrap(),
            "disable" => {
                host.auth.set_disabled(ann.id, true).await.unwrap();
                assert_eq!(host.see(&token).unwrap_err(), Rejection::TokenRevoked);
                // Enabling again does not bring old tokens back.
                host.auth
                    .set_disabled(ann.id, false)
                    .await
                    .map(drop)
                    .unwrap();
            }
            _ => host.auth.delete_user(ann.id).await.unwrap(),
        }
        assert_eq!(
            host.see(&token).unwrap_err(),
            Rejection::TokenRevoked,
            "{step}"
        );
        host.restart().await;
        assert_eq!(
            host.see(&token).unwrap_err(),
            Rejection::TokenRevoked,
            "{step}"
        );
    }
    assert!(matches!(
        host.auth.delete_user(ann.id).await,
        Err(Error::UserNotFound)
    ));
    assert!(matches!(
        host.auth.set_password(ann.id, PASSWORD).await,
        Err(Error::UserNotFound)
    ));
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_outlives_a_restart() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let token = host.token_of("ann@example.org").await;
    host.clock.advance_ms(15 * 60_000 - 1000);
    assert!(host.see(&token).is_ok());
    host.restart().await;
    assert!(host.see(&token).is_ok());
    host.clock.advance_ms(7_000);
    assert_eq!(host.see(&token).unwrap_err(), Rejection::TokenExpired);
    host.restart().await;
    assert_eq!(host.see(&token).unwrap_err(), Rejection::TokenExpired);
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[ADMIN]).await;
    let token = host.token_of("ann@example.org").await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let read = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let write = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let (good_header, good_claims) = (read(header), read(claims));
    assert_eq!(
        (&good_header["alg"], &good_header["typ"]),
        (&json!("EdDSA"), &json!("at+jwt"))
    );
    for claim in [
        "iss",
        "aud",
        "sub",
        "client_id",
        "iat",
        "nbf",
        "sid",
        "exp",
        "jti",
        "roles",
        "generation",
    ] {
        assert!(!good_claims[claim].is_null(), "{claim}");
    }
    let jwks: serde_json::Value = serde_json::from_str(&host.auth.jwks()).unwrap();
    assert_eq!(jwks["keys"][0]["kid"], good_header["kid"]);
    assert!(jwks["keys"][0].get("d").is_none());

    let with = |json: &serde_json::Value, key: &str, value: serde_json::Value| {
        let mut json = json.clone();
        json[key] = value;
        write(&json)
    };
    // Signed by us with the right key, but not as an access token of ours.
    let pair = ed25519_dalek::SigningKey::from_bytes(
        Keys::open(host.folder.path()).unwrap().access_token_seed(),
    );
    let signed = |header: String, claims: String| {
        let message = format!("{header}.{claims}");
        let signature = ed25519_dalek::Signer::sign(&pair, message.as_bytes()).to_bytes();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    assert!(
        host.see(&signed(write(&good_header), write(&good_claims)))
            .is_ok()
    );
    let (header_with, claims_with) = (
        |k, v| with(&good_header, k, v),
        |k, v| with(&good_claims, k, v),
    );
    let x = URL_SAFE_NO_PAD
        .decode(jwks["keys"][0]["x"].as_str().unwrap())
        .unwrap();
    let public_key_as_secret = jsonwebtoken::encode(
        &jsonwebtoken::Header {
            typ: Some("at+jwt".into()),
            kid: good_header["kid"].as_str().map(str::to_owned),
            ..Default::default()
        },
        &good_claims,
        &jsonwebtoken::EncodingKey::from_secret(&x),
    );
    let cases = [
        format!(
            "{header}.{}.{signature}",
            claims_with("generation", json!(2))
        ),
        format!("{}.{claims}.", header_with("alg", json!("none"))),
        format!("{}.{claims}.{signature}", header_with("alg", json!("none"))),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{}", "A".repeat(86)),
        public_key_as_secret.unwrap(),
        signed(header_with("alg", json!("HS256")), write(&good_claims)),
        signed(header_with("kid", json!("other")), write(&good_claims)),
        signed(header_with("kid", json!(null)), write(&good_claims)),
        signed(header_with("typ", json!("JWT")), write(&good_claims)),
        signed(header_with("crit", json!(["b64"])), write(&good_claims)),
        signed(write(&good_header), claims_with("iss", json!("other"))),
        signed(write(&good_header), claims_with("aud", json!("other"))),
        signed(write(&good_header), claims_with("sub", json!("ann"))),
        signed(write(&good_header), claims_with("exp", json!(null))),
        "a.b.c".to_owned(),
        "abc".to_owned(),
    ];
    for (at, forged) in cases.iter().enumerate() {
        assert_eq!(
            host.see(forged).unwrap_err(),
            Rejection::TokenInvalid,
            "case {at}"
        );
    }
    let stranger = signed(
        write(&good_header),
        claims_with("sub", json!(UserId::new())),
    );
    assert_eq!(host.see(&stranger).unwrap_err(), Rejection::TokenRevoked);
    // A token of another host with the same settings.
    let other = Host::start().await;
    assert_eq!(other.see(&token).unwrap_err(), Rejection::TokenInvalid);
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_told_apart() {
    let host = Host::start().await;
    let long = format!("Bearer {}", "a".repeat(5000));
    let cases = [
        (Some("Bearer"), None, Rejection::Malformed),
        (Some("Bearer "), None, Rejection::Malformed),
        (Some("Bearer a b"), None, Rejection::Malformed),
        (Some(long.as_str()), None, Rejection::Malformed),
        (Some("Bearer abc"), Some("gk_abc"), Rejection::Malformed),
        (Some("Basic YTpi"), None, Rejection::SchemeUnsupported),
        (Some("bearer abc"), None, Rejection::TokenInvalid),
        (None, Some("abc"), Rejection::Malformed),
        (None, Some("gk_abc"), Rejection::Malformed),
        (None, Some(""), Rejection::Malformed),
    ];
    for (authorization, api_key, expected) in cases {
        let seen = host.auth.authenticate(authorization, api_key, None);
        assert_eq!(seen.unwrap_err(), expected, "{authorization:?} {api_key:?}");
    }
    assert_eq!(host.auth.authenticate(None, None, None).unwrap(), None);
}

#[tokio::test]
async fn an_api_key_opens_the_door_until_it_is_revoked_or_expires() {
    let mut host = Host::start().await;
    let new = |expires_at_ms| NewApiKey {
        name: "till".into(),
        roles: names(&[ADMIN]),
        expires_at_ms,
        ..NewApiKey::default()
    };
    let lasting = host.auth.create_api_key(new(None)).await.unwrap();
    let short = host
        .auth
        .create_api_key(new(Some(START_MS + 1000)))
        .await
        .unwrap();
    host.restart().await;
    for token in [&lasting.token, &short.token] {
        let principal = host
            .auth
            .authenticate(None, Some(token), None)
            .unwrap()
            .unwrap();
        assert_eq!(principal.kind.as_str(), "api-key");
        assert!(
            principal
                .require_platform(PlatformPermission::Deploy)
                .is_ok()
        );
        assert!(token.starts_with(&principal.id) && !principal.id.contains(&token[20..]));
        assert_eq!(host.see(token).unwrap(), principal);
    }
    let last = if lasting.token.ends_with('0') {
        "1"
    } else {
        "0"
    };
    let wrong = format!("{}{last}", &lasting.token[..lasting.token.len() - 1]);
    assert_eq!(host.see(&wrong).unwrap_err(), Rejection::KeyUnknown);

    host.clock.advance_ms(1000);
    assert_eq!(host.see(&short.token).unwrap_err(), Rejection::KeyExpired);
    host.auth.revoke_api_key(lasting.key.id).await.unwrap();
    assert_eq!(host.see(&lasting.token).unwrap_err(), Rejection::KeyRevoked);
    // Who does not hold the secret does not learn that the key existed.
    assert_eq!(host.see(&wrong).unwrap_err(), Rejection::KeyUnknown);
    host.restart().await;
    assert_eq!(host.see(&lasting.token).unwrap_err(), Rejection::KeyRevoked);
    assert_eq!(host.auth.list_api_keys().await.unwrap().len(), 2);
    let missing = host
        .auth
        .revoke_api_key("gk_0000000000000000".parse().unwrap())
        .await;
    assert!(matches!(missing, Err(Error::ApiKeyNotFound)));
}

#[tokio::test]
async fn dead_api_keys_make_room_for_new_ones_and_live_ones_do_not() {
    let host = Host::start_with(|config| config.api_keys_max = 2).await;
    let new = || NewApiKey {
        name: "till".into(),
        roles: vec![],
        ..NewApiKey::default()
    };
    let first = host.auth.create_api_key(new()).await.unwrap();
    host.auth.create_api_key(new()).await.unwrap();
    let full = host.auth.create_api_key(new()).await.unwrap_err();
    assert!(matches!(
        full,
        Error::TooMany {
            what: "API keys",
            max: 2
        }
    ));
    host.auth.revoke_api_key(first.key.id).await.unwrap();
    host.auth.create_api_key(new()).await.unwrap();
    assert_eq!(host.see(&first.token).unwrap_err(), Rejection::KeyUnknown);
    for (name, expires_at_ms, code) in [
        ("", None, "auth.api_key_name_invalid"),
        ("a\nb", None, "auth.api_key_name_invalid"),
        ("a", Some(START_MS), "auth.api_key_expiry_invalid"),
    ] {
        let new = NewApiKey {
            name: name.into(),
            roles: vec![],
            expires_at_ms,
            ..NewApiKey::default()
        };
        assert_eq!(
            host.auth.create_api_key(new).await.unwrap_err().code(),
            code
        );
    }
}

#[tokio::test]
async fn the_use_of_an_api_key_is_noted_at_most_once_a_minute() {
    let mut host = Host::start().await;
    let new = NewApiKey {
        name: "till".into(),
        roles: vec![],
        ..NewApiKey::default()
    };
    let token = host.auth.create_api_key(new).await.unwrap().token;
    assert_eq!(
        host.auth.list_api_keys().await.unwrap()[0].last_used_at_ms,
        None
    );
    host.see(&token).unwrap();
    host.clock.advance_ms(30_000);
    host.see(&token).unwrap();
    assert_eq!(
        host.auth.list_api_keys().await.unwrap()[0].last_used_at_ms,
        Some(START_MS + 30_000)
    );
    let noted = async || {
        let rows = host.auth.inner.store.all_keys().await.unwrap();
        rows[0].key.last_used_at_ms
    };
    while noted().await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(noted().await, Some(START_MS));
    host.restart().await;
    assert_eq!(
        host.auth.list_api_keys().await.unwrap()[0].last_used_at_ms,
        Some(START_MS)
    );
}
