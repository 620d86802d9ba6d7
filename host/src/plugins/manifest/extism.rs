//! `[extism]` and the same keys of a route: which export of an Extism module answers, and how it is called.

use http::HeaderValue;

use super::reader::{Fields, Reader};

/// An export of a core module that an author wrote with one of Extism's kits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub name: String,
    pub kind: ExportKind,
}

/// What passes between the host and an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportKind {
    /// `handler = "…"`: a request and a response as JSON.
    Handler,
    /// `transform = "…"`: the body in, the body out.
    Transform {
        /// The media type of what comes out. Default: `application/octet-stream`.
        output_type: HeaderValue,
    },
}

/// `handler quote`, for people.
impl std::fmt::Display for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ExportKind::Handler => "handler",
            ExportKind::Transform { .. } => "transform",
        };
        write!(f, "{kind} {}", self.name)
    }
}

impl Export {
    /// `[extism]`, which speaks for all routes that name no export of their own.
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let at = fields.span();
        let is_named = fields.has("handler") || fields.has("transform");
        let export = Self::read_keys(reader, &mut fields);
        if !is_named {
            let help = "write `handler = \"EXPORT\"` or `transform = \"EXPORT\"`";
            reader.mistake_with_help(at, "`[extism]` names no export", help);
        }
        fields.finish(
            reader,
            &["allowed_hosts", "config", "hosts", "memory", "wasm"],
            &[
                ("export", "write `handler` or `transform`"),
                ("content_type", "did you mean `output_type`?"),
            ],
        );
        export
    }

    /// The keys among others, as a route has them. Nothing if none is there.
    pub(super) fn read_keys(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Self> {
        let handler = fields.string(reader, "handler", NAME_BYTES_MAX);
        let transform = fields.string(reader, "transform", NAME_BYTES_MAX);
        let output_type = fields.string(reader, "output_type", 100);
        if let Some(output_type) = &output_type
            && !is_media_type(output_type.get_ref())
        {
            let message = "`output_type` is not a media type";
            let help = "for example `output_type = \"application/json\"`";
            reader.mistake_with_help(output_type.span(), message, help);
        }
        match (handler, transform) {
            (Some(_), Some(transform)) => {
                let message = "`handler` and `transform` are both set";
                let help = "keep one: a handler takes requests, a transformation takes bodies";
                reader.mistake_with_help(transform.span(), message, help);
                None
            }
            (handler, None) => {
                if let Some(output_type) = output_type {
                    let message = "`output_type` belongs to a `transform`";
                    reader.mistake(output_type.span(), message);
                }
                Some(Self {
                    name: (*handler?.get_ref()).to_owned(),
                    kind: ExportKind::Handler,
                })
            }
            (None, Some(transform)) => {
                let output_type = output_type.map(|text| *text.get_ref());
                let output_type = output_type.unwrap_or("application/octet-stream");
                Some(Self {
                    name: (*transform.get_ref()).to_owned(),
                    kind: ExportKind::Transform {
                        output_type: HeaderValue::from_str(output_type).ok()?,
                    },
                })
            }
        }
    }
}

/// Longest name of an export.
const NAME_BYTES_MAX: usize = 256;

/// Something before and after one slash, in visible characters; what it means is the author's.
fn is_media_type(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let essence = text.split(';').next().unwrap_or_default().trim();
    let halves = essence.split_once('/');
    is_plain && halves.is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::plugins::manifest::Manifest;

    use super::*;

    const HEAD: &str = "schema = 1
[plugin]
name = \"shop\"
version = \"1.2.3\"
[component]
path = \"shop.wasm\"
";

    #[test]
    fn an_export_is_named_for_a_route_or_for_all() {
        let text = format!(
            "{HEAD}[extism]\ntransform = \"count\"\noutput_type = \"application/json; charset=utf-8\"\n\
             [[route]]\nmethod = \"GET\"\npath = \"/\"\nhandler = \"show\"\n\
             [[route]]\nmethod = \"POST\"\npath = \"/\"\n"
        );
        let manifest = Manifest::parse(&text).unwrap();
        let export = manifest.extism.unwrap();
        assert_eq!(export.name, "count");
        let output_type = HeaderValue::from_static("application/json; charset=utf-8");
        assert_eq!(export.kind, ExportKind::Transform { output_type });
        let handler = Export {
            name: "show".to_owned(),
            kind: ExportKind::Handler,
        };
        assert_eq!(manifest.routes[0].export, Some(handler));
        assert_eq!(manifest.routes[1].export, None);
    }

    #[test]
    fn each_mistake_says_where_what_and_how_to_mend_it() {
        let route = |lines: &str| format!("[[route]]\nmethod = \"GET\"\npath = \"/\"\n{lines}");
        for (rest, expected) in [
            (
                "[extism]".to_owned(),
                "7:1: `[extism]` names no export (write `handler = \"EXPORT\"` or `transform = \"EXPORT\"`)",
            ),
            (
                "[extism]\nexport = \"f\"\nhandler = \"f\"".to_owned(),
                "8:1: unknown key `export` in `[extism]` (write `handler` or `transform`)",
            ),
            (
                route("handler = \"f\"\ntransform = \"f\""),
                "11:13: `handler` and `transform` are both set",
            ),
            (
                route("handler = \"f\"\noutput_type = \"a/b\""),
                "11:15: `output_type` belongs to a `transform`",
            ),
            (
                route("output_type = \"a/b\""),
                "10:15: `output_type` belongs to a `transform`",
            ),
            (
                route("transform = \"f\"\noutput_type = \"json\""),
                "11:15: `output_type` is not a media type (for example `output_type = \"application/json\"`)",
            ),
        ] {
            let told = Manifest::parse(&format!("{HEAD}{rest}")).unwrap_err();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].to_string().contains(expected), "{}", told[0]);
        }
    }
}
