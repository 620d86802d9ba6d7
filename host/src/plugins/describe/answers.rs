//! What a route answers: what the author says, and the errors that the host gives in any case, with their codes.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};

use super::examples::Shown;
use super::operation::with_components;
use crate::http::problem::title;
use crate::openapi::failures::reason;
use crate::plugins::manifest::{
    Auth, DeclaredError, FileAction, Manifest, Place, Route, Statuses, VersionBy,
};

/// All answers of a route by status.
pub(super) fn of_route(
    manifest: &Manifest,
    route: &Route,
    method: &Method,
    shown: &Shown,
) -> Value {
    let mut answers: BTreeMap<String, Value> = BTreeMap::new();
    let contract = &route.contract;
    for (statuses, schema) in &contract.response_schemas {
        let status = match statuses {
            Statuses::One(status) => status.to_string(),
            Statuses::Class(class) => format!("{class}XX"),
            Statuses::Others => "default".to_owned(),
        };
        let schema = with_components(&manifest.plugin.name, schema);
        let is_shown = shown.status.is_some_and(|status| statuses.has(status))
            || matches!(statuses, Statuses::Class(2));
        let example = shown.response.as_ref().filter(|_| is_shown);
        answers.insert(status, answer(route, Some(schema), example, *statuses));
    }
    let has_success = contract
        .response_schemas
        .iter()
        .any(|(statuses, _)| (200..300).any(|status| statuses.has(status)));
    if !has_success {
        let status = shown.status.filter(|status| *status < 300).unwrap_or(200);
        let example = shown.response.as_ref();
        let found = answer(route, None, example, Statuses::One(status));
        answers.insert(status.to_string(), found);
    }
    for (status, answer) in &mut answers {
        if status.starts_with('2') {
            for (name, schema, text) in of_files(route, method) {
                answer["headers"][name] =
                    json!({ "description": text, "schema": { "type": schema } });
            }
        }
    }
    if let Some(Value::Object(answer)) = answers.get_mut("204") {
        answer.remove("content");
    }
    if *method == Method::HEAD {
        for answer in answers.values_mut() {
            if let Some(answer) = answer.as_object_mut() {
                answer.remove("content");
            }
        }
    }
    for (status, codes) in codes(manifest, route, method) {
        let entry = answers.entry(status.to_string());
        let answer = entry.or_insert_with(|| json!({ "description": reason(status) }));
        answer["x-gantry-codes"] = codes.iter().map(|(code, _)| json!(code)).collect();
        let told: Vec<String> = codes
            .iter()
            .filter_map(|(code, text)| Some(format!("`{code}`: {}", text.as_ref()?)))
            .collect();
        if !told.is_empty() {
            answer["description"] = format!("{}\n\n{}", reason(status), told.join("\n\n")).into();
        }
        if answer.pointer("/content").is_none() {
            let first = codes
                .first()
                .map(|(code, _)| code.as_str())
                .unwrap_or_default();
            let is_the_plugins =
                |error: &DeclaredError| error.status == status && error.code == first;
            // Pages explain the codes of the host only.
            let kind = match route.docs.errors.iter().any(is_the_plugins) {
                true => "about:blank".to_owned(),
                false => format!("/_gantry/errors/{first}"),
            };
            answer["content"] = json!({ "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
                "example": {
                    "type": kind,
                    "title": title(status),
                    "status": status,
                    "code": first,
                    "detail": "What happened, and how to mend it",
                    "request_id": "01980000-0000-7000-8000-000000000000",
                    "errors": [],
                },
            } });
        }
        if matches!(status, 429 | 503) {
            answer["headers"]["Retry-After"] = json!({ "$ref": "#/components/headers/RetryAfter" });
        }
    }
    answers.into_iter().collect()
}

fn answer(
    route: &Route,
    schema: Option<Value>,
    example: Option<&Value>,
    statuses: Statuses,
) -> Value {
    let mut media_type = Map::new();
    let has_schema = schema.is_some();
    if let Some(schema) = schema {
        media_type.insert("schema".to_owned(), schema);
    }
    if let Some(example) = example {
        media_type.insert("example".to_owned(), example.clone());
    }
    // RFC 9110, section 15: these have none.
    let has_body = !matches!(statuses, Statuses::One(204 | 205 | 304));
    let mut types = match has_body {
        true => route.contract.produces.clone(),
        false => Vec::new(),
    };
    if has_body && types.is_empty() && (has_schema || example.is_some()) {
        types.push("application/json".to_owned());
    }
    let content: Map<String, Value> = types
        .into_iter()
        .map(|name| (name, Value::Object(media_type.clone())))
        .collect();
    let text = match statuses {
        Statuses::One(status) => reason(status),
        Statuses::Class(2) => "Success".to_owned(),
        Statuses::Class(class) => format!("An answer with {class}xx"),
        Statuses::Others => "Any other answer".to_owned(),
    };
    let mut headers = Map::new();
    let mut header = |name: &str, component: &str| {
        let header = json!({ "$ref": format!("#/components/headers/{component}") });
        headers.insert(name.to_owned(), header);
    };
    header("X-Request-Id", "RequestId");
    if !route.limits.is_empty() {
        header("RateLimit", "RateLimit");
        header("RateLimit-Policy", "RateLimitPolicy");
    }
    if let Some(notice) = &route.deprecation {
        header("Deprecation", "Deprecation");
        if notice.sunset_ms.is_some() {
            header("Sunset", "Sunset");
        }
        if notice.link.is_some() || notice.successor.is_some() {
            header("Link", "Link");
        }
    }
    let mut answer = json!({ "description": text, "headers": headers });
    if !content.is_empty() {
        answer["content"] = Value::Object(content);
    }
    answer
}

/// Headers of the answers of a route of files: of those that have no body, they are what is told.
fn of_files(
    route: &Route,
    method: &Method,
) -> &'static [(&'static str, &'static str, &'static str)] {
    const OFFSET: (&str, &str, &str) = ("Upload-Offset", "integer", "How many bytes are there.");
    const EXPIRES: (&str, &str, &str) = (
        "Upload-Expires",
        "string",
        "When the upload goes if nobody adds to it.",
    );
    const TAG: (&str, &str, &str) = ("ETag", "string", "Changes with each version of the file.");
    match route.files.map(|route| route.action) {
        Some(FileAction::Send) => &[("Location", "string", "Where the file is."), TAG],
        Some(FileAction::Discover) => &[
            ("Tus-Version", "string", "Versions of the protocol."),
            ("Tus-Extension", "string", "Parts of the protocol."),
            ("Tus-Max-Size", "integer", "Most bytes of an upload."),
            (
                "Tus-Checksum-Algorithm",
                "string",
                "Digests that `Upload-Checksum` may have.",
            ),
        ],
        Some(FileAction::Change) if *method == Method::HEAD => &[
            OFFSET,
            ("Upload-Length", "integer", "How many bytes it has in all."),
            ("Upload-Metadata", "string", "What was said of the file."),
            EXPIRES,
        ],
        Some(FileAction::Change) if *method == Method::PATCH => &[
            OFFSET,
            EXPIRES,
            (
                "Content-Location",
                "string",
                "Where the file is, once it is whole.",
            ),
        ],
        Some(FileAction::Read | FileAction::Render) => &[
            TAG,
            ("Content-Disposition", "string", "The name of the file."),
            ("Content-Range", "string", "Of a part: which it is."),
            ("Repr-Digest", "string", "The SHA-256 of the whole."),
        ],
        _ => &[],
    }
}

/// The codes of the errors that a route can answer with, by status: those that the author declares, and the host's own.
fn codes(
    manifest: &Manifest,
    route: &Route,
    method: &Method,
) -> BTreeMap<u16, Vec<(String, Option<String>)>> {
    let mut codes: BTreeMap<u16, Vec<(String, Option<String>)>> = BTreeMap::new();
    for error in &route.docs.errors {
        let known = codes.entry(error.status).or_default();
        known.push((error.code.clone(), error.description.clone()));
    }
    let contract = &route.contract;
    let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(method)
        || contract.request_schema.is_some();
    let has_limits = !route.limits.is_empty();
    let has_headers = contract
        .parameters
        .iter()
        .any(|it| it.place == Place::Header);
    let by_header = route.version.is_some()
        && manifest
            .versioning
            .as_ref()
            .is_some_and(|versioning| versioning.by != VersionBy::Path);
    let is_by_media_type = manifest
        .versioning
        .as_ref()
        .is_some_and(|versioning| matches!(versioning.by, VersionBy::MediaType(_)));
    let has_parameters =
        !contract.parameters.is_empty() || route.files.is_some() || route.path.contains('{');
    let own = [
        (true, 400, "request.invalid_path"),
        (
            !contract.parameters.is_empty(),
            400,
            "request.invalid_parameters",
        ),
        (
            contract.request_schema.is_some(),
            400,
            "request.invalid_json",
        ),
        (by_header && !is_by_media_type, 400, "route.version_unknown"),
        (by_header, 400, "route.version_missing"),
        (route.auth == Auth::Required, 401, "auth.required"),
        (route.auth != Auth::Public, 401, "auth.token_invalid"),
        (route.auth != Auth::Public, 401, "auth.token_expired"),
        (
            !route.permissions.is_empty(),
            403,
            "auth.permission_missing",
        ),
        (!route.policy.roles.is_empty(), 403, "auth.role_missing"),
        (!route.policy.scopes.is_empty(), 403, "auth.scope_missing"),
        (
            route.policy.condition.is_some(),
            403,
            "auth.condition_unmet",
        ),
        (
            takes_body && route.auth != Auth::Public,
            403,
            "auth.csrf_refused",
        ),
        (!contract.produces.is_empty(), 406, "request.not_acceptable"),
        (by_header && is_by_media_type, 406, "route.version_unknown"),
        (takes_body, 408, "request.body_timeout"),
        (
            route
                .deprecation
                .as_ref()
                .is_some_and(|notice| notice.sunset_ms.is_some()),
            410,
            "route.gone",
        ),
        (
            takes_body && route.files.is_none(),
            413,
            "request.body_too_large",
        ),
        (has_parameters, 414, "request.uri_too_long"),
        (
            takes_body && (!contract.consumes.is_empty() || contract.request_schema.is_some()),
            415,
            "request.unsupported_media_type",
        ),
        (
            contract.request_schema.is_some(),
            422,
            "request.invalid_body",
        ),
        (route.idempotency.is_some(), 409, "idempotency.in_progress"),
        (route.idempotency.is_some(), 422, "idempotency.key_reused"),
        // A key can have a limit of its own.
        (
            has_limits || route.auth != Auth::Public,
            429,
            "limit.quota_exceeded",
        ),
        (has_headers, 431, "request.headers_too_large"),
        (true, 500, "host.internal"),
        (route.files.is_none(), 502, "plugin.failed"),
        (route.files.is_none(), 502, "plugin.trapped"),
        (true, 503, "host.saturated"),
        (route.files.is_none(), 503, "plugin.held_off"),
        (route.files.is_none(), 504, "plugin.deadline_exceeded"),
    ];
    for (is_possible, status, code) in own {
        let known = codes.entry(status).or_default();
        if is_possible && !known.iter().any(|(known, _)| known == code) {
            known.push((code.to_owned(), None));
        }
    }
    codes.retain(|_, codes| !codes.is_empty());
    codes
}

/// Headers of answers that several operations have.
pub(super) fn headers() -> Value {
    let text =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        "RequestId": text("The id of the request, as it is in the logs."),
        "RateLimit": text("What is left of the limits (draft-ietf-httpapi-ratelimit-headers)."),
        "RateLimitPolicy": text("The limits (draft-ietf-httpapi-ratelimit-headers)."),
        "RetryAfter": { "description": "Seconds until it is worth to try again.", "schema": { "type": "integer" } },
        "Deprecation": text("Since when nobody should begin to use this (RFC 9745)."),
        "Sunset": text("From when on this is gone (RFC 8594)."),
        "Link": text("What to read about the end, and what stands in its place (RFC 8288)."),
    })
}
