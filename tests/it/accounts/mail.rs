//! The outbox: what was put there arrives, whatever becomes of the mail server and the host meanwhile.

use std::{collections::BTreeSet, path::Path, time::Duration};

use gantry::{auth::Registration, mail::Tls};
use gantry_harness::SmtpServer;

use super::*;

async fn host_with(server: &SmtpServer) -> TestHost {
    TestHost::build()
        .with(|config| {
            server.serve(config);
            config.auth.registration = Registration::Confirmed;
            config.auth.even_answer_ms = 0;
        })
        .start()
        .await
}

async fn register(host: &TestHost, name: &str) {
    let email = format!("{name}@example.org");
    let body = json!({ "email": email, "password": PASSWORD });
    host.post("/api/auth/register", &body)
        .await
        .assert_status(202);
}

/// To whom mail has come, each once: a server that dies after it has taken a message gets it again.
fn names(mails: &[gantry_harness::Mail]) -> BTreeSet<String> {
    mails.iter().map(|mail| mail.to.clone()).collect()
}

async fn wait_for_all(server: &SmtpServer, count: usize) -> BTreeSet<String> {
    for at_least in count.. {
        let names = names(&server.wait_for(at_least).await);
        if names.len() >= count {
            return names;
        }
    }
    unreachable!("the wait has an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_dies_in_the_middle_loses_nothing_and_needs_no_restart_of_ours() {
    let Some(mut server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server).await;
    for at in 0..5 {
        register(&host, &format!("before-{at}")).await;
    }
    server.wait_for(2).await;
    server.die().await;
    for at in 0..10 {
        register(&host, &format!("during-{at}")).await;
    }
    assert!(host.app().mail.count_waiting().await.unwrap() >= 10);
    server.go_on().await;
    for at in 0..5 {
        register(&host, &format!("after-{at}")).await;
    }
    let names = wait_for_all(&server, 20).await;
    assert_eq!(names.len(), 20);
    // And the outbox is empty.
    let began = std::time::Instant::now();
    while host.app().mail.count_waiting().await.unwrap() > 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_waits_outlives_a_restart_and_lies_in_the_rows_sealed() {
    let Some(mut server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server).await;
    server.die().await;
    for at in 0..3 {
        register(&host, &format!("waiting-{at}")).await;
    }
    let host = host.restart_with(|| ()).await;
    for name in ["gantry.db", "gantry.db-wal"] {
        let bytes = std::fs::read(host.data_dir().join(name)).unwrap_or_default();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!has(b"gc_"), "a code lies in {name}");
    }
    server.go_on().await;
    assert_eq!(wait_for_all(&server, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_has_a_bound_and_what_does_not_fit_harms_nobody() {
    let Some(mut server) = SmtpServer::start().await else {
        return;
    };
    let host = TestHost::build()
        .with(|config| {
            server.serve(config);
            config.auth.registration = Registration::Confirmed;
            config.auth.even_answer_ms = 0;
            config.mail.waiting_max = 3;
        })
        .start()
        .await;
    server.die().await;
    for at in 0..6 {
        register(&host, &format!("many-{at}")).await;
    }
    assert_eq!(host.app().mail.count_waiting().await.unwrap(), 3);
    server.go_on().await;
    assert_eq!(wait_for_all(&server, 3).await.len(), 3);
    register(&host, "later").await;
    assert_eq!(wait_for_all(&server, 4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_only_to_a_server_that_shows_the_right_certificate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("accounts");
    let (cert, key) = (folder.join("mail.crt"), folder.join("mail.key"));
    let options = [
        "--tlscert",
        cert.to_str().unwrap(),
        "--tlskey",
        key.to_str().unwrap(),
    ];
    let Some(server) = SmtpServer::start_with(&options).await else {
        return;
    };
    for is_trusted in [false, true] {
        let host = TestHost::build()
            .with(|config| {
                server.serve(config);
                config.mail.tls = Tls::Starttls;
                config.mail.ca_file = is_trusted.then(|| cert.clone());
                config.auth.registration = Registration::Confirmed;
            })
            .start()
            .await;
        register(&host, "ann").await;
        if is_trusted {
            server.wait_for(1).await;
        } else {
            tokio::time::sleep(Duration::from_millis(700)).await;
            assert_eq!(host.app().mail.count_waiting().await.unwrap(), 1);
            assert!(server.arrived().is_empty());
        }
    }
}
