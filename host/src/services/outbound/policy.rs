//! Which hosts a plugin may send requests to, and which secrets go along.

use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use url::Url;
use zeroize::Zeroizing;

use crate::services::Error;

/// A host that a plugin may send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// `api.example.com`, `*.example.com` (any name below, not `example.com` itself), with a port like
    /// `api.example.com:8443` if it is not the usual one of the scheme.
    pub host: String,
    /// Only these methods; none listed means all.
    pub methods: Vec<Method>,
}

/// How a rule names the host that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    ByItself,
    /// Among any number of others.
    ByWildcard,
}

/// Everything that a plugin may send. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy(Vec<(Pattern, Vec<Method>)>);

impl EgressPolicy {
    /// The union of these rules. A host that cannot be read allows nothing.
    pub fn new(rules: Vec<EgressRule>) -> Self {
        let read = |rule: EgressRule| Some((Pattern::parse(&rule.host)?, rule.methods));
        Self(rules.into_iter().filter_map(read).collect())
    }

    /// Whether the host is named by itself and not by a wildcard. `denied` if no rule allows this request.
    pub(super) fn check(&self, method: &Method, url: &Url) -> Result<Named, Error> {
        let mut of_host = self
            .0
            .iter()
            .filter(|(pattern, _)| pattern.matches(url))
            .peekable();
        if of_host.peek().is_none() {
            let host: String = url.authority().chars().take(260).collect();
            let message = format!(
                "`{host}` is not granted to this plugin; declare it under [capabilities] http in \
                 plugin.toml and have it granted"
            );
            return Err(Error::denied("outbound.host_not_granted", message));
        }
        let mut allowing =
            of_host.filter(|(_, methods)| methods.is_empty() || methods.contains(method));
        if let Some(first) = allowing.next() {
            let mut patterns = std::iter::once(first).chain(allowing);
            let is_one = patterns.any(|(pattern, _)| !pattern.is_wildcard);
            return Ok(if is_one {
                Named::ByItself
            } else {
                Named::ByWildcard
            });
        }
        let message = format!("the method `{method}` is not granted to this plugin for this host");
        Err(Error::denied("outbound.method_not_granted", message))
    }
}

/// A header with a secret, which the host sets on requests to one host. The plugin never sees it.
#[derive(Clone)]
pub struct Injection {
    pattern: Pattern,
    pub(super) header: HeaderName,
    pub(super) value: HeaderValue,
    pub(super) secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection")
            .field("pattern", &self.pattern)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Injection {
    /// Sets `header` to `prefix` and the secret on requests to `host`, which is written as in a rule. `invalid` if the
    /// host cannot be read or the secret cannot stand in a header.
    pub fn new(host: &str, header: HeaderName, prefix: &str, secret: &[u8]) -> Result<Self, Error> {
        let pattern = Pattern::parse(host).ok_or_else(|| {
            Error::invalid(
                "outbound.host_invalid",
                "the host of an injected secret is not a host",
            )
        })?;
        let value = Zeroizing::new([prefix.as_bytes(), secret].concat());
        // The error of `http` is dropped: what it shows is not ours to decide.
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| {
            let message = format!("the secret for the header `{header}` holds a control character");
            Error::invalid("outbound.secret_invalid", message)
        })?;
        value.set_sensitive(true);
        Ok(Self {
            pattern,
            header,
            value,
            secret: Zeroizing::new(secret.to_vec()),
        })
    }

    /// Whether a request to this address would get the header.
    pub fn is_for(&self, uri: &http::Uri) -> bool {
        Url::parse(&uri.to_string()).is_ok_and(|url| self.is_for_url(&url))
    }

    pub(super) fn is_for_url(&self, url: &Url) -> bool {
        self.pattern.matches(url)
    }
}

/// One host, or all below one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// As `url` writes it: small letters, punycode, version 6 in brackets.
    host: String,
    is_wildcard: bool,
    port: Option<u16>,
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (text, is_wildcard) = match text.strip_prefix("*.") {
            // `*.com` would mean half of the internet.
            Some(rest) if !rest.contains('.') => return None,
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if text.contains(['/', '?', '#', '@', '\\', '*']) {
            return None;
        }
        // `url` leaves out the usual port of a scheme, so the port is read with a scheme that has none.
        let port = Url::parse(&format!("gantry://{text}")).ok()?.port();
        let url = Url::parse(&format!("https://{text}")).ok()?;
        let host = host(&url)?.to_owned();
        let is_name = matches!(url.host(), Some(url::Host::Domain(_)));
        (is_name || !is_wildcard).then_some(Self {
            host,
            is_wildcard,
            port,
        })
    }

    fn matches(&self, url: &Url) -> bool {
        let Some(host) = host(url) else { return false };
        let is_host = if self.is_wildcard {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        let port = url.port_or_known_default();
        let usual = if url.scheme() == "http" { 80 } else { 443 };
        is_host && port == Some(self.port.unwrap_or(usual))
    }
}

/// The host of a URL; `example.com.` and `example.com` are the same.
pub(super) fn host(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    Some(host.strip_suffix('.').unwrap_or(host)).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(host: &str, url: &str) -> bool {
        let rule = EgressRule {
            host: host.to_owned(),
            methods: vec![],
        };
        let policy = EgressPolicy::new(vec![rule]);
        policy
            .check(&Method::GET, &Url::parse(url).unwrap())
            .is_ok()
    }

    #[test]
    fn a_rule_means_its_host_and_no_other() {
        for (host, url, wanted) in [
            ("api.example.com", "https://api.example.com/x", true),
            ("api.example.com", "https://API.Example.COM./x", true),
            ("API.example.com", "https://api.example.com/", true),
            ("api.example.com", "https://api.example.com:443/", true),
            ("api.example.com", "http://api.example.com/", true),
            ("api.example.com", "https://api.example.com:8443/", false),
            ("api.example.com", "http://api.example.com:443/", false),
            ("api.example.com", "https://api.example.com:80/", false),
            (
                "api.example.com:8443",
                "https://api.example.com:8443/",
                true,
            ),
            ("api.example.com:8443", "https://api.example.com/", false),
            ("api.example.com:443", "https://api.example.com/", true),
            ("api.example.com", "https://xapi.example.com/", false),
            (
                "api.example.com",
                "https://api.example.com.evil.org/",
                false,
            ),
            ("api.example.com", "https://evil.org/api.example.com", false),
            (
                "api.example.com",
                "https://evil.org\\@api.example.com/",
                false,
            ),
            ("*.example.com", "https://a.example.com/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("*.example.com", "https://example.com/", false),
            ("*.example.com", "https://badexample.com/", false),
            ("*.example.com", "https://example.com.evil.org/", false),
            ("bücher.example", "https://xn--bcher-kva.example/", true),
            ("xn--bcher-kva.example", "https://BÜCHER.example/", true),
            ("127.0.0.1:9000", "http://127.0.0.1:9000/", true),
            ("127.0.0.1:9000", "http://0x7f.1:9000/", true),
            ("127.0.0.1:9000", "http://2130706433:9000/", true),
            ("127.0.0.1:9000", "http://0177.0.0.1:9000/", true),
            ("[::1]:9000", "http://[0:0::1]:9000/", true),
            ("*.com", "https://example.com/", false),
            ("*", "https://example.com/", false),
            ("*.0.0.1", "https://127.0.0.1/", false),
            ("", "https://example.com/", false),
            ("a.example/x", "https://a.example/", false),
            ("me@a.example", "https://a.example/", false),
        ] {
            assert_eq!(allows(host, url), wanted, "{host} {url}");
        }
    }

    #[test]
    fn a_rule_with_methods_means_only_those() {
        let rule = EgressRule {
            host: "a.example".to_owned(),
            methods: vec![Method::GET],
        };
        let policy = EgressPolicy::new(vec![rule]);
        let url = Url::parse("https://a.example/").unwrap();
        policy.check(&Method::GET, &url).unwrap();
        let error = policy.check(&Method::POST, &url).unwrap_err();
        assert_eq!(error.code, "outbound.method_not_granted");
        let error = EgressPolicy::default()
            .check(&Method::GET, &url)
            .unwrap_err();
        assert_eq!(error.code, "outbound.host_not_granted");
    }

    #[test]
    fn an_injection_shows_no_secret() {
        let header = HeaderName::from_static("authorization");
        let injection = Injection::new("a.example", header.clone(), "Bearer ", b"hunter2").unwrap();
        assert!(!format!("{injection:?} {:?}", injection.value).contains("hunter2"));
        let error = Injection::new("a.example", header, "", b"hunter2\n").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
