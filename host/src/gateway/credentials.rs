//! Who is calling: by the credentials in the headers, or by the cookies of a page, which count only if the page shows that the
//! request is its own.

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};

use crate::auth::{Auth, Principal, PrincipalKind, Rejection};
use crate::http::{ClientAddress, Problem};
use crate::ids::{SessionId, UserId};
use crate::ledger::acting_as;

/// The access token of a page.
pub(super) const ACCESS_COOKIE: &str = "__Host-gantry-access";
/// The refresh token of a page.
pub(super) const REFRESH_COOKIE: &str = "__Host-gantry-refresh";
/// A login at a provider that has begun, or waits for a second factor.
pub(super) const LOGIN_COOKIE: &str = "__Host-gantry-login";
/// What scripts of a page read and send back in a header, which pages of others cannot.
pub(super) const CSRF_COOKIE: &str = "__Host-gantry-csrf";
/// How all of these begin.
const COOKIES: &str = "__Host-gantry-";
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-gantry-csrf");
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What of a request decides who has sent it.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) method: &'a Method,
    /// The host that was asked, as it was written.
    pub(super) host: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Where it comes from.
    pub(super) client: IpAddr,
}

/// The same, for handlers.
pub(super) struct Asked {
    method: Method,
    host: String,
    headers: HeaderMap,
    client: IpAddr,
}

/// A user, and what they came with.
pub(super) struct Caller {
    pub(super) user: UserId,
    pub(super) session: Option<SessionId>,
    pub(super) is_page: bool,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            method: parts.method.clone(),
            host: host_of(&parts.uri, &parts.headers).to_owned(),
            headers: parts.headers.clone(),
            client: client_of(&parts.extensions),
        })
    }
}

impl Asked {
    pub(super) fn asking(&self) -> Asking<'_> {
        Asking {
            method: &self.method,
            host: &self.host,
            headers: &self.headers,
            client: self.client,
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What the browser has kept of a login at a provider.
    pub(super) fn login_cookie(&self) -> Option<&str> {
        cookie(&self.headers, LOGIN_COOKIE)
    }
}

impl<'a> Asking<'a> {
    /// What of this request decides.
    pub(super) fn of(parts: &'a Parts, client: IpAddr) -> Self {
        Self {
            method: &parts.method,
            host: host_of(&parts.uri, &parts.headers),
            headers: &parts.headers,
            client,
        }
    }

    /// Who is calling; nothing if there are no credentials.
    pub(super) fn principal(self, auth: &Auth) -> Result<Option<Arc<Principal>>, Problem> {
        match self.page_token() {
            None => authenticate(auth, self.headers, self.client),
            Some(token) => Ok(Some(self.page(auth, token)?.0)),
        }
    }

    /// The user who is calling.
    pub(super) fn user(self, auth: &Auth) -> Result<Caller, Problem> {
        let caller = self.find_user(auth)?;
        acting_as(PrincipalKind::User.as_str(), &caller.user.to_string());
        Ok(caller)
    }

    fn find_user(self, auth: &Auth) -> Result<Caller, Problem> {
        if let Some(token) = self.page_token() {
            return Ok(self.page(auth, token)?.1);
        }
        let user = auth.user_of(text(self.headers, &header::AUTHORIZATION));
        let (user, session) = user.map_err(rejected)?.ok_or_else(login_required)?;
        Ok(Caller {
            user,
            session,
            is_page: false,
        })
    }

    /// The refresh token of a page, if the request is the page's own.
    pub(super) fn page_refresh_token(self, auth: &Auth) -> Result<Option<&'a str>, Problem> {
        let Some(token) = cookie(self.headers, REFRESH_COOKIE) else {
            return Ok(None);
        };
        self.require_own_page()?;
        // One that is not the host's opens nothing, and the exchange says so.
        if let Some(session) = auth.session_of_refresh_token(token) {
            self.require_csrf_token(auth, session)?;
        }
        Ok(Some(token))
    }

    /// Goes on only if a page of the same origin has sent this, as far as browsers tell: they set these headers themselves.
    pub(super) fn require_own_page(self) -> Result<(), Problem> {
        if is_of_own_page(self.headers, self.host) {
            return Ok(());
        }
        let has = |name: &str| self.headers.contains_key(name);
        let detail = match has("sec-fetch-site") || has("origin") {
            true => {
                "a request for cookies, or with them, must come from a page of this origin; this one comes from elsewhere"
            }
            false => {
                "a request for cookies, or with them, must come from a page of this origin, and this one does not say where it \
                 comes from: browsers send `Origin` or `Sec-Fetch-Site`. Programs do without cookies: log in with \
                 `\"mode\": \"token\"`, and send `Authorization: Bearer …`"
            }
        };
        Err(csrf_refused(detail))
    }

    /// Cookies count only where there is nothing else: who sends a header means it.
    fn page_token(self) -> Option<&'a str> {
        let has = |name: &HeaderName| self.headers.contains_key(name);
        if has(&header::AUTHORIZATION) || has(&API_KEY) {
            return None;
        }
        cookie(self.headers, ACCESS_COOKIE)
    }

    fn page(self, auth: &Auth, token: &str) -> Result<(Arc<Principal>, Caller), Problem> {
        let (principal, user, session) = auth.authenticate_page(token).map_err(rejected)?;
        // Browsers send cookies by themselves, whoever made the page. What changes nothing does no harm: its answer cannot be
        // read from elsewhere.
        if !self.method.is_safe() {
            self.require_own_page()?;
            self.require_csrf_token(auth, session)?;
        }
        let caller = Caller {
            user,
            session: Some(session),
            is_page: true,
        };
        Ok((principal, caller))
    }

    fn require_csrf_token(self, auth: &Auth, session: SessionId) -> Result<(), Problem> {
        let token = text(self.headers, &CSRF_HEADER);
        if token.is_some_and(|token| auth.is_csrf_token(session, token)) {
            Ok(())
        } else {
            let detail = "a request with cookies must carry `X-Gantry-CSRF`, with the value of the cookie `__Host-gantry-csrf` of \
                          the same session";
            Err(csrf_refused(detail))
        }
    }
}

/// Who is calling, by the credentials in these headers and nothing else.
pub(super) fn authenticate(
    auth: &Auth,
    headers: &HeaderMap,
    client: IpAddr,
) -> Result<Option<Arc<Principal>>, Problem> {
    let (authorization, api_key) = (
        text(headers, &header::AUTHORIZATION),
        text(headers, &API_KEY),
    );
    let principal = auth.authenticate(authorization, api_key, Some(client));
    principal.map_err(rejected)
}

/// Where a request to the host itself comes from.
pub(super) fn client_of(extensions: &http::Extensions) -> IpAddr {
    let client = extensions.get::<ClientAddress>();
    client.map_or(IpAddr::from([0, 0, 0, 0]), |client| client.0)
}

/// The API key that these headers carry, if they carry one.
pub(super) fn api_key_in(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        text(headers, &header::AUTHORIZATION)?
            .split_once(' ')
            .map(|(_, rest)| rest.trim())
    };
    text(headers, &API_KEY).or_else(bearer)
}

/// Nobody is logged in where somebody must be.
pub(super) fn login_required() -> Problem {
    let detail = "log in and send `Authorization: Bearer …`, or send an API key in `X-API-Key`";
    Problem::new(StatusCode::UNAUTHORIZED, "auth.required", detail)
}

/// The host that was asked, by the address or the header.
pub(super) fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let authority = uri.authority().map(|authority| authority.as_str());
    let header = || headers.get(header::HOST)?.to_str().ok();
    authority.or_else(header).unwrap_or_default()
}

/// Takes what pages are known by out of what a plugin is given, and leaves other cookies.
pub(super) fn hide_from_plugins(headers: &mut HeaderMap) {
    headers.remove(CSRF_HEADER);
    let is_ours = |pair: &str| pair.trim_start().starts_with(COOKIES);
    let has_ours = |value: &HeaderValue| {
        let text = value.to_str().ok();
        text.is_none_or(|text| text.split(';').any(is_ours))
    };
    if !headers.get_all(header::COOKIE).iter().any(has_ours) {
        return;
    }
    let mut kept = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        // A value that is not text may hide one of ours from us and not from others.
        let pairs = value.to_str().unwrap_or_default().split(';');
        kept.extend(
            pairs
                .map(str::trim)
                .filter(|pair| !is_ours(pair) && !pair.is_empty()),
        );
    }
    let kept = HeaderValue::try_from(kept.join("; "));
    headers.remove(header::COOKIE);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, kept);
    }
}

/// Takes out of a plugin's answer what would set cookies of accounts.
pub(super) fn refuse_cookies(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| {
        // A cookie without a name is sent back as its value alone: `=__Host-…=x` would come as one of ours.
        let bytes = value.as_bytes();
        let is_before = |byte: &u8| *byte == b'=' || byte.is_ascii_whitespace();
        let name = &bytes[bytes.iter().take_while(|byte| is_before(byte)).count()..];
        name.len() >= COOKIES.len()
            && name[..COOKIES.len()].eq_ignore_ascii_case(COOKIES.as_bytes())
    };
    if !headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let others = headers.get_all(header::SET_COOKIE).iter();
    let others: Vec<HeaderValue> = others.filter(|value| !is_ours(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in others {
        headers.append(header::SET_COOKIE, value);
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name && !value.is_empty()).then_some(value)
    })
}

fn is_of_own_page(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str());
    let is_own_origin = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    match (site, origin) {
        (None, None) => false,
        (site, origin) => {
            site.is_none_or(|site| site == b"same-origin")
                && origin.is_none_or(|origin| origin.is_ok_and(is_own_origin))
        }
    }
}

fn csrf_refused(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "auth.csrf_refused", detail)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    // A value that is not text is no credential of ours; it must not count as none. Nor must it be a matter of taste which of
    // several counts.
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    Some(text.unwrap_or("\u{fffd}"))
}

fn rejected(rejection: Rejection) -> Problem {
    let status = StatusCode::UNAUTHORIZED;
    let mut problem = Problem::new(status, rejection.code(), rejection.to_string());
    problem.challenge = Some(rejection.www_authenticate());
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_plugin_sees_other_cookies_than_those_of_accounts() {
        for (given, wanted) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1; __Host-gantry-access=x; b=2"], Some("a=1; b=2")),
            (&["__Host-gantry-access=x", "c=3"], Some("c=3")),
            (&["__Host-gantry-csrf=x;__Host-gantry-refresh=y"], None),
            (
                &["x__Host-gantry-access=1"],
                Some("x__Host-gantry-access=1"),
            ),
            (&[], None),
        ] {
            let pairs: Vec<_> = given.iter().map(|value| ("cookie", *value)).collect();
            let mut headers = headers(&pairs);
            hide_from_plugins(&mut headers);
            let seen = headers.get("cookie").map(|value| value.to_str().unwrap());
            assert_eq!(seen, wanted, "{given:?}");
            assert!(headers.get_all("cookie").iter().count() <= 1);
        }
    }

    #[test]
    fn a_plugin_sets_other_cookies_than_those_of_accounts() {
        let mut headers = headers(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "__Host-gantry-access=evil; Path=/; Secure"),
            ("set-cookie", "__host-Gantry-csrf=evil; Path=/; Secure"),
            ("set-cookie", "=__Host-gantry-access=evil; Path=/; Secure"),
            ("set-cookie", " = __Host-gantry-access=evil; Path=/; Secure"),
            ("set-cookie", "b=2"),
        ]);
        refuse_cookies(&mut headers);
        let left: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(left, ["a=1", "b=2"]);
    }

    #[test]
    fn only_what_a_browser_calls_the_same_origin_is_a_page_of_our_own() {
        for (site, origin, wanted) in [
            (None, None, false),
            (Some("same-origin"), None, true),
            (None, Some("https://shop.example"), true),
            (Some("same-origin"), Some("https://SHOP.example"), true),
            (Some("same-origin"), Some("https://evil.example"), false),
            (Some("same-origin"), Some("null"), false),
            (Some("same-site"), Some("https://shop.example"), false),
            (Some("cross-site"), None, false),
            (Some("none"), None, false),
            (None, Some("https://shop.example:8443"), false),
            (None, Some("https://shop.example.evil"), false),
        ] {
            let mut pairs = Vec::new();
            pairs.extend(site.map(|site| ("sec-fetch-site", site)));
            pairs.extend(origin.map(|origin| ("origin", origin)));
            let found = is_of_own_page(&headers(&pairs), "shop.example");
            assert_eq!(found, wanted, "{site:?} {origin:?}");
        }
    }
}
