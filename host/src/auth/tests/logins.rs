//! Logging in, and guessing.

use super::*;

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
        let refused = host.auth.log_in(email, password, email).await.unwrap_err();
        assert!(matches!(refused, Error::CredentialsWrong), "{email}");
    }
    host.auth.set_disabled(ann.id, true).await.unwrap();
    let wrong = host
        .auth
        .log_in("ann@example.org", "wrong password", "x")
        .await
        .unwrap_err();
    assert!(matches!(wrong, Error::CredentialsWrong));
    let right = host
        .auth
        .log_in("ann@example.org", PASSWORD, "x")
        .await
        .unwrap_err();
    assert!(matches!(right, Error::AccountDisabled));
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
                .log_in(email, "wrong password", &client)
                .await
                .unwrap_err();
            assert!(matches!(refused, Error::CredentialsWrong), "{at}");
        }
        let refused = host
            .auth
            .log_in(email, PASSWORD, "new client")
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
            .log_in("ann@example.org", "wrong password", &client)
            .await;
        assert!(matches!(refused, Err(Error::CredentialsWrong)));
        let refused = host
            .auth
            .log_in("ann@example.org", PASSWORD, "x")
            .await
            .unwrap_err();
        waits.push(u32::try_from(refused.retry_after_s().unwrap()).unwrap());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
    host.clock.advance_ms(300_000);
    host.auth
        .log_in("ann@example.org", PASSWORD, "x")
        .await
        .unwrap();
    // After a success, the count begins anew.
    let refused = host
        .auth
        .log_in("ann@example.org", "wrong password", "x")
        .await;
    assert!(matches!(refused, Err(Error::CredentialsWrong)));
    host.auth
        .log_in("ann@example.org", PASSWORD, "x")
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
            .log_in(&email, "wrong password", "192.0.2.66")
            .await;
        assert!(matches!(refused, Err(Error::CredentialsWrong)));
    }
    let refused = host
        .auth
        .log_in("ann@example.org", PASSWORD, "192.0.2.66")
        .await;
    assert!(matches!(refused, Err(Error::TooManyAttempts { .. })));
    host.auth
        .log_in("ann@example.org", PASSWORD, "192.0.2.1")
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
            .log_in("ann@example.org", "wrong password", &client)
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
    let mut waiting = Box::pin(host.auth.log_in("ann@example.org", PASSWORD, "x"));
    assert!((&mut waiting).now_or_never().is_none());
    let refused = host
        .auth
        .log_in("ann@example.org", PASSWORD, "x")
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Busy { retry_after_s: 2 }));
    // Who gives up leaves the queue.
    drop(waiting);
    let mut waiting = Box::pin(host.auth.log_in("ann@example.org", PASSWORD, "x"));
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

#[tokio::test]
async fn strangers_who_guess_do_not_keep_out_who_logged_in_from_the_same_place_before() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let log_in = async |password: &str, client: &str| {
        let login = host.auth.log_in("ann@example.org", password, client);
        login.await.map(drop)
    };
    log_in(PASSWORD, "home").await.unwrap();
    for at in 0..5 {
        log_in("wrong password", &format!("stranger {at}"))
            .await
            .unwrap_err();
    }
    for client in ["stranger", "elsewhere"] {
        let refused = log_in(PASSWORD, client).await.unwrap_err();
        assert!(
            matches!(refused, Error::TooManyAttempts { .. }),
            "{client}: {refused}"
        );
    }
    log_in(PASSWORD, "home").await.unwrap();
    let refused = log_in(PASSWORD, "stranger").await.unwrap_err();
    assert!(
        matches!(refused, Error::TooManyAttempts { .. }),
        "the owner's login does not give strangers new guesses"
    );
    // From there guessing is slowed as well.
    for _ in 0..5 {
        log_in("wrong password", "home").await.unwrap_err();
    }
    let refused = log_in(PASSWORD, "home").await.unwrap_err();
    assert!(matches!(refused, Error::TooManyAttempts { .. }));
}
