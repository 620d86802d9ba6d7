//! What kind of thing some bytes are: as declared, as they look, and whether both agree and may be kept.

use super::object::read_type;
use super::{Config, Error, Rules, TypePattern};

/// How many bytes at the beginning are looked at.
pub(super) const HEAD_BYTES: usize = 4096;

const UNKNOWN: &str = "application/octet-stream";

/// Names that stand for one type.
const SAME: &[&[&str]] = &[
    &["image/jpeg", "image/jpg", "image/pjpeg"],
    &["image/x-icon", "image/vnd.microsoft.icon"],
    &["image/bmp", "image/x-ms-bmp"],
    &["audio/mpeg", "audio/mp3"],
    &["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"],
    &["audio/m4a", "audio/x-m4a", "audio/mp4", "video/mp4"],
    &["audio/flac", "audio/x-flac"],
    &["audio/aac", "audio/x-aac"],
    &["audio/ogg", "video/ogg", "application/ogg", "audio/opus"],
    &["video/webm", "audio/webm", "video/x-matroska"],
    &["video/x-m4v", "video/mp4"],
    &["video/avi", "video/x-msvideo", "video/msvideo"],
    &["application/gzip", "application/x-gzip"],
    &["application/zip", "application/x-zip-compressed"],
    &["application/vnd.rar", "application/x-rar-compressed"],
    &["application/rtf", "text/rtf"],
    &["application/font-woff", "font/woff"],
    &["application/font-sfnt", "font/ttf", "font/otf", "font/sfnt"],
    &[
        "application/vnd.microsoft.portable-executable",
        "application/x-msdownload",
    ],
];

/// What is kept in a zip archive and has a name of its own.
const IN_ZIP: &[&str] = &[
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/vnd.android.package-archive",
    "application/epub+zip",
    "application/java-archive",
];

/// Refuses a type that is not taken whatever the bytes are, before the first of them.
pub(super) fn check_declared(
    declared: Option<&str>,
    rules: &Rules,
    config: &Config,
) -> Result<(), Error> {
    match declared.map(read_type).transpose()?.as_deref().map(essence) {
        None | Some(UNKNOWN) => Ok(()),
        Some(declared) => check_allowed(declared, rules, config),
    }
}

/// The type that an object gets whose first bytes are these (all of them, or [`HEAD_BYTES`]).
pub(super) fn decide(
    declared: Option<&str>,
    head: &[u8],
    rules: &Rules,
    config: &Config,
) -> Result<String, Error> {
    let found = look(head);
    let declared = declared.map(read_type).transpose()?;
    let declared = declared.filter(|declared| essence(declared) != UNKNOWN);
    let kept = match declared {
        None => found.to_owned(),
        Some(declared) if head.is_empty() || agree(essence(&declared), found) => declared,
        Some(declared) => {
            return Err(Error::TypeMismatch {
                declared: essence(&declared).to_owned(),
                found: found.to_owned(),
            });
        }
    };
    check_allowed(essence(&kept), rules, config)?;
    Ok(kept)
}

/// A media type without its parameters.
fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim_end()
}

fn check_allowed(essence: &str, rules: &Rules, config: &Config) -> Result<(), Error> {
    let is_in = |patterns: &[TypePattern]| patterns.iter().any(|pattern| pattern.matches(essence));
    let is_allowed = |patterns: &[TypePattern]| patterns.is_empty() || is_in(patterns);
    if is_allowed(&rules.types)
        && is_allowed(&config.types_allowed)
        && !is_in(&config.types_refused)
    {
        return Ok(());
    }
    Err(Error::TypeNotAllowed {
        found: essence.to_owned(),
    })
}

/// What the bytes look like. Texts without a mark of their own are `text/plain`.
fn look(head: &[u8]) -> &'static str {
    match infer::get(head) {
        Some(found) => found.mime_type(),
        None if is_text(head) => "text/plain",
        None => UNKNOWN,
    }
}

/// Whether bytes that look like `found` can be what was declared.
fn agree(declared: &str, found: &str) -> bool {
    let is_same = |names: &[&str]| names.contains(&declared) && names.contains(&found);
    if declared == found || SAME.iter().any(|names| is_same(names)) {
        return true;
    }
    if is_textual(declared) {
        // Which kind of text it is, bytes do not tell reliably; nobody who reads it as declared is harmed.
        return is_textual(found);
    }
    if found == "application/zip" {
        return IN_ZIP.iter().any(|name| declared.starts_with(name));
    }
    // What has no mark can be anything that has none either.
    found == UNKNOWN && !infer::is_mime_supported(declared)
}

fn is_textual(essence: &str) -> bool {
    const TEXTUAL: &[&str] = &[
        "application/json",
        "application/xml",
        "application/javascript",
        "application/ecmascript",
        "application/yaml",
        "application/toml",
        "application/sql",
        "application/x-sh",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/rtf",
    ];
    let is_kind_of = |end: &str| essence.ends_with(end);
    essence.starts_with("text/")
        || TEXTUAL.contains(&essence)
        || is_kind_of("+json")
        || is_kind_of("+xml")
        || is_kind_of("+yaml")
}

/// Whether there is no byte that texts do not have (as browsers decide it), or a mark that says how to read them.
fn is_text(head: &[u8]) -> bool {
    let has_mark = head.starts_with(&[0xFE, 0xFF]) || head.starts_with(&[0xFF, 0xFE]);
    let is_binary = |byte: &u8| matches!(byte, 0x00..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F);
    has_mark || !head.iter().any(is_binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const PDF: &[u8] = b"%PDF-1.7\n";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0\0\0";
    const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    fn decided(declared: Option<&str>, head: &[u8]) -> Result<String, Error> {
        decide(declared, head, &Rules::default(), &Config::default())
    }

    #[test]
    fn what_is_declared_is_held_against_the_bytes() {
        for (declared, head, kept) in [
            (Some("image/png"), PNG, Some("image/png")),
            (Some("IMAGE/PNG"), PNG, Some("image/png")),
            (None, PNG, Some("image/png")),
            (Some("application/octet-stream"), PNG, Some("image/png")),
            (Some("image/jpg"), JPEG, Some("image/jpg")),
            (Some("application/pdf"), PDF, Some("application/pdf")),
            (
                Some("application/epub+zip"),
                ZIP,
                Some("application/epub+zip"),
            ),
            (
                Some("text/csv; charset=utf-8"),
                b"a,b\n",
                Some("text/csv; charset=utf-8"),
            ),
            (Some("application/json"), b"{}", Some("application/json")),
            (
                Some("image/svg+xml"),
                b"<?xml version='1.0'?><svg/>",
                Some("image/svg+xml"),
            ),
            (
                Some("text/markdown"),
                b"<p align=center>",
                Some("text/markdown"),
            ),
            (None, b"hello", Some("text/plain")),
            (
                None,
                b"\0\x01\x02\x03\x04",
                Some("application/octet-stream"),
            ),
            (
                Some("application/vnd.acme"),
                b"\0\x01\x02\x03\x04",
                Some("application/vnd.acme"),
            ),
            (Some("image/png"), b"", Some("image/png")),
            // Another kind of thing, a thing that it does not look like, and what could be run.
            (Some("image/png"), JPEG, None),
            (Some("image/png"), b"<script>alert(1)</script>", None),
            (Some("image/png"), b"\0\x01\x02\x03\x04", None),
            (Some("image/png"), ELF, None),
            (Some("application/pdf"), b"hello", None),
            (Some("text/plain"), PNG, None),
            (Some("text/html"), b"a\0b", None),
            (Some("application/vnd.acme"), PNG, None),
        ] {
            let decided = decided(declared, head);
            match kept {
                Some(kept) => assert_eq!(decided.as_deref(), Ok(kept), "{declared:?}"),
                None => assert!(
                    matches!(decided, Err(Error::TypeMismatch { .. })),
                    "{declared:?}: {decided:?}"
                ),
            }
        }
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        let long = format!("image/{}", "x".repeat(200));
        for declared in [
            "",
            "png",
            "image/",
            "/png",
            "image/p ng",
            "image/png; a\r\nb: c",
            "*/*",
            &long,
        ] {
            assert_eq!(
                decided(Some(declared), PNG),
                Err(Error::TypeInvalid),
                "{declared}"
            );
        }
    }

    #[test]
    fn only_types_that_the_operator_and_the_route_allow_are_taken() {
        let patterns = |texts: &[&str]| -> Vec<TypePattern> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (route, allowed, refused, declared, head, is_taken) in [
            (&["image/*"][..], &[][..], &[][..], None, PNG, true),
            (&["image/*"], &[], &[], None, PDF, false),
            (&["image/*"], &["*/*"], &[], Some("image/png"), PNG, true),
            (&["image/jpeg"], &[], &[], Some("image/png"), PNG, false),
            (&[], &["image/png"], &[], None, JPEG, false),
            (&[], &[], &["application/pdf"], None, PDF, false),
            (
                &["*/*"],
                &["*/*"],
                &["image/*"],
                Some("application/octet-stream"),
                PNG,
                false,
            ),
        ] {
            let rules = Rules {
                bytes_max: None,
                types: patterns(route),
            };
            let config = Config {
                types_allowed: patterns(allowed),
                types_refused: patterns(refused),
                ..Config::default()
            };
            let decided = decide(declared, head, &rules, &config);
            assert_eq!(
                decided.is_ok(),
                is_taken,
                "{route:?} {declared:?} {decided:?}"
            );
            if declared.is_some_and(|declared| declared != UNKNOWN) {
                assert_eq!(check_declared(declared, &rules, &config).is_ok(), is_taken);
            }
        }
    }

    #[test]
    fn patterns_are_media_types_or_all_of_a_kind() {
        for text in ["image/png", "image/*", "*/*", "IMAGE/PNG"] {
            assert!(text.parse::<TypePattern>().is_ok(), "{text}");
        }
        for text in [
            "",
            "image",
            "image/",
            "*/png",
            "image/p*",
            "im age/png",
            "*",
        ] {
            assert!(text.parse::<TypePattern>().is_err(), "{text}");
        }
        let images: TypePattern = "image/*".parse().unwrap();
        assert!(images.matches("image/png") && !images.matches("imagery/png"));
    }
}
