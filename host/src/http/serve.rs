//! The listener: accepts connections, counts them, and drains them when the host stops.

use std::{
    convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::address::TrustedProxies;
use crate::http::connection::{Activity, Bounds, Outgoing, Overdue, Socket};
use crate::http::shares::Shares;

/// How connections are kept within bounds.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most open connections; further ones wait in the system's queue. Default: 4096.
    pub connections_max: usize,
    /// Most open connections of one client; further ones are closed at once. Trusted proxies may have as many as there
    /// are. Default: 1024.
    pub connections_per_client_max: usize,
    /// Time for a client to send the head of a request, counted from the connection for the first one. Default: 10000.
    pub header_timeout_ms: u64,
    /// How long an HTTP/2 connection without requests stays open. With HTTP/1.1, `header_timeout_ms` is that time.
    /// Default: 60000.
    pub idle_timeout_ms: u64,
    /// How long a client may take nothing of what there is for it; then the connection is closed. It is looked at as
    /// often, so it can be twice as long. Default: 60000.
    pub write_timeout_ms: u64,
    /// How long the rest of a body that nobody reads any more is taken before the connection is closed, so that its client
    /// gets to read why. Default: 5000.
    pub unread_body_timeout_ms: u64,
    /// Most bytes of that rest. Default: 16 MiB.
    pub unread_body_bytes_max: u64,
    /// Most bytes of answers that wait in the system's buffer of one connection; it may allow less. More is faster over
    /// long distances; less shows sooner that a client does not read. Default: 256 KiB.
    pub send_buffer_bytes: u32,
    /// Most bytes of the head of a request. Beyond it the connection ends with the answer, so it is wider than the
    /// gateway's own bound. Default: 128 KiB.
    pub header_bytes_max: usize,
    /// Most headers of a request (HTTP/1.1), wider than the gateway's own bound for the same reason. More than 100 cost each
    /// request two blocks of memory. Default: 100.
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
            connections_per_client_max: 1024,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 60_000,
            unread_body_timeout_ms: 5000,
            unread_body_bytes_max: 16 << 20,
            send_buffer_bytes: 256 << 10,
            header_bytes_max: 128 << 10,
            headers_max: 100,
            http2_streams_max: 100,
            drain_ms: 30_000,
        }
    }
}

/// Takes an address, for [`serve`].
pub fn bind(address: SocketAddr, config: &Config) -> std::io::Result<TcpListener> {
    /// Connections that the system keeps until they are accepted.
    const QUEUE: u32 = 1024;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Its connections inherit it. Otherwise the system keeps megabytes for a client that reads nothing.
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Serves requests until `stop` is cancelled, then lets those in progress finish.
///
/// `handle` runs once per request, with the address of the peer.
pub async fn serve<H, F>(
    listener: TcpListener,
    config: &Config,
    proxies: &TrustedProxies,
    stop: CancellationToken,
    handle: H,
) where
    H: Fn(SocketAddr, http::Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = http::Response<axum::body::Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(config.connections_max));
    let clients = Shares::new(usize::MAX, config.connections_per_client_max);
    let builder = Arc::new(builder(config));
    let ms = |ms: u64| Duration::from_millis(ms.max(1));
    let bounds = Bounds {
        first: ms(config.header_timeout_ms),
        idle: ms(config.idle_timeout_ms),
        write: ms(config.write_timeout_ms),
        rest: ms(config.unread_body_timeout_ms),
        rest_bytes: config.unread_body_bytes_max,
    };
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
        let address = peer.ip().to_canonical();
        let share = if proxies.trusts(address) {
            None
        } else {
            let share = clients.take(address, 1);
            if share.is_none() {
                tracing::debug!(client = %address, "A client has as many connections as it may");
                continue;
            }
            share
        };
        // Without this, a small answer waits for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            builder: Arc::clone(&builder),
            stop: stop.clone(),
            bounds,
        };
        let served = connection.serve(stream, peer, handle.clone());
        connections.spawn(async move {
            served.await;
            drop((place, share));
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
    bounds: Bounds,
}

impl Connection {
    async fn serve<H, F>(self, stream: TcpStream, peer: SocketAddr, handle: H)
    where
        H: Fn(SocketAddr, http::Request<Incoming>) -> F,
        F: Future<Output = http::Response<axum::body::Body>> + Send + 'static,
    {
        let activity = Activity::new();
        let requests = activity.clone();
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            // Over HTTP/2, a refused body ends its stream and not the connection.
            let is_http1 = request.version() < http::Version::HTTP_2;
            let in_progress = requests.enter(is_http1 && !request.body().is_end_stream());
            // In a box: on its way a request takes some kilobytes, which each connection would keep for itself, and move.
            Box::pin(handle(peer, request)).map(move |mut response| {
                if is_http1 && leaves_the_body(response.status()) {
                    let close = http::HeaderValue::from_static("close");
                    response
                        .headers_mut()
                        .insert(http::header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| Outgoing::new(body, in_progress)))
            })
        });
        let socket = TokioIo::new(Socket::new(stream, activity.clone(), &self.bounds));
        let connection = self.builder.serve_connection(socket, service);
        let mut connection = pin!(connection);
        let mut is_ending = false;
        loop {
            // What a connection does changes meanwhile, so it is looked at now and then.
            let next = Instant::now() + self.bounds.write;
            let due = activity.due(&self.bounds, is_ending);
            let wake_at = due.map_or(next, |(due_at, _)| due_at.min(next));
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
                () = sleep_until(wake_at) => match activity.due(&self.bounds, is_ending) {
                    Some((due_at, overdue)) if due_at <= Instant::now() => match overdue {
                        // Answers that are still being sent go on to their end.
                        Overdue::FurtherRequest => {
                            is_ending = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        // Whatever it is saying, it is not a request: there is nothing to finish.
                        Overdue::Request => return,
                        Overdue::Reading => {
                            tracing::debug!(client = %peer, "A client does not read its answers");
                            return;
                        }
                    },
                    _ => {}
                },
            }
        }
    }
}

/// Whether the rest of a request's body is not read after this answer, so that no further request can come on its
/// connection (RFC 9110, sections 15.5.9 and 15.5.14).
fn leaves_the_body(status: http::StatusCode) -> bool {
    use http::StatusCode;
    matches!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
    )
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(config.header_bytes_max.max(8192))
        // Not `pipeline_flush`: it keeps the whole of all answers to requests that are sent at once in memory.
        .max_headers(config.headers_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_streams_max)
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
