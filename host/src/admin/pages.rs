//! Requests that a page in a browser makes. The API takes no cookies, so a page acts for nobody by itself; this keeps
//! pages that are not the host's own from acting with credentials that they got hold of.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use crate::admin::{ApiError, Shared};

/// Turns away what pages of another origin send, and pages of this one if plugins may have made them.
pub(super) async fn refuse(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let authority = request.uri().authority().map(|it| it.as_str());
    let header = || request.headers().get(header::HOST)?.to_str().ok();
    let host = authority.or_else(header).unwrap_or_default();
    let is_fine = match sender(request.headers(), host) {
        Sender::NoPage => true,
        Sender::PageOfThisOrigin => {
            shared.is_apart
                || (shared.pages_are_sandboxed && !shared.registry.live().has_host(host))
        }
        Sender::OtherPage => false,
    };
    if is_fine {
        Ok(next.run(request).await)
    } else {
        let detail = "pages of other origins, and of plugins, may not use the admin API; \
                      use the command line or a program of your own";
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "request.cross_origin",
            detail,
        ))
    }
}

/// Who made a request, as far as a browser tells.
#[derive(Debug, PartialEq, Eq)]
enum Sender {
    NoPage,
    PageOfThisOrigin,
    OtherPage,
}

/// Browsers set these headers themselves; a page cannot change them, and other programs do not send them.
fn sender(headers: &HeaderMap, host: &str) -> Sender {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let origin = headers.get(header::ORIGIN).map(|value| value.as_bytes());
    // What a person types into the address bar is sent with `none`.
    if matches!(site, None | Some(b"none")) && origin.is_none() {
        return Sender::NoPage;
    }
    let is_same_site = matches!(site, None | Some(b"same-origin" | b"none"));
    let is_same_origin = origin.is_none_or(|origin| {
        let origin = std::str::from_utf8(origin).unwrap_or_default();
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    if is_same_site && is_same_origin {
        Sender::PageOfThisOrigin
    } else {
        Sender::OtherPage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_tells_which_page_made_a_request() {
        use Sender::{NoPage, OtherPage, PageOfThisOrigin};
        for (site, origin, wanted) in [
            (None, None, NoPage),
            (Some("none"), None, NoPage),
            (Some("same-origin"), None, PageOfThisOrigin),
            (None, Some("http://gantry:8080"), PageOfThisOrigin),
            (
                Some("same-origin"),
                Some("https://GANTRY:8080"),
                PageOfThisOrigin,
            ),
            (Some("same-site"), None, OtherPage),
            (Some("cross-site"), None, OtherPage),
            (Some("cross-site"), Some("null"), OtherPage),
            (None, Some("null"), OtherPage),
            (None, Some("http://gantry:8081"), OtherPage),
            (None, Some("http://evil.example"), OtherPage),
            (Some("none"), Some("http://evil.example"), OtherPage),
            (Some("nonsense"), None, OtherPage),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let found = sender(&headers, "gantry:8080");
            assert_eq!(found, wanted, "{site:?} {origin:?}");
        }
    }
}
