//! The listener: accepts connections, counts them, and drains them when the host stops.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// How connections are kept within bounds.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most open connections; further ones wait in the system's queue. Default: 4096.
    pub connections_max: usize,
    /// Time for a client to send the head of a request. Default: 10000.
    pub header_timeout_ms: u64,
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
    let graceful = GracefulShutdown::new();
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
        let handle = handle.clone();
        let service = hyper::service::service_fn(move |request| {
            let response = handle(peer, request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        #[expect(
            clippy::disallowed_methods,
            reason = "`graceful` tracks the connection for the shutdown"
        )]
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error.cause = %error, "A connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    let drain = Duration::from_millis(config.drain_ms);
    if tokio::time::timeout(drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("Some requests did not finish in time and were cut off");
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
