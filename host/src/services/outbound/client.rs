//! Clients that dial only what they may: one for the public internet, and one for each port with listed addresses.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
};
use url::{Host, Url};

use super::{Config, address::Reach};
use crate::services::{Error, Kind};

const STREAM_BYTES_AHEAD: u32 = 128 << 10;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Clients {
    public: Dialer,
    /// By port: with the public internet, and without it.
    listed: HashMap<u16, [Dialer; 2]>,
    is_http_allowed: bool,
}

#[derive(Debug, Clone)]
struct Dialer {
    client: Client,
    reach: Reach,
}

impl Clients {
    pub(super) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let dialer = |port: u16, is_public_allowed: bool| {
            let reach = Reach::of_port(&config.allow_private, port, is_public_allowed);
            Ok(Dialer {
                client: build(config, reach.clone())?,
                reach,
            })
        };
        let mut listed = HashMap::new();
        for address in &config.allow_private {
            let port = address.port();
            listed.insert(port, [dialer(port, true)?, dialer(port, false)?]);
        }
        // Port 0 is on no list that can be dialled.
        Ok(Self {
            public: dialer(0, true)?,
            listed,
            is_http_allowed: config.allow_http,
        })
    }

    /// The client for this URL, which has dialled nothing yet. An address in the URL itself is checked here, a name when
    /// it has been resolved.
    pub(super) fn for_url(&self, url: &Url) -> Result<&Client, Error> {
        let listed = url
            .port_or_known_default()
            .and_then(|port| self.listed.get(&port));
        let dialer = match (url.scheme(), listed) {
            ("http", Some([_, without_public])) if !self.is_http_allowed => without_public,
            ("http", _) if !self.is_http_allowed => {
                let message = "only https is allowed";
                return Err(Error::denied("outbound.scheme_forbidden", message));
            }
            ("http" | "https", Some([with_public, _])) => with_public,
            ("http" | "https", None) => &self.public,
            _ => {
                return Err(Error::invalid(
                    "outbound.url_invalid",
                    "the scheme must be https",
                ));
            }
        };
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if address.is_some_and(|address| !dialer.reach.contains(address)) {
            return Err(address_forbidden());
        }
        Ok(&dialer.client)
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
    Error::new(Kind::Unavailable, "outbound.name_forbidden", message)
}

fn build(config: &Config, reach: Reach) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(Guard(reach))
        .no_proxy()
        // Each hop of a redirect is checked anew, and by us.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(Duration::from_millis(config.connect_ms_max))
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(16)
        // What the other side may send before anybody has read it.
        .http2_initial_stream_window_size(STREAM_BYTES_AHEAD)
        .http2_initial_connection_window_size(4 * STREAM_BYTES_AHEAD)
        .http2_max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .build()
}

/// Resolves names and forgets the addresses that may not be dialled. The connection is made to one of those that are
/// left, so that a name cannot mean something else a moment later.
struct Guard(Reach);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = addresses.filter(|address| reach.contains(address.ip()));
            let allowed: Vec<SocketAddr> = allowed.take(ADDRESSES_MAX).collect();
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
