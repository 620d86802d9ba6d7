//! What came back, compared with what the author expects; and values of one answer in the next request.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::plugins::manifest::Expected;
use crate::runtime::EntryKind;

/// Stands for any value that is there.
const ANY: &str = "${any}";
/// Stands for null, or nothing at all: TOML cannot say so.
const NONE: &str = "${none}";
/// Most characters of a body that are shown.
const SHOWN_MAX: usize = 400;
/// The host's codes for plugins that broke down instead of answering.
const BREAKDOWNS: [&str; 6] = [
    "plugin.trapped",
    "plugin.invalid_response",
    "plugin.memory_exceeded",
    "plugin.cpu_exceeded",
    "plugin.deadline_exceeded",
    "host.internal",
];

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What was saved of earlier answers.
pub(super) type Saved = HashMap<String, Value>;

impl Answer {
    /// Every difference. Saves what the author wants to use later.
    pub(super) fn compare(&self, expected: &Expected, saved: &mut Saved) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.status != expected.status {
            let body = shown(&self.body);
            return vec![format!(
                "the status is {} and not {}: {body}",
                self.status, expected.status
            )];
        }
        for (name, wanted) in &expected.headers {
            let found = self.headers.get(name).and_then(|value| value.to_str().ok());
            match (found, fill(wanted, saved)) {
                (_, Err(unknown)) => mistakes.push(unknown),
                (Some(_), Ok(wanted)) if wanted == ANY => {}
                (Some(found), Ok(wanted)) if found == wanted => {}
                (Some(found), Ok(wanted)) => mistakes.push(format!(
                    "the header `{name}` is `{found}` and not `{wanted}`"
                )),
                (None, Ok(_)) => mistakes.push(format!("the header `{name}` is missing")),
            }
        }
        if let Some(wanted) = &expected.text {
            let found = String::from_utf8_lossy(&self.body);
            match fill(wanted, saved) {
                Ok(wanted) if found.contains(&wanted) => {}
                Ok(wanted) => mistakes.push(format!(
                    "the body does not contain `{wanted}`: {}",
                    shown(&self.body)
                )),
                Err(unknown) => mistakes.push(unknown),
            }
        }
        if expected.json.is_some() || !expected.save.is_empty() {
            self.compare_json(expected, saved, &mut mistakes);
        }
        mistakes
    }

    fn compare_json(&self, expected: &Expected, saved: &mut Saved, mistakes: &mut Vec<String>) {
        let found: Value = match serde_json::from_slice(&self.body) {
            Ok(found) => found,
            Err(_) => {
                mistakes.push(format!("the body is not JSON: {}", shown(&self.body)));
                return;
            }
        };
        if let Some(wanted) = &expected.json {
            match fill_value(wanted, saved) {
                Ok(wanted) => contain("", &wanted, &found, mistakes),
                Err(unknown) => mistakes.push(unknown),
            }
        }
        for (name, pointer) in &expected.save {
            match found.pointer(pointer) {
                Some(value) => drop(saved.insert(name.clone(), value.clone())),
                None => mistakes.push(format!("there is nothing at `{pointer}` to save")),
            }
        }
    }

    /// Why this is no decent answer to a failure that is not the plugin's; nothing if it is one. To go on without what
    /// failed is decent, too.
    pub(super) fn breakdown(&self, entry: EntryKind) -> Option<String> {
        let problem: Option<Value> = serde_json::from_slice(&self.body).ok();
        let code = problem
            .as_ref()
            .and_then(|problem| problem["code"].as_str())
            .unwrap_or_default();
        if BREAKDOWNS.contains(&code) {
            return Some(format!("it breaks down: {} `{code}`", self.status));
        }
        // Plugins of the standards' world choose the form of their errors themselves.
        if self.status < 400 || entry == EntryKind::WasiHttp02 {
            return None;
        }
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        let is_problem =
            kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        if is_problem && !code.is_empty() {
            return None;
        }
        Some(format!(
            "it answers {} and no problem with a code: {}",
            self.status,
            shown(&self.body)
        ))
    }
}

/// Whether `found` has everything that is wanted. Objects may have more keys; lists have the same length.
pub(super) fn contain(at: &str, wanted: &Value, found: &Value, mistakes: &mut Vec<String>) {
    match (wanted, found) {
        (Value::String(any), found) if any == ANY && !found.is_null() => {}
        (Value::String(none), Value::Null) if none == NONE => {}
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, wanted) in wanted {
                let at = format!("{at}/{key}");
                match found.get(key) {
                    Some(found) => contain(&at, wanted, found, mistakes),
                    None if wanted == NONE => {}
                    None => mistakes.push(format!("`{at}` is missing")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                contain(&format!("{at}/{index}"), wanted, found, mistakes);
            }
        }
        (Value::Array(wanted), Value::Array(found)) => mistakes.push(format!(
            "{} has {} elements and not {}",
            place(at),
            found.len(),
            wanted.len()
        )),
        (Value::Number(wanted), Value::Number(found)) if wanted.as_f64() == found.as_f64() => {}
        (wanted, found) if wanted == found => {}
        (wanted, found) => mistakes.push(format!(
            "{} is {} and not {}",
            place(at),
            shown(found.to_string().as_bytes()),
            shown(wanted.to_string().as_bytes())
        )),
    }
}

fn place(at: &str) -> String {
    match at {
        "" => "the body".to_owned(),
        at => format!("`{at}`"),
    }
}

/// The text with `${name}` replaced by what was saved under that name.
pub(super) fn fill(text: &str, saved: &Saved) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        filled.push_str(before);
        match saved.get(name) {
            Some(Value::String(value)) => filled.push_str(value),
            Some(value) => filled.push_str(&value.to_string()),
            None if name == "any" => filled.push_str(ANY),
            None if name == "none" => filled.push_str(NONE),
            None => {
                return Err(format!(
                    "nothing was saved as `{name}`; write `response.save = {{ {name} = \"/id\" }}` in an earlier step"
                ));
            }
        }
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The same in all texts of a value. A text that is nothing but `${name}` becomes what was saved, of whatever type.
pub(super) fn fill_value(value: &Value, saved: &Saved) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => {
            let whole = text
                .strip_prefix("${")
                .and_then(|rest| rest.strip_suffix('}'))
                .and_then(|name| saved.get(name));
            match whole {
                Some(value) => value.clone(),
                None => Value::String(fill(text, saved)?),
            }
        }
        Value::Array(values) => {
            let values = values.iter().map(|value| fill_value(value, saved));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Object(values) => {
            let values = values
                .iter()
                .map(|(key, value)| Ok((key.clone(), fill_value(value, saved)?)));
            Value::Object(values.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if text.is_empty() {
        return "(nothing)".to_owned();
    }
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes(wanted: &Value, found: &Value) -> Vec<String> {
        let mut mistakes = Vec::new();
        contain("", wanted, found, &mut mistakes);
        mistakes
    }

    #[test]
    fn objects_may_have_more_and_lists_may_not() {
        let found = json!({ "id": 7, "items": [{ "a": 1, "b": 2 }], "none": null, "rate": 2.0 });
        for (wanted, said) in [
            (json!({ "id": 7 }), ""),
            (json!({ "items": [{ "a": 1 }] }), ""),
            (json!({ "rate": 2 }), ""),
            (json!({ "id": "${any}" }), ""),
            (json!({ "none": null }), ""),
            (
                json!({ "none": "${any}" }),
                "`/none` is null and not \"${any}\"",
            ),
            (json!({ "none": "${none}", "missing": "${none}" }), ""),
            (json!({ "id": "${none}" }), "`/id` is 7 and not"),
            (json!({ "id": 8 }), "`/id` is 7 and not 8"),
            (json!({ "items": [] }), "`/items` has 1 elements and not 0"),
            (
                json!({ "items": [{ "a": 2 }] }),
                "`/items/0/a` is 1 and not 2",
            ),
            (json!({ "other": 1 }), "`/other` is missing"),
            (json!([]), "the body is"),
        ] {
            let found = mistakes(&wanted, &found).join("; ");
            assert!(
                found.starts_with(said) && found.is_empty() == said.is_empty(),
                "{wanted}: {found}"
            );
        }
    }

    #[test]
    fn what_was_saved_is_filled_in_with_its_type() {
        let saved = Saved::from([
            ("id".to_owned(), json!(7)),
            ("name".to_owned(), json!("Ann")),
        ]);
        assert_eq!(
            fill("/a/${id}/${name}?x=$", &saved).unwrap(),
            "/a/7/Ann?x=$"
        );
        assert_eq!(
            fill_value(&json!({ "a": ["${id}", "no ${id}"] }), &saved).unwrap(),
            json!({ "a": [7, "no 7"] })
        );
        assert!(fill("${other}", &saved).unwrap_err().contains("`other`"));
    }

    #[test]
    fn a_breakdown_is_told_from_a_problem_and_from_going_on() {
        let answer = |status: u16, kind: &str, body: Value| Answer {
            status,
            headers: [(http::header::CONTENT_TYPE, kind.parse().unwrap())]
                .into_iter()
                .collect(),
            body: Bytes::from(body.to_string()),
        };
        let problem = "application/problem+json";
        for (status, kind, body, is_decent) in [
            (200, "application/json", json!({}), true),
            (503, problem, json!({ "code": "kv.busy" }), true),
            (502, problem, json!({ "code": "plugin.failed" }), true),
            (502, problem, json!({ "code": "plugin.trapped" }), false),
            (
                504,
                problem,
                json!({ "code": "plugin.cpu_exceeded" }),
                false,
            ),
            (500, "text/plain", json!("oops"), false),
        ] {
            let found = answer(status, kind, body).breakdown(EntryKind::Handler);
            assert_eq!(found.is_none(), is_decent, "{status} {kind}: {found:?}");
        }
        let own = answer(500, "text/plain", json!("oops"));
        assert!(own.breakdown(EntryKind::WasiHttp02).is_none());
    }
}
