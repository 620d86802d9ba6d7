//! The pages. Each is a frame with a bar; scripts of the executable fill it with the document. Nothing else runs: scripts
//! need the nonce of their answer, so that what a document says cannot bring its own.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::gateway::docs::{Config, assets};

/// Which program shows the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reference,
    Redoc,
    Swagger,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Redoc => "redoc",
            Self::Swagger => "swagger",
        }
    }
}

/// A page, with a nonce of its own.
pub(super) fn show(kind: Kind, config: &Config) -> Response {
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let title = escaped(&config.title);
    let path = |path: &str| escaped(path.trim_end_matches('/'));
    let styles = match kind {
        Kind::Swagger => [Some("swagger-5.35.0.css"), Some("page.css")],
        _ => [Some("page.css"), None],
    };
    let styles: String = styles
        .into_iter()
        .flatten()
        .map(|file| {
            format!(
                "<link rel=\"stylesheet\" href=\"{}\">\n",
                assets::address(file)
            )
        })
        .collect();
    let script = |file: &str, kind: &str| {
        let address = assets::address(file);
        format!("<script nonce=\"{nonce}\" {kind}src=\"{address}\"></script>\n")
    };
    let scripts = match kind {
        Kind::Reference => script("scalar-1.72.1.js", "") + &script("page.js", ""),
        Kind::Swagger => script("swagger-5.35.0.js", "") + &script("page.js", ""),
        // A module, which takes in the program by itself.
        Kind::Redoc => script("redoc-page.js", "type=\"module\" ") + &script("page.js", "defer "),
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n{styles}</head>\n\
         <body data-kind=\"{kind}\" data-openapi=\"{openapi}\" data-reference=\"{reference}\" data-redoc=\"{redoc}\" \
         data-swagger=\"{swagger}\" data-operations-max=\"{operations_max}\">\n\
         <div id=\"bar\"></div>\n<div id=\"note\" role=\"status\"></div>\n<main id=\"app\"></main>\n{scripts}</body>\n</html>\n",
        kind = kind.name(),
        openapi = path(&config.openapi_path),
        reference = path(&config.reference_path),
        redoc = path(&config.redoc_path),
        swagger = path(&config.swagger_path),
        operations_max = config.reference_operations_max,
    );
    let mut answer = Html(page).into_response();
    let headers = answer.headers_mut();
    let cache = HeaderValue::from_static("no-cache");
    headers.insert(header::CACHE_CONTROL, cache);
    protect(headers, Some(&nonce));
    answer
}

/// What keeps an answer apart from others: nobody frames it, and it loads nothing from elsewhere. With a nonce it is a page
/// whose own scripts run.
pub(super) fn protect(headers: &mut HeaderMap, nonce: Option<&str>) {
    let policy = match nonce {
        // Styles in the text are how these programs draw; they cannot reach out.
        Some(nonce) => format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        None => "default-src 'none'; frame-ancestors 'none'; sandbox".to_owned(),
    };
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
