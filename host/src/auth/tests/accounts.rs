//! Users and roles: what can be made and changed, and that it counts at once.

use super::*;
use crate::auth::Behind;

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
        .log_in("ANN@EXAMPLE.ORG", PASSWORD, "x")
        .await
        .unwrap();
    assert_eq!((login.user, login.tokens.expires_in_s), (ann, 900));
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
        ..NewApiKey::default()
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
        .revoke_api_key(host.auth.list_api_keys().await.unwrap()[0].id)
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
async fn the_first_start_gives_an_administrators_key_once() {
    let mut host = Host::start().await;
    let first = host.auth.ensure_admin(|_| Ok(())).await.unwrap().unwrap();
    assert!(
        host.see(&first.token)
            .unwrap()
            .require_platform(PlatformPermission::Users)
            .is_ok()
    );
    assert!(!format!("{first:?}").contains(&first.token));
    host.restart().await;
    assert!(host.auth.ensure_admin(|_| Ok(())).await.unwrap().is_none());
    // Locked out: the next start gives a new one.
    host.auth.revoke_api_key(first.key.id).await.unwrap();
    assert!(host.auth.ensure_admin(|_| Ok(())).await.unwrap().is_some());
    for key in host.auth.list_api_keys().await.unwrap() {
        host.auth.revoke_api_key(key.id).await.unwrap();
    }
    let ann = host.add_user("ann@example.org", &[ADMIN]).await;
    assert!(host.auth.ensure_admin(|_| Ok(())).await.unwrap().is_none());
    host.auth.set_disabled(ann.id, true).await.unwrap();
    assert!(host.auth.ensure_admin(|_| Ok(())).await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_of_the_administrator_that_could_not_be_kept_does_not_count() {
    let host = Host::start().await;
    let full = || std::io::Error::other("the disk is full");
    let failed = host.auth.ensure_admin(move |_| Err(full())).await;
    assert!(matches!(failed, Err(Error::AdminKey(_))), "{failed:?}");
    assert!(host.auth.list_api_keys().await.unwrap().is_empty());
    assert!(host.auth.ensure_admin(|_| Ok(())).await.unwrap().is_some());
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
    let issuer = |name: &str, audience: &str| {
        json!({
            "issuer": format!("https://{name}.example"), "audience": audience,
            "jwks_url": "https://login.example/keys",
        })
    };
    let with = |issuers: serde_json::Value| Config {
        issuers: serde_json::from_value(issuers).unwrap(),
        ..Config::default()
    };
    let two = with(json!([issuer("login", "shop"), issuer("other", "shop")]));
    assert!(two.check().is_ok());
    // The second one would never be asked.
    let twice = with(json!([issuer("login", "shop"), issuer("login", "bank")]));
    let message = twice.check().unwrap_err().to_string();
    assert!(message.contains("the same `issuer`"), "{message}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_nothing_else_and_lets_nobody_in() {
    let host = Host::start().await;
    let ann = host.add_user("ann@example.com", &[]).await;
    let bob = host.add_user("bob@example.com", &[]).await;
    let anns = host.token_of("ann@example.com").await;
    let bobs = host.token_of("bob@example.com").await;
    for query in [
        // As a later release might write them.
        "UPDATE users SET roles = '{}' WHERE email = 'ann@example.com'",
        "INSERT INTO roles VALUES ('watcher', '{}', 0, 0)",
        "UPDATE users SET is_disabled = 1 WHERE email = 'bob@example.com'",
    ] {
        sqlx::query(query).execute(host.db.writer()).await.unwrap();
    }
    let told = [
        (1, "role.set", "watcher".to_owned()),
        (2, "user.roles_set", ann.id.to_string()),
        (3, "user.disabled", bob.id.to_string()),
    ];
    let told = told.map(|(number, action, target)| (number, action.to_owned(), target));
    let mut behind = Behind::default();
    behind.add(&told);
    for _ in 0..2 {
        let caught_up = host.auth.catch_up(&mut behind).await;
        assert!(matches!(caught_up, Err(Error::Corrupt { .. })));
        for token in [&anns, &bobs] {
            assert_eq!(host.see(token).unwrap_err(), Rejection::TokenRevoked);
        }
    }
    for query in [
        "UPDATE users SET roles = '[]' WHERE email = 'ann@example.com'",
        "DELETE FROM roles WHERE name = 'watcher'",
    ] {
        sqlx::query(query).execute(host.db.writer()).await.unwrap();
    }
    // Without another event.
    host.auth.catch_up(&mut behind).await.unwrap();
    host.see(&anns).unwrap();
    assert_eq!(host.see(&bobs).unwrap_err(), Rejection::TokenRevoked);
}
