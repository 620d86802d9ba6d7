//! A filter that leaves its mark, the setting `mark`, on requests and on answers. A request for `/turned-back` it answers
//! itself.

use gantry_sdk::prelude::*;

#[gantry_sdk::request_filter]
fn before(request: Request) -> Result<Verdict> {
    let mark = config::require("mark")?;
    if request.path == "/turned-back" {
        return Ok(Response::text(format!("turned back by {mark}")).into());
    }
    let seen = request.header("x-in").unwrap_or_default();
    Ok(Changes::none()
        .set_header("x-in", format!("{seen}>{mark}"))
        .into())
}

#[gantry_sdk::response_filter]
fn after(response: Response) -> Result<Changes> {
    let seen = response.header("x-out").unwrap_or_default();
    let mark = config::require("mark")?;
    Ok(Changes::none().set_header("x-out", format!("{seen}<{mark}")))
}
