//! `[[test]]`: requests to the plugin and what the author expects of the answers. Whoever deploys the plugin runs them
//! first, on a host of their own.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::DeValue;
use url::Url;

use super::config::json;
use super::reader::{Fields, Reader, clip, nearest, parsed, refuse_duplicates};
use super::route::choice;
use super::{DeclaredPermission, ENTRIES_MAX};
use crate::auth::PrincipalKind;
use crate::ids::{Label, Permission};
use crate::services::rehearsal::Answer;

/// A sequence of requests that begins with empty stores and databases.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// A sentence.
    pub name: String,
    /// What the clock shows at the beginning, in milliseconds since 1970. Default: 2026-01-01T00:00:00Z.
    pub at_ms: i64,
    /// Decides all random numbers. Default: 0.
    pub seed: u64,
    /// The settings. Default: the author's defaults.
    pub config: Map<String, Value>,
    /// Secrets by label.
    pub secrets: Vec<(Label, String)>,
    /// What other servers answer, and how often they are asked.
    pub outside: Vec<Outside>,
    /// At least one.
    pub steps: Vec<Step>,
}

/// A server outside that the plugin may ask, in one test.
#[derive(Debug, Clone, PartialEq)]
pub struct Outside {
    pub answer: Answer,
    /// How often the plugin must ask; nothing means any number.
    pub times: Option<usize>,
    /// What the JSON body of every request must contain.
    pub sent: Option<Value>,
}

/// One request and the answer that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub method: Method,
    /// Path and query below the mount.
    pub path: String,
    /// Who calls; nothing means nobody.
    pub caller: Option<As>,
    pub headers: Vec<(String, String)>,
    pub body: Option<Body>,
    /// How much later than the step before it happens.
    pub advance: Duration,
    pub expected: Expected,
}

/// What a request carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Json(Value),
    Text(String),
    /// As they are: only from tests that are not in a manifest.
    Bytes(Bytes),
}

/// Somebody whom the host knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct As {
    pub kind: PrincipalKind,
    /// Default: `tester`. Another name is another caller.
    pub name: String,
    /// Of the plugin's own.
    pub permissions: Vec<Permission>,
}

/// What must be true of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    pub status: u16,
    /// Names and whole values.
    pub headers: Vec<(String, String)>,
    /// What the body must contain: of an object these keys, of a list these elements and no others.
    pub json: Option<Value>,
    /// What the body must contain, as text.
    pub text: Option<String>,
    /// Values out of the JSON body for later steps: names and JSON pointers.
    pub save: Vec<(String, String)>,
}

const CASES_MAX: usize = 200;
const STEPS_MAX: usize = 100;
const DAY: Duration = Duration::from_secs(24 * 3600);
const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

impl TestCase {
    /// What the clock shows if nothing else is said: 2026-01-01T00:00:00Z.
    pub const AT_MS: i64 = 1_767_225_600_000;

    pub(super) fn read_all(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        declared: &[DeclaredPermission],
    ) -> Vec<Self> {
        let tables = fields.tables(reader, "test", "`[[test]]`", CASES_MAX);
        let mut cases = Vec::with_capacity(tables.len());
        for fields in tables {
            let at = fields.span();
            if let Some(case) = Self::read(reader, fields, declared) {
                cases.push((at, case));
            }
        }
        let names = cases
            .iter()
            .map(|(at, case)| (at.clone(), case.name.as_str()));
        refuse_duplicates(reader, "the test", names);
        cases.into_iter().map(|(_, case)| case).collect()
    }

    fn read(
        reader: &mut Reader<'_>,
        mut fields: Fields<'_, '_>,
        declared: &[DeclaredPermission],
    ) -> Option<Self> {
        let name = fields.required_string(reader, "name", 200);
        let at_ms = read_time(reader, &mut fields);
        let seed = fields.integer(reader, "seed", 0..=i64::MAX);
        let config = object(reader, &mut fields, "config");
        let secrets = read_secrets(reader, &mut fields);
        let outside = fields.tables(reader, "answer", "`[[test.answer]]`", ENTRIES_MAX);
        let outside: Vec<_> = outside
            .into_iter()
            .filter_map(|fields| Outside::read(reader, fields))
            .collect();
        // A test of one request has it in its own table.
        let first = fields
            .has("request")
            .then(|| Step::read(reader, &mut fields, declared));
        let steps = fields.tables(reader, "step", "`[[test.step]]`", STEPS_MAX);
        let at = fields.span();
        let is_empty = first.is_none() && steps.is_empty();
        fields.finish(reader, &[], STEP_NOTES);
        if is_empty {
            let help = "write `request = \"GET /\"` and `status = 200`, or `[[test.step]]` for each request";
            reader.mistake_with_help(at, "this test makes no request", help);
        }
        let steps = steps.into_iter().map(|mut fields| {
            let step = Step::read(reader, &mut fields, declared);
            fields.finish(reader, &[], STEP_NOTES);
            step
        });
        let steps: Vec<Option<Step>> = first.into_iter().chain(steps).collect();
        Some(Self {
            name: (*name?.get_ref()).to_owned(),
            at_ms,
            seed: seed.map_or(0, |seed| seed.into_inner().unsigned_abs()),
            config,
            secrets,
            outside,
            steps: steps.into_iter().collect::<Option<_>>()?,
        })
    }
}

const STEP_NOTES: &[(&str, &str)] = &[
    ("body", "write `json = { … }` or `text = \"…\"`"),
    (
        "expect",
        "write `status = 200` and `response = { json = { … } }`",
    ),
    ("path", "write `request = \"GET /path\"`"),
    ("steps", "write `[[test.step]]`"),
    ("answers", "write `[[test.answer]]`"),
];

impl Step {
    fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        declared: &[DeclaredPermission],
    ) -> Option<Self> {
        let request = fields.required_string(reader, "request", 4096);
        let request = request.and_then(|text| read_request(reader, &text));
        let caller = fields
            .table(reader, "as", "`as`")
            .and_then(|fields| As::read(reader, fields, declared));
        let headers = texts(reader, fields, "headers");
        let body = read_body(reader, fields);
        let advance = fields.duration(reader, "advance", Duration::ZERO..=DAY * 3660);
        if !fields.has("status") {
            reader.mistake(
                fields.span(),
                "`status` is missing: what must the answer have?",
            );
        }
        let status = fields.integer(reader, "status", 100..=599);
        let response = fields.table(reader, "response", "`response`");
        let response = response.map(|mut fields| {
            let headers = texts(reader, &mut fields, "headers");
            let json = value(reader, &mut fields, "json");
            let text = text(reader, &mut fields);
            let save = texts(reader, &mut fields, "save");
            fields.finish(
                reader,
                &[],
                &[("status", "`status` stands beside `request`")],
            );
            (headers, json, text, save)
        });
        let (response_headers, json, text, save) = response.unwrap_or_default();
        let (method, path) = request?;
        Some(Self {
            method,
            path,
            caller,
            headers,
            body,
            advance: advance.map_or(Duration::ZERO, Spanned::into_inner),
            expected: Expected {
                status: number(status)?,
                headers: response_headers,
                json,
                text,
                save,
            },
        })
    }
}

impl As {
    fn read(
        reader: &mut Reader<'_>,
        mut fields: Fields<'_, '_>,
        declared: &[DeclaredPermission],
    ) -> Option<Self> {
        let kind = match fields.string(reader, "kind", 32) {
            Some(text) => choice(reader, "kind", &text, &[Kind::User, Kind::ApiKey])?.principal(),
            None => PrincipalKind::User,
        };
        let name = fields.string(reader, "name", 64);
        let mut permissions = Vec::new();
        for text in fields.strings(reader, "permissions", ENTRIES_MAX, 100) {
            let Some(permission) = parsed::<Permission>(reader, "permissions", &text) else {
                continue;
            };
            let known: Vec<&str> = declared.iter().map(|known| known.name.as_str()).collect();
            let name = permission.get_ref().as_str();
            if !known.contains(&name) {
                let message = format!("the permission `{name}` is not declared");
                let help = match nearest(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add `[[permission]]` with `name = \"{name}\"`"),
                };
                reader.mistake_with_help(text.span(), message, help);
            }
            permissions.push(permission.into_inner());
        }
        fields.finish(reader, &["roles"], &[]);
        Some(Self {
            kind,
            name: name.map_or_else(|| "tester".to_owned(), |name| (*name.get_ref()).to_owned()),
            permissions,
        })
    }
}

/// The kinds of callers, as a manifest writes them.
#[derive(Clone, Copy)]
enum Kind {
    User,
    ApiKey,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.principal().as_str())
    }
}

impl Kind {
    fn principal(self) -> PrincipalKind {
        match self {
            Self::User => PrincipalKind::User,
            Self::ApiKey => PrincipalKind::ApiKey,
        }
    }
}

impl Outside {
    fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let request = fields.required_string(reader, "request", 4096);
        let request = request.and_then(|text| read_url(reader, &text));
        let status = fields.integer(reader, "status", 200..=599);
        let mut headers = texts(reader, &mut fields, "headers");
        let body = read_body(reader, &mut fields);
        let times = fields.integer(reader, "times", 0..=1000);
        let sent = value(reader, &mut fields, "sent");
        fields.finish(reader, &[], STEP_NOTES);
        let body = match body {
            Some(Body::Json(json)) => {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
                Bytes::from(json.to_string())
            }
            Some(Body::Text(text)) => Bytes::from(text),
            Some(Body::Bytes(bytes)) => bytes,
            None => Bytes::new(),
        };
        let (method, url) = request?;
        Some(Self {
            answer: Answer {
                method,
                url,
                status: status.map_or(Some(200), |status| number(Some(status)))?,
                headers,
                body,
            },
            times: times.and_then(|times| usize::try_from(times.into_inner()).ok()),
            sent,
        })
    }
}

/// `POST /orders?x=1`
fn read_request(reader: &mut Reader<'_>, text: &Spanned<&str>) -> Option<(Method, String)> {
    let (method, path) = split(reader, text)?;
    if !path.starts_with('/') {
        let help = "the path is the one below the plugin's mount: `request = \"GET /orders\"`";
        reader.mistake_with_help(text.span(), "the path must begin with `/`", help);
        return None;
    }
    Some((method, path.to_owned()))
}

/// `GET https://api.example.com/rates*`
fn read_url(reader: &mut Reader<'_>, text: &Spanned<&str>) -> Option<(Method, String)> {
    let (method, url) = split(reader, text)?;
    let (whole, star) = match url.strip_suffix('*') {
        Some(beginning) => (beginning, "*"),
        None => (url, ""),
    };
    match Url::parse(whole) {
        Ok(parsed) if matches!(parsed.scheme(), "https" | "http") => {
            Some((method, format!("{parsed}{star}")))
        }
        _ => {
            let message = format!("`{}` is not the address of a server", clip(url));
            let help = "write it as `request = \"GET https://api.example.com/rates\"`";
            reader.mistake_with_help(text.span(), message, help);
            None
        }
    }
}

fn split<'a>(reader: &mut Reader<'_>, text: &Spanned<&'a str>) -> Option<(Method, &'a str)> {
    let found = text.get_ref().split_once(' ').and_then(|(word, rest)| {
        let method = METHODS.iter().find(|method| method.as_str() == word)?;
        Some((method.clone(), rest))
    });
    if found.is_none() {
        let help = "write it as `request = \"GET /orders\"`";
        let message = "`request` is a method, a blank and a path";
        reader.mistake_with_help(text.span(), message, help);
    }
    found
}

fn read_time(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> i64 {
    let Some(text) = fields.string(reader, "at", 64) else {
        return TestCase::AT_MS;
    };
    match text.get_ref().parse::<Timestamp>() {
        Ok(at) if at.as_millisecond() >= 0 => at.as_millisecond(),
        _ => {
            let message = format!("`{}` is not a time", clip(text.get_ref()));
            let help = "write it as `at = \"2026-12-01T19:30:00Z\"`";
            reader.mistake_with_help(text.span(), message, help);
            TestCase::AT_MS
        }
    }
}

fn read_secrets(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<(Label, String)> {
    let span = fields.span();
    let mut secrets = Vec::new();
    for (label, value) in texts(reader, fields, "secrets") {
        match label.parse() {
            Ok(label) => secrets.push((label, value)),
            Err(_) => reader.mistake(
                span.clone(),
                format!("`{}` is not the label of a secret", clip(&label)),
            ),
        }
    }
    secrets
}

fn read_body(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Body> {
    let json = value(reader, fields, "json");
    let text = text(reader, fields);
    if json.is_some() && text.is_some() {
        reader.mistake(fields.span(), "a body is either `json` or `text`");
    }
    json.map(Body::Json).or_else(|| text.map(Body::Text))
}

/// A text of any characters.
fn text(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<String> {
    let found = fields.get("text")?;
    match as_json(reader, found)? {
        Value::String(text) => Some(text),
        _ => {
            reader.mistake(found.span(), "`text` must be a string");
            None
        }
    }
}

/// A value of any kind, as JSON.
fn value(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Value> {
    as_json(reader, fields.get(key)?)
}

fn as_json(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let refused = |(at, message): (Range<usize>, String)| (at, message);
    match json(value, 0).map_err(refused) {
        Ok(value) => Some(value),
        Err((at, message)) => {
            reader.mistake(at, message);
            None
        }
    }
}

fn object(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Map<String, Value> {
    let Some(found) = fields.get(key) else {
        return Map::new();
    };
    match as_json(reader, found) {
        Some(Value::Object(object)) => object,
        Some(_) => {
            reader.mistake(found.span(), format!("`{key}` must be a table"));
            Map::new()
        }
        None => Map::new(),
    }
}

/// A table of texts.
fn texts(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<(String, String)> {
    let span = fields.span();
    let mut texts = Vec::new();
    for (name, value) in object(reader, fields, key) {
        match value {
            Value::String(text) => texts.push((name, text)),
            _ => reader.mistake(
                span.clone(),
                format!("`{key}.{}` must be a string", clip(&name)),
            ),
        }
    }
    texts
}

fn number(status: Option<Spanned<i64>>) -> Option<u16> {
    status.and_then(|status| u16::try_from(status.into_inner()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::Manifest;

    const HEAD: &str = "schema = 1
[plugin]
name = \"shop\"
version = \"1.2.3\"
[component]
path = \"shop.wasm\"
";

    #[test]
    fn each_mistake_in_a_test_says_where_what_and_how_to_mend_it() {
        let test = |lines: &str| format!("[[test]]\nname = \"it works\"\n{lines}");
        let cases: [(String, &str); 11] = [
            (
                "[test]".into(),
                "7:1: `test` must be a list, not a table (write `[[test]]`)",
            ),
            (
                test("seed = 1"),
                "7:1: this test makes no request (write `request = \"GET /\"` and `status = 200`, or `[[test.step]]` \
             for each request)",
            ),
            (
                test("request = \"GET /\""),
                "7:1: `status` is missing: what must the answer have?",
            ),
            (
                test("request = \"get /\"\nstatus = 200"),
                "9:11: `request` is a method, a blank and a path (write it as `request = \"GET /orders\"`)",
            ),
            (
                test("request = \"GET orders\"\nstatus = 200"),
                "9:11: the path must begin with `/` (the path is the one below the plugin's mount: `request = \"GET \
             /orders\"`)",
            ),
            (
                test("request = \"GET /\"\nstatus = 200\nexpect = {}"),
                "11:1: unknown key `expect` in `[[test]]` (write `status = 200` and `response = { json = { … } }`)",
            ),
            (
                test(
                    "request = \"GET /\"\nstatus = 200\nas = { permissions = [\"orders.write\"] }",
                ),
                "11:23: the permission `orders.write` is not declared (add `[[permission]]` with `name = \
             \"orders.write\"`)",
            ),
            (
                test("request = \"GET /\"\nstatus = 200\nas = { kind = \"robot\" }"),
                "11:15: `kind` cannot be \"robot\" (write \"user\" or \"api-key\")",
            ),
            (
                test("request = \"GET /\"\nstatus = 200\nat = \"noon\""),
                "11:6: `noon` is not a time (write it as `at = \"2026-12-01T19:30:00Z\"`)",
            ),
            (
                test("request = \"GET /\"\nstatus = 200\njson = 1\ntext = \"a\""),
                "7:1: a body is either `json` or `text`",
            ),
            (
                test(
                    "request = \"GET /\"\nstatus = 200\n[[test.answer]]\nrequest = \"GET /rates\"",
                ),
                "12:11: `/rates` is not the address of a server (write it as `request = \"GET \
             https://api.example.com/rates\"`)",
            ),
        ];
        for (rest, wanted) in cases {
            let told = Manifest::parse(&format!("{HEAD}{rest}")).unwrap_err();
            let told: Vec<String> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told, [format!("plugin.toml:{wanted}")], "{rest}");
        }
    }

    #[test]
    fn a_test_is_one_request_or_several_steps() {
        let manifest = Manifest::parse(&format!(
            r#"{HEAD}
[[permission]]
name = "orders.write"

[[test]]
name = "one"
request = "GET /orders?x=1"
status = 200

[[test]]
name = "several"
at = "2026-12-01T00:00:00.5Z"
seed = 7
config = {{ currency = "EUR" }}
secrets = {{ stripe = "sk_test" }}
[[test.step]]
request = "POST /orders"
as = {{ name = "ann", kind = "api-key", permissions = ["orders.write"] }}
headers = {{ x-a = "b" }}
json = {{ item = "soup", count = 2 }}
status = 201
response.json = {{ id = "${{any}}" }}
response.save = {{ id = "/id" }}
[[test.step]]
request = "DELETE /orders/${{id}}"
advance = "61m"
text = "line\nline"
status = 409
response = {{ text = "late", headers = {{ x-c = "d" }} }}
[[test.answer]]
request = "GET https://api.example.com/rates*"
json = {{ rate = 1 }}
times = 2
"#
        ))
        .unwrap();
        let [one, several] = &manifest.tests[..] else {
            panic!("{:?}", manifest.tests)
        };
        assert_eq!(one.steps[0].path, "/orders?x=1");
        assert_eq!(
            (one.at_ms, one.steps[0].caller.as_ref()),
            (1_767_225_600_000, None)
        );
        assert_eq!(several.at_ms, 1_796_083_200_500);
        assert_eq!(several.secrets[0].1, "sk_test");
        let [create, cancel] = &several.steps[..] else {
            panic!("{several:?}")
        };
        let caller = create.caller.as_ref().unwrap();
        assert_eq!(
            (caller.name.as_str(), caller.kind.as_str()),
            ("ann", "api-key")
        );
        assert_eq!(create.expected.save, [("id".to_owned(), "/id".to_owned())]);
        assert_eq!(cancel.advance, Duration::from_secs(3660));
        assert_eq!(cancel.body, Some(Body::Text("line\nline".to_owned())));
        assert_eq!(
            cancel.expected.headers,
            [("x-c".to_owned(), "d".to_owned())]
        );
        let outside = &several.outside[0];
        assert_eq!(outside.answer.url, "https://api.example.com/rates*");
        assert_eq!((outside.times, outside.answer.status), (Some(2), 200));
        assert_eq!(outside.answer.body, "{\"rate\":1}");
    }
}
