//! What the operator does meanwhile: new versions, canaries, ways back, settings, plugins that come and go.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{Round, Tally, ask::problem, plugins::Plugin};

/// Changes one plugin after the other, round after round.
pub(super) struct Operator {
    plugins: Vec<Plugin>,
    pause: Duration,
    /// Changes so far.
    number: usize,
}

impl Operator {
    pub(super) fn new(plugins: Vec<Plugin>, pause: Duration) -> Self {
        Self {
            plugins,
            pause,
            number: 0,
        }
    }

    /// The plugins that are there between two rounds. Filters come last: nobody names them any more then.
    pub(super) fn names(&self) -> Vec<&str> {
        self.plugins
            .iter()
            .rev()
            .map(|plugin| &*plugin.name)
            .collect()
    }

    /// Makes changes until the round is over.
    pub(super) async fn work(&mut self, round: &Round) -> Tally {
        let mut tally = Tally::default();
        while !round.is_over() {
            self.number += 1;
            self.change(round, &mut tally).await;
            tokio::time::sleep(self.pause).await;
        }
        tally
    }

    async fn change(&self, round: &Round, tally: &mut Tally) {
        const NEW: &[&str] = &["201"];
        // A canary that did badly for a moment was taken back by the host.
        const MOVED: &[&str] = &["200", "404 rollout.not_found"];
        let number = self.number;
        let mut go = async |what: &str, method, path: &str, body: Bytes, expected: &[&str]| {
            let kind = match body.first() {
                Some(b'{') => "application/json",
                _ => "application/octet-stream",
            };
            let request = round.host.request(method, path).body(body);
            let request = request.header("content-type", kind);
            let outcome = match request.send().await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    problem(status, &answer.bytes().await.unwrap_or_default())
                }
                Err(error) => error.to_string(),
            };
            let is_expected = expected.contains(&outcome.split(' ').next().unwrap_or_default())
                || expected.contains(&&*outcome);
            tally.count("operator", &format!("{what}: {outcome}"), is_expected);
        };
        let upload = |query: &str| format!("/_gantry/api/v1/deployments?grant=all{query}");
        let of = |plugin: &str, what: &str| format!("/_gantry/api/v1/plugins/{plugin}/{what}");
        let json = |value: serde_json::Value| Bytes::from(value.to_string());
        match number % 8 {
            // Every plugin gets its turn.
            0..=2 => {
                if let Some(plugin) = self.plugins.get(number % self.plugins.len()) {
                    let bundle = plugin.bundle(number);
                    go("deploy", Method::POST, &upload(""), bundle, NEW).await;
                }
            }
            3 => {
                let path = of("swap-a", "rollback");
                go(
                    "deploy",
                    Method::POST,
                    &upload(""),
                    self.swap("swap-a", None),
                    NEW,
                )
                .await;
                go("roll back", Method::POST, &path, json(json!({})), &["200"]).await;
            }
            4 => {
                let bundle = self.swap("swap-b", None);
                go("canary", Method::POST, &upload("&canary=20"), bundle, NEW).await;
                tokio::time::sleep(self.pause).await;
                let weight = json(json!({ "weight_percent": 60 }));
                go(
                    "weight",
                    Method::PUT,
                    &of("swap-b", "canary"),
                    weight,
                    MOVED,
                )
                .await;
                tokio::time::sleep(self.pause).await;
                let (what, path) = match number % 16 {
                    4 => ("promote", "promote"),
                    _ => ("end canary", "rollback"),
                };
                go(
                    what,
                    Method::POST,
                    &of("swap-b", path),
                    json(json!({})),
                    MOVED,
                )
                .await;
            }
            5 => {
                let mark = json(json!({ "mark": format!("m{number}") }));
                go(
                    "settings",
                    Method::PUT,
                    &of("mark", "config"),
                    mark,
                    &["200"],
                )
                .await;
            }
            6 => {
                // Code that nobody has compiled before.
                let bundle = self.swap("swap-a", Some(number));
                go("compile", Method::POST, &upload(""), bundle, NEW).await;
                let broken = Bytes::from_static(b"\0asm\x0d\0\x01\0 and no more");
                let name = upload("&name=broken");
                go(
                    "broken",
                    Method::POST,
                    &name,
                    broken,
                    &["422 deploy.invalid"],
                )
                .await;
            }
            _ => {
                let mut bundle = self.swap("swap-a", None);
                if let Some(plugin) = self.find("plain") {
                    let visitor = plugin.renamed(&format!("visitor-{}", number % 3));
                    bundle = visitor.bundle(number);
                }
                let name = format!("visitor-{}", number % 3);
                go("visitor", Method::POST, &upload(""), bundle, NEW).await;
                let path = format!("/_gantry/api/v1/plugins/{name}?data=delete");
                go("remove", Method::DELETE, &path, Bytes::new(), &["204"]).await;
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Plugin> {
        self.plugins.iter().find(|plugin| plugin.name == name)
    }

    /// The next version of a plugin, perhaps with a component that differs in this number.
    fn swap(&self, name: &str, own: Option<usize>) -> Bytes {
        let Some(plugin) = self.find(name) else {
            return Bytes::new();
        };
        match own {
            Some(own) => plugin.with_own_component(own).bundle(self.number),
            None => plugin.bundle(self.number),
        }
    }
}
