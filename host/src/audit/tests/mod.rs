mod chain;

use std::fs;

use super::*;
use crate::db;
use crate::ledger::{Report, verify};

const START_MS: i64 = 1_700_000_000_000;

struct Scene {
    audit: Audit,
    notes: Option<mpsc::Receiver<Note>>,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let (audit, notes) = open(folder.path(), &clock, config).await;
        audit.begin().await.unwrap();
        Self {
            audit,
            notes: Some(notes),
            clock,
            folder,
        }
    }

    async fn record(&self, count: usize) {
        for _ in 0..count {
            let event = Event::new("role.created", "x");
            self.audit.write(vec![event]).await.unwrap();
        }
    }

    /// Lets the writer write what was noted, to its end.
    async fn settle(&mut self) {
        let stop = CancellationToken::new();
        stop.cancel();
        let notes = self.notes.take().unwrap();
        self.audit.clone().run(notes, stop).await;
    }

    async fn actions(&self) -> Vec<String> {
        let filter = Filter {
            limit: 10_000,
            ..Filter::default()
        };
        let found = self.audit.find(&filter).await.unwrap();
        found.into_iter().rev().map(|entry| entry.action).collect()
    }

    async fn report(&self) -> Report {
        let (heads, problems) = read_heads(self.folder.path()).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        let key = self.audit.ledger.verifying_key();
        verify(self.audit.db.reader(), &key, &heads).await.unwrap()
    }
}

async fn open(
    folder: &std::path::Path,
    clock: &Clock,
    config: Config,
) -> (Audit, mpsc::Receiver<Note>) {
    let db = db::testing::open(folder).await;
    let bytes_max = config.detail_bytes_max;
    let (ledger, notes) = Ledger::new(&[7; 32], clock.clone(), bytes_max, config.queue_max);
    let db = db.with_ledger(ledger.clone());
    let mail = Mail::new(db.clone(), [0; 32], clock.clone(), mail::Config::default()).unwrap();
    let metrics = prometheus::Registry::new();
    let (clock, folder) = (clock.clone(), folder.to_owned());
    let audit = Audit::new(db, ledger, mail, clock, config, folder, &metrics);
    (audit.unwrap(), notes)
}

fn refusal(target: usize) -> Event {
    Event::refused("permission.refused", target, "auth.permission_missing")
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_rows_and_nobody_waits() {
    let config = Config {
        refusals_per_minute_max: 50,
        queue_max: 20_000,
        ..Config::default()
    };
    let mut scene = Scene::new(config).await;
    for at in 0..10_000 {
        scene.audit.note(refusal(at % 3));
    }
    for at in 0..5000 {
        scene.audit.note(refusal(at));
    }
    scene.settle().await;
    let actions = scene.actions().await;
    assert!(actions.len() < 120, "{}", actions.len());
    assert!(actions.contains(&"audit.left_out".to_owned()));
    assert_eq!(scene.report().await.findings, []);
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_said_to_be_lost() {
    let config = Config {
        queue_max: 10,
        ..Config::default()
    };
    let mut scene = Scene::new(config).await;
    for at in 0..100 {
        scene.audit.note(refusal(at));
    }
    scene.settle().await;
    let filter = Filter {
        action: Some("audit.lost".to_owned()),
        limit: 10,
        ..Filter::default()
    };
    let lost = scene.audit.find(&filter).await.unwrap();
    assert_eq!(lost[0].detail["count"], 90);
}

#[tokio::test]
async fn what_could_not_be_written_is_said_to_be_lost_when_rows_can_be_written_again() {
    let mut scene = Scene::new(Config::default()).await;
    let rows = scene.audit.db.writer().clone();
    let rename = async |sql: &'static str| {
        sqlx::query(sql).execute(&rows).await.unwrap();
    };
    let metric = scene.audit.metrics.lost.clone();
    let stop = CancellationToken::new();
    let notes = scene.notes.take().unwrap();
    let trouble = async {
        rename("ALTER TABLE audit_events RENAME TO audit_events_away").await;
        for (notes, lost) in [(3, 3), (2, 5)] {
            for at in 0..notes {
                scene.audit.note(refusal(10 * lost + at));
            }
            while metric.get() < lost as u64 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        rename("ALTER TABLE audit_events_away RENAME TO audit_events").await;
        stop.cancel();
    };
    tokio::join!(scene.audit.clone().run(notes, stop.clone()), trouble);
    let filter = Filter {
        limit: 10,
        ..Filter::default()
    };
    let found = scene.audit.find(&filter).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|entry| (entry.action.as_str(), entry.detail["count"].as_u64()))
        .collect();
    assert_eq!(found, [("audit.lost", Some(5))]);
    assert_eq!(metric.get(), 5, "each is counted once");
    assert_eq!(scene.report().await.findings, []);
}

#[tokio::test]
async fn a_trail_whose_end_was_cut_off_while_the_host_was_away_is_found_at_the_start_and_stays_found()
 {
    if db::testing::is_on_server() {
        // Copies the file.
        return;
    }
    let scene = Scene::new(Config::default()).await;
    scene.record(5).await;
    let rows = scene.folder.path().join("rows");
    let kept = scene.folder.path().join("kept.db");
    let sql = format!("VACUUM INTO '{}'", kept.display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(scene.audit.db.reader())
        .await
        .unwrap();
    scene.record(5).await;
    scene.audit.sign_head().await.unwrap();
    scene.audit.db.close().await;
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", rows.display()));
    }
    fs::rename(kept, &rows).unwrap();
    let (audit, notes) = open(scene.folder.path(), &scene.clock, Config::default()).await;
    audit.begin().await.unwrap();
    let scene = Scene {
        audit,
        notes: Some(notes),
        ..scene
    };
    let actions = scene.actions().await;
    assert_eq!(actions.last().unwrap(), "security.audit_broken");
    scene.record(10).await;
    let report = scene.report().await;
    assert!(
        !report.findings.is_empty(),
        "the file that was put aside still says so"
    );
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_is_found() {
    let scene = Scene::new(Config::default()).await;
    scene.record(2).await;
    let head = scene.folder.path().join(HEAD_FILE);
    for text in [None, Some("{}"), Some("")] {
        match text {
            None => fs::remove_file(&head).unwrap(),
            Some(text) => fs::write(&head, text).unwrap(),
        }
        let (_, problems) = read_heads(scene.folder.path()).unwrap();
        assert_eq!(problems.len(), 1, "{text:?}");
        scene.audit.begin().await.unwrap();
        assert_eq!(
            scene.actions().await.last().unwrap(),
            "security.audit_broken"
        );
        for file in fs::read_dir(scene.folder.path()).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().contains("disputed") {
                fs::remove_file(path).unwrap();
            }
        }
        assert_eq!(scene.report().await.findings, []);
    }
}

#[tokio::test]
async fn old_events_go_after_the_days_that_the_operator_wants() {
    let config = Config {
        keep_days: 30,
        ..Config::default()
    };
    let scene = Scene::new(config).await;
    scene.record(5).await;
    scene.clock.set_ms(START_MS + 31 * DAY_MS);
    scene.record(2).await;
    scene.audit.trim().await.unwrap();
    assert_eq!(
        scene.actions().await,
        ["role.created", "role.created", "audit.trimmed"]
    );
    scene.audit.sign_head().await.unwrap();
    let report = scene.report().await;
    assert_eq!((report.first, report.findings), (6, vec![]));
    scene.audit.trim().await.unwrap();
    assert_eq!(
        scene.actions().await.len(),
        3,
        "nothing is too old any more"
    );
}

#[tokio::test]
async fn what_is_suspicious_is_an_event_of_its_own() {
    let mut scene = Scene::new(Config::default()).await;
    for account in 0..20 {
        let mut event = Event::failed("login.failed", "unknown account", "auth.credentials_wrong");
        event.address = Some([192, 0, 2, 1].into());
        scene.audit.note(event.marked(account));
    }
    scene.audit.note(Event::refused(
        "refresh_token.reused",
        "ann",
        "auth.refresh_reused",
    ));
    scene.settle().await;
    let actions = scene.actions().await;
    let security: Vec<_> = actions
        .iter()
        .filter(|action| action.starts_with("security."))
        .collect();
    assert_eq!(
        security,
        ["security.credential_stuffing", "security.token_reused"]
    );
    assert_eq!(
        actions
            .iter()
            .filter(|action| *action == "login.failed")
            .count(),
        2,
        "once, and how often"
    );
}

#[tokio::test]
async fn what_is_cut_off_while_the_host_is_at_work_is_not_signed_away() {
    let mut scene = Scene::new(Config::default()).await;
    scene.record(3).await;
    let rows = scene.audit.db.writer().clone();
    let run = async |sql: &'static str| {
        sqlx::query(sql).execute(&rows).await.unwrap();
    };
    // Somebody keeps an end that the host has signed, and brings it back when they have done something.
    run("CREATE TABLE kept_marks AS SELECT * FROM audit_marks").await;
    scene.record(5).await;
    scene.audit.go_on().await.unwrap();
    run("DELETE FROM audit_events WHERE seq > 3").await;
    run("DELETE FROM audit_marks").await;
    run("INSERT INTO audit_marks SELECT * FROM kept_marks").await;
    // The same at the same time would be the same chain.
    scene.clock.advance_ms(1);
    scene.record(10).await;
    scene.audit.note(refusal(1));
    scene.settle().await;
    let broken = "security.audit_broken".to_owned();
    let actions = scene.actions().await;
    assert!(actions.contains(&broken), "{actions:?}");
    // What it was is kept, and shows it to whoever verifies.
    assert_ne!(scene.report().await.findings, []);
    // It is said once.
    scene.audit.go_on().await.unwrap();
    let said = scene.actions().await.into_iter();
    assert_eq!(said.filter(|action| *action == broken).count(), 1);
}
