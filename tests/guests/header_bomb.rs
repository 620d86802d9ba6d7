//! Answers with headers and statuses that no server should pass on; the path says which.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn answer(request: Request) -> Result<Response> {
    let response = Response::text("ok");
    Ok(match request.path.as_str() {
        "/many" => (0..100_000).fold(response, |response, number| {
            response.with_added_header(&format!("x-{number}"), "y")
        }),
        "/huge" => response.with_header("x-huge", "y".repeat(10_000_000)),
        "/name" => response.with_header("x name:\r\n", "y"),
        "/value" => response.with_header("x-split", "y\r\nset-cookie: evil=1"),
        "/empty" => response.with_header("", ""),
        "/hop" => response
            .with_header("connection", "close")
            .with_header("transfer-encoding", "chunked")
            .with_header("upgrade", "h2c"),
        "/length" => response.with_header("content-length", "5000"),
        "/forged" => response
            .with_header("x-request-id", "forged")
            .with_header("server", "forged")
            .with_header("strict-transport-security", "max-age=0"),
        "/status-99" => Response::new(99),
        "/status-101" => Response::new(101),
        "/status-1000" => Response::new(1000),
        _ => return Err(Error::not_found("guest.unknown", "no such bomb")),
    })
}
