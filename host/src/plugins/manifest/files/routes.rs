//! The routes that an entry of `[[files]]` is, and what documents say of them.

use http::Method;
use serde_json::{Value, json};

use super::{Access, FileAction, FileRoute, Files};
use crate::plugins::manifest::{
    Auth, Contract, Cors, DeclaredError, Policy, Route, RouteDocs, Statuses,
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
                    response_schemas: vec![(Statuses::One(said.status), said.schema)],
                    consumes: said.consumes.into_iter().map(str::to_owned).collect(),
                    produces: said.produces.into_iter().map(str::to_owned).collect(),
                    ..Contract::default()
                },
                cache: None,
                idempotency: None,
                summary: Some(said.summary.to_owned()),
                tag: tag.map(str::to_owned),
                docs: RouteDocs {
                    description: said.description.map(str::to_owned),
                    // Resumable uploads have a protocol of their own.
                    is_documented: action != FileAction::Discover
                        && !methods.contains(&Method::PATCH),
                    errors: errors.collect(),
                    ..RouteDocs::default()
                },
                version: None,
                deprecation: None,
                files: Some(FileRoute { entry, action }),
            }
        };
        let (read, write) = (Some(&self.read), Some(&self.write));
        let mut routes = vec![
            of(FileAction::Send, &[Method::POST], "", write, Said::send()),
            of(FileAction::List, &[Method::GET], "", read, Said::list()),
            of(
                FileAction::Discover,
                &[Method::OPTIONS],
                "",
                None,
                Said::nothing("Say what resumable uploads can do here"),
            ),
            of(
                FileAction::Read,
                &[Method::GET],
                "/{id}",
                read,
                Said::read(),
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
                Said::nothing("Say what resumable uploads can do here"),
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
struct Said {
    summary: &'static str,
    description: Option<&'static str>,
    status: u16,
    schema: Value,
    consumes: Vec<&'static str>,
    produces: Vec<&'static str>,
    errors: Vec<(u16, &'static str)>,
}

impl Said {
    fn send() -> Self {
        Self {
            summary: "Send a file",
            description: Some(
                "The body is the file, with its own `Content-Type` or with this one. `Content-Disposition: attachment; filename=\"…\"` names it. With `Tus-Resumable: 1.0.0`, \
                 `Upload-Length` and `Upload-Metadata`, a resumable upload (tus 1.0.0) begins instead.",
            ),
            status: 201,
            schema: schema(),
            consumes: vec!["application/octet-stream"],
            produces: Vec::new(),
            errors: vec![
                (409, "blobs.too_many_uploads"),
                (412, "tus.version_unsupported"),
                (413, "blobs.too_large"),
                (415, "blobs.type_not_allowed"),
                (415, "blobs.type_mismatch"),
                (507, "blobs.full"),
            ],
        }
    }

    fn list() -> Self {
        Self {
            summary: "List files",
            description: Some(
                "`limit` (1 to 100, 50 if it is not there) and `cursor`, the `next_cursor` of the page before.",
            ),
            status: 200,
            schema: json!({
                "type": "object",
                "required": ["items", "next_cursor"],
                "properties": {
                    "items": { "type": "array", "items": schema() },
                    "next_cursor": { "type": ["string", "null"] },
                },
            }),
            consumes: Vec::new(),
            produces: Vec::new(),
            errors: vec![(400, "blobs.cursor_invalid")],
        }
    }

    fn nothing(summary: &'static str) -> Self {
        Self {
            summary,
            description: None,
            status: 204,
            schema: json!({}),
            consumes: Vec::new(),
            produces: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn read() -> Self {
        Self {
            summary: "Get a file",
            description: Some(
                "`Range`, `If-Range`, `If-None-Match` and `If-Modified-Since` are looked at.",
            ),
            status: 200,
            schema: json!({}),
            produces: vec!["application/octet-stream"],
            consumes: Vec::new(),
            errors: vec![(404, "blobs.not_found"), (416, "blobs.range_invalid")],
        }
    }

    fn append() -> Self {
        Self {
            summary: "Go on with a resumable upload",
            description: Some("tus 1.0.0: `Tus-Resumable`, `Upload-Offset`, and the next bytes."),
            status: 204,
            schema: json!({}),
            consumes: vec!["application/offset+octet-stream"],
            produces: Vec::new(),
            errors: vec![
                (404, "blobs.upload_not_found"),
                (409, "blobs.offset_mismatch"),
                (412, "tus.version_unsupported"),
                (413, "blobs.too_large"),
                (415, "blobs.type_mismatch"),
                (423, "blobs.upload_busy"),
                (507, "blobs.full"),
            ],
        }
    }

    fn delete() -> Self {
        Self {
            summary: "Delete a file",
            description: Some(
                "With `Tus-Resumable: 1.0.0`, a resumable upload that is not whole is given up.",
            ),
            errors: vec![
                (404, "blobs.not_found"),
                (412, "request.precondition_failed"),
            ],
            ..Self::nothing("")
        }
    }

    fn render() -> Self {
        Self {
            summary: "Get another size of an image",
            description: Some(
                "In the format of the rendition; in JPEG or PNG if that is WebP and `Accept` does not take it.",
            ),
            status: 200,
            schema: json!({}),
            produces: vec!["image/webp", "image/jpeg", "image/png"],
            consumes: Vec::new(),
            errors: vec![
                (404, "blobs.not_found"),
                (415, "rendition.no_image"),
                (422, "rendition.failed"),
                (501, "rendition.not_installed"),
            ],
        }
    }

    fn link_to_read() -> Self {
        Self {
            summary: "Make a link that gives a file without a login",
            description: Some("`{ \"expires_in_s\": 300 }`"),
            status: 201,
            schema: link_schema(),
            consumes: vec!["application/json"],
            produces: Vec::new(),
            errors: vec![(400, "blobs.link_ttl_invalid"), (404, "blobs.not_found")],
        }
    }

    fn link_to_send() -> Self {
        Self {
            summary: "Make a link that takes a file without a login",
            description: Some(
                "`{ \"expires_in_s\": 300 }`; the file is sent to the link with `PUT`.",
            ),
            status: 201,
            schema: link_schema(),
            consumes: vec!["application/json"],
            produces: Vec::new(),
            errors: vec![(400, "blobs.link_ttl_invalid")],
        }
    }
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
