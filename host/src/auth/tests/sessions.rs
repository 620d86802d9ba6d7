//! Sessions: exchanging refresh tokens, copying them, and ending what was begun.

use super::*;
use crate::auth::{Client, Tokens};
use crate::db;
use crate::ledger::{Filter, Ledger, find};

const DAY_MS: u32 = 24 * 3_600_000;

impl Host {
    async fn log_in(&self, email: &str) -> Tokens {
        let login = self.auth.log_in(email, PASSWORD, "192.0.2.1").await;
        login.unwrap().tokens
    }
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_the_next_one_and_an_access_token() {
    let mut host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[ADMIN]).await;
    let first = host.log_in("ann@example.org").await;
    assert!(first.refresh_token.starts_with("gr_"));
    assert_eq!(first.refresh_expires_in_s, 7 * 24 * 3600);
    let mut tokens = first.clone();
    for _ in 0..5 {
        host.clock.advance_ms(20 * 60_000);
        assert_eq!(
            host.see(&tokens.access_token).unwrap_err(),
            Rejection::TokenExpired
        );
        let next = host.auth.refresh(&tokens.refresh_token).await.unwrap();
        assert_ne!(next.refresh_token, tokens.refresh_token);
        assert_eq!(next.session, first.session);
        assert_eq!(host.see(&next.access_token).unwrap().id, ann.id.to_string());
        tokens = next;
        host.restart().await;
    }
    if db::testing::is_on_server() {
        return;
    }
    // Whoever reads the rows finds neither.
    let rows = std::fs::read(host.folder.path().join("rows")).unwrap();
    let wal = std::fs::read(host.folder.path().join("rows-wal")).unwrap();
    for secret in [&first.refresh_token, &tokens.refresh_token] {
        let secret = secret.as_bytes();
        for bytes in [&rows, &wal] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_exchanges_at_once_all_give_one_successor_and_nobody_is_logged_out() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let first = host.log_in("ann@example.org").await;
    let tries = (0..50).map(|_| host.auth.refresh(&first.refresh_token));
    let mut successors = std::collections::BTreeSet::new();
    for tokens in futures_util::future::join_all(tries).await {
        let tokens = tokens.unwrap();
        assert!(host.see(&tokens.access_token).is_ok());
        successors.insert(tokens.refresh_token);
    }
    assert_eq!(successors.len(), 1);
    let successor = successors.first().unwrap();
    let next = host.auth.refresh(successor).await.unwrap();
    // Also one that was late and comes after the next exchange.
    let late = host.auth.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(&late.refresh_token, successor);
    assert!(host.see(&next.access_token).is_ok());
}

#[tokio::test]
async fn who_lost_the_answer_may_ask_again_for_a_while_also_after_a_restart() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let first = host.log_in("ann@example.org").await;
    let second = host.auth.refresh(&first.refresh_token).await.unwrap();
    host.clock.advance_ms(9_000);
    let again = host.auth.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token);
    host.restart().await;
    host.clock.advance_ms(1_000);
    let again = host.auth.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token);
    host.auth.refresh(&second.refresh_token).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_its_session_and_no_other() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let other = host.log_in("ann@example.org").await;
    let first = host.log_in("ann@example.org").await;
    let second = host.auth.refresh(&first.refresh_token).await.unwrap();
    let third = host.auth.refresh(&second.refresh_token).await.unwrap();
    host.clock.advance_ms(10_001);
    let refused = host.auth.refresh(&first.refresh_token).await;
    assert!(matches!(refused, Err(Error::RefreshReused)));
    for dead in [&first, &second, &third] {
        let seen = host.see(&dead.access_token);
        assert_eq!(seen.unwrap_err(), Rejection::TokenRevoked);
        let refused = host.auth.refresh(&dead.refresh_token).await;
        assert!(matches!(refused, Err(Error::RefreshInvalid)));
    }
    assert!(host.see(&other.access_token).is_ok());
    assert!(host.auth.refresh(&other.refresh_token).await.is_ok());
}

#[tokio::test]
async fn what_is_no_refresh_token_ends_nothing_and_opens_nothing() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[ADMIN]).await;
    let tokens = host.log_in("ann@example.org").await;
    let elsewhere = Host::start().await;
    elsewhere.add_user("ann@example.org", &[]).await;
    let foreign = elsewhere.log_in("ann@example.org").await.refresh_token;
    let mut forged = tokens.refresh_token.clone().into_bytes();
    // The session stays, its secret does not.
    forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let long = "g".repeat(1_000_000);
    for text in ["", "gr_", &forged, &foreign, &tokens.access_token, &long] {
        let refused = host.auth.refresh(text).await;
        assert!(matches!(refused, Err(Error::RefreshInvalid)));
        host.auth.log_out(text).await.unwrap();
    }
    // A refresh token opens no route.
    let seen = host.see(&tokens.refresh_token);
    assert_eq!(seen.unwrap_err(), Rejection::Malformed);
    assert!(host.see(&tokens.access_token).is_ok());
    assert!(host.auth.refresh(&tokens.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_and_in_any_case_after_its_time() {
    let mut host = Host::start_with(|config| {
        config.session_days = 3;
        config.session_idle_hours = 24;
    })
    .await;
    host.add_user("ann@example.org", &[]).await;
    let idle = host.log_in("ann@example.org").await;
    let mut busy = host.log_in("ann@example.org").await;
    host.clock.advance_ms(DAY_MS - 1);
    busy = host.auth.refresh(&busy.refresh_token).await.unwrap();
    host.clock.advance_ms(1);
    let refused = host.auth.refresh(&idle.refresh_token).await;
    assert!(matches!(refused, Err(Error::SessionEnded)));
    host.clock.advance_ms(DAY_MS - 2);
    busy = host.auth.refresh(&busy.refresh_token).await.unwrap();
    host.clock.advance_ms(DAY_MS - 60_000);
    busy = host.auth.refresh(&busy.refresh_token).await.unwrap();
    // Neither token is good longer than the session.
    assert_eq!((busy.expires_in_s, busy.refresh_expires_in_s), (60, 60));
    host.clock.advance_ms(60_002);
    let refused = host.auth.refresh(&busy.refresh_token).await;
    assert!(matches!(refused, Err(Error::SessionEnded)));
    host.clock.advance_ms(DAY_MS);
    host.auth.sweep().await.unwrap();
    let refused = host.auth.refresh(&busy.refresh_token).await;
    assert!(matches!(refused, Err(Error::RefreshInvalid)));
    host.restart().await;
    host.log_in("ann@example.org").await;
}

#[tokio::test]
async fn ending_a_session_counts_at_once_also_after_a_restart() {
    let mut host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    let bob = host.add_user("bob@example.org", &[]).await;
    let (first, second, third) = (
        host.log_in("ann@example.org").await,
        host.log_in("ann@example.org").await,
        host.log_in("ann@example.org").await,
    );
    for tokens in [&first, &second, &third] {
        assert!(host.see(&tokens.access_token).is_ok());
    }
    let listed = host.auth.list_sessions(ann.id).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert!(host.auth.list_sessions(bob.id).await.unwrap().is_empty());
    // Nobody ends the session of somebody else.
    let refused = host.auth.end_session(bob.id, first.session).await;
    assert!(matches!(refused, Err(Error::SessionNotFound)));

    host.auth.end_session(ann.id, first.session).await.unwrap();
    let seen = host.see(&first.access_token);
    assert_eq!(seen.unwrap_err(), Rejection::TokenRevoked);
    host.auth.log_out(&second.refresh_token).await.unwrap();
    host.restart().await;
    for ended in [&first, &second] {
        let seen = host.see(&ended.access_token);
        assert_eq!(seen.unwrap_err(), Rejection::TokenRevoked);
        let refused = host.auth.refresh(&ended.refresh_token).await;
        assert!(matches!(refused, Err(Error::RefreshInvalid)));
    }
    assert!(host.see(&third.access_token).is_ok());
    let fourth = host.log_in("ann@example.org").await;
    let count = host.auth.end_sessions(ann.id, Some(fourth.session)).await;
    assert_eq!(count.unwrap(), 1);
    assert!(host.see(&third.access_token).is_err());
    assert!(host.see(&fourth.access_token).is_ok());
}

#[tokio::test]
async fn a_change_of_the_account_ends_its_sessions() {
    let host = Host::start().await;
    let ann = host.add_user("ann@example.org", &[]).await;
    for step in ["password", "disable", "delete"] {
        let tokens = host.log_in("ann@example.org").await;
        match step {
            "password" => host.auth.set_password(ann.id, PASSWORD).await.unwrap(),
            "disable" => {
                host.auth.set_disabled(ann.id, true).await.unwrap();
                host.auth.set_disabled(ann.id, false).await.unwrap();
            }
            _ => host.auth.delete_user(ann.id).await.unwrap(),
        }
        let refused = host.auth.refresh(&tokens.refresh_token).await;
        assert!(matches!(refused, Err(Error::RefreshInvalid)), "{step}");
        assert!(host.auth.list_sessions(ann.id).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_user_has_so_many_sessions_and_the_idlest_goes() {
    let host = Host::start_with(|config| config.sessions_per_user_max = 3).await;
    let ann = host.add_user("ann@example.org", &[]).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        host.clock.advance_ms(1000);
        begun.push(host.log_in("ann@example.org").await);
    }
    host.clock.advance_ms(20_000);
    host.auth.refresh(&begun[0].refresh_token).await.unwrap();
    let agent = format!("Browser\r\n{}", "x".repeat(1000));
    let client = Client {
        network: "192.0.2.2".to_owned(),
        agent,
    };
    let newest = host.auth.log_in("ann@example.org", PASSWORD, client).await;
    let listed = host.auth.list_sessions(ann.id).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|session| session.id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(&newest.unwrap().tokens.session));
    assert!(!ids.contains(&begun[1].session));
    assert!(host.see(&begun[1].access_token).is_err());
    assert!(host.see(&begun[2].access_token).is_ok());
    let newest = listed.iter().find(|session| session.client == "192.0.2.2");
    let agent = &newest.unwrap().agent;
    assert!(
        agent.starts_with("Browserx") && agent.len() == 200,
        "{agent}"
    );
}

#[tokio::test]
async fn a_token_of_the_future_is_refused_until_then() {
    let host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let tokens = host.log_in("ann@example.org").await;
    host.clock.set_ms(START_MS - 6_000);
    let seen = host.see(&tokens.access_token);
    assert_eq!(seen.unwrap_err(), Rejection::TokenInvalid);
    // Clocks of other nodes differ a little.
    host.clock.set_ms(START_MS - 4_000);
    assert!(host.see(&tokens.access_token).is_ok());
}

#[tokio::test]
async fn why_a_copied_session_has_ended_is_written_with_its_end() {
    let mut host = Host::start().await;
    // Nobody reads what is noted to be written later.
    let (ledger, _notes) = Ledger::new(&[0; 32], host.clock.clone(), 1000, 1);
    host.db = host.db.clone().with_ledger(ledger);
    host.restart().await;
    host.add_user("ann@example.com", &[]).await;
    let stolen = host.log_in("ann@example.com").await.refresh_token;
    host.auth.refresh(&stolen).await.unwrap();
    host.clock.advance_ms(host.config.refresh_grace_ms + 1);
    for _ in 0..2 {
        let again = host.auth.refresh(&stolen).await;
        assert!(matches!(
            again,
            Err(Error::RefreshReused | Error::RefreshInvalid)
        ));
    }
    let filter = Filter {
        limit: 2,
        ..Filter::default()
    };
    let last = find(host.db.reader(), &filter).await.unwrap();
    let actions: Vec<&str> = last.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["session.ended", "refresh_token.reused"]);
}

#[tokio::test]
async fn tokens_that_were_made_to_live_longer_end_when_what_was_revoked_is_forgotten() {
    let mut host = Host::start().await;
    host.add_user("ann@example.org", &[]).await;
    let tokens = host.log_in("ann@example.org").await;
    let other = host.log_in("ann@example.org").await;
    host.auth.log_out(&tokens.refresh_token).await.unwrap();
    host.config.access_token_minutes = 5;
    host.restart().await;
    let refused = host.see(&tokens.access_token).unwrap_err();
    assert_eq!(refused, Rejection::TokenRevoked);
    assert!(host.see(&other.access_token).is_ok());
    // Of the first session nobody knows any more that it was ended.
    host.clock.advance_ms(6 * 60_000);
    host.restart().await;
    for tokens in [&tokens, &other] {
        let refused = host.see(&tokens.access_token).unwrap_err();
        assert_eq!(refused, Rejection::TokenExpired);
    }
}
