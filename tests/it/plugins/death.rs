//! The process is killed at every step of a deployment, a migration, a rollback and a removal, and at random instants.
//! Afterwards the old version or the new one serves, whole, and nothing is left of what was not finished.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry_harness::{Answer, Process, guests::guest, pack};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::manifests;
use crate::random::Random;

const API: &str = "/_gantry/api/v1";
/// So that the host tells its steps.
const ENVIRONMENT: [(&str, &str); 1] = [("RUST_LOG", "info,gantry::plugins=debug")];
const CAPABILITIES: &str =
    "[capabilities]\nkv = [\"data\"]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";
const TEST: &str = "[[test]]\nname = \"it answers\"\nrequest = \"GET /\"\nstatus = 200\n";

/// Hosts that die at the same time, and how often each of them does at a random instant.
const HOSTS: u64 = 4;
const KILLS: u64 = 50;

/// Longest time until a host comes to a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with one plugin, and what the test knows of it.
struct Shop {
    server: Process,
    /// Each deployment has a version of its own, `1.0.` and its number, and one migration more than the one before.
    number: u32,
    /// By number: the mark in the component.
    marks: BTreeMap<u32, u32>,
}

/// What somebody does when the host dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// A component that was compiled before.
    Deploy,
    /// A component that nobody has seen yet.
    DeployNew,
    /// With tests in its manifest.
    DeployTested,
    Canary,
    Promote,
    RollBack,
    /// Another plugin, for the first time.
    First,
    /// The other plugin, with its data.
    Remove,
}

impl Shop {
    async fn open() -> Self {
        let mut shop = Self {
            server: Process::start_with("", &ENVIRONMENT).await,
            number: 0,
            marks: BTreeMap::new(),
        };
        let (_, bundle) = shop.next("shop", 1, "");
        shop.upload("", bundle).await.assert_status(201);
        shop
    }

    /// The bundle of the next version, with this mark.
    fn next(&mut self, name: &str, mark: u32, more: &str) -> (u32, Bytes) {
        self.number += 1;
        let number = self.number;
        self.marks.insert(number, mark);
        let manifest = manifests::with(name, &format!("{more}{CAPABILITIES}"));
        let version = format!("version = \"1.0.{number}\"");
        let manifest = manifest.replace("version = \"1.0.0\"", &version);
        let step = |number: u32| {
            let sql = match number {
                1 => "CREATE TABLE steps (n INTEGER PRIMARY KEY); INSERT INTO steps VALUES (1);"
                    .to_owned(),
                number => format!("INSERT INTO steps VALUES ({number});"),
            };
            (format!("migrations/{number:04}_step.sql"), sql)
        };
        let steps: Vec<_> = (1..=number).map(step).collect();
        let files: Vec<(&str, &[u8])> = steps
            .iter()
            .map(|(name, sql)| (&**name, sql.as_bytes()))
            .collect();
        (number, pack(&manifest, &marked(mark), &files))
    }

    async fn upload(&self, query: &str, bundle: Bytes) -> Answer {
        let query = format!("grant=all&{query}");
        self.server
            .send(self.server.upload_request(&query, bundle))
            .await
    }

    /// The request that does it, and which numbers may be live afterwards: first the one that is now, last the one that is if
    /// it succeeds.
    fn begin(&mut self, deed: Deed, random: &mut Random) -> (reqwest::RequestBuilder, Vec<u32>) {
        let live = self.rows().live_of("shop").expect("it is never gone");
        let known = 1 + random.below(4);
        let fresh = 1000 + self.number;
        let post = |what: &str| {
            let path = format!("{API}/plugins/shop/{what}");
            self.server
                .request(http::Method::POST, &path)
                .json(&json!({}))
        };
        match deed {
            Deed::Deploy | Deed::DeployNew | Deed::DeployTested | Deed::Canary => {
                let (mark, more, query) = match deed {
                    Deed::DeployNew => (fresh, "", "grant=all"),
                    Deed::DeployTested => (known, TEST, "grant=all"),
                    Deed::Canary => (known, "", "grant=all&canary=30"),
                    _ => (known, "", "grant=all"),
                };
                let (number, bundle) = self.next("shop", mark, more);
                let may_be = match deed {
                    Deed::Canary => vec![live],
                    _ => vec![live, number],
                };
                (self.server.upload_request(query, bundle), may_be)
            }
            Deed::Promote => {
                let canary = self.rows().canary_of("shop");
                (
                    post("promote"),
                    [Some(live), canary].into_iter().flatten().collect(),
                )
            }
            Deed::RollBack => {
                let rows = self.rows();
                let before = match rows.canary_of("shop") {
                    Some(_) => None,
                    None => rows.live_before("shop"),
                };
                (
                    post("rollback"),
                    [Some(live), before].into_iter().flatten().collect(),
                )
            }
            Deed::First => {
                let (_, bundle) = self.next("other", known, "");
                (self.server.upload_request("grant=all", bundle), vec![live])
            }
            Deed::Remove => {
                let path = format!("{API}/plugins/other?data=delete");
                (self.server.request(http::Method::DELETE, &path), vec![live])
            }
        }
    }

    async fn die(self) -> Self {
        Self {
            server: self.server.kill_and_restart().await,
            ..self
        }
    }

    fn rows(&self) -> Rows {
        Rows::open(self)
    }

    /// Finds out whether everything is as it must be, and which number is live.
    async fn check(&self, may_be: &[u32], when: &str) -> u32 {
        let rows = self.rows();
        let live = rows.live_of("shop").expect("it is never gone");
        assert!(
            may_be.contains(&live),
            "{when}: {live} is live, of {may_be:?}"
        );
        self.check_answer("shop", live, rows.canary_of("shop"), when)
            .await;
        if let Some(live) = rows.live_of("other") {
            self.check_answer("other", live, None, when).await;
        }
        let shown: Value = self
            .server
            .get(&format!("{API}/plugins/shop"))
            .await
            .assert_status(200)
            .json();
        assert!(shown["last_error"].is_null(), "{when}: {shown}");
        let left = rows.left_over(self);
        assert!(left.is_empty(), "{when}: {left:?}");
        live
    }

    async fn check_answer(&self, plugin: &str, live: u32, canary: Option<u32>, when: &str) {
        for (version, number) in [("stable", Some(live)), ("canary", canary)] {
            let Some(number) = number else { continue };
            let request = self
                .server
                .request(http::Method::GET, &format!("/{plugin}/"))
                .header("x-gantry-version", version);
            let answer = self.server.send(request).await.assert_status(200);
            let body: Value = answer.json();
            let mark = format!("mark-{:04}", self.marks[&number]);
            assert_eq!(body["mark"], json!(mark), "{when}: {number} is {version}");
            let steps = body["steps"].as_u64().expect("a number");
            assert!(steps >= number.into(), "{when}: {number} has {body}");
            assert!(body["migrated"].as_u64() > Some(0), "{when}: {body}");
        }
    }
}

/// The component with this number in it.
fn marked(mark: u32) -> Bytes {
    let mut wasm = guest("marked").to_vec();
    let place = wasm
        .windows(9)
        .position(|bytes| bytes == b"mark-0000")
        .expect("the guest has its mark");
    wasm[place..place + 9].copy_from_slice(format!("mark-{mark:04}").as_bytes());
    wasm.into()
}

/// The rows of the host, read past it.
struct Rows(Connection);

impl Rows {
    fn open(shop: &Shop) -> Self {
        let file = shop.server.data_dir().join("gantry.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Self(Connection::open_with_flags(file, flags).expect("the rows"))
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        let mut statement = self.0.prepare(sql).expect(sql);
        let rows = statement.query_map([], |row| row.get(0)).expect(sql);
        rows.map(|row| row.expect(sql)).collect()
    }

    fn number(&self, sql: &str) -> Option<u32> {
        let version = self.texts(sql).pop()?;
        let (_, number) = version.rsplit_once('.').expect("a version");
        Some(number.parse().expect("a number"))
    }

    fn live_of(&self, plugin: &str) -> Option<u32> {
        self.number(&format!(
            "SELECT d.version FROM plugins p JOIN deployments d ON d.id = p.live_deployment WHERE p.name = '{plugin}'"
        ))
    }

    fn canary_of(&self, plugin: &str) -> Option<u32> {
        self.number(&format!(
            "SELECT d.version FROM rollouts r JOIN deployments d ON d.id = r.deployment WHERE r.plugin = '{plugin}'"
        ))
    }

    /// Where a rollback leads.
    fn live_before(&self, plugin: &str) -> Option<u32> {
        self.number(&format!(
            "SELECT version FROM (SELECT d.id, d.version FROM plugins p JOIN deployments d ON d.plugin = p.name \
             AND d.id < p.live_deployment AND d.live_at_ms IS NOT NULL WHERE p.name = '{plugin}' ORDER BY d.id DESC LIMIT 1)"
        ))
    }

    /// Files and rows that nothing refers to.
    fn left_over(&self, shop: &Shop) -> Vec<String> {
        let data = shop.server.data_dir();
        let names = |folder: &str| -> Vec<String> {
            let entries = fs::read_dir(data.join(folder)).into_iter().flatten();
            let name = |entry: std::io::Result<fs::DirEntry>| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            };
            entries.map(name).collect()
        };
        let needed: BTreeSet<String> = self
            .texts("SELECT component FROM deployments UNION SELECT upload FROM approvals")
            .into_iter()
            .collect();
        let plugins = self.texts("SELECT name FROM plugins");
        let mut left = Vec::new();
        let artifacts: BTreeSet<String> = names("artifacts").into_iter().collect();
        left.extend(
            artifacts
                .symmetric_difference(&needed)
                .map(|it| format!("artifact {it}")),
        );
        for name in names("compiled") {
            if !needed.iter().any(|digest| name.starts_with(&**digest)) {
                left.push(format!("compiled {name}"));
            }
        }
        for name in names("sql") {
            if name != ".temp" && !plugins.contains(&name) {
                left.push(format!("sql {name}"));
            }
        }
        left.extend(
            names("rehearsals")
                .iter()
                .map(|name| format!("rehearsals {name}")),
        );
        left.extend(
            names("sql/.temp")
                .iter()
                .map(|name| format!("sql/.temp {name}")),
        );
        for (table, column) in [
            ("kv_entries", "plugin"),
            ("kv_usage", "plugin"),
            ("grants", "plugin"),
            ("plugin_events", "plugin"),
            ("plugin_migrations", "plugin"),
        ] {
            let sql = format!(
                "SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT name FROM plugins)"
            );
            left.extend(self.texts(&sql).iter().map(|it| format!("{table} {it}")));
        }
        for (what, sql) in [
            (
                "provenance",
                "SELECT deployment FROM provenance WHERE deployment NOT IN (SELECT id FROM deployments)",
            ),
            (
                "rollouts",
                "SELECT deployment FROM rollouts WHERE deployment NOT IN (SELECT id FROM deployments)",
            ),
            ("unwanted_data", "SELECT plugin FROM unwanted_data"),
            (
                "plugin_migrations",
                "SELECT version FROM plugin_migrations WHERE is_done = 0",
            ),
        ] {
            left.extend(self.texts(sql).iter().map(|it| format!("{what} {it}")));
        }
        left
    }
}

/// Lets a host die at each of these steps.
async fn die_at(steps: &[(Deed, &str)]) {
    let mut shop = Shop::open().await;
    let mut random = Random::new(0);
    for (deed, step) in steps {
        let when = format!("{deed:?}, killed at `{step}`");
        match deed {
            // There must be something to promote, to go back to, or to remove.
            Deed::Promote => {
                let (_, bundle) = shop.next("shop", 2, "");
                shop.upload("canary=10", bundle).await.assert_status(201);
            }
            Deed::RollBack => {
                for mark in [2, 3] {
                    let (_, bundle) = shop.next("shop", mark, "");
                    shop.upload("", bundle).await.assert_status(201);
                }
            }
            Deed::Remove => {
                let (_, bundle) = shop.next("other", 2, "");
                shop.upload("", bundle).await.assert_status(201);
            }
            Deed::First => {
                let path = format!("{API}/plugins/other?data=delete");
                shop.server.delete(&path).await;
            }
            _ => {}
        }
        let (request, may_be) = shop.begin(*deed, &mut random);
        let again = request.try_clone().expect("a body in memory");
        {
            let told = shop.server.tells(step);
            let done = async {
                let _ = shop.server.try_send(request).await;
                std::future::pending::<()>().await;
            };
            let first = async {
                tokio::select! { () = told => {}, () = done => {} }
            };
            if tokio::time::timeout(PATIENCE, first).await.is_err() {
                panic!("{when}: it never came there\n{}", shop.server.log());
            }
        }
        shop = shop.die().await;
        shop.check(&may_be, &when).await;
        // What was cut off can be done again, at once.
        if matches!(deed, Deed::DeployNew | Deed::DeployTested | Deed::First) {
            let again = again.build().expect("a request");
            let body = again
                .body()
                .and_then(reqwest::Body::as_bytes)
                .expect("bytes");
            let bundle = Bytes::copy_from_slice(body);
            shop.upload("", bundle).await.assert_status(201);
            let live = *may_be.last().expect("at least one");
            let live = if *deed == Deed::First {
                may_be[0]
            } else {
                live
            };
            shop.check(&[live], &format!("{when}, done again")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_at_any_step_of_a_deployment_comes_back_whole() {
    die_at(&[
        (Deed::DeployTested, "An upload is checked"),
        (Deed::DeployNew, "Deploying `shop`: store"),
        (Deed::DeployNew, "Deploying `shop`: compile"),
        (Deed::DeployTested, "Deploying `shop`: rehearse"),
        (Deed::DeployNew, "Deploying `shop`: migrate databases"),
        (Deed::DeployNew, "Deploying `shop`: migrate data"),
        (Deed::DeployNew, "Deploying `shop`: ask its gate"),
        (Deed::DeployNew, "Deploying `shop`: record"),
        (Deed::DeployNew, "Changing `shop`: write"),
        (Deed::DeployNew, "Changing `shop`: commit"),
        (Deed::DeployNew, "Changing `shop`: swap"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_at_any_step_of_a_first_deployment_keeps_nothing_of_it() {
    die_at(&[
        (Deed::First, "Deploying `other`: store"),
        (Deed::First, "Deploying `other`: migrate databases"),
        (Deed::First, "Deploying `other`: migrate data"),
        (Deed::First, "Deploying `other`: ask its gate"),
        (Deed::First, "Deploying `other`: record"),
        (Deed::First, "Changing `other`: write"),
        (Deed::First, "Changing `other`: commit"),
        (Deed::First, "Changing `other`: swap"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_at_any_step_of_a_rollback_a_promotion_or_a_removal_comes_back_whole() {
    die_at(&[
        (Deed::RollBack, "Changing `shop`: write"),
        (Deed::RollBack, "Changing `shop`: commit"),
        (Deed::RollBack, "Changing `shop`: swap"),
        (Deed::Promote, "Changing `shop`: write"),
        (Deed::Promote, "Changing `shop`: commit"),
        (Deed::Promote, "Changing `shop`: swap"),
        (Deed::Remove, "Changing `other`: write"),
        (Deed::Remove, "Changing `other`: commit"),
        (Deed::Remove, "Changing `other`: swap"),
        (Deed::Remove, "Removing the data of `other`"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_at_two_hundred_random_instants_serves_the_old_version_or_the_new_one() {
    let hosts = (1..=HOSTS).map(die_at_random);
    let told = futures_util::future::join_all(hosts).await;
    let cut_off: u32 = told.iter().sum();
    // Otherwise the instants lie where nothing happens.
    assert!(cut_off > 80, "only {cut_off} deeds were cut off");
}

/// Lets one host die again and again, at any instant of something. How often that was not finished.
async fn die_at_random(seed: u64) -> u32 {
    let mut shop = Shop::open().await;
    let mut random = Random::new(seed);
    // How long each deed takes when it is let finish, in microseconds.
    let mut lasts: BTreeMap<Deed, u32> = BTreeMap::new();
    let mut cut_off = 0;
    let mut kills = 0;
    while kills < KILLS {
        let rows = shop.rows();
        let deed = match random.below(16) {
            0..4 => Deed::Deploy,
            4..6 => Deed::DeployNew,
            6 => Deed::DeployTested,
            7 => Deed::Canary,
            8..11 if rows.canary_of("shop").is_some() => Deed::Promote,
            8..13 if rows.live_before("shop").is_some() => Deed::RollBack,
            _ if rows.live_of("other").is_some() => Deed::Remove,
            _ => Deed::First,
        };
        drop(rows);
        let (request, may_be) = shop.begin(deed, &mut random);
        let Some(longest) = lasts.get(&deed).copied() else {
            let began = Instant::now();
            shop.server.send(request).await;
            let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            lasts.insert(deed, took.min(2_000_000));
            continue;
        };
        let instant = Duration::from_micros(random.below(longest + longest / 8).into());
        let sent = tokio::time::timeout(instant, shop.server.try_send(request)).await;
        shop = shop.die().await;
        kills += 1;
        let when = format!("host {seed}, kill {kills}: {deed:?} after {instant:?}");
        let live = shop.check(&may_be, &when).await;
        match sent {
            Ok(Ok(answer)) if answer.status.is_success() => {
                let is_done = matches!(deed, Deed::Canary | Deed::First | Deed::Remove);
                let expected = if is_done {
                    may_be[0]
                } else {
                    may_be[may_be.len() - 1]
                };
                assert_eq!(live, expected, "{when}: it was said to be done");
                assert_eq!(
                    shop.rows().live_of("other").is_some(),
                    match deed {
                        Deed::First => true,
                        Deed::Remove => false,
                        _ => shop.rows().live_of("other").is_some(),
                    },
                    "{when}"
                );
            }
            Ok(Ok(answer)) => panic!("{when}: {answer:?}"),
            Ok(Err(_)) | Err(_) => cut_off += 1,
        }
    }
    cut_off
}
