//! A filter of answers only: turns their bodies into capitals.

use gantry_sdk::prelude::*;

#[gantry_sdk::response_filter]
fn shout(response: Response) -> Result<Changes> {
    let text = String::from_utf8(response.body)?;
    Ok(Changes::none()
        .with_body(text.to_uppercase())
        .set_header("x-shouted", "yes"))
}
