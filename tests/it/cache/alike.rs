//! Many who want the same at once.

use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_the_same_at_once_make_one_call() {
    let host = counted("{ ttl = \"60s\" }").await;
    let answers = join_all((0..50).map(|_| host.get("/counted/a?ms=300"))).await;
    let texts: std::collections::BTreeSet<String> = answers.iter().map(Answer::text).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(calls(&host).await, 1);
    let collapsed = answers
        .iter()
        .filter(|answer| status(answer).contains("collapsed"));
    assert!(collapsed.count() > 30);
    // Those who want something else do not wait for them.
    join_all((0..4).map(|n| {
        host.get(if n % 2 == 0 {
            "/counted/b?ms=50"
        } else {
            "/counted/c?ms=50"
        })
    }))
    .await;
    assert_eq!(calls(&host).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_one_call_fails_the_others_do_not_all_try() {
    let host = counted("{ ttl = \"60s\" }").await;
    let answers = join_all((0..50).map(|_| host.get("/counted/a?ms=300&fail=on"))).await;
    for answer in answers {
        let code = answer.code();
        assert!(
            ["plugin.failed", "cache.call_failed"].contains(&code.as_str()),
            "{code}"
        );
        answer.assert_status(502);
    }
    let calls = calls(&host).await;
    assert!(calls < 5, "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_answer_is_for_one_only_each_has_their_own() {
    let host = counted("{ ttl = \"60s\" }").await;
    let path = "/counted/a?ms=200&headers=set-cookie:a=b";
    let answers = join_all((0..10).map(|_| host.get(path))).await;
    let texts: std::collections::BTreeSet<String> = answers.iter().map(Answer::text).collect();
    assert_eq!(texts.len(), 10, "{texts:?}");
    // From now on nobody waits in vain for a moment.
    let began = std::time::Instant::now();
    join_all((0..10).map(|_| host.get(path))).await;
    assert!(began.elapsed().as_millis() < 1500, "{:?}", began.elapsed());
    assert_eq!(calls(&host).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_one_who_has_it_made_goes_away_another_takes_over() {
    let host = counted("{ ttl = \"60s\" }").await;
    let path = "/counted/a?ms=400";
    let lost = host.on_a_connection_of_its_own();
    let lost = async {
        let request = lost.request(Method::GET, path);
        let _ =
            tokio::time::timeout(std::time::Duration::from_millis(200), lost.send(request)).await;
    };
    let others = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        join_all((0..10).map(|_| host.get(path))).await
    };
    let ((), answers) = tokio::join!(lost, others);
    let texts: std::collections::BTreeSet<String> = answers.iter().map(Answer::text).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    for answer in answers {
        answer.assert_status(200);
    }
    assert!(calls(&host).await <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_wait_than_may() {
    let host = TestHost::build()
        .with(|config| config.cache.waiting_max = 3)
        .start()
        .await;
    let manifest = manifest("counted", "public", "{ ttl = \"60s\" }");
    host.deploy(&manifest, guest("counted")).await;
    let answers = join_all((0..20).map(|_| host.get("/counted/a?ms=500"))).await;
    let (served, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert!((4..20).contains(&served.len()), "{}", served.len());
    for answer in refused {
        answer.assert_problem(503, "host.saturated");
    }
    assert_eq!(calls(&host).await, 1);
}
