//! Requests of a guest on our own client, behind the egress guard: those of `wasi:http/outgoing-handler`, and a way for
//! others.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::runtime::PluginSpec;
use crate::runtime::state::Services;
use crate::services::log::{CallLog, Level};
use crate::services::outbound::{self, Budget, Injection, Patience, Sender};
use crate::services::rehearsal::call;
use crate::services::{self, Allowance, Held, Kind, Service};

/// Most bytes that a guest writes to a body at once. Each open body may have some of it waiting in the host.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// What one call may still send.
pub(super) struct Egress {
    plugin: Arc<PluginSpec>,
    services: Arc<Services>,
    allowance: Allowance,
    log: CallLog,
    /// Of the requests that it sends.
    depth: u32,
    budget: Option<Arc<tokio::sync::Mutex<Budget>>>,
}

impl Egress {
    pub(super) fn new(
        plugin: Arc<PluginSpec>,
        services: Arc<Services>,
        allowance: Allowance,
        log: CallLog,
        depth: u32,
    ) -> Self {
        Self {
            plugin,
            services,
            allowance,
            log,
            depth,
            budget: None,
        }
    }
}

impl Egress {
    /// Of the instance's next call.
    pub(super) fn begin(&mut self, allowance: Allowance, log: CallLog, depth: u32) {
        self.allowance = allowance;
        self.log = log;
        self.depth = depth;
        self.budget = None;
    }

    /// What one request needs, apart from the instance that sends it.
    pub(super) fn way(&mut self) -> Way {
        let outbound = &self.services.outbound;
        let budget = self
            .budget
            .get_or_insert_with(|| Arc::new(tokio::sync::Mutex::new(outbound.budget())));
        Way {
            plugin: Arc::clone(&self.plugin),
            services: Arc::clone(&self.services),
            allowance: self.allowance.clone(),
            budget: Arc::clone(budget),
            depth: self.depth,
            log: self.log.clone(),
        }
    }
}

/// The way of one request: out through the guard, with the secrets that the host adds.
pub(super) struct Way {
    plugin: Arc<PluginSpec>,
    services: Arc<Services>,
    pub(super) allowance: Allowance,
    budget: Arc<tokio::sync::Mutex<Budget>>,
    depth: u32,
    log: CallLog,
}

impl Way {
    /// Sends a request and returns when the headers of the answer are there.
    pub(super) async fn send(
        &self,
        request: http::Request<Bytes>,
        patience: Patience,
    ) -> Result<http::Response<outbound::Body>, services::Error> {
        let _timed = self.allowance.time(Service::Outbound);
        let (plugin, services) = (&*self.plugin, &*self.services);
        if let Some(rehearsal) = &services.rehearsal
            && let Some(error) = rehearsal.meet(call!(outbound.send))
        {
            return Err(error);
        }
        let injections = injections(plugin, services, request.uri()).await?;
        let sender = Sender {
            plugin: &plugin.name,
            policy: &plugin.granted.outbound,
            injections: &injections,
            allowance: &self.allowance,
            patience,
            depth: self.depth,
        };
        let mut budget = self.budget.lock().await;
        let host = request.uri().authority().cloned();
        let sent = services.outbound.send(sender, request, &mut budget).await;
        if let Err(error) = &sent
            && error.kind == Kind::Denied
        {
            let host = host.as_ref().map_or("", |host| host.as_str());
            self.log.note_refused(&format!("http:{host}"), &error.code);
        }
        sent
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Egress {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _written: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        let (way, log) = (self.way(), self.log.clone());
        Box::new(async move {
            let (head, body) = request.into_parts();
            let bytes_max = way.services.outbound.request_bytes_max();
            // Kept until the answer has begun: a redirect may want the body again.
            let (body, _held) = collect(body, bytes_max, &way.allowance, &log).await?;
            let response = way
                .send(http::Request::from_parts(head, body), patience(options))
                .await
                .map_err(|error| refuse(&error, &log))?;
            let response = response.map(|body| {
                // The words of `wasi:http` get lost on their way out of a stream; text does not.
                body.map_err(move |error| tell(&error, &log)).boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Io))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// How long the guest itself wants to wait. To connect and to wait for the answer are one thing here.
fn patience(options: Option<RequestOptions>) -> Patience {
    let Some(options) = options else {
        return Patience::default();
    };
    let first_byte = match (options.connect_timeout, options.first_byte_timeout) {
        (Some(connect), Some(first_byte)) => Some(connect.saturating_add(first_byte)),
        (_, first_byte) => first_byte,
    };
    Patience {
        first_byte,
        between_bytes: options.between_bytes_timeout,
    }
}

/// The whole body, counted while it comes: a guest may have many requests under way.
async fn collect(
    mut body: WasiBody,
    bytes_max: usize,
    allowance: &Allowance,
    log: &CallLog,
) -> Result<(Bytes, Held), Error> {
    let refuse = |error: services::Error| refuse(&error, log);
    let mut held = allowance.hold(0).map_err(refuse)?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(Error::HttpRequestBodySize(Some(bytes_max as u64)));
        }
        held.grow(data.len()).map_err(refuse)?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), held))
}

/// The secrets that the host adds by itself, each bound to its host. One that has no value yet matters only to requests
/// to its own host.
async fn injections(
    plugin: &PluginSpec,
    services: &Services,
    uri: &http::Uri,
) -> Result<Vec<Injection>, services::Error> {
    let mut injections = Vec::new();
    for secret in &plugin.granted.injected {
        let injection = |value: &[u8]| {
            Injection::new(&secret.host, secret.header.clone(), &secret.prefix, value)
        };
        match services.secrets.get(&plugin.name, &secret.label).await {
            Ok(found) => injections.push(injection(&found.value)?),
            Err(error) if error.kind == Kind::NotFound && !injection(b"")?.is_for(uri) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(injections)
}

/// What the guest is told. That depends on its manifest and its request alone, and not on what this host finds in its
/// network: a name that leads inside looks like one that leads nowhere. The plugin's log has the whole reason; its code
/// cannot read that.
///
/// `wasi:http` has words for much of it. The rest travels as text which the SDK understands: `KIND CODE: MESSAGE`.
fn refuse(error: &services::Error, log: &CallLog) -> Error {
    let told = tell(error, log);
    match error.code.as_ref() {
        "outbound.host_not_granted" => Error::HttpRequestDenied,
        "outbound.method_not_granted" | "outbound.method_forbidden" => {
            Error::HttpRequestMethodInvalid
        }
        "outbound.address_forbidden" => Error::DestinationIpProhibited,
        "outbound.connect_failed" | "outbound.name_forbidden" => Error::DestinationUnavailable,
        "outbound.broken" => Error::ConnectionTerminated,
        "outbound.timeout" => Error::HttpResponseTimeout,
        "outbound.too_many_in_flight" => Error::ConnectionLimitReached,
        "outbound.too_many_redirects" => Error::LoopDetected,
        "outbound.request_too_large" => Error::HttpRequestBodySize(None),
        "outbound.response_too_large" => Error::HttpResponseBodySize(None),
        "outbound.url_invalid" => Error::HttpRequestUriInvalid,
        _ => told,
    }
}

/// The reason for the log, and as text for the guest.
fn tell(error: &services::Error, log: &CallLog) -> Error {
    let (code, message) = (&error.code, &error.message);
    log.write(Level::Warn, "outbound", &format!("{code}: {message}"));
    let kind = match error.kind {
        Kind::Denied => "denied",
        Kind::Invalid => "invalid",
        Kind::Limit => "limit",
        Kind::Timeout => "timeout",
        Kind::Unavailable | Kind::NotFound | Kind::Conflict => "unavailable",
        Kind::Internal => return Error::InternalError(None),
    };
    Error::InternalError(Some(format!("{kind} {code}: {message}")))
}
