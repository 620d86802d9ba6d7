//! What clients say of files in headers: names, types, conditions of changes; and names on their way back.

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::gateway::conditional::{self, Conditions, Verdict};
use crate::http::Problem;
use crate::services::blobs::{Condition, Object};

/// Most bytes of the name of a file.
const NAME_BYTES_MAX: usize = 255;
/// What stands in `filename*` as it is (RFC 8187).
const IN_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The type that a client declares; nothing if it leaves that to the bytes. What tools send without being asked is nothing.
pub(super) fn declared_type(text: Option<&str>) -> Option<String> {
    const NOTHING: [&str; 3] = [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/offset+octet-stream",
    ];
    let text = text?.trim();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_nothing = NOTHING
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known));
    (!is_nothing && !essence.is_empty()).then(|| text.to_owned())
}

/// The name that `Content-Disposition` or else the query gives a file.
pub(super) fn file_name(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let disposition = headers.get(header::CONTENT_DISPOSITION);
    let named =
        disposition.and_then(|value| of_disposition(&String::from_utf8_lossy(value.as_bytes())));
    let in_query = || {
        let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        pairs
            .find(|(key, _)| key == "filename")
            .map(|(_, value)| value.into_owned())
    };
    plain_name(&named.or_else(in_query)?)
}

/// A name without folders and without what no file has in its name.
pub(super) fn plain_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_shown = |c: &char| {
        // Marks that turn the direction of text make `gpj.exe` look like another name.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !c.is_control() && !turns
    };
    let mut plain: String = last.chars().filter(is_shown).collect();
    while plain.len() > NAME_BYTES_MAX {
        plain.pop();
    }
    let plain = plain.trim();
    (!plain.is_empty() && plain != "." && plain != "..").then(|| plain.to_owned())
}

/// `filename*` (RFC 8187), else `filename`.
fn of_disposition(text: &str) -> Option<String> {
    let mut plain = None;
    for part in split(text).into_iter().skip(1) {
        let Some((key, value)) = part.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.eq_ignore_ascii_case("filename*") {
            let mut parts = value.splitn(3, '\'');
            let (charset, _, value) = (parts.next()?, parts.next()?, parts.next()?);
            if charset.eq_ignore_ascii_case("utf-8") {
                return percent_decode_str(value).decode_utf8().ok().map(Into::into);
            }
        } else if key.eq_ignore_ascii_case("filename") {
            let inner = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            plain = Some(match inner {
                Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
                None => value.to_owned(),
            });
        }
    }
    plain
}

/// The parts between semicolons that stand outside of quotation marks.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ';' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `Content-Disposition` of an answer (RFC 6266): an ASCII form of the name for old readers, and the name.
pub(super) fn disposition(is_inline: bool, name: Option<&str>) -> HeaderValue {
    let kind = if is_inline { "inline" } else { "attachment" };
    let Some(name) = name else {
        return HeaderValue::from_static(kind);
    };
    let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !"\"\\%".contains(c);
    let ascii: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(name, IN_VALUE);
    let text = format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(kind))
}

/// When a change may happen, by `If-Match` and `If-Unmodified-Since`.
pub(super) fn condition_of_change(
    headers: &HeaderMap,
    object: &Object,
) -> Result<Condition, Problem> {
    let Some(conditions) = Conditions::of(&http::Method::GET, headers) else {
        return Ok(Condition::Always);
    };
    let tag = format!("\"{}\"", object.etag());
    // HTTP counts in seconds.
    let modified = jiff::Timestamp::from_second(object.created_at_ms.div_euclid(1000)).ok();
    match conditions.judge(Some(&tag), modified) {
        Verdict::Failed => Err(conditional::failed()),
        _ if headers.contains_key(header::IF_MATCH) => Ok(Condition::Is(object.id)),
        _ => Ok(Condition::Always),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::files::head;

    #[test]
    fn a_file_is_called_what_its_sender_says_without_folders() {
        for (disposition, query, wanted) in [
            ("attachment; filename=\"a b.png\"", None, Some("a b.png")),
            ("attachment; filename=a.png", None, Some("a.png")),
            (
                "attachment; filename=\"a;b\\\".png\"; x=y",
                None,
                Some("a;b\".png"),
            ),
            (
                "attachment; filename=\"a.png\"; filename*=UTF-8''%C3%A4.png",
                None,
                Some("ä.png"),
            ),
            (
                "attachment; filename=\"../../etc/passwd\"",
                None,
                Some("passwd"),
            ),
            (
                "attachment; filename=\"C:\\\\x\\\\y.txt\"",
                None,
                Some("y.txt"),
            ),
            ("attachment; filename=\"..\"", None, None),
            ("attachment", Some("filename=%C3%A4.png&x=1"), Some("ä.png")),
            ("attachment", Some("filename="), None),
            (
                "attachment; filename*=UTF-8''photo%E2%80%AEgpj.exe",
                None,
                Some("photogpj.exe"),
            ),
        ] {
            let head = head(&[("content-disposition", disposition)]);
            let name = file_name(&head.headers, query);
            assert_eq!(name.as_deref(), wanted, "{disposition}");
        }
    }

    #[test]
    fn a_name_goes_back_for_old_and_new_readers() {
        for (name, wanted) in [
            (None, "attachment"),
            (
                Some("a b.png"),
                "attachment; filename=\"a b.png\"; filename*=UTF-8''a%20b.png",
            ),
            (
                Some("ä\"\\%.png"),
                "attachment; filename=\"____.png\"; filename*=UTF-8''%C3%A4%22%5C%25.png",
            ),
            (
                Some("a\r\nx: y"),
                "attachment; filename=\"a__x: y\"; filename*=UTF-8''a%0D%0Ax%3A%20y",
            ),
        ] {
            assert_eq!(disposition(false, name), wanted);
        }
        assert_eq!(disposition(true, None), "inline");
    }

    #[test]
    fn what_tools_declare_without_being_asked_is_nothing() {
        for (text, wanted) in [
            (None, None),
            (Some("image/png"), Some("image/png")),
            (
                Some("text/plain; charset=utf-8"),
                Some("text/plain; charset=utf-8"),
            ),
            (Some("Application/Octet-Stream"), None),
            (Some("application/x-www-form-urlencoded"), None),
            (Some(""), None),
        ] {
            assert_eq!(declared_type(text).as_deref(), wanted);
        }
    }
}
