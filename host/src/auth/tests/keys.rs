//! What API keys are narrowed to, how their secrets change, and the accounts of programs that own them.

use super::*;
use crate::auth::{Behind, Rotation};

const DAY_MS: i64 = 24 * 3_600_000;

fn new(roles: &[&str]) -> NewApiKey {
    NewApiKey {
        name: "till".to_owned(),
        roles: names(roles),
        ..NewApiKey::default()
    }
}

#[tokio::test]
async fn a_key_counts_only_from_its_networks() {
    let mut host = Host::start().await;
    let key = NewApiKey {
        networks: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ],
        ..new(&[ADMIN])
    };
    let token = host.auth.create_api_key(key).await.unwrap().token;
    host.restart().await;
    for (from, is_fine) in [
        (Some("192.0.2.77"), true),
        (Some("2001:db8::1"), true),
        (Some("::ffff:192.0.2.1"), true),
        (Some("198.51.100.1"), false),
        (Some("2001:db9::1"), false),
        (None, false),
    ] {
        let from = from.map(|from| from.parse().unwrap());
        let seen = host.auth.authenticate(None, Some(&token), from);
        match is_fine {
            true => assert!(seen.unwrap().is_some(), "{from:?}"),
            false => assert_eq!(seen.unwrap_err(), Rejection::KeyElsewhere, "{from:?}"),
        }
    }
    // Who does not have the secret learns nothing of the networks.
    let wrong = super::super::api_keys::token_of(token[..19].parse().unwrap(), &[0; 32]);
    let seen = host
        .auth
        .authenticate(None, Some(&wrong), Some([198, 51, 100, 1].into()));
    assert_eq!(seen.unwrap_err(), Rejection::KeyUnknown);
}

#[tokio::test]
async fn scopes_narrow_what_roles_give_also_when_roles_change() {
    let host = Host::start().await;
    let clerk: RoleName = "clerk".parse().unwrap();
    let permissions = ["shop:read", "shop:write", "platform.read"];
    host.auth
        .create_role(clerk.clone(), &permissions)
        .await
        .unwrap();
    let key = NewApiKey {
        scopes: ["shop:read", "platform.deploy"]
            .iter()
            .map(|scope| scope.parse().unwrap())
            .collect(),
        ..new(&["clerk"])
    };
    let token = host.auth.create_api_key(key).await.unwrap().token;
    assert_eq!(host.see(&token).unwrap().permissions.texts(), ["shop:read"]);
    let more = ["shop:read", "platform.deploy", "platform.read"];
    host.auth
        .set_role_permissions(clerk.clone(), &more)
        .await
        .unwrap();
    let seen = host.see(&token).unwrap();
    assert_eq!(seen.permissions.texts(), ["platform.deploy", "shop:read"]);
    host.auth
        .set_role_permissions(clerk, &["platform.read"])
        .await
        .unwrap();
    assert_eq!(host.see(&token).unwrap().permissions.texts(), [""; 0]);
}

#[tokio::test]
async fn two_secrets_count_for_a_while_and_never_three() {
    let mut host = Host::start().await;
    let first = host.auth.create_api_key(new(&[ADMIN])).await.unwrap();
    let id = first.key.id;
    let second = host.auth.rotate_api_key(id, Some(3600)).await.unwrap();
    assert_ne!(first.token, second.token);
    assert_eq!(
        &first.token[..19],
        &second.token[..19],
        "it is the same key"
    );
    host.restart().await;
    assert!(host.see(&first.token).is_ok() && host.see(&second.token).is_ok());
    // Who has found the old one cannot take the key over.
    let taken = host.auth.rotate_own_key(&first.token).await.unwrap_err();
    assert_eq!(taken.code(), "auth.api_key_not_current");
    let third = host.auth.rotate_own_key(&second.token).await.unwrap();
    assert_eq!(host.see(&first.token).unwrap_err(), Rejection::KeyUnknown);
    assert!(host.see(&second.token).is_ok() && host.see(&third.token).is_ok());
    host.clock.advance_ms(24 * 3_600_000);
    assert_eq!(host.see(&second.token).unwrap_err(), Rejection::KeyExpired);
    assert!(host.see(&third.token).is_ok());
    // At once, for one that was stolen.
    let fourth = host.auth.rotate_api_key(id, Some(0)).await.unwrap();
    assert_eq!(host.see(&third.token).unwrap_err(), Rejection::KeyExpired);
    host.auth.revoke_api_key(id).await.unwrap();
    assert_eq!(host.see(&fourth.token).unwrap_err(), Rejection::KeyRevoked);
    assert!(matches!(
        host.auth.rotate_api_key(id, None).await,
        Err(Error::ApiKeyNotFound)
    ));
}

#[tokio::test]
async fn a_secret_that_is_not_changed_in_time_ends() {
    let host = Host::start().await;
    let key = NewApiKey {
        rotation: Rotation {
            every_days: 30,
            overlap_s: Some(7 * 24 * 3600),
        },
        ..new(&[ADMIN])
    };
    let created = host.auth.create_api_key(key).await.unwrap();
    assert_eq!(created.key.rotation_due_ms(), Some(START_MS + 30 * DAY_MS));
    host.clock.set_ms(START_MS + 37 * DAY_MS - 1);
    assert!(host.see(&created.token).is_ok());
    let next = host.auth.rotate_own_key(&created.token).await.unwrap();
    host.clock.set_ms(START_MS + 37 * DAY_MS);
    assert!(
        host.see(&created.token).is_ok(),
        "the one before counts as long as the key says"
    );
    host.clock.set_ms(START_MS + 80 * DAY_MS);
    assert_eq!(host.see(&next.token).unwrap_err(), Rejection::KeyExpired);
    // An administrator can mend that.
    let again = host
        .auth
        .rotate_api_key(created.key.id, Some(0))
        .await
        .unwrap();
    assert!(host.see(&again.token).is_ok());
}

#[tokio::test]
async fn the_keys_of_a_service_account_follow_it() {
    let mut host = Host::start().await;
    let reader: RoleName = "reader".parse().unwrap();
    host.auth
        .create_role(reader.clone(), &["platform.read"])
        .await
        .unwrap();
    let roles = vec![reader.clone()];
    let account = host
        .auth
        .create_service_account("billing".to_owned(), roles)
        .await
        .unwrap();
    let taken = host
        .auth
        .create_service_account("billing".to_owned(), vec![])
        .await;
    assert_eq!(taken.unwrap_err().code(), "auth.service_account_taken");
    let of_account = || NewApiKey {
        service_account: Some(account.id),
        ..new(&[])
    };
    let with_roles = NewApiKey {
        roles: vec![reader.clone()],
        ..of_account()
    };
    let refused = host.auth.create_api_key(with_roles).await.unwrap_err();
    assert_eq!(refused.code(), "auth.api_key_roles_invalid");
    let one = host.auth.create_api_key(of_account()).await.unwrap();
    let other = host.auth.create_api_key(of_account()).await.unwrap();
    host.restart().await;
    let seen = host.see(&one.token).unwrap();
    assert_eq!(
        (seen.kind.as_str(), &*seen.name),
        ("service-account", "billing")
    );
    assert_eq!(seen.id, account.id.to_string());
    assert_eq!(
        host.see(&other.token).unwrap().id,
        seen.id,
        "one principal, several keys"
    );
    assert_eq!(seen.permissions.texts(), ["platform.read"]);
    assert!(matches!(
        host.auth.delete_role(reader).await,
        Err(Error::RoleInUse(_))
    ));
    host.auth
        .set_service_account(account.id, Some(names(&[ADMIN])), None)
        .await
        .unwrap();
    assert_eq!(host.see(&one.token).unwrap().permissions.texts(), ["*"]);
    host.auth
        .set_service_account(account.id, None, Some(true))
        .await
        .unwrap();
    assert_eq!(host.see(&one.token).unwrap_err(), Rejection::KeyRevoked);
    host.auth
        .set_service_account(account.id, None, Some(false))
        .await
        .unwrap();
    assert!(host.see(&one.token).is_ok());
    host.auth.delete_service_account(account.id).await.unwrap();
    for token in [&one.token, &other.token] {
        assert_eq!(host.see(token).unwrap_err(), Rejection::KeyRevoked);
    }
    host.restart().await;
    assert_eq!(host.see(&one.token).unwrap_err(), Rejection::KeyRevoked);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_the_latest_that_any_host_has_seen() {
    let host = Host::start().await;
    let made = host.auth.create_api_key(new(&[ADMIN])).await.unwrap();
    let shown = async || host.auth.list_api_keys().await.unwrap()[0].last_used_at_ms;
    let store = &host.auth.inner.store;
    let caught_up = async || {
        let everything = &mut Behind::everything();
        host.auth.catch_up(everything).await.unwrap();
    };
    // As another host writes it.
    store.touch_key(made.key.id, START_MS + 5000).await.unwrap();
    caught_up().await;
    assert_eq!(shown().await, Some(START_MS + 5000));
    // One that was slower, or whose clock is behind.
    store.touch_key(made.key.id, START_MS + 1000).await.unwrap();
    let row = store.all_keys().await.unwrap().remove(0);
    assert_eq!(row.key.last_used_at_ms, Some(START_MS + 5000));
    // What this one has seen meanwhile is not lost.
    host.clock.advance_ms(9000);
    host.see(&made.token).unwrap();
    caught_up().await;
    assert_eq!(shown().await, Some(START_MS + 9000));
}
