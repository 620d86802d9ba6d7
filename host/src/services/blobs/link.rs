//! Signed links: who has one may get or put one object until it ends, without an account. Nothing is stored.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::object::check_name;
use super::{BucketId, Error, Rules};

/// Where links lead: below this path the host answers them itself.
pub const LINK_PATH: &str = "/_gantry/blobs/";
/// Longest link that is looked at, in bytes.
const LINK_BYTES_MAX: usize = 4096;
/// Patterns of types in a link.
const TYPES_MAX: usize = 16;

const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// What a link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `GET` and `HEAD`.
    Get,
    /// `PUT`.
    Put,
}

impl Access {
    /// The word for it in links.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub access: Access,
    pub bucket: BucketId,
    pub name: String,
    pub expires_at_ms: i64,
    pub options: LinkOptions,
}

/// What a link says beside where it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// Of `GET`: whether a browser may show it in its place, in a sandbox, instead of saving it.
    pub is_inline: bool,
    /// Of `PUT`: what may be sent.
    pub rules: Rules,
    /// Of `PUT`: whom the object will belong to.
    pub owner: Option<String>,
}

/// Signs and verifies with a key for this purpose only.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
    }

    /// The path and query of a link.
    pub(super) fn sign(&self, link: &Link) -> Result<String, Error> {
        check_name(&link.name)?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("access", link.access.as_str());
        query.append_pair("expires", &link.expires_at_ms.to_string());
        let LinkOptions {
            is_inline,
            rules,
            owner,
        } = &link.options;
        if *is_inline {
            query.append_pair("inline", "1");
        }
        if let Some(bytes_max) = rules.bytes_max {
            query.append_pair("bytes", &bytes_max.to_string());
        }
        for pattern in &rules.types {
            query.append_pair("type", &pattern.to_string());
        }
        if let Some(owner) = owner {
            query.append_pair("owner", owner);
        }
        query.append_pair(
            "signature",
            &hex::encode(self.mac(link).finalize().into_bytes()),
        );
        let BucketId { plugin, label } = &link.bucket;
        let name = utf8_percent_encode(&link.name, IN_PATH);
        let link = format!("{LINK_PATH}{plugin}/{label}/{name}?{}", query.finish());
        if link.len() > LINK_BYTES_MAX {
            return Err(Error::NameInvalid);
        }
        Ok(link)
    }

    /// The link that path and query are, if it was signed here and is not past its end.
    pub(super) fn verify(&self, path: &str, query: &str, now_ms: i64) -> Result<Link, Error> {
        let (link, signature) = read(path, query).ok_or(Error::LinkInvalid)?;
        self.mac(&link)
            .verify_slice(&signature)
            .map_err(|_| Error::LinkInvalid)?;
        // After the signature: of what others made nothing is told.
        if now_ms >= link.expires_at_ms {
            return Err(Error::LinkExpired);
        }
        Ok(link)
    }

    /// Names a link, and is no signature of it.
    pub(super) fn digest(&self, link: &Link) -> String {
        hex::encode(Sha256::digest(self.mac(link).finalize().into_bytes()))
    }

    fn mac(&self, link: &Link) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        // Each piece with its length, so that no two links have the same pieces.
        let mut add = |piece: &str| {
            mac.update(&(piece.len() as u64).to_be_bytes());
            mac.update(piece.as_bytes());
        };
        add("gantry blobs link 1");
        add(link.access.as_str());
        add(link.bucket.plugin.as_str());
        add(link.bucket.label.as_str());
        add(&link.name);
        add(&link.expires_at_ms.to_string());
        let LinkOptions {
            is_inline,
            rules,
            owner,
        } = &link.options;
        add(if *is_inline { "inline" } else { "" });
        add(&rules
            .bytes_max
            .map_or(String::new(), |bytes| bytes.to_string()));
        add(&rules.types.len().to_string());
        for pattern in &rules.types {
            add(&pattern.to_string());
        }
        add(if owner.is_some() { "owner" } else { "" });
        add(owner.as_deref().unwrap_or_default());
        mac
    }
}

/// The bucket that the path of a link leads into, whether or not the link is good.
pub fn bucket_of_link(path: &str) -> Option<BucketId> {
    Some(divide(path)?.0)
}

/// The bucket, and the name as it is written in a path.
fn divide(path: &str) -> Option<(BucketId, &str)> {
    let mut parts = path.strip_prefix(LINK_PATH)?.splitn(3, '/');
    let bucket = BucketId {
        plugin: parts.next()?.parse().ok()?,
        label: parts.next()?.parse().ok()?,
    };
    Some((bucket, parts.next()?))
}

fn read(path: &str, query: &str) -> Option<(Link, Vec<u8>)> {
    if path.len() + query.len() > LINK_BYTES_MAX {
        return None;
    }
    let (bucket, name) = divide(path)?;
    let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
    check_name(&name).ok()?;
    let (mut access, mut expires_at_ms, mut signature) = (None, None, None);
    let mut options = LinkOptions::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_new = match &*key {
            "access" => {
                let word = match &*value {
                    "GET" => Access::Get,
                    "PUT" => Access::Put,
                    _ => return None,
                };
                access.replace(word).is_none()
            }
            "expires" => expires_at_ms.replace(value.parse().ok()?).is_none(),
            "inline" if value == "1" => !std::mem::replace(&mut options.is_inline, true),
            "bytes" => options
                .rules
                .bytes_max
                .replace(value.parse().ok()?)
                .is_none(),
            "type" => {
                options.rules.types.push(value.parse().ok()?);
                options.rules.types.len() <= TYPES_MAX
            }
            "owner" => options.owner.replace(value.into_owned()).is_none(),
            "signature" => signature.replace(hex::decode(&*value).ok()?).is_none(),
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    let link = Link {
        access: access?,
        bucket,
        name,
        expires_at_ms: expires_at_ms?,
        options,
    };
    Some((link, signature?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            access: Access::Put,
            bucket: BucketId {
                plugin: "shop".parse().unwrap(),
                label: "photos".parse().unwrap(),
            },
            name: name.to_owned(),
            expires_at_ms: 1000,
            options: LinkOptions {
                is_inline: false,
                rules: Rules {
                    bytes_max: Some(5),
                    types: vec!["image/*".parse().unwrap(), "text/csv".parse().unwrap()],
                },
                owner: Some("ann & bob".to_owned()),
            },
        }
    }

    fn verify(signer: &Signer, url: &str, now_ms: i64) -> Result<Link, Error> {
        let (path, query) = url.split_once('?').unwrap();
        signer.verify(path, query, now_ms)
    }

    #[test]
    fn a_link_says_what_was_signed_until_its_time_is_over() {
        let signer = Signer::new([1; 32]);
        for name in ["x", "a/b c/ä?&=#%.png", "100%"] {
            let mut link = link(name);
            let url = signer.sign(&link).unwrap();
            assert_eq!(verify(&signer, &url, 999).as_ref(), Ok(&link), "{url}");
            assert_eq!(verify(&signer, &url, 1000), Err(Error::LinkExpired));
            link.access = Access::Get;
            link.options = LinkOptions {
                is_inline: true,
                ..LinkOptions::default()
            };
            let url = signer.sign(&link).unwrap();
            assert_eq!(verify(&signer, &url, 0), Ok(link), "{url}");
        }
    }

    #[test]
    fn a_link_that_was_changed_or_made_elsewhere_is_worth_nothing() {
        let (signer, other) = (Signer::new([1; 32]), Signer::new([2; 32]));
        let url = signer.sign(&link("menu/7.png")).unwrap();
        for (from, to) in [
            ("/shop/", "/shop-2/"),
            ("/photos/", "/letters/"),
            ("menu/7", "menu/8"),
            ("access=PUT", "access=GET"),
            ("expires=1000", "expires=9999"),
            ("bytes=5", "bytes=6"),
            ("bytes=5&", ""),
            ("type=text%2Fcsv", "type=text%2Fhtml"),
            ("&type=text%2Fcsv", ""),
            ("owner=ann", "owner=eve"),
            ("signature=", "signature=00"),
            ("access=PUT", "access=PUT&access=PUT"),
            ("access=PUT", "access=PUT&more=1"),
            ("access=PUT", "access=PUT&inline=1"),
            ("signature=", "signed="),
        ] {
            assert!(url.contains(from), "{from}: {url}");
            let changed = url.replacen(from, to, 1);
            assert_eq!(
                verify(&signer, &changed, 0),
                Err(Error::LinkInvalid),
                "{changed}"
            );
        }
        assert_eq!(verify(&other, &url, 0), Err(Error::LinkInvalid));
        // Nothing is told of the end of what was not signed here.
        assert_eq!(verify(&other, &url, 5000), Err(Error::LinkInvalid));
        let long = format!("{url}&x={}", "x".repeat(5000));
        assert_eq!(verify(&signer, &long, 0), Err(Error::LinkInvalid));
        assert!(signer.sign(&link("../x")).is_err());
    }
}
