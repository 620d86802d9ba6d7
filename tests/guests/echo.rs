//! Answers what it was asked: as JSON, or with the path `/raw` the body as it came.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn echo(request: Request) -> Result<Response> {
    if request.path == "/raw" {
        let content_type = request.header("content-type").unwrap_or_default();
        return Ok(Response::bytes(&content_type, request.body));
    }
    let principal = identity::current().map(|who| {
        json!({ "id": who.id(), "kind": who.kind(), "name": who.name(), "roles": who.roles(),
                "permissions": who.permissions() })
    });
    let answer = json!({
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers(),
        "body_bytes": request.body.len(),
        "principal": principal,
        "request_id": context::request_id(),
        "traceparent": context::traceparent(),
        "trigger": context::trigger(),
        "route": context::route(),
        "path_params": context::path_params(),
        "client_address": context::client_address(),
        "remaining_ms": context::remaining().as_millis(),
        "attempt": context::attempt(),
        "idempotency_key": context::idempotency_key(),
        "config": config::get("greeting")?,
    });
    Response::json(200, &answer)
}
