//! What a policy counts by, and the caller's key for it.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Whose use a policy adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// Each client address. An IPv6 client is known by its /64: it can change the rest at will.
    Ip,
    /// Each user. Callers who are not users count by their address.
    User,
    /// Each API key. Callers without one count by their address.
    ApiKey,
    /// Each user or API key. Callers who are neither count by their address.
    Principal,
    /// Everybody together.
    Route,
}

impl KeyKind {
    /// As manifests and settings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::User => "user",
            Self::ApiKey => "api-key",
            Self::Principal => "principal",
            Self::Route => "route",
        }
    }
}

/// What the front door knows about the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller<'a> {
    /// The client's address, through trusted proxies only. Callers without one count together.
    pub address: Option<IpAddr>,
    /// The id of the user, if the caller is one.
    pub user: Option<&'a str>,
    /// The id of the API key, if the caller came with one.
    pub api_key: Option<&'a str>,
}

/// How names become keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// With secrets of this process: fast, and worth nothing elsewhere.
    InProcess,
    /// The same in all processes.
    Shared,
}

/// One caller in the eyes of a policy. Cheap to copy; holds no name or address in readable form except an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u128);

impl Key {
    /// The key that all callers share.
    pub const EVERYBODY: Self = Self(0);

    /// The key of a client address: the whole IPv4 address, or the /64 of an IPv6 address.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64 | 1),
        }
    }

    /// The key of a name, for example a user's id. `space` keeps equal names of different things apart.
    pub fn of_name(space: &str, name: &str, naming: Naming) -> Self {
        Self::of_bytes(space, name.as_bytes(), naming)
    }

    /// The key of a value that is not always text, for example a header.
    pub fn of_bytes(space: &str, value: &[u8], naming: Naming) -> Self {
        match naming {
            Naming::InProcess => {
                // Two hashes with secret seeds: nobody can find two names that meet.
                static SEEDS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
                let [high, low] = &*SEEDS;
                let of = |seed: &RandomState| u128::from(seed.hash_one((space, value)));
                Self(of(high) << 64 | of(low))
            }
            Naming::Shared => {
                let digest = sha2::Sha256::new()
                    .chain_update(space)
                    .chain_update([0])
                    .chain_update(value);
                let digest: [u8; 32] = digest.finalize().into();
                let (half, _) = digest.split_at(16);
                let bytes = half.iter().map(|byte| u128::from(*byte));
                Self(bytes.fold(0, |key, byte| key << 8 | byte))
            }
        }
    }

    /// The key by which a policy of this kind counts this caller.
    pub fn of_caller(kind: KeyKind, caller: &Caller<'_>, naming: Naming) -> Self {
        let user = || caller.user.map(|id| Self::of_name("user", id, naming));
        let api_key = || {
            let id = caller.api_key;
            id.map(|id| Self::of_name("api-key", id, naming))
        };
        let name = match kind {
            KeyKind::Ip => None,
            KeyKind::User => user(),
            KeyKind::ApiKey => api_key(),
            KeyKind::Principal => user().or_else(api_key),
            KeyKind::Route => return Self::EVERYBODY,
        };
        name.or_else(|| caller.address.map(Self::of_address))
            .unwrap_or(Self::EVERYBODY)
    }
}
