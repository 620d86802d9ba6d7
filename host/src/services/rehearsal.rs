//! What is different on a host on which a plugin is rehearsed: its clock, its random numbers, the servers outside, and calls
//! that fail on purpose. Everything else there is the real thing. A host that serves has none of this.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Method;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use url::Url;

use crate::clock::Clock;
use crate::services::{Error, Kind};

/// Most calls of services and requests to the outside that are remembered of one run.
const REMEMBERED_MAX: usize = 10_000;

/// One for each host on which plugins are rehearsed. Runs follow one another; each begins with [`Rehearsal::begin`].
#[derive(Debug)]
pub struct Rehearsal {
    /// The clock of plugins, of what expires, and of credentials. Stands still unless it is moved.
    pub clock: Clock,
    run: Mutex<Run>,
}

/// What a run is given, and what is remembered of it.
#[derive(Debug, Default)]
struct Run {
    plan: Plan,
    /// Instances that were given random numbers.
    instances: u64,
    calls: Vec<&'static str>,
    has_failed: bool,
    sent: Vec<Sent>,
    unanswered: Vec<String>,
}

/// What happens in a run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Decides all random numbers.
    pub seed: u64,
    /// What servers outside answer; of several that fit, the first.
    pub answers: Vec<Answer>,
    /// The call of a service that fails, by its number in the run, and how.
    pub failing: Option<(usize, Error)>,
}

/// What a server outside answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub method: Method,
    /// The whole URL, or its beginning followed by `*`.
    pub url: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// A request that the plugin was allowed to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Which answer it got, by its number in the plan.
    pub answer: usize,
    pub body: Bytes,
}

impl Rehearsal {
    /// With a clock that can be moved.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            run: Mutex::default(),
        }
    }

    /// Forgets the run before.
    pub fn begin(&self, plan: Plan) {
        *self.run() = Run {
            plan,
            ..Run::default()
        };
    }

    /// Notes a call of a service, and says whether it fails instead of being done. Names are `service.function`.
    pub fn meet(&self, call: &'static str) -> Option<Error> {
        let mut run = self.run();
        if run.calls.len() >= REMEMBERED_MAX {
            return None;
        }
        let number = run.calls.len();
        run.calls.push(call);
        let error = match &run.plan.failing {
            Some((failing, error)) if *failing == number => error.clone(),
            _ => return None,
        };
        run.has_failed = true;
        Some(error)
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.run().calls.clone()
    }

    /// Whether the call that fails has been made.
    pub fn has_failed(&self) -> bool {
        self.run().has_failed
    }

    /// What was sent to the outside so far, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.run().sent.clone()
    }

    /// Requests for which there was no answer, as `GET https://example.com/`.
    pub fn unanswered(&self) -> Vec<String> {
        self.run().unanswered.clone()
    }

    /// Random numbers of one instance: others than those of the instance before, and the same in each run.
    pub fn random(&self) -> StdRng {
        let mut run = self.run();
        run.instances += 1;
        StdRng::seed_from_u64(run.plan.seed ^ run.instances.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What a server outside answers to a request that the guard let through.
    pub fn answer(
        &self,
        method: &Method,
        url: &Url,
        body: &Bytes,
    ) -> Result<http::Response<Bytes>, Error> {
        let mut run = self.run();
        let fits = |answer: &Answer| {
            let is_url = match answer.url.strip_suffix('*') {
                Some(beginning) => url.as_str().starts_with(beginning),
                None => url.as_str() == answer.url,
            };
            answer.method == *method && is_url
        };
        let found = run.plan.answers.iter().position(fits);
        let Some(number) = found else {
            if run.unanswered.len() < REMEMBERED_MAX {
                run.unanswered.push(format!("{method} {url}"));
            }
            return Err(Error::new(
                Kind::Unavailable,
                "outbound.connect_failed",
                "no `[[test.answer]]` is for this request",
            ));
        };
        if run.sent.len() < REMEMBERED_MAX {
            run.sent.push(Sent {
                answer: number,
                body: body.clone(),
            });
        }
        let answer = &run.plan.answers[number];
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        response.body(answer.body.clone()).map_err(|_| {
            Error::new(
                Kind::Unavailable,
                "outbound.broken",
                "the `[[test.answer]]` has headers that no answer can have",
            )
        })
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a call can fail although the plugin did everything right: what the contract's error has for it.
pub fn failures_of(call: &str) -> Vec<Error> {
    let busy = |code| Error::new(Kind::Unavailable, code, "try again later");
    let late = |code| Error::new(Kind::Timeout, code, "it took too long");
    let full = |code| Error::limit(code, "there is no more room");
    let denied = |code| Error::denied(code, "the operator took the grant back");
    // Not by `Error::internal`, which would tell the host's log of a failure that is none.
    let broken = |code| {
        Error::new(
            Kind::Internal,
            code,
            "the host failed while serving this call",
        )
    };
    let Some((service, function)) = call.split_once('.') else {
        return Vec::new();
    };
    match (service, function) {
        ("kv" | "sql" | "cache" | "blobs", "open") => vec![denied("capability.not_granted")],
        ("kv", "put" | "increment") => {
            vec![busy("kv.busy"), full("kv.full"), broken("kv.failed")]
        }
        ("kv", _) => vec![busy("kv.busy"), broken("kv.failed")],
        ("sql", "execute") => vec![
            busy("sql.busy"),
            late("sql.timeout"),
            full("sql.database_full"),
            broken("sql.failed"),
        ],
        ("sql", "commit") => vec![late("sql.transaction_expired"), broken("sql.failed")],
        ("sql", _) => vec![busy("sql.busy"), late("sql.timeout"), broken("sql.failed")],
        ("blobs", "put" | "upload" | "write" | "finish") => vec![
            busy("blobs.unavailable"),
            full("blobs.full"),
            broken("blobs.failed"),
        ],
        ("blobs", "signed_url") => Vec::new(),
        ("blobs", _) => vec![busy("blobs.unavailable"), broken("blobs.failed")],
        ("secrets", "get") => vec![
            denied("capability.not_granted"),
            Error::new(Kind::NotFound, "secrets.not_set", "the secret has no value"),
            broken("secrets.failed"),
        ],
        ("secrets", _) => vec![broken("secrets.failed")],
        ("tokens", "verify") => vec![Error::denied("token.expired", "the token has expired")],
        ("outbound", "send") => vec![
            denied("outbound.host_not_granted"),
            late("outbound.timeout"),
            busy("outbound.connect_failed"),
            full("outbound.budget_exhausted"),
        ],
        _ => Vec::new(),
    }
}

/// The name of a call: `call!(kv.get)`.
macro_rules! call {
    ($service:ident . $function:ident) => {
        concat!(stringify!($service), ".", stringify!($function))
    };
}

pub(crate) use call;

/// Lets a function of a service's WIT side return a failure, if the rehearsal wants one here.
macro_rules! rehearse {
    ($view:expr, $service:ident . $function:ident) => {
        if let Some(error) = $view.rehearsal.and_then(|rehearsal| {
            rehearsal.meet($crate::services::rehearsal::call!($service.$function))
        }) {
            return Ok(Err(error.into()));
        }
    };
}

pub(crate) use rehearse;

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    fn rehearsal(plan: Plan) -> Rehearsal {
        let rehearsal = Rehearsal::new(Clock::manual(0));
        rehearsal.begin(plan);
        rehearsal
    }

    #[test]
    fn one_call_fails_and_the_others_do_not() {
        let error = failures_of("kv.get").remove(0);
        let rehearsal = rehearsal(Plan {
            failing: Some((1, error.clone())),
            ..Plan::default()
        });
        assert_eq!(rehearsal.meet("kv.open"), None);
        assert!(!rehearsal.has_failed());
        assert_eq!(rehearsal.meet("kv.get"), Some(error));
        assert_eq!(rehearsal.meet("kv.get"), None);
        assert!(rehearsal.has_failed());
        assert_eq!(rehearsal.calls(), ["kv.open", "kv.get", "kv.get"]);
    }

    #[test]
    fn random_numbers_come_again_in_the_next_run_and_differ_between_instances() {
        let plan = Plan {
            seed: 7,
            ..Plan::default()
        };
        let rehearsal = rehearsal(plan.clone());
        let first = [rehearsal.random().next_u64(), rehearsal.random().next_u64()];
        rehearsal.begin(plan);
        let second = [rehearsal.random().next_u64(), rehearsal.random().next_u64()];
        assert_eq!(first, second);
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn the_outside_answers_what_the_plan_says_and_nothing_else() {
        let answer = Answer {
            method: Method::GET,
            url: "https://api.example.com/rates*".to_owned(),
            status: 203,
            headers: vec![("x-a".to_owned(), "b".to_owned())],
            body: Bytes::from_static(b"{}"),
        };
        let rehearsal = rehearsal(Plan {
            answers: vec![answer],
            ..Plan::default()
        });
        let ask = |method: Method, url: &str| {
            let url = Url::parse(url).unwrap();
            rehearsal.answer(&method, &url, &Bytes::from_static(b"sent"))
        };
        let found = ask(Method::GET, "https://api.example.com/rates?day=1").unwrap();
        assert_eq!(
            (found.status().as_u16(), &found.headers()["x-a"]),
            (203, &"b".parse().unwrap())
        );
        assert_eq!(rehearsal.sent()[0].body, "sent");
        for (method, url) in [
            (Method::POST, "https://api.example.com/rates"),
            (Method::GET, "https://api.example.com/"),
        ] {
            assert_eq!(
                ask(method, url).unwrap_err().code,
                "outbound.connect_failed"
            );
        }
        assert_eq!(rehearsal.sent().len(), 1);
        assert_eq!(
            rehearsal.unanswered()[0],
            "POST https://api.example.com/rates"
        );
    }
}
