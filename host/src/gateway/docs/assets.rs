//! The files of the pages, compressed as they are kept: programs of others at a pinned version, fetched by
//! `cargo xtask references`, and a script and a style of our own.

use std::{io::Read as _, sync::LazyLock};

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::gateway::docs::page;
use crate::http::Problem;

/// Where the files are.
const BASE: &str = "/_gantry/docs";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A file as it is part of the executable.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Whether the bytes are compressed with gzip.
    is_packed: bool,
}

const fn packed(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    Asset {
        name,
        content_type,
        bytes,
        is_packed: true,
    }
}

const fn plain(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    Asset {
        name,
        content_type,
        bytes,
        is_packed: false,
    }
}

static ASSETS: [Asset; 7] = [
    packed(
        "scalar-1.72.1.js",
        SCRIPT,
        include_bytes!("assets/scalar.js.gz"),
    ),
    packed(
        "redoc-3.0.1.js",
        SCRIPT,
        include_bytes!("assets/redoc.js.gz"),
    ),
    packed(
        "swagger-5.35.0.js",
        SCRIPT,
        include_bytes!("assets/swagger.js.gz"),
    ),
    packed(
        "swagger-5.35.0.css",
        STYLE,
        include_bytes!("assets/swagger.css.gz"),
    ),
    plain("page.js", SCRIPT, include_bytes!("assets/page.js")),
    plain("page.css", STYLE, include_bytes!("assets/page.css")),
    plain(
        "redoc-page.js",
        SCRIPT,
        include_bytes!("assets/redoc-page.js"),
    ),
];

/// What the files are, for browsers that have kept them: another executable has other addresses.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ASSETS {
        hash.update(asset.bytes);
    }
    hex::encode(&hash.finalize()[..8])
});

/// The address of a file.
pub(super) fn address(name: &str) -> String {
    format!("{BASE}/{name}?{}", *MARK)
}

/// `GET /_gantry/docs/{file}`
pub(super) async fn show(
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == file)
        .ok_or_else(|| {
            let detail = "the documentation has no such file";
            Problem::new(StatusCode::NOT_FOUND, "route.not_found", detail)
        })?;
    let takes_packed = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip")
        });
    let is_sent_packed = asset.is_packed && takes_packed;
    let bytes = if asset.is_packed && !takes_packed {
        unpack(asset)?
    } else {
        Bytes::from_static(asset.bytes)
    };
    let mut answer = bytes.into_response();
    let headers = answer.headers_mut();
    let content_type = HeaderValue::from_static(asset.content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    if is_sent_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let cache = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, cache);
    page::protect(headers, None);
    Ok(answer)
}

fn unpack(asset: &Asset) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    let read = flate2::read::GzDecoder::new(asset.bytes).read_to_end(&mut bytes);
    read.map_err(|error| Problem::internal(&error))?;
    Ok(bytes.into())
}
