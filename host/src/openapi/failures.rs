//! The errors that documents tell of: what statuses mean, what an error looks like, and which errors the host's own APIs can
//! answer with. The last come of what operations have in common, so they are written in one place and not at each.

use serde_json::{Map, Value, json};

use crate::openapi::METHODS;

/// Writes into the document of one of the host's own APIs which errors each operation can answer with, beside what it says
/// itself.
pub fn complete(document: &mut Value) {
    let is_closed = asks_for_somebody(document.get("security"));
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        let operations = item.as_object_mut().into_iter().flatten();
        for (method, operation) in operations.filter(|(name, _)| METHODS.contains(&name.as_str())) {
            let Some(operation) = operation.as_object_mut() else {
                continue;
            };
            let own = operation.get("security");
            let is_closed = own.map_or(is_closed, |own| asks_for_somebody(Some(own)));
            let statuses = statuses(path, method, operation, is_closed);
            let answers = operation.entry("responses").or_insert_with(|| json!({}));
            let Some(answers) = answers.as_object_mut() else {
                continue;
            };
            for status in statuses {
                let entry = answers.entry(status.to_string());
                entry.or_insert_with(|| failure(status));
            }
            describe(answers);
        }
    }
    document["components"]["schemas"]["Problem"] = problem_schema();
}

/// What a status means, in words.
pub fn reason(status: u16) -> String {
    let reason = match status {
        200 => "Success",
        201 => "Created",
        202 => "Accepted",
        204 => "Done, with nothing to show",
        303 => "Look there",
        400 => "The request is not as it must be",
        401 => "Nobody is logged in",
        403 => "This caller may not",
        404 => "There is no such thing",
        406 => "Nothing of what is accepted can be given",
        408 => "The request did not come in time",
        409 => "It does not go with what is there",
        410 => "Gone",
        412 => "It is another version by now",
        413 => "The body is too large",
        414 => "The path and query are too long",
        415 => "The body is of a type that is not taken",
        416 => "Nothing of the range is there",
        422 => "The body does not fit its schema",
        423 => "Somebody else is at it",
        429 => "Too many requests",
        431 => "The headers are too long",
        500 => "The server failed",
        501 => "This server cannot do that",
        502 => "What answers here failed",
        503 => "Not now; try again",
        504 => "No answer came in time",
        507 => "There is no more room",
        status if status < 300 => "Success",
        status if status < 400 => "Look elsewhere",
        status if status < 500 => "The request cannot be done",
        _ => "A failure",
    };
    reason.to_owned()
}

/// The schema of every error.
pub fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "An error (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "Where the code is explained." },
            "title": { "type": "string", "description": "The status in words." },
            "status": { "type": "integer", "description": "The HTTP status, repeated." },
            "code": { "type": "string", "description": "Stable and dotted; programs match on this." },
            "detail": { "type": "string", "description": "What happened and how to mend it." },
            "request_id": { "type": "string", "description": "The id in `X-Request-Id` and in the logs." },
            "errors": {
                "type": "array",
                "description": "The single mistakes, where there are several.",
                "items": {
                    "type": "object",
                    "properties": {
                        "at": { "type": "string", "description": "A JSON Pointer into the body, or the name of a parameter." },
                        "detail": { "type": "string", "description": "What is wrong there." },
                        "code": { "type": "string", "description": "Stable, where whoever answers has one for it." },
                        "help": { "type": "string", "description": "How to mend it." },
                    },
                },
            },
        },
    })
}

/// Whether nobody may do it without saying who they are.
fn asks_for_somebody(security: Option<&Value>) -> bool {
    let ways = security.and_then(Value::as_array);
    ways.is_some_and(|ways| !ways.is_empty() && !ways.contains(&json!({})))
}

/// What can go wrong, told from what an operation takes.
fn statuses(path: &str, method: &str, operation: &Map<String, Value>, is_closed: bool) -> Vec<u16> {
    let changes = method != "get";
    let has_body = operation.contains_key("requestBody");
    let has_parameters = operation.contains_key("parameters");
    let possible = [
        (true, 400),
        (is_closed || changes, 401),
        (is_closed || changes, 403),
        (changes || path.contains('{'), 404),
        (has_body, 408),
        (changes, 409),
        (has_body, 413),
        (has_parameters, 414),
        (has_body, 415),
        (has_body || has_parameters, 422),
        (true, 429),
        (true, 500),
        (true, 503),
    ];
    let possible = possible.into_iter().filter(|(is_possible, _)| *is_possible);
    possible.map(|(_, status)| status).collect()
}

fn failure(status: u16) -> Value {
    let mut failure = json!({
        "description": reason(status),
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    if matches!(status, 429 | 503) {
        failure["headers"]["Retry-After"] = json!({
            "description": "Seconds until it is worth to try again.",
            "schema": { "type": "integer" },
        });
    }
    failure
}

/// OpenAPI asks for a description of each answer.
fn describe(answers: &mut Map<String, Value>) {
    for (status, answer) in answers {
        let is_described = answer["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        if !is_described {
            answer["description"] = reason(status.parse().unwrap_or(200)).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_tell_of_the_errors_that_come_of_what_they_take() {
        let mut document = json!({
            "security": [{ "key": [] }],
            "paths": {
                "/things": { "get": { "responses": { "200": {} } } },
                "/things/{id}": { "put": {
                    "requestBody": {},
                    "parameters": [],
                    "responses": { "200": { "description": "It" }, "409": { "description": "Mine" } },
                } },
                "/open": { "get": { "security": [{}], "responses": { "200": {} } } },
            },
            "components": { "schemas": {} },
        });
        complete(&mut document);
        let of = |path: &str, method: &str| -> Vec<String> {
            let answers = &document["paths"][path][method]["responses"];
            answers.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            of("/things", "get"),
            ["200", "400", "401", "403", "429", "500", "503"]
        );
        assert_eq!(of("/open", "get"), ["200", "400", "429", "500", "503"]);
        let all = of("/things/{id}", "put");
        for status in ["404", "408", "409", "413", "414", "415", "422"] {
            assert!(all.iter().any(|known| known == status), "{status}: {all:?}");
        }
        let answers = &document["paths"]["/things/{id}"]["put"]["responses"];
        assert_eq!(answers["409"], json!({ "description": "Mine" }));
        assert_eq!(
            answers["503"]["headers"]["Retry-After"]["schema"]["type"],
            "integer"
        );
        assert_eq!(
            document["paths"]["/open"]["get"]["responses"]["200"]["description"],
            "Success"
        );
        assert!(document["components"]["schemas"]["Problem"].is_object());
    }
}
