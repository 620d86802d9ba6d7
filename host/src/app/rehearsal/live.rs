//! A stage that somebody leads from outside, one line of JSON after the other: for tests that are written in a language and
//! not in the manifest.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

use crate::auth::PrincipalKind;
use crate::config::Config;
use crate::ids::Permission;
use crate::plugins::manifest::{As, Expected, Outside, Step, TestBody, TestCase};
use crate::plugins::rehearsal::Play;
use crate::services::rehearsal::Answer;

use super::answer::Saved;
use super::run::Runner;
use super::{Stand, not_deployed};

/// Most bytes of one line.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the leader wants.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    /// Begins anew, with empty stores. The first order, and whenever a test begins.
    Begin(Box<Begin>),
    /// Makes a request.
    Ask(Box<Ask>),
    /// Moves the clock, in milliseconds.
    Advance(u64),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Begin {
    at_ms: Option<i64>,
    seed: u64,
    config: Map<String, Value>,
    secrets: BTreeMap<String, String>,
    answers: Vec<Answers>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    method: String,
    url: String,
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: Vec<u8>,
    caller: Option<Caller>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    /// `user` or `api-key`.
    kind: String,
    name: String,
    permissions: Vec<String>,
}

/// What came of an order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Done,
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The order cannot be followed, or the plugin cannot be deployed.
    Refused(String),
}

/// Follows the orders until there are no more. The plugin is deployed with the first one.
pub async fn serve(
    config: Config,
    mut play: Play,
    orders: impl AsyncBufRead + Unpin,
    mut replies: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    let mut orders = orders.take(LINE_BYTES_MAX);
    let Some(first) = next(&mut orders).await? else {
        return Ok(());
    };
    let Order::Begin(first) = first else {
        bail!("the first order must be `begin`");
    };
    let first = case(*first)?;
    play.tests = vec![first.clone()];
    let stand = Stand::build(&config, None, &first).await?;
    let deployed = stand.deploy(&play, &first).await;
    if let Err(error) = deployed {
        let report = not_deployed(&play, &error);
        let mistakes = report.tests.into_iter().flat_map(|test| test.mistakes);
        let mistakes: Vec<String> = mistakes.collect();
        tell(&mut replies, &Reply::Refused(mistakes.join("\n"))).await?;
        stand.clear().await;
        return Ok(());
    }
    let mut runner = Runner::new(&stand.app, &stand.rehearsal, &play)?;
    let mut order = Some(Order::Begin(Box::default()));
    let mut pending = Some(first);
    while let Some(current) = order {
        let reply = match current {
            Order::Begin(begin) => {
                let case = match pending.take() {
                    Some(first) => first,
                    None => case(*begin)?,
                };
                match runner.begin(&case, None).await? {
                    Some(mistake) => Reply::Refused(mistake),
                    None => Reply::Done,
                }
            }
            Order::Advance(ms) => {
                let clock = &stand.rehearsal.clock;
                clock.set_ms(clock.now_ms().saturating_add_unsigned(ms));
                Reply::Done
            }
            Order::Ask(ask) => match runner.ask(&step(*ask)?, &Saved::new()).await? {
                Err(mistake) => Reply::Refused(mistake),
                Ok((answer, _)) => {
                    let text = |value: &http::HeaderValue| {
                        String::from_utf8_lossy(value.as_bytes()).into_owned()
                    };
                    let headers = answer.headers.iter();
                    Reply::Answer {
                        status: answer.status,
                        headers: headers
                            .map(|(name, value)| (name.to_string(), text(value)))
                            .collect(),
                        body: answer.body.to_vec(),
                    }
                }
            },
        };
        tell(&mut replies, &reply).await?;
        orders.set_limit(LINE_BYTES_MAX);
        order = next(&mut orders).await?;
    }
    stand.clear().await;
    Ok(())
}

async fn next(orders: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<Order>> {
    let mut line = String::new();
    if orders.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let order = serde_json::from_str(&line).context("this order cannot be understood")?;
    Ok(Some(order))
}

async fn tell(replies: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    replies.write_all(&line).await?;
    Ok(replies.flush().await?)
}

fn case(begin: Begin) -> anyhow::Result<TestCase> {
    let mut secrets = Vec::new();
    for (label, value) in begin.secrets {
        secrets.push((label.parse()?, value));
    }
    let mut outside = Vec::new();
    for answer in begin.answers {
        outside.push(Outside {
            answer: Answer {
                method: answer.method.parse::<Method>()?,
                url: answer.url,
                status: answer.status,
                headers: answer.headers,
                body: Bytes::from(answer.body),
            },
            times: None,
            sent: None,
        });
    }
    Ok(TestCase {
        name: "a test that is led from outside".to_owned(),
        at_ms: begin.at_ms.unwrap_or(TestCase::AT_MS),
        seed: begin.seed,
        config: begin.config,
        secrets,
        outside,
        steps: Vec::new(),
    })
}

fn step(ask: Ask) -> anyhow::Result<Step> {
    let caller = match ask.caller {
        None => None,
        Some(caller) => Some(As {
            kind: match caller.kind.as_str() {
                "api-key" => PrincipalKind::ApiKey,
                _ => PrincipalKind::User,
            },
            name: caller.name,
            permissions: caller
                .permissions
                .iter()
                .map(|permission| permission.parse::<Permission>())
                .collect::<Result<_, _>>()?,
        }),
    };
    Ok(Step {
        method: ask.method.parse()?,
        path: ask.path,
        caller,
        headers: ask.headers,
        body: Some(TestBody::Bytes(Bytes::from(ask.body))),
        advance: std::time::Duration::ZERO,
        expected: Expected::default(),
    })
}
