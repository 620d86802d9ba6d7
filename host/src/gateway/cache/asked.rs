//! Which requests may be answered out of the cache, under which key, and what their plugin must not see, because the
//! key does not have it.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sha2::{Digest as _, Sha256};

use crate::cache::Key;
use crate::gateway::cache::given::Way;
use crate::plugins::cached::{Cached, add};
use crate::plugins::manifest::RouteCache;
use crate::plugins::routes::below;
use crate::runtime::{CallContext, HttpCall, RequestBody};

/// The key of a request: everything that may decide its answer. Else the way that it takes.
pub(super) fn key(
    cached: &Cached,
    context: &CallContext,
    call: &HttpCall,
    before: Option<&HeaderMap>,
) -> Result<Key, Way> {
    let (rule, headers) = (&cached.rule, &context.headers);
    if call.method != Method::GET && call.method != Method::HEAD {
        return Err(Way::Method);
    }
    if !matches!(&call.body, RequestBody::Whole(body) if body.is_empty()) {
        return Err(Way::Past("body"));
    }
    for (name, detail) in [(header::RANGE, "range"), (header::UPGRADE, "upgrade")] {
        if headers.contains_key(name) {
            return Err(Way::Past(detail));
        }
    }
    let is_cookie_known = rule.ignores_cookies || rule.vary.contains(&header::COOKIE);
    if !is_cookie_known && headers.contains_key(header::COOKIE) {
        return Err(Way::Past("cookie"));
    }
    let mut digest = cached.digest();
    add(&mut digest, call.method.as_str().as_bytes());
    add(&mut digest, &host(headers));
    add(
        &mut digest,
        below(call.uri.path(), call.mount_length).as_bytes(),
    );
    match call.uri.query() {
        Some(query) => add(&mut digest, query.as_bytes()),
        None => digest.update(u64::MAX.to_le_bytes()),
    }
    for name in &rule.vary {
        add_values(&mut digest, headers, name.as_str());
    }
    match &context.principal {
        _ if !cached.is_by_caller => {}
        None => add(&mut digest, b"nobody"),
        Some(who) => {
            add(&mut digest, who.kind.as_str().as_bytes());
            add(&mut digest, who.id.as_bytes());
            // Who has other rights since then may see something else.
            digest.update((who.roles.len() as u64).to_le_bytes());
            for role in who.roles.iter() {
                add(&mut digest, role.as_str().as_bytes());
            }
            let scopes = who.scopes.as_deref();
            let count = scopes.map_or(u64::MAX, |scopes| scopes.len() as u64);
            digest.update(count.to_le_bytes());
            for scope in scopes.unwrap_or_default() {
                add(&mut digest, scope.as_bytes());
            }
            let claims = who.token_claims.as_deref();
            let claims = claims.and_then(|claims| serde_json::to_vec(claims).ok());
            add(&mut digest, &claims.unwrap_or_default());
            let permissions = who.permissions.of_plugin(cached.plugin());
            digest.update((permissions.len() as u64).to_le_bytes());
            for permission in permissions {
                add(&mut digest, permission.as_bytes());
            }
        }
    }
    if let Some(before) = before {
        add_changes(&mut digest, before, headers);
    }
    Ok(Key(digest.finalize().into()))
}

/// The host that was asked, in small letters: a plugin that hangs on every host may write it into its answer.
fn host(headers: &HeaderMap) -> Cow<'_, [u8]> {
    let host = headers
        .get(header::HOST)
        .map_or(b"".as_slice(), HeaderValue::as_bytes);
    if host.iter().any(u8::is_ascii_uppercase) {
        host.to_ascii_lowercase().into()
    } else {
        host.into()
    }
}

/// All values of a header, and how many they are.
fn add_values(digest: &mut Sha256, headers: &HeaderMap, name: &str) {
    let values = headers.get_all(name);
    digest.update((values.iter().count() as u64).to_le_bytes());
    for value in values {
        add(digest, value.as_bytes());
    }
}

/// Whether a filter has changed a header.
fn is_changed(before: &HeaderMap, after: &HeaderMap, name: &HeaderName) -> bool {
    let (one, other) = (before.get_all(name).iter(), after.get_all(name).iter());
    !one.eq(other)
}

/// What filters have changed of a request: it may decide the answer, and nobody can name it beforehand.
fn add_changes(digest: &mut Sha256, before: &HeaderMap, after: &HeaderMap) {
    let mut changed: Vec<&str> = after
        .keys()
        .chain(before.keys())
        .filter(|name| is_changed(before, after, name))
        .map(HeaderName::as_str)
        .collect();
    changed.sort_unstable();
    changed.dedup();
    for name in changed {
        add(digest, name.as_bytes());
        add_values(digest, after, name);
    }
}

/// The path that was asked for, with letters that are encoded without need decoded: what it is purged by.
pub(super) fn path(call: &HttpCall) -> Arc<str> {
    let mount = call.uri.path().get(..call.mount_length);
    let below = below(call.uri.path(), call.mount_length);
    format!("{}{below}", mount.unwrap_or_default()).into()
}

/// Leaves of a request's headers what is in its key: everything else a client could choose to have an answer kept for
/// others that it has decided. `told` is the one by which the host itself tells of the route's version; `before` are the
/// headers as they came, if a filter may have changed them.
pub(super) fn hide_what_is_not_in_the_key(
    headers: &mut HeaderMap,
    rule: &RouteCache,
    told: Option<&HeaderName>,
    before: Option<&HeaderMap>,
) {
    let is_kept = |name: &HeaderName| {
        // Names the call in traces, and nothing else.
        *name == header::HOST
            || name == "traceparent"
            || Some(name) == told
            || rule.vary.contains(name)
    };
    let is_changed =
        |name: &HeaderName| before.is_some_and(|before| is_changed(before, headers, name));
    let hidden: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !is_kept(name) && !is_changed(name))
        .cloned()
        .collect();
    for name in hidden {
        headers.remove(name);
    }
}

/// What the client has already.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_none_match: Vec<HeaderValue>,
    pub(super) if_modified_since: Option<HeaderValue>,
}

impl Conditions {
    /// Those of a request; none if what is kept may not be what the client gets.
    pub(super) fn of(headers: &HeaderMap, is_answer_final: bool) -> Self {
        if !is_answer_final {
            return Self::default();
        }
        let values = headers.get_all(header::IF_NONE_MATCH).iter();
        Self {
            if_none_match: values.cloned().collect(),
            if_modified_since: headers.get(header::IF_MODIFIED_SINCE).cloned(),
        }
    }

    /// Whether the client has what an answer with these headers would bring (RFC 9110, section 13.2.2).
    pub(super) fn are_met(&self, headers: &HeaderMap) -> bool {
        if !self.if_none_match.is_empty() {
            let tag = headers.get(header::ETAG);
            return tag.is_some_and(|tag| self.names(tag));
        }
        let time = |value: &HeaderValue| {
            let text = value.to_str().ok()?;
            jiff::fmt::rfc2822::parse(text)
                .ok()
                .map(|time| time.timestamp())
        };
        let since = self.if_modified_since.as_ref().and_then(time);
        let modified = headers.get(header::LAST_MODIFIED).and_then(time);
        since
            .zip(modified)
            .is_some_and(|(since, modified)| modified <= since)
    }

    fn names(&self, tag: &HeaderValue) -> bool {
        // Weak or strong is no matter here (RFC 9110, section 13.1.2).
        fn opaque(tag: &[u8]) -> &[u8] {
            tag.strip_prefix(b"W/").unwrap_or(tag)
        }
        let tag = opaque(tag.as_bytes());
        self.if_none_match.iter().any(|value| {
            let mut tags = value
                .as_bytes()
                .split(|byte| *byte == b',')
                .map(<[u8]>::trim_ascii);
            tags.any(|other| other == b"*" || opaque(other) == tag)
        })
    }
}
