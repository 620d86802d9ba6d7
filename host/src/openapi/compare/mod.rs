//! What one OpenAPI document promises and another does not keep: the check of a front end's contract, and the gate before a
//! version that would break its callers.

mod flat;
mod parts;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::pattern;

use super::{Operation, operations, resolve, text};

/// Most differences that are told.
const DIFFERENCES_MAX: usize = 500;
/// Parameters with which lists are read a page at a time.
const PAGING: [&str; 14] = [
    "after",
    "before",
    "cursor",
    "limit",
    "next",
    "offset",
    "order",
    "page",
    "page_size",
    "per_page",
    "size",
    "skip",
    "sort",
    "take",
];

/// What the codes of the host's own errors begin with.
const HOSTS: [&str; 8] = [
    "auth",
    "filter",
    "host",
    "idempotency",
    "limit",
    "plugin",
    "request",
    "route",
];

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whether somebody who relies on the old document breaks.
    pub is_blocking: bool,
    /// `GET /orders/{id}`
    pub operation: String,
    /// Where, in the old document: a JSON Pointer below the operation.
    pub pointer: String,
    /// What is different.
    pub what: String,
    /// What breaks by it.
    pub why: &'static str,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            operation,
            pointer,
            what,
            why,
            ..
        } = self;
        let place = if pointer.is_empty() { "" } else { " " };
        write!(f, "{operation}{place}{pointer}: {what}; {why}")
    }
}

/// What `new` does not keep of what `old` promises, the blocking ones first, each in the order of the old document.
pub fn compare(old: &Value, new: &Value) -> Vec<Difference> {
    compare_within(old, new, schema::STEPS_MAX)
}

/// The same in so many steps. What is not seen by then is told as something that breaks.
fn compare_within(old: &Value, new: &Value, steps: usize) -> Vec<Difference> {
    let mut comparison = Comparison {
        old,
        new,
        operation: String::new(),
        found: Found::default(),
        seen: BTreeSet::new(),
        unchanged: schema::unchanged(old, new),
        left: steps,
    };
    let others: Vec<Operation<'_>> = operations(new).collect();
    for operation in operations(old) {
        comparison.operation = operation.name();
        let key = key(old, &operation);
        let same = others
            .iter()
            .find(|other| other.method == operation.method && self::key(new, other) == key);
        match same {
            Some(same) => comparison.operation(&operation, same),
            None => {
                let is_known = others.iter().any(|other| self::key(new, other) == key);
                let what = match is_known {
                    true => "the path is there and does not take this method any more",
                    false => "the operation is gone",
                };
                comparison.block("", what.to_owned(), "calls get 404 or 405");
            }
        }
        if comparison.found.blocking.len() >= DIFFERENCES_MAX {
            break;
        }
    }
    let Found { blocking, warnings } = comparison.found;
    let mut is_told = false;
    // Once is enough.
    let is_first = |difference: &Difference| {
        difference.why != schema::UNSEEN || !std::mem::replace(&mut is_told, true)
    };
    let blocking = blocking.into_iter().filter(is_first);
    blocking.chain(warnings).take(DIFFERENCES_MAX).collect()
}

/// The path with the prefix that its servers have, and without the names of its parameters.
fn key(document: &Value, operation: &Operation<'_>) -> String {
    let servers = [
        operation.body.get("servers"),
        operation.item.get("servers"),
        document.get("servers"),
    ];
    let url = servers
        .into_iter()
        .flatten()
        .find_map(|servers| servers.get(0)?.get("url")?.as_str());
    let url = url.unwrap_or_default();
    // Where the server is does not count, only what stands before the paths.
    let prefix = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    let mut key = prefix.trim_end_matches('/').to_owned();
    key.push_str(&pattern::shape(operation.path));
    key
}

/// What is being compared, and what was found.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    operation: String,
    found: Found,
    /// Pairs of schemas that are being compared, for those that contain themselves.
    seen: BTreeSet<(String, String, bool)>,
    /// References to schemas that are the same in both, with all that they lead to.
    unchanged: BTreeSet<String>,
    /// Steps that are left, so that no document takes for ever.
    left: usize,
}

/// Differences so far. Apart, so that many of one kind do not push out the other.
#[derive(Default)]
struct Found {
    blocking: Vec<Difference>,
    warnings: Vec<Difference>,
}

impl<'a> Comparison<'a> {
    fn block(&mut self, pointer: &str, what: String, why: &'static str) {
        self.tell(true, pointer, what, why);
    }

    fn warn(&mut self, pointer: &str, what: String, why: &'static str) {
        self.tell(false, pointer, what, why);
    }

    fn tell(&mut self, is_blocking: bool, pointer: &str, what: String, why: &'static str) {
        let found = match is_blocking {
            true => &mut self.found.blocking,
            false => &mut self.found.warnings,
        };
        if found.len() < DIFFERENCES_MAX {
            found.push(Difference {
                is_blocking,
                operation: self.operation.clone(),
                pointer: pointer.to_owned(),
                what,
                why,
            });
        }
    }

    fn operation(&mut self, old: &Operation<'a>, new: &Operation<'a>) {
        self.security(old, new);
        self.parameters(old, new);
        self.request(old, new);
        self.responses(old, new);
        let is_deprecated = |operation: &Operation<'_>| {
            operation.body.get("deprecated") == Some(&Value::Bool(true))
        };
        if is_deprecated(new) && !is_deprecated(old) {
            self.warn(
                "/deprecated",
                "the operation is deprecated".to_owned(),
                "it will be gone one day",
            );
        }
    }

    fn security(&mut self, old: &Operation<'a>, new: &Operation<'a>) {
        let of = |operation: &Operation<'a>, document: &'a Value| {
            let own = operation
                .body
                .get("security")
                .or_else(|| document.get("security"));
            own.and_then(Value::as_array)
        };
        let (Some(before), Some(after)) = (of(old, self.old), of(new, self.new)) else {
            return;
        };
        let is_open = |list: &[Value]| {
            let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
            list.is_empty() || list.iter().any(is_empty)
        };
        if is_open(before) {
            if !is_open(after) {
                let what = "credentials are needed now".to_owned();
                self.block("/security", what, "calls without them get 401");
            }
            return;
        }
        let scopes = |list: &'a [Value]| -> BTreeSet<&'a str> {
            let lists = list
                .iter()
                .filter_map(Value::as_object)
                .flat_map(Map::values);
            let names = lists.filter_map(Value::as_array).flatten();
            names.filter_map(Value::as_str).collect()
        };
        let (before, after) = (scopes(before), scopes(after));
        for scope in after.difference(&before) {
            let what = format!("`{scope}` is needed now");
            self.block("/security", what, "callers without it get 403");
        }
    }

    fn parameters(&mut self, old: &Operation<'a>, new: &Operation<'a>) {
        let (before, after) = (old.parameters(self.old), new.parameters(self.new));
        let names = pattern::parameters(old.path).map(|parameter| parameter.name);
        let new_names = pattern::parameters(new.path).map(|parameter| parameter.name);
        let renamed: Vec<(&str, &str)> = names.zip(new_names).collect();
        let is_same = |one: &Map<String, Value>, other: &Map<String, Value>| {
            let (place, name) = (text(one, "in"), text(one, "name"));
            let now = text(other, "name");
            place == text(other, "in")
                && match place {
                    "path" => renamed.contains(&(name, now)),
                    "header" => name.eq_ignore_ascii_case(now),
                    _ => name == now,
                }
        };
        for one in &before {
            let (place, name) = (text(one, "in"), text(one, "name"));
            let pointer = format!("/parameters/{place}/{name}");
            let is_paging = place == "query" && PAGING.contains(&name);
            let Some(other) = after.iter().find(|other| is_same(one, other)) else {
                let what = format!("the parameter `{name}` is gone");
                if is_paging {
                    self.block(
                        &pointer,
                        what,
                        "lists are not read page by page in this way any more",
                    );
                } else if place != "path" {
                    self.warn(&pointer, what, "what it did is not done any more");
                }
                continue;
            };
            if is_required(other) && !is_required(one) {
                let what = format!("the parameter `{name}` is required now");
                self.block(&pointer, what, "calls without it are refused");
            }
            let (old, new) = (self.old, self.new);
            if let Some(other) = schema_of(other, new) {
                // A parameter is text, whatever it is.
                let text = json!({ "type": "string" });
                let one = schema_of(one, old).unwrap_or(&text);
                let default = |schema: &Value, document: &Value| {
                    resolve(document, schema).get("default").cloned()
                };
                if is_paging && default(one, old) != default(other, new) {
                    let what = format!("the default of `{name}` is another");
                    self.warn(&pointer, what, "calls without it get another page");
                }
                self.schema(one, other, true, &format!("{pointer}/schema"));
            }
        }
        for other in &after {
            let is_new = !before.iter().any(|one| is_same(one, other));
            let (place, name) = (text(other, "in"), text(other, "name"));
            if is_new && is_required(other) && place != "path" {
                let what = format!("the parameter `{name}` is new and required");
                let pointer = format!("/parameters/{place}/{name}");
                self.block(&pointer, what, "calls without it are refused");
            }
        }
    }

    fn request(&mut self, old: &Operation<'a>, new: &Operation<'a>) {
        let of = |operation: &Operation<'a>, document: &'a Value| {
            let body = operation.body.get("requestBody")?;
            resolve(document, body).as_object()
        };
        let (before, after) = (of(old, self.old), of(new, self.new));
        let pointer = "/requestBody";
        let Some(after) = after else {
            if before.is_some() {
                self.warn(
                    pointer,
                    "no body is described any more".to_owned(),
                    "what is sent may not be read",
                );
            }
            return;
        };
        if is_required(after) && !before.is_some_and(is_required) {
            let what = "a body is required now".to_owned();
            self.block(pointer, what, "calls without it are refused");
        }
        let Some(before) = before else { return };
        self.content(before, after, true, pointer);
    }

    /// Media types with their schemas.
    fn content(
        &mut self,
        old: &'a Map<String, Value>,
        new: &'a Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let of = |map: &'a Map<String, Value>| map.get("content").and_then(Value::as_object);
        let Some(before) = of(old) else { return };
        let after = of(new);
        for (media_type, one) in before {
            let pointer = format!("{pointer}/content/{}", escaped(media_type));
            let other = after.and_then(|after| after.get(media_type).or_else(|| after.get("*/*")));
            let Some(other) = other else {
                let what = format!("`{media_type}` is gone");
                let why = match is_request {
                    true => "such bodies are refused",
                    false => "the answer cannot be read as before",
                };
                self.block(&pointer, what, why);
                continue;
            };
            let other = other.get("schema");
            match (one.get("schema"), other) {
                (Some(one), Some(other)) => {
                    self.schema(one, other, is_request, &format!("{pointer}/schema"))
                }
                (None, Some(other)) if is_request => {
                    let any = Value::Bool(true);
                    self.schema(&any, other, is_request, &format!("{pointer}/schema"));
                }
                (Some(_), None) if !is_request => {
                    let what = "no schema is given any more".to_owned();
                    self.warn(
                        &format!("{pointer}/schema"),
                        what,
                        "nobody promises what the answer looks like",
                    );
                }
                _ => {}
            }
        }
    }

    fn responses(&mut self, old: &Operation<'a>, new: &Operation<'a>) {
        let of =
            |operation: &Operation<'a>| operation.body.get("responses").and_then(Value::as_object);
        let (Some(before), Some(after)) = (of(old), of(new)) else {
            return;
        };
        for (status, one) in before {
            let pointer = format!("/responses/{status}");
            let class = status.get(..1).map(|digit| format!("{digit}XX"));
            let other = after
                .get(status)
                .or_else(|| after.get(&class?))
                .or_else(|| after.get("default"));
            let (old, new) = (self.old, self.new);
            let one = resolve(old, one);
            let other = other.map(|other| resolve(new, other));
            if status.starts_with(['4', '5']) {
                self.codes(one, other, &pointer);
                continue;
            }
            match (one.as_object(), other.and_then(Value::as_object)) {
                (Some(one), Some(other)) => self.content(one, other, false, &pointer),
                (Some(_), None) => {
                    let what = format!("`{status}` is not answered any more");
                    self.block(&pointer, what, "who waits for it is not served");
                }
                _ => {}
            }
        }
        for status in after.keys().filter(|status| status.starts_with('2')) {
            let class = status.get(..1).map(|digit| format!("{digit}XX"));
            let is_known = before.contains_key(status)
                || class.is_some_and(|class| before.contains_key(&class));
            if !is_known && !before.contains_key("default") {
                let what = format!("`{status}` is answered, too");
                self.warn(
                    &format!("/responses/{status}"),
                    what,
                    "callers may not know it",
                );
            }
        }
    }

    /// The codes of errors, on which programs decide what to do.
    fn codes(&mut self, old: &Value, new: Option<&Value>, pointer: &str) {
        let before = codes_of(self.old, old);
        let after = new.map(|new| codes_of(self.new, new)).unwrap_or_default();
        for code in before.difference(&after) {
            let what = format!("the error code `{code}` is gone");
            // The host's own errors come and go with limits and schemas, and nobody misses a refusal.
            let is_hosts = HOSTS.contains(&code.split('.').next().unwrap_or_default());
            self.tell(
                !is_hosts,
                pointer,
                what,
                "who waits for it does not see the error",
            );
        }
        if !before.is_empty() {
            for code in after.difference(&before) {
                let what = format!("the error code `{code}` is new");
                self.warn(pointer, what, "callers may not know it");
            }
        }
    }
}

fn is_required(map: &Map<String, Value>) -> bool {
    map.get("required") == Some(&Value::Bool(true))
}

/// The schema of a parameter, wherever it stands.
fn schema_of<'a>(parameter: &'a Map<String, Value>, document: &'a Value) -> Option<&'a Value> {
    let content = || {
        parameter
            .get("content")?
            .as_object()?
            .values()
            .next()?
            .get("schema")
    };
    parameter
        .get("schema")
        .or_else(content)
        .map(|schema| resolve(document, schema))
}

/// The codes that an error answer can have: named outright, or the values of the field `code`.
fn codes_of(document: &Value, answer: &Value) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    collect(answer.get("x-gantry-codes"), &mut codes);
    collect(answer.get("x-error-codes"), &mut codes);
    let content = answer.get("content").and_then(Value::as_object);
    for media_type in content.into_iter().flat_map(Map::values) {
        let Some(schema) = media_type.get("schema") else {
            continue;
        };
        let schema = resolve(document, schema);
        let parts = schema.get("allOf").and_then(Value::as_array);
        let parts = parts
            .into_iter()
            .flatten()
            .map(|part| resolve(document, part));
        for part in std::iter::once(schema).chain(parts) {
            let Some(code) = part.pointer("/properties/code") else {
                continue;
            };
            let code = resolve(document, code);
            collect(code.get("enum"), &mut codes);
            codes.extend(code.get("const").and_then(Value::as_str).map(str::to_owned));
        }
    }
    codes
}

fn collect(list: Option<&Value>, codes: &mut BTreeSet<String>) {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    codes.extend(list.filter_map(Value::as_str).map(str::to_owned));
}

/// A name as a part of a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
