use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use serde_json::json;

use crate::auth::{
    ADMIN, Auth, Config, Error, Keys, NewApiKey, NewUser, PlatformPermission, Principal,
    PrincipalKind, Rejection, User,
};
use crate::clock::Clock;
use crate::db::Db;
use crate::ids::{PluginName, RoleName, UserId};

const PASSWORD: &str = "correct horse";
const START_MS: i64 = 1_700_000_000_000;

/// A host's accounts in a folder of their own, and the means to start anew on the same rows.
struct Host {
    auth: Auth,
    db: Db,
    clock: Clock,
    config: Config,
    folder: tempfile::TempDir,
}

impl Host {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        // Cheap hashes: these tests are not about what argon2 costs.
        let mut config = Config {
            argon2_memory_kib: 16,
            argon2_iterations: 1,
            ..Config::default()
        };
        change(&mut config);
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("host.db"), &Default::default())
            .await
            .unwrap();
        let clock = Clock::manual(START_MS);
        let keys = Keys::open(folder.path()).unwrap();
        let auth = Auth::open(db.clone(), &keys, clock.clone(), config.clone())
            .await
            .unwrap();
        Self {
            auth,
            db,
            clock,
            config,
            folder,
        }
    }

    async fn restart(&mut self) {
        let keys = Keys::open(self.folder.path()).unwrap();
        let config = self.config.clone();
        let opened = Auth::open(self.db.clone(), &keys, self.clock.clone(), config).await;
        self.auth = opened.unwrap();
    }

    async fn add_user(&self, email: &str, roles: &[&str]) -> User {
        let new = NewUser {
            email: email.into(),
            password: PASSWORD.into(),
            roles: names(roles),
        };
        self.auth.create_user(new).await.unwrap()
    }

    async fn token_of(&self, email: &str) -> String {
        self.auth
            .login(email, PASSWORD, "192.0.2.1")
            .await
            .unwrap()
            .access_token
    }

    fn see(&self, token: &str) -> Result<Arc<Principal>, Rejection> {
        let header = format!("Bearer {token}");
        self.auth
            .authenticate(Some(&header), None)
            .map(|principal| principal.unwrap())
    }
}

fn names(roles: &[&str]) -> Vec<RoleName> {
    roles.iter().map(|role| role.parse().unwrap()).collect()
}

fn name(role: &str) -> RoleName {
    role.parse().unwrap()
}

#[tokio::test]
async fn an_account_is_found_by_any_spelling_of_its_address() {
    let host = Host::start().await;
    let ann = host.add_user(" Ann@Example.org ", &[]).await;
    assert_eq!(ann.email, "ann@example.org");
    assert_eq!(
        host.auth.find_user(ann.id).await.unwrap(),
        Some(ann.clone())
    );
    let found = host
        .auth
        .find_user_by_email("ANN@example.ORG")
        .await
        .unwrap();
    assert_eq!(found, Some(ann.clone()));
    assert_eq!(
        host.auth
            .find_user_by_email("bob@example.org")
            .await
            .unwrap(),
        None
    );
    assert_eq!(host.auth.find_user(UserId::new()).await.unwrap(), None);
    let login = host
        .auth
        .login("ANN@EXAMPLE.ORG", PASSWORD, "x")
        .await
        .unwrap();
    assert_eq!((login.user, login.expires_in_s), (ann, 900));
}

#[tokio::test]
async fn unusable_addresses_and_passwords_are_refused() {
    let host = Host::start().await;
    let long = format!("{}@example.org", "x".repeat(65));
    let emails = [
        "",
        "ann",
        "@example.org",
        "ann@",
        "a b@example.org",
        "ann@exa mple.org",
    ];
    let more = [
        "ann@-x.org",
        "ann@x..org",
        ".a@x.org",
        "a..b@x.org",
        "änn@x.org",
        "a@b@c",
        &long,
    ];
    for email in emails.into_iter().chain(more) {
        let new = NewUser {
            email: email.into(),
            password: PASSWORD.into(),
            roles: vec![],
        };
        let refused = host.auth.create_user(new).await.unwrap_err();
        assert!(
            matches!(refused, Error::EmailInvalid(_)),
            "{email}: {refused}"
        );
    }
    let with = |password: String| NewUser {
        email: "a@b.c".into(),
        password,
        roles: vec![],
    };
    let short = host
        .auth
        .create_user(with("ééééééé".into()))
        .await
        .unwrap_err();
    assert!(matches!(short, Error::PasswordTooShort { chars_min: 8 }));
    let long = host
        .auth
        .create_user(with("x".repeat(129)))
        .await
        .unwrap_err();
    assert!(matches!(long, Error::PasswordTooLong { bytes_max: 128 }));
    let mut new = with(PASSWORD.into());
    new.roles = names(&["no-such-role"]);
    let refused = host.auth.create_user(new).await.unwrap_err();
    assert_eq!(refused.code(), "auth.role_not_found");
    assert_eq!(host.auth.count_users(), 0);
}

#[tokio::test]
async fn of_many_who_want_the_same_address_one_gets_it() {
    let host = Host::start().await;
    let new = NewUser {
        email: "a@b.c".into(),
        password: PASSWORD.into(),
        roles: vec![],
    };
    let tries = (0..8).map(|_| host.auth.create_user(new.clone()));
    let results = futures_util::future::join_all(tries).await;
    let is_taken = |result: &&Result<User, Error>| matches!(result, Err(Error::EmailTaken));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(results.iter().filter(is_taken).count(), 7);
    assert_eq!(host.auth.count_users(), 1);
}

#[tokio::test]
async fn users_are_listed_in_pages_and_no_more_than_allowed() {
    let host = Host::start_with(|config| config.users_max = 5).await;
    let mut all = Vec::new();
    for at in 0..5 {
        all.push(host.add_user(&format!("u{at}@example.org"), &[]).await.id);
    }
    let new = NewUser {
        email: "u6@b.c".into(),
        password: PASSWORD.into(),
        roles: vec![],
    };
    let refused = host.auth.create_user(new).await.unwrap_err();
    assert!(matches!(
        refused,
        Error::TooMany {
            what: "users",
            max: 5
        }
    ));
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = host.auth.list_users(after, 2).await.unwrap();
        seen.extend(page.users.iter().map(|user| user.id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (all, 3));
}

#[tokio::test]
async fn a_login_gives_a_token_that_says_who_this_is_and_what_they_may_do() {
    let host = Host::start().await;
    host.auth
        .create_role(name("clerk"), &["shop:orders.write", "platform.read"])
        .await
        .unwrap();
    let ann = host.add_user("ann@example.org", &["clerk"]).await;
    let principal = host.see(&host.token_of("ann@example.org").await).unwrap();
    let shop: PluginName = "shop".parse().unwrap();
    assert_eq!(principal.id, ann.id.to_string());
    assert_eq!(
        (principal.kind, principal.name.as_str()),
        (PrincipalKind::User, "ann@example.org")
    );
    assert_eq!(*principal.roles, names(&["clerk"]));
    assert!(principal.has(Some(&shop), "orders.write"));
    assert!(principal.require_platform(PlatformPermission::Read).is_ok());
    let refused = principal.require(Some(&shop), "orders.delete").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this needs the permission `shop:orders.delete`"
    );
    assert!(
        principal
            .require_platform(PlatformPermission::Deploy)
            .is_err()
    );
}

#[tokio::test]
async fn wrong_credentials_tell_nothing_about_the_account() {
    let host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    let long = "x".repeat(1_000_000);
    let cases = [
        ("ann@example.org", "wrong password"),
        ("bob@example.org", PASSWORD),
        ("not an address", PASSWORD),
        ("ann@example.org", ""),
        ("ann@example.org", &long),
    ];
    for (email, password) in cases {
        let refused = host.auth.login(email, password, email).await.unwrap_err();
        assert!(matches!(refused, Error::CredentialsWrong), "{email}");
    }
    host.auth.set_disabled(ann.id, true).await.unwrap();
    let wrong = host
        .auth
        .login("ann@example.org", "wrong password", "x")
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::CredentialsWrong));
    let right = host
        .auth
        .login("ann@example.org", PASSWORD, "x")
        .await
        .unwrap_err();
    assert!(matches!(right, Error::AccountDisabled));
}

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
async fn changed_roles_and_permissions_count_at_once() {
    let host = Host::start().await;
    let shop: PluginName = "shop".parse().unwrap();
    let may = |token: &str| host.see(token).unwrap().has(Some(&shop), "orders.write");
    host.auth
        .create_role(name("clerk"), &["shop:orders.read"])
        .await
        .unwrap();
    let ann = host.add_user("ann@example.org", &["clerk"]).await;
    let key = NewApiKey {
        name: "till".into(),
        roles: names(&["clerk"]),
        expires_at_ms: None,
    };
    let key = host.auth.create_api_key(key).await.unwrap().token;
    let token = host.token_of("ann@example.org").await;
    assert!(!may(&token) && !may(&key));
    host.auth
        .set_role_permissions(name("clerk"), &["shop:orders.write"])
        .await
        .unwrap();
    assert!(may(&token) && may(&key));
    let held = host.auth.delete_role(name("clerk")).await.unwrap_err();
    assert!(matches!(held, Error::RoleInUse(_)));
    host.auth.set_user_roles(ann.id, vec![]).await.unwrap();
    assert!(!may(&token) && may(&key));
    host.auth
        .revoke_api_key(host.auth.list_api_keys()[0].id)
        .await
        .unwrap();
    host.auth.delete_role(name("clerk")).await.unwrap();
    assert!(matches!(
        host.auth.delete_role(name("clerk")).await,
        Err(Error::RoleNotFound(_))
    ));
}

#[tokio::test]
async fn a_change_is_finished_even_if_nobody_waits_for_it() {
    let host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    let token = host.token_of("ann@example.org").await;
    // Begun, and given up at once, as when a client hangs up.
    let mut begun = Box::pin(host.auth.set_disabled(ann.id, true));
    assert!((&mut begun).now_or_never().is_none());
    drop(begun);
    // Changes wait for one another.
    host.auth.create_role(name("any"), &[]).await.unwrap();
    assert_eq!(host.see(&token).unwrap_err(), Rejection::TokenRevoked);
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
        "exp",
        "jti",
        "roles",
        "generation",
    ] {
        assert!(!good_claims[claim].is_null(), "{claim}");
    }
    let jwks: serde_json::Value = serde_json::from_str(host.auth.jwks()).unwrap();
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
        let seen = host.auth.authenticate(authorization, api_key);
        assert_eq!(seen.unwrap_err(), expected, "{authorization:?} {api_key:?}");
    }
    assert_eq!(host.auth.authenticate(None, None).unwrap(), None);
}

#[tokio::test]
async fn an_api_key_opens_the_door_until_it_is_revoked_or_expires() {
    let mut host = Host::start().await;
    let new = |expires_at_ms| NewApiKey {
        name: "till".into(),
        roles: names(&[ADMIN]),
        expires_at_ms,
    };
    let lasting = host.auth.create_api_key(new(None)).await.unwrap();
    let short = host
        .auth
        .create_api_key(new(Some(START_MS + 1000)))
        .await
        .unwrap();
    host.restart().await;
    for token in [&lasting.token, &short.token] {
        let principal = host.auth.authenticate(None, Some(token)).unwrap().unwrap();
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
    assert_eq!(host.auth.list_api_keys().len(), 2);
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
        expires_at_ms: None,
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
        expires_at_ms: None,
    };
    let token = host.auth.create_api_key(new).await.unwrap().token;
    assert_eq!(host.auth.list_api_keys()[0].last_used_at_ms, None);
    host.see(&token).unwrap();
    host.clock.advance_ms(30_000);
    host.see(&token).unwrap();
    assert_eq!(
        host.auth.list_api_keys()[0].last_used_at_ms,
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
    assert_eq!(host.auth.list_api_keys()[0].last_used_at_ms, Some(START_MS));
}

#[tokio::test]
async fn the_first_start_gives_an_administrators_key_once() {
    let mut host = Host::start().await;
    let first = host.auth.ensure_admin().await.unwrap().unwrap();
    assert!(
        host.see(&first.token)
            .unwrap()
            .require_platform(PlatformPermission::Users)
            .is_ok()
    );
    assert!(!format!("{first:?}").contains(&first.token));
    host.restart().await;
    assert!(host.auth.ensure_admin().await.unwrap().is_none());
    // Locked out: the next start gives a new one.
    host.auth.revoke_api_key(first.key.id).await.unwrap();
    assert!(host.auth.ensure_admin().await.unwrap().is_some());
    for key in host.auth.list_api_keys() {
        host.auth.revoke_api_key(key.id).await.unwrap();
    }
    let ann = host.add_user("ann@example.org", &[ADMIN]).await;
    assert!(host.auth.ensure_admin().await.unwrap().is_none());
    host.auth.set_disabled(ann.id, true).await.unwrap();
    assert!(host.auth.ensure_admin().await.unwrap().is_some());
}

#[tokio::test]
async fn the_role_admin_stays_and_roles_are_checked() {
    let host = Host::start_with(|config| {
        config.roles_max = 3;
        config.permissions_per_role_max = 2;
        config.roles_per_principal_max = 1;
    })
    .await;
    let auth = &host.auth;
    let code = |result: Result<_, Error>| result.map(drop).unwrap_err().code();
    assert_eq!(
        code(auth.create_role(name(ADMIN), &[]).await),
        "auth.role_taken"
    );
    assert_eq!(
        code(auth.set_role_permissions(name(ADMIN), &[]).await),
        "auth.role_built_in"
    );
    assert_eq!(
        auth.delete_role(name(ADMIN)).await.unwrap_err().code(),
        "auth.role_built_in"
    );
    let slip = auth.create_role(name("a"), &["platform.dploy"]).await;
    assert_eq!(code(slip), "auth.permission_invalid");
    assert_eq!(
        code(auth.create_role(name("a"), &["p:a", "p:b", "p:c"]).await),
        "auth.too_many"
    );
    assert_eq!(
        code(auth.set_role_permissions(name("a"), &[]).await),
        "auth.role_not_found"
    );
    auth.create_role(name("a"), &["p:b", "p:a"]).await.unwrap();
    auth.create_role(name("b"), &[]).await.unwrap();
    assert_eq!(
        code(auth.create_role(name("c"), &[]).await),
        "auth.too_many"
    );
    let listed: Vec<_> = auth.list_roles().await.unwrap();
    let permissions = |at: usize| {
        listed[at]
            .permissions
            .iter()
            .map(|p| p.to_string())
            .collect()
    };
    assert_eq!(
        (listed[0].name.as_str(), permissions(0)),
        ("a", vec!["p:a".into(), "p:b".into()])
    );
    assert_eq!(
        (listed[1].name.as_str(), permissions(1)),
        (ADMIN, vec!["*".into()])
    );
    let both = auth.permissions_of(&names(&["a", "no-such-role", "b"]));
    assert_eq!(both.of_plugin(&"p".parse().unwrap()), ["a", "b"]);
    let ann = host.add_user("ann@example.org", &["a", "a"]).await;
    assert_eq!(ann.roles, names(&["a"]));
    let many = auth
        .set_user_roles(ann.id, names(&["a", "b"]))
        .await
        .unwrap_err();
    assert_eq!(many.code(), "auth.too_many");
}

#[tokio::test]
async fn guessing_is_slowed_for_known_and_unknown_accounts_alike_and_ends_by_itself() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    for email in ["ann@example.org", "nobody@example.org"] {
        for at in 0..5 {
            let client = format!("{email} {at}");
            let refused = host
                .auth
                .login(email, "wrong password", &client)
                .await
                .unwrap_err();
            assert!(matches!(refused, Error::CredentialsWrong), "{at}");
        }
        let refused = host
            .auth
            .login(email, PASSWORD, "new client")
            .await
            .unwrap_err();
        assert_eq!(refused.retry_after_s(), Some(1), "{email}");
        assert!(matches!(refused, Error::TooManyAttempts { .. }));
    }
    // The wait doubles with each further failure, up to five minutes, and never more.
    let mut waits = Vec::new();
    for at in 0..12 {
        host.clock
            .advance_ms(waits.last().copied().unwrap_or(1) * 1000);
        let client = format!("again {at}");
        let refused = host
            .auth
            .login("ann@example.org", "wrong password", &client)
            .await;
        assert!(matches!(refused, Err(Error::CredentialsWrong)));
        let refused = host
            .auth
            .login("ann@example.org", PASSWORD, "x")
            .await
            .unwrap_err();
        waits.push(u32::try_from(refused.retry_after_s().unwrap()).unwrap());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
    host.clock.advance_ms(300_000);
    host.auth
        .login("ann@example.org", PASSWORD, "x")
        .await
        .unwrap();
    // After a success, the count begins anew.
    let refused = host
        .auth
        .login("ann@example.org", "wrong password", "x")
        .await;
    assert!(matches!(refused, Err(Error::CredentialsWrong)));
    host.auth
        .login("ann@example.org", PASSWORD, "x")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_tries_many_accounts_is_slowed_and_others_are_not() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    for at in 0..20 {
        let email = format!("guess{at}@example.org");
        let refused = host
            .auth
            .login(&email, "wrong password", "192.0.2.66")
            .await;
        assert!(matches!(refused, Err(Error::CredentialsWrong)));
    }
    let refused = host
        .auth
        .login("ann@example.org", PASSWORD, "192.0.2.66")
        .await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })));
    host.auth
        .login("ann@example.org", PASSWORD, "192.0.2.1")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_crowd_of_guesses_at_once_gets_no_further_than_guesses_one_by_one() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let guess = async |at| {
        let client = format!("client {at}");
        host.auth
            .login("ann@example.org", "wrong password", &client)
            .await
            .unwrap_err()
            .code()
    };
    let codes = futures_util::future::join_all((0..50).map(guess)).await;
    let tried = codes
        .iter()
        .filter(|code| **code == "auth.credentials_wrong")
        .count();
    // Those hashing at the same time cannot see one another's failure.
    assert!((5..=6).contains(&tried), "{tried}");
}

#[tokio::test]
async fn when_too_many_wait_to_hash_the_next_is_told_to_come_back() {
    let host = Host::start_with(|config| {
        config.hash_concurrency_max = 1;
        config.hash_queue_max = 1;
    })
    .await;
    host.add_user("ann@example.org", &[]).await;
    let hashing = host.auth.inner.passwords.turn().await.unwrap();
    let mut waiting = Box::pin(host.auth.login("ann@example.org", PASSWORD, "x"));
    assert!((&mut waiting).now_or_never().is_none());
    let refused = host
        .auth
        .login("ann@example.org", PASSWORD, "x")
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Busy { retry_after_s: 2 }));
    // Who gives up leaves the queue.
    drop(waiting);
    let mut waiting = Box::pin(host.auth.login("ann@example.org", PASSWORD, "x"));
    assert!((&mut waiting).now_or_never().is_none());
    drop(hashing);
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_the_parameters_changed() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let hash = async |host: &Host| {
        let account = host
            .auth
            .inner
            .store
            .user_by_email("ann@example.org")
            .await
            .unwrap();
        account.unwrap().password_hash
    };
    let old = hash(&host).await;
    assert!(old.starts_with("$argon2id$v=19$m=16,t=1,p=1$"), "{old}");
    host.token_of("ann@example.org").await;
    assert_eq!(hash(&host).await, old);
    host.config.argon2_memory_kib = 32;
    host.restart().await;
    // Nobody's hash is as dear as everybody's, so an unknown account takes as long.
    assert!(
        host.auth
            .inner
            .passwords
            .nobody()
            .starts_with("$argon2id$v=19$m=32,t=1,p=1$")
    );
    let token = host.token_of("ann@example.org").await;
    assert!(
        hash(&host)
            .await
            .starts_with("$argon2id$v=19$m=32,t=1,p=1$")
    );
    assert!(host.see(&token).is_ok());
    host.token_of("ann@example.org").await;
}

#[test]
fn settings_that_would_be_unsafe_are_all_named() {
    assert!(Config::default().check().is_ok());
    let config = Config {
        access_token_minutes: 61,
        password_chars_min: 4,
        hash_concurrency_max: 0,
        argon2_memory_kib: 1,
        ..Config::default()
    };
    let message = config.check().unwrap_err().to_string();
    for field in [
        "access_token_minutes",
        "password_chars_min",
        "hash_concurrency_max",
        "argon2_",
    ] {
        assert!(message.contains(field), "{message}");
    }
    assert!(serde_json::from_str::<Config>(r#"{"acess_token_minutes": 5}"#).is_err());
}
