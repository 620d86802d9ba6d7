//! Which addresses a plugin may reach: those of the public internet, and those that the operator lists one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether anybody on the internet means the same host by this address.
///
/// For version 6 that is the allocated range without the parts that stand for something else: addresses that embed one
/// of version 4 (mapped, NAT64, 6to4, Teredo) could lead anywhere, so they are refused whatever they embed.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)          // this network, private, loopback
            | (100, 64..=127, _)      // shared by providers (CGNAT)
            | (169, 254, _)           // link-local, with the metadata services of clouds
            | (172, 16..=31, _)       // private
            | (192, 0, 0 | 2)         // protocol assignments, documentation
            | (192, 31, 196)          // AS112
            | (192, 52, 193)          // AMT
            | (192, 88, 99)           // 6to4 relays
            | (192, 168, _)           // private
            | (192, 175, 48)          // AS112
            | (198, 18..=19, _)       // benchmarks
            | (198, 51, 100)          // documentation
            | (203, 0, 113)           // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is allocated. Outside lie loopback, mapped, NAT64, unique local, link-local and multicast.
    let is_allocated = a & 0xe000 == 0x2000;
    let is_special = match a {
        // Protocol assignments (with Teredo and benchmarks) and documentation.
        0x2001 => b < 0x0200 || b == 0x0db8,
        // 6to4.
        0x2002 => true,
        // AS112.
        0x2620 => b == 0x004f,
        // Documentation.
        0x3fff => b < 0x1000,
        _ => false,
    };
    is_allocated && !is_special
}

/// What one connection may dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    /// Whether the public internet may be reached.
    pub(super) is_public_allowed: bool,
    /// Other addresses that may be reached, all on the port that is dialled.
    pub(super) listed: Vec<IpAddr>,
}

impl Reach {
    /// What the operator's list says about a port.
    pub(super) fn of_port(
        listed: &[SocketAddr],
        port: Option<u16>,
        is_public_allowed: bool,
    ) -> Self {
        let listed = listed
            .iter()
            .filter(|listed| Some(listed.port()) == port)
            .map(SocketAddr::ip);
        Self {
            is_public_allowed,
            listed: listed.collect(),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.listed.contains(&address) || (self.is_public_allowed && is_public(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for (address, wanted) in [
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("192.0.1.1", true),
            ("198.17.255.255", true),
            ("198.20.0.0", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.170", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.7", false),
            ("203.0.113.7", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("2a00:1450:4001::200e", true),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:1.1.1.1", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b::101:101", false),
            ("64:ff9b:1::1", false),
            ("64:ff9b:1:a00:1::", false),
            ("64:ff9b:1:ffff:ffff:ffff:7f00:1", false),
            ("::ffff:0:7f00:1", false),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", false),
            ("2002:a9fe:a9fe::", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:2::1", false),
            ("2001:10::1", false),
            ("2001:20::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), wanted, "{address}");
        }
    }

    proptest::proptest! {
        /// Whatever stands for an address of version 4 could lead inside, and some gateways take out any of them.
        #[test]
        fn no_address_that_embeds_another_is_public(v4: u32) {
            let [high, low] = [(v4 >> 16) as u16, v4 as u16];
            for embedding in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, high, low, 0, 0, 0),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
            ] {
                proptest::prop_assert!(!is_public(embedding.into()), "{embedding}");
            }
        }

        #[test]
        fn nothing_beside_the_allocated_range_is_public(address: u128) {
            let address = Ipv6Addr::from(address);
            let is_allocated = address.segments()[0] >> 13 == 1;
            proptest::prop_assert!(is_allocated || !is_public(address.into()), "{address}");
        }
    }

    #[test]
    fn a_listed_address_is_reached_on_its_port_only() {
        let listed = [
            "127.0.0.1:9000".parse().unwrap(),
            "[::1]:9001".parse().unwrap(),
        ];
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(Reach::of_port(&listed, Some(9000), true).contains(loopback));
        assert!(!Reach::of_port(&listed, Some(9001), true).contains(loopback));
        assert!(!Reach::of_port(&listed, Some(9000), false).contains("1.1.1.1".parse().unwrap()));
    }
}
