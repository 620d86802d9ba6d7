//! The listener: accepts connections, counts them, and drains them when the host stops.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How connections are kept within bounds.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most open connections; further ones wait in the system's queue. Default: 4096.
    pub connections_max: usize,
    /// Time for a client to send the head of a request, counted from the connection for the first one. Default: 10000.
    pub header_timeout_ms: u64,
    /// How long an HTTP/2 connection without requests stays open. With HTTP/1.1, `header_timeout_ms` is that time.
    /// Default: 60000.
    pub idle_timeout_ms: u64,
    /// Most bytes of the head of a request. Beyond it the connection ends without a proper answer, so it is wider than
    /// the gateway's own bound. Default: 128 KiB.
    pub header_bytes_max: usize,
    /// Most headers of a request (HTTP/1.1), wider than the gateway's own bound for the same reason. Default: 500.
    pub headers_max: usize,
    /// Most requests at once on one HTTP/2 connection. Default: 100.
    pub http2_streams_max: u32,
    /// How long requests in progress may go on when the host stops. Default: 30000.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            header_bytes_max: 128 << 10,
            headers_max: 500,
            http2_streams_max: 100,
            drain_ms: 30_000,
        }
    }
}

/// Serves requests until `stop` is cancelled, then lets those in progress finish.
///
/// `handle` runs once per request, with the address of the peer.
pub async fn serve<H, F>(listener: TcpListener, config: &Config, stop: CancellationToken, handle: H)
where
    H: Fn(SocketAddr, http::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = http::Response<axum::body::Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(config.connections_max));
    let builder = Arc::new(builder(config));
    let connections = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: others will close theirs.
                tracing::warn!(error.cause = %error, "Cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without this, a small answer waits for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            builder: Arc::clone(&builder),
            stop: stop.clone(),
            first: Duration::from_millis(config.header_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
        };
        let served = connection.serve(stream, peer, handle.clone());
        connections.spawn(async move {
            served.await;
            drop(place);
        });
    }
    drop(listener);
    let drain = Duration::from_millis(config.drain_ms);
    connections.close();
    if timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!("Some requests did not finish in time and were cut off");
    }
}

/// One connection and its bounds.
struct Connection {
    builder: Arc<auto::Builder<TokioExecutor>>,
    stop: CancellationToken,
    /// For the first request to come. The HTTP library counts only from the first bytes on, and not at all for HTTP/2.
    first: Duration,
    /// Without a request.
    idle: Duration,
}

impl Connection {
    async fn serve<H, F>(self, stream: TcpStream, peer: SocketAddr, handle: H)
    where
        H: Fn(SocketAddr, http::Request<Incoming>) -> F,
        F: Future<Output = http::Response<axum::body::Body>> + Send + 'static,
    {
        let activity = Activity::new();
        let requests = activity.clone();
        let service = hyper::service::service_fn(move |request| {
            let guard = requests.enter();
            let response = handle(peer, request);
            async move {
                let response = response.await;
                drop(guard);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut is_ending = false;
        loop {
            let wake_at = activity.idle_at(self.first, self.idle);
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error.cause = %error, "A connection ended early");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(wake_at), if !is_ending => {
                    if activity.idle_at(self.first, self.idle) > Instant::now() {
                        continue;
                    }
                    if !activity.has_begun() {
                        // Whatever it is saying, it is not a request: there is nothing to finish.
                        return;
                    }
                    // Answers that are still being sent go on to their end.
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// What a connection is doing.
#[derive(Clone)]
struct Activity(Arc<Mutex<Requests>>);

struct Requests {
    in_progress: usize,
    has_begun: bool,
    /// When the connection was made or the last request ended.
    since: Instant,
}

/// A request in progress, for as long as it lives.
struct InProgress(Activity);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Requests {
            in_progress: 0,
            has_begun: false,
            since: Instant::now(),
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Requests) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self) -> InProgress {
        self.with(|requests| {
            requests.in_progress += 1;
            requests.has_begun = true;
        });
        InProgress(self.clone())
    }

    fn has_begun(&self) -> bool {
        self.with(|requests| requests.has_begun)
    }

    /// When the connection will have been idle for too long, if no request comes until then.
    fn idle_at(&self, first: Duration, idle: Duration) -> Instant {
        self.with(|requests| match requests {
            Requests {
                has_begun: false,
                since,
                ..
            } => *since + first,
            Requests {
                in_progress: 0,
                since,
                ..
            } => *since + idle,
            // Requests have bounds of their own; look again later.
            Requests { .. } => Instant::now() + idle.max(Duration::from_secs(1)),
        })
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.with(|requests| {
            requests.in_progress -= 1;
            requests.since = Instant::now();
        });
    }
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(config.header_bytes_max.max(8192))
        .max_headers(config.headers_max)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_streams_max)
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
