use super::*;
use crate::db;

async fn keys(dir: &tempfile::TempDir, config: Config) -> (Idempotency, Clock) {
    let db = db::testing::open(dir.path()).await;
    let clock = Clock::manual(1_000_000);
    (Idempotency::new(db, clock.clone(), config), clock)
}

fn shop() -> PluginName {
    "shop".parse().unwrap()
}

async fn begin(keys: &Idempotency, id: &str, fingerprint: &str) -> Verdict {
    begin_as(keys, "ann", id, fingerprint).await
}

async fn begin_as(keys: &Idempotency, caller: &str, id: &str, fingerprint: &str) -> Verdict {
    let plugin = shop();
    let asked = Asked {
        plugin: &plugin,
        caller,
        is_stranger: caller.starts_with("address"),
        id: id.to_owned(),
        fingerprint: fingerprint.to_owned(),
        time: Duration::from_secs(30),
    };
    keys.begin(&asked).await.unwrap()
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_static("1"));
    headers.append("x-a", HeaderValue::from_bytes(b"\xff\x80").unwrap());
    headers
}

#[tokio::test]
async fn a_request_is_done_once_and_its_answer_comes_back_for_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, clock) = keys(&dir, Config::default()).await;
    let Verdict::Do(claim) = begin(&keys, "one", "f").await else {
        panic!("it is the first");
    };
    assert!(matches!(
        begin(&keys, "one", "f").await,
        Verdict::InProgress(_)
    ));
    assert!(matches!(begin(&keys, "one", "g").await, Verdict::Reused));
    assert!(
        matches!(begin(&keys, "two", "g").await, Verdict::Do(_)),
        "another key"
    );
    let body = Bytes::from_static(b"\0made");
    claim.settle(201, Some((&headers(), &body))).await;
    clock.advance_ms(86_399_000);
    let Verdict::Done(outcome) = begin(&keys, "one", "f").await else {
        panic!("it was done");
    };
    let expected = Outcome {
        status: 201,
        headers: headers(),
        body,
    };
    assert_eq!(outcome, expected);
    assert!(matches!(begin(&keys, "one", "g").await, Verdict::Reused));
    clock.advance_ms(1_000);
    keys.sweep().await.unwrap();
    assert!(matches!(begin(&keys, "one", "g").await, Verdict::Do(_)));
}

#[tokio::test]
async fn who_is_gone_holds_a_request_until_its_time_is_over_and_cannot_settle_it_then() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, clock) = keys(&dir, Config::default()).await;
    let Verdict::Do(late) = begin(&keys, "one", "f").await else {
        panic!("it is the first");
    };
    clock.advance_ms(39_999);
    assert!(matches!(
        begin(&keys, "one", "f").await,
        Verdict::InProgress(_)
    ));
    clock.advance_ms(1);
    assert!(
        matches!(begin(&keys, "one", "g").await, Verdict::Reused),
        "still not another one"
    );
    let Verdict::Do(claim) = begin(&keys, "one", "f").await else {
        panic!("its time is over");
    };
    late.settle(200, None).await;
    assert!(matches!(
        begin(&keys, "one", "f").await,
        Verdict::InProgress(_)
    ));
    claim.settle(202, None).await;
    let verdict = begin(&keys, "one", "f").await;
    assert!(
        matches!(verdict, Verdict::AnswerNotKept(202)),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn what_was_given_back_can_be_done_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, _) = keys(&dir, Config::default()).await;
    let Verdict::Do(claim) = begin(&keys, "one", "f").await else {
        panic!("it is the first");
    };
    claim.release().await;
    assert!(matches!(begin(&keys, "one", "g").await, Verdict::Do(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, _) = keys(&dir, Config::default()).await;
    let all = (0..50).map(|_| begin(&keys, "one", "f"));
    let verdicts = futures_util::future::join_all(all).await;
    let claims = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::Do(_)));
    assert_eq!(claims.count(), 1);
}

#[tokio::test]
async fn a_plugin_has_no_more_outcomes_than_it_may_and_known_ones_are_still_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, clock) = keys(
        &dir,
        Config {
            entries_per_plugin_max: 3,
            ..Config::default()
        },
    )
    .await;
    for id in ["1", "2", "3"] {
        let Verdict::Do(claim) = begin(&keys, id, "f").await else {
            panic!("there is room");
        };
        let body = Bytes::from_static(b"x");
        claim.settle(200, Some((&headers(), &body))).await;
    }
    assert!(matches!(begin(&keys, "4", "f").await, Verdict::Full));
    assert!(matches!(begin(&keys, "1", "f").await, Verdict::Done(_)));
    keys.sweep().await.unwrap();
    assert!(
        matches!(begin(&keys, "4", "f").await, Verdict::Full),
        "counted again"
    );
    clock.advance_ms(86_400_000);
    keys.sweep().await.unwrap();
    assert!(matches!(begin(&keys, "4", "f").await, Verdict::Do(_)));
    keys.delete_plugin(&shop()).await.unwrap();
    assert!(matches!(begin(&keys, "4", "g").await, Verdict::Do(_)));
}

#[tokio::test]
async fn one_caller_leaves_room_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        entries_per_caller_max: 3,
        bytes_per_caller_max: 1000,
        ..Config::default()
    };
    let (keys, clock) = keys(&dir, config).await;
    let done = async |caller: &str, id: &str, bytes: usize| {
        let verdict = begin_as(&keys, caller, id, "f").await;
        let Verdict::Do(claim) = verdict else {
            return false;
        };
        let body = Bytes::from(vec![b'x'; bytes]);
        claim.settle(200, Some((&HeaderMap::new(), &body))).await;
        true
    };
    for id in ["1", "2", "3"] {
        assert!(done("ann", id, 1).await);
    }
    assert!(matches!(begin(&keys, "4", "f").await, Verdict::Full));
    assert!(matches!(begin(&keys, "1", "f").await, Verdict::Done(_)));
    assert!(done("bob", "5", 1000).await, "somebody else");
    assert!(!done("bob", "6", 1).await, "too many bytes");
    assert!(done("eve", "7", 1).await);
    clock.advance_ms(86_400_000);
    keys.sweep().await.unwrap();
    assert!(matches!(begin(&keys, "4", "f").await, Verdict::Do(_)));
}

#[tokio::test]
async fn strangers_leave_room_for_those_with_a_login() {
    for (entries, bytes) in [(4, 1 << 20), (1000, 4000)] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            entries_per_plugin_max: entries,
            bytes_per_plugin_max: bytes,
            ..Config::default()
        };
        let (keys, clock) = keys(&dir, config).await;
        let done = async |caller: &str, id: &str| {
            let verdict = begin_as(&keys, caller, id, "f").await;
            let Verdict::Do(claim) = verdict else {
                assert!(matches!(verdict, Verdict::Full), "{verdict:?}");
                return false;
            };
            let body = Bytes::from(vec![b'x'; 1000]);
            claim.settle(200, Some((&HeaderMap::new(), &body))).await;
            true
        };
        // Each from another network.
        for at in 0..6 {
            let caller = format!("address {at}");
            assert_eq!(done(&caller, &caller).await, at < 2, "{at}");
        }
        // Counted in the rows, it is the same.
        keys.sweep().await.unwrap();
        assert!(!done("address 9", "9").await);
        let known = begin_as(&keys, "address 0", "address 0", "f").await;
        assert!(matches!(known, Verdict::Done(_)), "{known:?}");
        assert!(done("ann", "a").await);
        assert!(done("bob", "b").await);
        assert!(!done("cid", "c").await, "now it is full");
        clock.advance_ms(86_400_000);
        keys.sweep().await.unwrap();
        assert!(done("address 9", "9").await);
    }
}
