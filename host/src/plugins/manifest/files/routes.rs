//! The routes that an entry of `[[files]]` is, and what documents say of them.

use http::Method;
use serde_json::{Value, json};

use super::{Access, FileAction, FileRoute, Files, Rules};
use crate::plugins::manifest::{
    Auth, Contract, Cors, DeclaredError, Parameter, Place, Policy, Route, RouteDocs, Statuses,
};

impl Files {
    pub(super) fn routes(
        &self,
        entry: usize,
        cors: Option<&Cors>,
        tag: Option<&str>,
    ) -> Vec<Route> {
        let of = |action, methods: &[Method], below: &str, access: Option<&Access>, said: Said| {
            let public = Access {
                auth: Auth::Public,
                permissions: Vec::new(),
                policy: Policy::default(),
                limits: Vec::new(),
            };
            let access = access.unwrap_or(&public);
            let errors = said.errors.iter().map(|(status, code)| DeclaredError {
                status: *status,
                code: (*code).to_owned(),
                description: None,
            });
            Route {
                methods: methods.to_vec(),
                path: format!("{}{below}", self.path),
                auth: access.auth,
                permissions: access.permissions.clone(),
                policy: access.policy.clone(),
                limits: access.limits.clone(),
                export: None,
                filters: Vec::new(),
                timeout: None,
                stream: None,
                body_bytes_max: None,
                cors: cors.cloned(),
                may_compress: Some(false),
                contract: Contract {
                    parameters: said.parameters,
                    response_schemas: [(said.status, said.schema)]
                        .into_iter()
                        .chain(said.also.into_iter().map(|status| (status, json!({}))))
                        .map(|(status, schema)| (Statuses::One(status), schema))
                        .collect(),
                    consumes: said.consumes.into_iter().map(str::to_owned).collect(),
                    produces: said.produces.into_iter().map(str::to_owned).collect(),
                    ..Contract::default()
                },
                cache: None,
                idempotency: None,
                summary: Some(said.summary.to_owned()),
                tag: tag.map(str::to_owned),
                docs: RouteDocs {
                    description: said.description,
                    errors: errors.collect(),
                    example_request: said.example,
                    ..RouteDocs::default()
                },
                version: None,
                deprecation: None,
                files: Some(FileRoute { entry, action }),
            }
        };
        let (read, write) = (Some(&self.read), Some(&self.write));
        let mut routes = vec![
            of(
                FileAction::Send,
                &[Method::POST],
                "",
                write,
                Said::send(&self.rules),
            ),
            of(FileAction::List, &[Method::GET], "", read, Said::list()),
            of(
                FileAction::Discover,
                &[Method::OPTIONS],
                "",
                None,
                Said::discover(),
            ),
            of(
                FileAction::Read,
                &[Method::GET],
                "/{id}",
                read,
                Said::read(),
            ),
            // After the one that gives files: without `Tus-Resumable`, `HEAD` is about a file.
            of(
                FileAction::Change,
                &[Method::HEAD],
                "/{id}",
                write,
                Said::status(),
            ),
            of(
                FileAction::Change,
                &[Method::PATCH],
                "/{id}",
                write,
                Said::append(),
            ),
            of(
                FileAction::Change,
                &[Method::DELETE],
                "/{id}",
                write,
                Said::delete(),
            ),
            of(
                FileAction::Discover,
                &[Method::OPTIONS],
                "/{id}",
                None,
                Said::discover(),
            ),
        ];
        if !self.renditions.is_empty() {
            let below = "/{id}/renditions/{name}";
            routes.push(of(
                FileAction::Render,
                &[Method::GET],
                below,
                read,
                Said::render(),
            ));
        }
        if self.link_ttl_max.is_some() {
            routes.push(of(
                FileAction::LinkToRead,
                &[Method::POST],
                "/{id}/link",
                read,
                Said::link_to_read(),
            ));
            routes.push(of(
                FileAction::LinkToSend,
                &[Method::POST],
                "/link",
                write,
                Said::link_to_send(),
            ));
        }
        routes
    }
}

/// What documents say of one route.
#[derive(Default)]
struct Said {
    summary: &'static str,
    description: Option<String>,
    parameters: Vec<Parameter>,
    status: u16,
    schema: Value,
    /// Other answers that are no errors.
    also: Vec<u16>,
    consumes: Vec<&'static str>,
    produces: Vec<&'static str>,
    errors: Vec<(u16, &'static str)>,
    /// A body of a request.
    example: Option<Value>,
}

/// What can stand in the way of everything but discovery.
const NOT_GRANTED: (u16, &str) = (403, "capability.not_granted");
const UNAVAILABLE: (u16, &str) = (503, "blobs.unavailable");

impl Said {
    fn send(rules: &Rules) -> Self {
        Self {
            summary: "Send a file",
            description: Some(format!(
                "The body is the file, with its own `Content-Type` or with this one{}. `Content-Disposition: attachment; filename=\"…\"` \
                 names it, or `filename`.\n\nWith `Tus-Resumable: 1.0.0`, `Upload-Length` and `Upload-Metadata`, a resumable upload \
                 begins instead ([tus 1.0.0](https://tus.io/protocols/resumable-upload)): `HEAD` at its `Location` tells how much is there, \
                 `PATCH` goes on. `OPTIONS` says what the host can do.",
                bounds(rules)
            )),
            parameters: vec![query(
                "filename",
                json!({ "type": "string" }),
                "The name of the file",
            )],
            status: 201,
            schema: schema(),
            consumes: vec!["application/octet-stream"],
            errors: vec![
                (400, "blobs.type_invalid"),
                NOT_GRANTED,
                (409, "blobs.too_many_uploads"),
                (412, "tus.version_unsupported"),
                (413, "blobs.too_large"),
                (415, "blobs.type_not_allowed"),
                (415, "blobs.type_mismatch"),
                UNAVAILABLE,
                (507, "blobs.full"),
            ],
            ..Self::default()
        }
    }

    fn list() -> Self {
        Self {
            summary: "List files",
            parameters: vec![
                query(
                    "limit",
                    json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 50 }),
                    "Files of a page",
                ),
                query(
                    "cursor",
                    json!({ "type": "string" }),
                    "The `next_cursor` of an earlier page",
                ),
            ],
            status: 200,
            schema: json!({
                "type": "object",
                "required": ["items", "next_cursor"],
                "properties": {
                    "items": { "type": "array", "items": schema() },
                    "next_cursor": { "type": ["string", "null"] },
                },
            }),
            errors: vec![(400, "blobs.cursor_invalid"), NOT_GRANTED],
            ..Self::default()
        }
    }

    fn discover() -> Self {
        Self {
            summary: "Say what resumable uploads can do here",
            description: Some(
                "tus 1.0.0: which versions and extensions there are, and how long an upload may be."
                    .to_owned(),
            ),
            status: 204,
            schema: json!({}),
            ..Self::default()
        }
    }

    fn read() -> Self {
        Self {
            summary: "Get a file",
            description: Some(
                "`Range`, `If-Range`, `If-None-Match` and `If-Modified-Since` are looked at."
                    .to_owned(),
            ),
            status: 200,
            schema: json!({}),
            also: vec![206, 304],
            produces: vec!["application/octet-stream"],
            errors: vec![
                NOT_GRANTED,
                (404, "blobs.not_found"),
                (412, "request.precondition_failed"),
                (416, "blobs.range_invalid"),
                UNAVAILABLE,
            ],
            ..Self::default()
        }
    }

    fn status() -> Self {
        Self {
            summary: "Say how far a resumable upload is",
            description: Some(
                "tus 1.0.0. Without `Tus-Resumable` it is about the file, as everywhere: what `GET` would say."
                    .to_owned(),
            ),
            parameters: vec![resumable()],
            status: 200,
            schema: json!({}),
            also: vec![304],
            errors: vec![
                NOT_GRANTED,
                (404, "blobs.upload_not_found"),
                (404, "blobs.not_found"),
                (412, "tus.version_unsupported"),
                (415, "blobs.type_mismatch"),
                (416, "blobs.range_invalid"),
                (423, "blobs.upload_busy"),
                UNAVAILABLE,
            ],
            ..Self::default()
        }
    }

    fn append() -> Self {
        Self {
            summary: "Go on with a resumable upload",
            description: Some(
                "tus 1.0.0: the next bytes. With the last of them, `Content-Location` says where the file is."
                    .to_owned(),
            ),
            parameters: vec![
                resumable(),
                Parameter {
                    is_required: true,
                    ..header(
                        "Upload-Offset",
                        json!({ "type": "integer", "minimum": 0 }),
                        "How many bytes are there; these come next",
                    )
                },
                header(
                    "Upload-Length",
                    json!({ "type": "integer", "minimum": 0 }),
                    "How many bytes it has in all, if that was not said before",
                ),
                header(
                    "Upload-Checksum",
                    json!({ "type": "string" }),
                    "`sha256` or `sha1`, and the digest of these bytes in Base64",
                ),
            ],
            status: 204,
            schema: json!({}),
            consumes: vec!["application/offset+octet-stream"],
            errors: vec![
                (400, "tus.header_invalid"),
                NOT_GRANTED,
                (404, "blobs.upload_not_found"),
                (409, "blobs.offset_mismatch"),
                (412, "tus.version_unsupported"),
                (413, "blobs.too_large"),
                (415, "blobs.type_mismatch"),
                (423, "blobs.upload_busy"),
                (460, "tus.checksum_mismatch"),
                UNAVAILABLE,
                (507, "blobs.full"),
            ],
            ..Self::default()
        }
    }

    fn delete() -> Self {
        Self {
            summary: "Delete a file",
            description: Some(
                "With `Tus-Resumable: 1.0.0`, a resumable upload that is not whole is given up."
                    .to_owned(),
            ),
            status: 204,
            schema: json!({}),
            errors: vec![
                NOT_GRANTED,
                (404, "blobs.not_found"),
                (409, "blobs.changed"),
                (412, "request.precondition_failed"),
            ],
            ..Self::default()
        }
    }

    fn render() -> Self {
        Self {
            summary: "Get another size of an image",
            description: Some("In the format of the rendition; in JPEG or PNG if that is WebP and `Accept` does not take it.".to_owned()),
            status: 200,
            schema: json!({}),
            also: vec![206, 304],
            produces: vec!["image/webp", "image/jpeg", "image/png"],
            errors: vec![
                NOT_GRANTED,
                (404, "blobs.not_found"),
                (404, "rendition.not_found"),
                (412, "request.precondition_failed"),
                (415, "rendition.no_image"),
                (416, "blobs.range_invalid"),
                (422, "rendition.failed"),
                (501, "rendition.not_installed"),
                UNAVAILABLE,
                (507, "blobs.full"),
            ],
            ..Self::default()
        }
    }

    fn link_to_read() -> Self {
        Self {
            summary: "Make a link that gives a file without a login",
            description: Some("`{ \"expires_in_s\": 300 }`".to_owned()),
            errors: vec![
                (400, "blobs.link_ttl_invalid"),
                (400, "request.invalid_json"),
                NOT_GRANTED,
                (404, "blobs.not_found"),
                (422, "request.invalid_body"),
            ],
            ..Self::link()
        }
    }

    fn link_to_send() -> Self {
        Self {
            summary: "Make a link that takes a file without a login",
            description: Some(
                "`{ \"expires_in_s\": 300 }`; the file is sent to the link with `PUT`.".to_owned(),
            ),
            errors: vec![
                (400, "blobs.link_ttl_invalid"),
                (400, "request.invalid_json"),
                NOT_GRANTED,
                (422, "request.invalid_body"),
            ],
            ..Self::link()
        }
    }

    fn link() -> Self {
        Self {
            status: 201,
            schema: link_schema(),
            consumes: vec!["application/json"],
            example: Some(json!({ "expires_in_s": 300 })),
            ..Self::default()
        }
    }
}

fn query(name: &str, schema: Value, description: &str) -> Parameter {
    Parameter {
        place: Place::Query,
        name: name.to_owned(),
        is_required: false,
        schema,
        description: Some(description.to_owned()),
    }
}

fn header(name: &str, schema: Value, description: &str) -> Parameter {
    Parameter {
        place: Place::Header,
        ..query(name, schema, description)
    }
}

/// What tells requests about uploads from others.
fn resumable() -> Parameter {
    Parameter {
        is_required: true,
        ..header(
            "Tus-Resumable",
            json!({ "type": "string", "const": "1.0.0" }),
            "The version of the protocol",
        )
    }
}

/// What may be sent, as half a sentence.
fn bounds(rules: &Rules) -> String {
    let types: Vec<String> = rules.types.iter().map(|kind| format!("`{kind}`")).collect();
    let size = rules.bytes_max.map(|max| format!("of at most {max} bytes"));
    let kind = (!types.is_empty()).then(|| format!("of one of the types {}", types.join(", ")));
    let all = size.into_iter().chain(kind);
    all.map(|bound| format!(", {bound}")).collect()
}

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["id", "name", "type", "bytes", "sha256", "created_at", "url"],
        "properties": {
            "id": { "type": "string" },
            "name": { "type": ["string", "null"] },
            "type": { "type": "string" },
            "bytes": { "type": "integer" },
            "sha256": { "type": "string" },
            "created_at": { "type": "string", "format": "date-time" },
            "url": { "type": "string", "format": "uri-reference" },
            "renditions": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    })
}

fn link_schema() -> Value {
    json!({
        "type": "object",
        "required": ["id", "url", "expires_at"],
        "properties": {
            "id": { "type": "string" },
            "url": { "type": "string", "format": "uri-reference" },
            "expires_at": { "type": "string", "format": "date-time" },
        },
    })
}
