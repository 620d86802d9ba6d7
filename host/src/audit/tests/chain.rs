use ed25519_dalek::VerifyingKey;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::json;
use sqlx::AnyPool;

use crate::clock::Clock;
use crate::db::{self, Db};
use crate::ledger::*;

const SEED: [u8; 32] = [7; 32];
const START_MS: i64 = 1_700_000_000_000;

/// A chain in a real file.
struct Scene {
    db: Db,
    ledger: Ledger,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = db::testing::open(folder.path()).await;
        let clock = Clock::manual(START_MS);
        let (ledger, _) = Ledger::new(&SEED, clock.clone(), 1024, 10);
        Self {
            db: db.with_ledger(ledger.clone()),
            ledger,
            clock,
            folder,
        }
    }

    async fn write(&self, count: usize) {
        for at in 0..count {
            let mut tx = self.db.begin().await.unwrap();
            let event = Event::new("role.created", format!("role-{at}"))
                .by("user", "ann")
                .changed(json!(["a", 1.5]), json!({ "b": at }));
            self.db.record(&mut tx, event).await.unwrap();
            tx.commit().await.unwrap();
            self.clock.advance_ms(1000);
        }
    }

    async fn report(&self, checkpoints: &[Checkpoint]) -> Report {
        let key = verifying_key(&SEED);
        verify(self.db.reader(), &key, checkpoints).await.unwrap()
    }

    async fn checkpoint(&self) -> Checkpoint {
        self.ledger.checkpoint(self.db.reader()).await.unwrap()
    }

    async fn run(&self, sql: &str) -> u64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let done = sqlx::raw_sql(sql).execute(self.db.writer()).await;
        done.unwrap().rows_affected()
    }
}

async fn texts(pool: &AnyPool, sql: &str) -> Vec<String> {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn what_is_written_is_found_as_it_was_written() {
    let scene = Scene::new().await;
    assert_eq!(
        scene.report(&[]).await.findings,
        [],
        "an empty chain is whole"
    );
    scene.write(2500).await;
    let checkpoint = scene.checkpoint().await;
    let report = scene.report(&[checkpoint]).await;
    assert_eq!(report.findings, []);
    assert_eq!((report.events, report.first, report.last), (2500, 1, 2500));
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_event_and_no_gap() {
    let scene = Scene::new().await;
    scene.write(3).await;
    let mut tx = scene.db.begin().await.unwrap();
    let event = Event::new("role.created", "never");
    scene.db.record(&mut tx, event).await.unwrap();
    drop(tx);
    scene.write(1).await;
    let report = scene.report(&[]).await;
    assert_eq!((report.last, report.findings), (4, vec![]));
}

#[tokio::test]
async fn two_nodes_append_to_one_chain() {
    let scene = Scene::new().await;
    let other = db::testing::open(scene.folder.path()).await;
    let other = other.with_ledger(scene.ledger.clone());
    let append = |db: Db| async move {
        for _ in 0..100 {
            let mut tx = db.begin().await.unwrap();
            let event = Event::new("role.created", "x");
            db.record(&mut tx, event).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    tokio::join!(
        append(scene.db.clone()),
        append(other.clone()),
        append(other)
    );
    let report = scene.report(&[]).await;
    assert_eq!((report.events, report.findings), (300, vec![]));
}

/// Something that somebody does to the file who has it and not the key.
#[derive(Debug, Clone)]
enum Tampering {
    Column(usize, usize, String),
    Number(usize, i64),
    Delete(usize, usize),
    Swap(usize, usize),
    Insert(usize),
    CutOff(usize),
    CutOffAndMoveTheEnd(usize),
    /// Changes an event and computes everything anew that needs no key.
    Rewrite(usize),
    Mark(String, String),
    Blanks(usize),
    Case(usize, bool),
}

const COLUMNS: [&str; 10] = [
    "actor_kind",
    "actor",
    "address",
    "action",
    "target",
    "outcome",
    "request_id",
    "detail",
    "prev_hash",
    "hash",
];

fn tampering(count: usize) -> impl Strategy<Value = Tampering> {
    let at = 1..=count;
    prop_oneof![
        (at.clone(), 0..COLUMNS.len(), "[a-f0-9{}]{0,12}")
            .prop_map(|(at, column, text)| Tampering::Column(at, column, text)),
        (at.clone(), any::<i64>()).prop_map(|(at, number)| Tampering::Number(at, number)),
        (at.clone(), 1..4_usize).prop_map(|(at, count)| Tampering::Delete(at, count)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        at.clone().prop_map(Tampering::Insert),
        at.clone().prop_map(Tampering::CutOff),
        at.clone().prop_map(Tampering::CutOffAndMoveTheEnd),
        at.clone().prop_map(Tampering::Rewrite),
        ("seq|at_ms|hash|signature", "[0-9]{1,9}")
            .prop_map(|(column, text)| Tampering::Mark(column, text)),
        at.clone().prop_map(Tampering::Blanks),
        (at, any::<bool>()).prop_map(|(at, is_mark)| Tampering::Case(at, is_mark)),
    ]
}

impl Tampering {
    /// Does it. False if it happens to change nothing.
    async fn apply(&self, scene: &Scene, count: usize) -> bool {
        let all = "SELECT coalesce(group_concat(quote(seq) || quote(at_ms) || actor_kind || '|' || actor || '|' || address \
                   || '|' || action || '|' || target || '|' || outcome || '|' || request_id || '|' || detail || prev_hash \
                   || hash), '') FROM (SELECT * FROM audit_events ORDER BY seq)";
        let marks = "SELECT coalesce(group_concat(kind || quote(seq) || quote(at_ms) || hash || signature), '') FROM audit_marks";
        let pool = scene.db.writer();
        let before = (texts(pool, all).await, texts(pool, marks).await);
        match self {
            Self::Column(at, column, text) => {
                let column = COLUMNS[*column];
                scene
                    .run(&format!(
                        "UPDATE audit_events SET {column} = '{text}' WHERE seq = {at}"
                    ))
                    .await;
            }
            Self::Number(at, number) => {
                let sql =
                    format!("UPDATE OR IGNORE audit_events SET seq = {number} WHERE seq = {at}");
                scene.run(&sql).await;
                let sql = format!("UPDATE audit_events SET at_ms = {number} WHERE seq = {at}");
                scene.run(&sql).await;
            }
            Self::Delete(at, count) => {
                let to = at + count;
                scene
                    .run(&format!(
                        "DELETE FROM audit_events WHERE seq >= {at} AND seq < {to}"
                    ))
                    .await;
            }
            Self::Swap(a, b) => {
                scene.run(&format!(
                    "UPDATE audit_events SET seq = -1 WHERE seq = {a}; UPDATE audit_events SET seq = {a} WHERE seq = {b}; \
                     UPDATE audit_events SET seq = {b} WHERE seq = -1"
                )).await;
            }
            Self::Insert(at) => {
                let next = count + 1;
                scene.run(&format!(
                    "INSERT INTO audit_events SELECT {next}, at_ms, actor_kind, actor, address, action, target, outcome, \
                     request_id, detail, prev_hash, hash FROM audit_events WHERE seq = {at}"
                )).await;
            }
            Self::CutOff(at) => {
                scene
                    .run(&format!("DELETE FROM audit_events WHERE seq >= {at}"))
                    .await;
            }
            Self::CutOffAndMoveTheEnd(at) => {
                scene.run(&format!(
                    "DELETE FROM audit_events WHERE seq >= {at}; UPDATE audit_marks SET seq = {at} - 1, \
                     hash = coalesce((SELECT hash FROM audit_events ORDER BY seq DESC LIMIT 1), '{NOTHING}')"
                )).await;
            }
            Self::Rewrite(at) => rewrite(scene, *at).await,
            Self::Mark(column, text) => {
                scene
                    .run(&format!("UPDATE audit_marks SET {column} = '{text}'"))
                    .await;
            }
            Self::Blanks(at) => {
                scene
                    .run(&format!(
                        "UPDATE audit_events SET detail = ' ' || detail WHERE seq = {at}"
                    ))
                    .await;
            }
            Self::Case(at, true) => {
                let _ = at;
                scene
                    .run("UPDATE audit_marks SET signature = upper(signature)")
                    .await;
            }
            Self::Case(at, false) => {
                scene
                    .run(&format!(
                        "UPDATE audit_events SET hash = upper(hash) WHERE seq = {at}"
                    ))
                    .await;
            }
        }
        before != (texts(pool, all).await, texts(pool, marks).await)
    }
}

/// Makes the chain agree with itself again, as far as that goes without the key.
async fn rewrite(scene: &Scene, at: usize) {
    let all = Filter {
        limit: 1000,
        ..Filter::default()
    };
    let entries = find(scene.db.reader(), &all).await.unwrap();
    let mut tx = scene.db.begin().await.unwrap();
    let mut prev = NOTHING.to_owned();
    for mut entry in entries.into_iter().rev() {
        if entry.seq == i64::try_from(at).unwrap() {
            entry.actor = "somebody else".to_owned();
        }
        entry.prev = prev;
        entry.hash = entry.computed();
        prev = entry.hash.clone();
        sqlx::query("UPDATE audit_events SET actor = $1, prev_hash = $2, hash = $3 WHERE seq = $4")
            .bind(&entry.actor)
            .bind(&entry.prev)
            .bind(&entry.hash)
            .bind(entry.seq)
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    sqlx::query("UPDATE audit_marks SET hash = $1")
        .bind(prev)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[test]
fn whatever_somebody_does_to_the_rows_is_found() {
    if db::testing::is_on_server() {
        // Some of it only a file takes: texts in the place of numbers.
        return;
    }
    const COUNT: usize = 12;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scene = runtime.block_on(async {
        let scene = Scene::new().await;
        scene.write(COUNT).await;
        scene
    });
    // Each case begins from a copy of the rows.
    runtime.block_on(scene.run(
        "CREATE TABLE good_events AS SELECT * FROM audit_events; CREATE TABLE good_marks AS SELECT * FROM audit_marks",
    ));
    let cases = Cases {
        cases: 400,
        failure_persistence: None,
        ..Cases::default()
    };
    let mut runner = TestRunner::new(cases);
    let tried =
        runner.run(&tampering(COUNT), |tampering| {
            runtime.block_on(async {
                scene.run(
                "DELETE FROM audit_events; INSERT INTO audit_events SELECT * FROM good_events; \
                 DELETE FROM audit_marks; INSERT INTO audit_marks SELECT * FROM good_marks",
            ).await;
                assert_eq!(scene.report(&[]).await.findings, []);
                let is_changed = tampering.apply(&scene, COUNT).await;
                let report = scene.report(&[]).await;
                prop_assert_eq!(!report.findings.is_empty(), is_changed, "{:?}", report);
                Ok(())
            })
        });
    tried.unwrap();
}

#[tokio::test]
async fn a_checkpoint_from_elsewhere_shows_that_the_end_was_cut_off_with_its_mark() {
    let scene = Scene::new().await;
    scene.write(5).await;
    // Somebody who has kept the rows as they were puts them back.
    scene
        .run("CREATE TABLE old_marks AS SELECT * FROM audit_marks")
        .await;
    scene.write(5).await;
    let checkpoint = scene.checkpoint().await;
    scene.run(
        "DELETE FROM audit_events WHERE seq > 5; DELETE FROM audit_marks; INSERT INTO audit_marks SELECT * FROM old_marks",
    ).await;
    assert_eq!(
        scene.report(&[]).await.findings,
        [],
        "in itself it is whole"
    );
    let report = scene.report(std::slice::from_ref(&checkpoint)).await;
    assert!(
        report.findings[0].problem.contains("up to 10"),
        "{report:?}"
    );
    // Other events in their place do not help.
    scene.write(5).await;
    let report = scene.report(std::slice::from_ref(&checkpoint)).await;
    assert_eq!(report.findings[0].seq, Some(10), "{report:?}");
    let forged = Checkpoint {
        seq: 5,
        ..checkpoint
    };
    let report = scene.report(&[forged]).await;
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.problem.contains("not signed"))
    );
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_rest_stays_verifiable() {
    let scene = Scene::new().await;
    scene.write(30).await;
    let checkpoint = scene.checkpoint().await;
    let mut tx = scene.db.begin().await.unwrap();
    let gone = scene
        .ledger
        .trim(&mut tx, START_MS + 20_000, 10)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(gone, 10, "so many at once");
    let report = scene.report(std::slice::from_ref(&checkpoint)).await;
    assert_eq!(
        (report.first, report.last, report.findings),
        (11, 30, vec![])
    );
    // Whoever removes more than that is found, and whoever puts the mark elsewhere.
    scene.run("DELETE FROM audit_events WHERE seq <= 12").await;
    assert!(!scene.report(&[]).await.findings.is_empty());
    scene.run("UPDATE audit_marks SET seq = 12, hash = (SELECT prev_hash FROM audit_events WHERE seq = 13) WHERE kind = 'base'").await;
    assert!(!scene.report(&[]).await.findings.is_empty());
    scene
        .run("DELETE FROM audit_marks WHERE kind = 'base'")
        .await;
    assert!(!scene.report(&[]).await.findings.is_empty());
}

#[tokio::test]
async fn details_that_are_too_long_are_told_by_their_hash() {
    let scene = Scene::new().await;
    let mut tx = scene.db.begin().await.unwrap();
    let event = Event::new("plugin.configured", "shop").with("after", "x".repeat(5000));
    scene.db.record(&mut tx, event).await.unwrap();
    tx.commit().await.unwrap();
    let found = find(
        scene.db.reader(),
        &Filter {
            limit: 1,
            ..Filter::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(found[0].detail["bytes"], 5012);
    assert_eq!(scene.report(&[]).await.findings, []);
}

#[tokio::test]
async fn an_export_is_whole_or_found_out() {
    let scene = Scene::new().await;
    scene.write(600).await;
    let mut copy = scene.ledger.copy(scene.db.reader(), 100).await.unwrap();
    let mut lines = vec![
        json!({ "export": { "after": 100, "prev": copy.prev, "key": copy.checkpoint.key } })
            .to_string(),
    ];
    // What is written while it is copied is not part of it.
    scene.write(3).await;
    loop {
        let entries = copy.next().await.unwrap();
        if entries.is_empty() {
            break;
        }
        lines.extend(entries.iter().map(|entry| entry.to_json().to_string()));
    }
    lines.push(json!({ "checkpoint": copy.checkpoint }).to_string());
    let key = verifying_key(&SEED);
    let look = |lines: Vec<String>, key: Option<&VerifyingKey>| {
        let lines = lines.into_iter().map(Ok::<_, std::convert::Infallible>);
        verify_export(lines, key, &[]).unwrap()
    };
    let report = look(lines.clone(), Some(&key));
    assert_eq!(
        (report.first, report.last, &*report.findings),
        (101, 600, &[][..])
    );
    assert_eq!(look(lines.clone(), None).findings, []);
    assert!(
        !look(lines.clone(), Some(&verifying_key(&[8; 32])))
            .findings
            .is_empty()
    );
    for at in [0, 1, 250, 500, 501] {
        let mut removed = lines.clone();
        removed.remove(at);
        assert!(
            !look(removed, Some(&key)).findings.is_empty(),
            "without line {at}"
        );
        let mut changed = lines.clone();
        changed[at] = changed[at].replacen(|c: char| c.is_ascii_digit(), "x", 1);
        assert!(
            !look(changed, Some(&key)).findings.is_empty(),
            "with another line {at}"
        );
    }
    lines.swap(5, 6);
    assert!(!look(lines, Some(&key)).findings.is_empty());
}

#[tokio::test]
async fn events_are_found_by_what_they_are() {
    let scene = Scene::new().await;
    scene.write(3).await;
    let mut tx = scene.db.begin().await.unwrap();
    let events = [
        Event::refused("permission.refused", "shop/x", "auth.permission_missing").by("user", "bob"),
        Event::new("role.deleted", "role-1").by("user", "ann"),
    ];
    scene.ledger.append(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let empty = || Filter {
        limit: 100,
        ..Filter::default()
    };
    for (filter, wanted) in [
        (empty(), &[5, 4, 3, 2, 1][..]),
        (
            Filter {
                limit: 2,
                ..empty()
            },
            &[5, 4],
        ),
        (
            Filter {
                before_seq: Some(3),
                ..empty()
            },
            &[2, 1],
        ),
        (
            Filter {
                actor: text("bob"),
                ..empty()
            },
            &[4],
        ),
        (
            Filter {
                action: text("role.*"),
                ..empty()
            },
            &[5, 3, 2, 1],
        ),
        (
            Filter {
                action: text("role.deleted"),
                ..empty()
            },
            &[5],
        ),
        (
            Filter {
                action: text("role"),
                ..empty()
            },
            &[],
        ),
        (
            Filter {
                target: text("role-1"),
                actor: text("ann"),
                ..empty()
            },
            &[5, 2],
        ),
        (
            Filter {
                outcome: text("refused"),
                ..empty()
            },
            &[4],
        ),
        (
            Filter {
                since_ms: Some(START_MS + 1000),
                until_ms: Some(START_MS + 3000),
                ..empty()
            },
            &[3, 2],
        ),
        (
            Filter {
                actor: text("' OR 1 = 1 --"),
                ..empty()
            },
            &[],
        ),
    ] {
        let found = find(scene.db.reader(), &filter).await.unwrap();
        let seqs: Vec<i64> = found.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, wanted, "{filter:?}");
    }
}

#[tokio::test]
async fn who_is_behind_it_travels_with_the_task() {
    let cause = Cause {
        address: Some([192, 0, 2, 1].into()),
        ..Cause::default()
    };
    within(cause, async {
        assert_eq!(Event::new("a.b", "x").actor.kind, "anonymous");
        acting_as("user", "ann");
        let event = Event::new("a.b", "x");
        assert_eq!((event.actor.kind, &*event.actor.id), ("user", "ann"));
        let work = carried(async { Event::new("a.b", "x") });
        #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
        let elsewhere = tokio::spawn(work).await.unwrap();
        assert_eq!(elsewhere.actor, event.actor);
        assert_eq!(elsewhere.address, event.address);
    })
    .await;
    acting_as("user", "nobody");
    assert_eq!(Event::new("a.b", "x").actor.kind, "host");
}
