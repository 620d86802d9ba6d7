//! What browsers are told about answers of plugins: what a page may do, who may frame it, and that a host that was reached
//! by TLS is reached by nothing else.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::gateway::headers::sandbox;

/// Headers that pages of plugins have which do not set them themselves. An empty value means none.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What a page may load and run. Default: its own origin only; styles also within the page, pictures also as data.
    pub content_security_policy: String,
    /// Who may show it in a frame. Default: `SAMEORIGIN`.
    pub frame_options: String,
    /// What other servers learn of where a visitor comes from. Default: `strict-origin-when-cross-origin`.
    pub referrer_policy: String,
    /// How long browsers reach the host by TLS only, in seconds, once they have reached it so: by a trusted proxy that says
    /// `X-Forwarded-Proto: https`. On every answer; 0 means never. Default: a year.
    pub hsts_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            content_security_policy: "default-src 'self'; base-uri 'self'; form-action 'self'; \
                                      frame-ancestors 'self'; img-src 'self' data:; object-src 'none'; \
                                      style-src 'self' 'unsafe-inline'"
                .to_owned(),
            frame_options: "SAMEORIGIN".to_owned(),
            referrer_policy: "strict-origin-when-cross-origin".to_owned(),
            hsts_s: 31_536_000,
        }
    }
}

/// The settings as headers.
#[derive(Debug, Clone)]
pub struct SecurityHeaders {
    pages: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// The headers of these settings. The error names the setting.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut pages = Vec::new();
        for (key, name, value) in [
            (
                "content_security_policy",
                header::CONTENT_SECURITY_POLICY,
                &config.content_security_policy,
            ),
            (
                "frame_options",
                header::X_FRAME_OPTIONS,
                &config.frame_options,
            ),
            (
                "referrer_policy",
                header::REFERRER_POLICY,
                &config.referrer_policy,
            ),
        ] {
            if value.is_empty() {
                continue;
            }
            let value = HeaderValue::try_from(value).map_err(|_| {
                format!("`gateway.security_headers.{key}` is not the value of a header")
            })?;
            pages.push((name, value));
        }
        let hsts = (config.hsts_s > 0).then(|| format!("max-age={}", config.hsts_s));
        Ok(Self {
            pages,
            hsts: hsts.and_then(|text| HeaderValue::try_from(text).ok()),
        })
    }

    /// Adds what a page does not say itself, and keeps it apart from the origin that it comes from if it shares that.
    pub(super) fn page(&self, headers: &mut HeaderMap, is_shared: bool) {
        let has_policy = headers.contains_key(header::CONTENT_SECURITY_POLICY);
        if is_shared {
            sandbox(headers);
        }
        for (name, value) in &self.pages {
            // Policies of a page add up, other headers do not.
            let is_policy = *name == header::CONTENT_SECURITY_POLICY;
            let is_said = match is_policy {
                true => has_policy,
                false => headers.contains_key(name),
            };
            if !is_said {
                headers.append(name, value.clone());
            }
        }
    }

    /// Adds that the host is reached by TLS only, unless a filter of the operator has said it. Plugins cannot.
    pub(super) fn host(&self, headers: &mut HeaderMap) {
        if let Some(hsts) = &self.hsts
            && !headers.contains_key(header::STRICT_TRANSPORT_SECURITY)
        {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}
