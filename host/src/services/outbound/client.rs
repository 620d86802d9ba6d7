//! Clients that dial only what they may: one for the public internet, and one for each port with listed addresses, for
//! each plugin.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
};
use url::{Host, Url};

use super::{Config, address::Reach};
use crate::services::{self, Error};

/// Connections that wait for more requests to the same host.
const IDLE_PER_HOST_MAX: usize = 4;
const STREAM_BYTES_AHEAD: u32 = 128 << 10;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The clients of one plugin. No connection is used by two plugins: what one sends wrongly must not spoil the answer to
/// another.
pub(super) struct Clients {
    resolver: Resolver,
    /// Made when they are needed.
    made: Mutex<HashMap<Kind, Client>>,
}

/// What a client may dial, and whether it keeps connections for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    /// Where listed addresses are.
    port: Option<u16>,
    is_public_allowed: bool,
    is_keeping: bool,
}

impl Clients {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            made: Mutex::default(),
        }
    }

    /// The client for this URL, which has dialled nothing yet. An address in the URL itself is checked here, a name when
    /// it has been resolved. `is_keeping` says whether connections wait for more requests.
    pub(super) fn for_url(
        &self,
        url: &Url,
        is_keeping: bool,
        config: &Config,
    ) -> Result<Client, Error> {
        let listed = |port: &u16| config.allow_private.iter().any(|at| at.port() == *port);
        let port = url.port_or_known_default().filter(listed);
        let is_public_allowed = match (url.scheme(), port) {
            ("http", Some(_)) => config.allow_http,
            ("http", None) if !config.allow_http => {
                let message = "only https is allowed";
                return Err(Error::denied("outbound.scheme_forbidden", message));
            }
            ("http" | "https", _) => true,
            _ => {
                let message = "the scheme must be https";
                return Err(Error::invalid("outbound.url_invalid", message));
            }
        };
        let kind = Kind {
            port,
            is_public_allowed,
            is_keeping,
        };
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        let reach = Reach::of_port(&config.allow_private, port, is_public_allowed);
        if address.is_some_and(|address| !reach.contains(address)) {
            return Err(address_forbidden());
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&kind) {
            return Ok(client.clone());
        }
        let guard = Guard {
            reach,
            resolver: self.resolver.clone(),
        };
        let client = build(config, guard, is_keeping);
        let client = client.map_err(|error| Error::internal("outbound.failed", &error))?;
        made.insert(kind, client.clone());
        Ok(client)
    }
}

/// For an address that the plugin itself has written.
fn address_forbidden() -> Error {
    let message =
        "the address in the URL is none of the public internet, nor listed by the operator";
    Error::denied("outbound.address_forbidden", message)
}

/// For a name. To the plugin it is a name that leads nowhere, so that it cannot ask which names there are inside.
pub(super) fn name_forbidden() -> Error {
    let message = "the name has no address that may be reached from here";
    Error::new(
        services::Kind::Unavailable,
        "outbound.name_forbidden",
        message,
    )
}

/// Whether a client can be built here at all.
pub(super) fn check(config: &Config) -> Result<(), reqwest::Error> {
    let reach = Reach::of_port(&[], None, false);
    let resolver = system();
    build(config, Guard { reach, resolver }, false).map(drop)
}

fn build(config: &Config, guard: Guard, is_keeping: bool) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(guard)
        // Whatever the environment says: behind a proxy nobody sees where a connection leads.
        .no_proxy()
        // Each hop of a redirect is checked anew, and by us.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(Duration::from_millis(config.connect_ms_max))
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(if is_keeping { IDLE_PER_HOST_MAX } else { 0 })
        // What the other side may send before anybody has read it.
        .http2_initial_stream_window_size(STREAM_BYTES_AHEAD)
        .http2_initial_connection_window_size(4 * STREAM_BYTES_AHEAD)
        .http2_max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .build()
}

/// From a name to its addresses.
pub(super) type Resolver = Arc<dyn Fn(String) -> BoxFuture<'static, Addresses> + Send + Sync>;
pub(super) type Addresses = io::Result<Vec<IpAddr>>;

/// As the machine does it.
pub(super) fn system() -> Resolver {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Resolves names and forgets the addresses that may not be dialled. The connection is made to one of those that are
/// left, so that a name cannot mean something else a moment later.
struct Guard {
    reach: Reach,
    resolver: Resolver,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, found) = (
            self.reach.clone(),
            (self.resolver)(name.as_str().to_owned()),
        );
        Box::pin(async move {
            let allowed = found.await?.into_iter();
            let allowed: Vec<SocketAddr> = allowed
                .filter(|address| reach.contains(*address))
                .map(|address| SocketAddr::new(address, 0))
                .take(ADDRESSES_MAX)
                .collect();
            if allowed.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A name with no address that may be dialled.
#[derive(Debug)]
pub(super) struct Forbidden;

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address of the host may be reached")
    }
}

impl std::error::Error for Forbidden {}
