//! The pages that the `type` of a problem links to: what each code means and how to mend it. They are part of the
//! executable.

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::RustEmbed;

use crate::http::Problem;

#[derive(RustEmbed)]
#[folder = "../docs/errors"]
#[include = "*.md"]
struct Pages;

/// `GET /_gantry/errors/{code}`
pub fn router() -> Router {
    Router::new().route("/_gantry/errors/{code}", get(page))
}

async fn page(Path(code): Path<String>) -> Result<Response, Problem> {
    let Some(page) = Pages::get(&format!("{code}.md")) else {
        let detail = "this host gives out no such code; a plugin may have made it up";
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "route.not_found",
            detail,
        ));
    };
    let headers = [
        (header::CONTENT_TYPE, "text/markdown; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=86400"),
    ];
    Ok((headers, page.data).into_response())
}
