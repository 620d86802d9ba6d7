//! Sends errors of the log to a collector: a task of its own takes them out of a bounded queue, so that neither the log nor
//! a request ever waits for the collector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::header;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::telemetry::config::{Config, Level, Place};
use crate::telemetry::envelope::{CLIENT, Fields, Told};

/// What is logged in here is not sent: it is about sending.
const OWN: &str = module_path!();
/// How what the host itself logs is told from what its parts do.
const HOSTS: &str = "gantry::";
/// How often one error is tried before it is given up.
const TRIES_MAX: u32 = 4;
/// Pause after a first failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What sends errors, until it is closed.
pub struct Collector {
    tasks: TaskTracker,
    stop: CancellationToken,
    patience: Duration,
}

impl Collector {
    /// Starts sending, if the settings name a collector. The layer is for the log.
    pub(super) fn start(config: &Config) -> (Self, Option<Tell>) {
        let this = Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            patience: Duration::from_millis(config.timeout_ms),
        };
        this.tasks.close();
        let Some(place) = config.dsn.place() else {
            return (this, None);
        };
        let (queue, waiting) = mpsc::channel(config.queue_max);
        let lost = Arc::<AtomicU64>::default();
        let sender = Sender {
            http: client(this.patience),
            place,
            environment: config.environment.clone(),
            host: host_name(),
            lost: Arc::clone(&lost),
        };
        this.tasks.spawn(sender.run(waiting, this.stop.clone()));
        let layer = Tell {
            level: match config.level {
                Level::Error => tracing::Level::ERROR,
                Level::Warn => tracing::Level::WARN,
            },
            queue,
            lost,
        };
        (this, Some(layer))
    }

    /// Sends what waits, for as long as one error may take, and ends.
    pub async fn close(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(self.patience, self.tasks.wait()).await;
    }
}

/// What this machine is called; nothing where the system does not tell.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

fn client(timeout: Duration) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(timeout);
    builder.build().unwrap_or_default()
}

/// The layer of the log that puts errors into the queue.
pub(super) struct Tell {
    level: tracing::Level,
    queue: mpsc::Sender<Told>,
    lost: Arc<AtomicU64>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tell {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && span.metadata().target().starts_with(HOSTS)
        {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        if *level > self.level || !target.starts_with(HOSTS) || target == OWN {
            return;
        }
        let mut around = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                around.extend(fields);
            }
        }
        if self.queue.try_send(Told::new(event, around)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

struct Sender {
    http: reqwest::Client,
    place: Place,
    environment: String,
    host: String,
    lost: Arc<AtomicU64>,
}

/// What came of one try.
enum Sent {
    Taken,
    /// The collector does not want this one.
    Refused(u16),
    /// Perhaps later.
    Failed(String, Option<Duration>),
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Told>, stop: CancellationToken) {
        let mut is_away = false;
        loop {
            let told = tokio::select! {
                told = waiting.recv() => told,
                () = stop.cancelled() => waiting.try_recv().ok(),
            };
            let Some(told) = told else { return };
            let lost = self.lost.swap(0, Relaxed);
            let envelope = told.envelope(&self.environment, &self.host, lost);
            let is_taken = self.deliver(envelope, &mut is_away, &stop).await;
            if !is_taken {
                self.lost.fetch_add(lost + 1, Relaxed);
            }
        }
    }

    /// Tries a few times, with growing pauses. Whether the collector has it.
    async fn deliver(
        &self,
        envelope: Vec<u8>,
        is_away: &mut bool,
        stop: &CancellationToken,
    ) -> bool {
        let mut pause = PAUSE;
        for _ in 0..TRIES_MAX {
            let (cause, asked) = match self.send(envelope.clone()).await {
                Sent::Taken => {
                    if std::mem::take(is_away) {
                        tracing::info!("The collector of errors takes them again");
                    }
                    return true;
                }
                Sent::Refused(status) => {
                    tracing::warn!(
                        status,
                        "The collector does not take an error; is `errors.dsn` right?"
                    );
                    return false;
                }
                Sent::Failed(cause, asked) => (cause, asked),
            };
            if !std::mem::replace(is_away, true) {
                tracing::warn!(error.cause = %cause, "The collector of errors cannot be used");
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(asked.unwrap_or(pause).min(PAUSE_MAX)) => {}
            }
            pause = pause.saturating_mul(2);
        }
        false
    }

    async fn send(&self, envelope: Vec<u8>) -> Sent {
        let key = &self.place.key;
        let who = format!("Sentry sentry_version=7, sentry_client={CLIENT}, sentry_key={key}");
        let request = self
            .http
            .post(self.place.url.clone())
            .header("x-sentry-auth", who)
            .header(header::USER_AGENT, CLIENT)
            .header(header::CONTENT_TYPE, "application/x-sentry-envelope")
            .body(envelope);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Sent::Failed(error.without_url().to_string(), None),
        };
        let status = answer.status().as_u16();
        let seconds = answer.headers().get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        match status {
            200..300 => Sent::Taken,
            // Too much at once, or not well.
            429 | 500.. => {
                let cause = format!("it answers {status}");
                Sent::Failed(cause, seconds.map(Duration::from_secs))
            }
            _ => Sent::Refused(status),
        }
    }
}
