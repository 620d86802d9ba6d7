//! Who is at the other end: the address of the client, through proxies that the operator trusts and no others.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::ids::Network;

/// Networks whose `X-Forwarded-For` is believed, in the form `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// The address of the client. Reads `X-Forwarded-For` from the right: each entry was written by the hop after it, so
    /// the first one that is no trusted proxy is the client, and what stands left of it is only what the client claims.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip().to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let mut client = peer;
        let entries = headers.get_all("x-forwarded-for").iter().rev();
        let entries = entries.flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
        for entry in entries {
            let Ok(address) = entry.trim().parse::<IpAddr>() else {
                break;
            };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Whether the client came by TLS. Only trusted proxies may say so; of several entries the last counts, which the proxy next
    /// to us has written.
    pub fn is_https(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        if self.0.is_empty() || !self.trusts(peer.ip().to_canonical()) {
            return false;
        }
        let last = headers.get_all("x-forwarded-proto").iter().next_back();
        let last = last
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let last = last.rsplit(',').next().unwrap_or_default();
        last.trim().eq_ignore_ascii_case("https")
    }

    /// Whether this address belongs to a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// What counts as one client: an address, of which one with version 6 can change the second half at will.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let networks = trusted
            .iter()
            .map(|text| Network::try_from((*text).to_owned()).unwrap());
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        TrustedProxies(networks.collect())
            .client(peer, &headers)
            .to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (trusted, peer, forwarded, expected) in [
            (&[][..], "10.0.0.1", &["1.2.3.4"][..], "10.0.0.1"),
            (&["10.0.0.0/8"], "10.0.0.1", &[], "10.0.0.1"),
            (&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["6.6.6.6, 1.2.3.4"],
                "1.2.3.4",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["6.6.6.6, 1.2.3.4, 10.9.9.9"],
                "1.2.3.4",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["6.6.6.6", "1.2.3.4"],
                "1.2.3.4",
            ),
            (
                &["10.0.0.0/8"],
                "10.0.0.1",
                &["1.2.3.4, nonsense"],
                "10.0.0.1",
            ),
            (&["10.0.0.0/8"], "11.0.0.1", &["1.2.3.4"], "11.0.0.1"),
            (&["10.0.0.0/8"], "::ffff:10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            (
                &["2001:db8::/32"],
                "2001:db8::1",
                &["2001:dead::1"],
                "2001:dead::1",
            ),
            (&["0.0.0.0/0"], "9.9.9.9", &["1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(
                client(trusted, peer, forwarded),
                expected,
                "{trusted:?} {peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.0.0.0/33", "10.0.0", "x", "::/129", "10.0.0.0/", "/8"] {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
