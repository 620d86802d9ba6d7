//! What requests are held to, keyword by keyword, and what becomes of documents that are too much to compare.

use serde_json::{Value, json};

use super::{Difference, compare, compare_within};
use crate::openapi::tests::{blocking, document, object, request, response};

/// Whatever keyword it is: a request that takes less than before is told, and one that takes as much or more is not.
#[test]
fn a_request_takes_no_less_than_it_did_by_any_keyword() {
    let text = json!({ "type": "string" });
    let list = |more: Value| {
        let mut schema = json!({ "type": "array" });
        let own = schema.as_object_mut().unwrap();
        own.extend(more.as_object().unwrap().clone());
        schema
    };
    let map = |more: Value| {
        let mut schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let own = schema.as_object_mut().unwrap();
        own.extend(more.as_object().unwrap().clone());
        schema
    };
    let any = json!({});
    // (one, other, what is told on the way there, what is told on the way back)
    let cases = [
        (list(json!({})), list(json!({ "items": text })), "items", ""),
        (
            list(json!({ "items": true })),
            list(json!({ "items": false })),
            "items",
            "",
        ),
        (
            list(json!({})),
            list(json!({ "uniqueItems": true })),
            "`uniqueItems` is true now",
            "",
        ),
        (
            list(json!({ "uniqueItems": false })),
            list(json!({})),
            "",
            "",
        ),
        (
            list(json!({})),
            list(json!({ "prefixItems": [text] })),
            "prefixItems/0",
            "",
        ),
        // Without a schema of its own, the first item is one like the others.
        (
            list(json!({ "prefixItems": [text], "items": false })),
            list(json!({ "items": false })),
            "prefixItems/0",
            "",
        ),
        (
            list(json!({})),
            list(json!({ "contains": text })),
            "`contains` is",
            "",
        ),
        (
            list(json!({ "contains": text, "minContains": 1 })),
            list(json!({ "contains": text, "minContains": 2 })),
            "`minContains` was 1 and is 2",
            "",
        ),
        (
            list(json!({ "contains": text, "minContains": 0 })),
            list(json!({ "contains": text })),
            "`minContains` was 0 and is 1",
            "",
        ),
        (
            list(json!({ "contains": text })),
            list(json!({ "contains": text, "maxContains": 3 })),
            "`maxContains` is 3 now",
            "",
        ),
        (list(json!({})), list(json!({ "minItems": 0 })), "", ""),
        (
            map(json!({})),
            map(json!({ "additionalProperties": text })),
            "additionalProperties/type: only string is taken",
            "",
        ),
        (
            map(json!({ "additionalProperties": text })),
            map(json!({ "additionalProperties": false })),
            "unknown fields are refused",
            "",
        ),
        (
            map(json!({ "additionalProperties": true })),
            map(json!({ "additionalProperties": {} })),
            "",
            "",
        ),
        // What was a field like all others has a schema of its own.
        (
            json!({ "additionalProperties": text }),
            json!({ "additionalProperties": text, "properties": { "a": { "type": "integer" } } }),
            "string has become integer",
            "integer has become string",
        ),
        (
            map(json!({})),
            map(json!({ "patternProperties": { "^x-": text } })),
            "patternProperties/^x-",
            "",
        ),
        (
            map(json!({ "additionalProperties": false, "patternProperties": { "^x-": text } })),
            map(json!({ "additionalProperties": false })),
            "patternProperties/^x-",
            "",
        ),
        (
            map(json!({})),
            map(json!({ "propertyNames": { "maxLength": 9 } })),
            "`maxLength` was nothing and is 9",
            "",
        ),
        (
            map(json!({})),
            map(json!({ "dependentRequired": { "a": ["b"] } })),
            "with `a`, \"b\" is required now",
            "",
        ),
        (
            map(json!({})),
            map(json!({ "dependentSchemas": { "a": { "required": ["b"] } } })),
            "`b` is new and required",
            "",
        ),
        (any.clone(), json!({ "not": text }), "`not` is", ""),
        (
            json!({ "not": text }),
            json!({ "not": { "type": "integer" } }),
            "`not` was",
            "`not` was",
        ),
        (
            any.clone(),
            json!({ "if": text, "then": { "minLength": 1 } }),
            "`if` is",
            "",
        ),
        (
            json!({ "if": text, "then": { "minLength": 1 } }),
            json!({ "if": text, "then": { "minLength": 1 }, "else": false }),
            "`else` is false now",
            "",
        ),
        (
            json!({ "pattern": "^a" }),
            json!({ "pattern": "^b" }),
            "`pattern` was",
            "`pattern` was",
        ),
        (any.clone(), json!({ "format": "email" }), "`format` is", ""),
        (
            json!({ "format": "int64" }),
            json!({ "format": "int32" }),
            "`format` was",
            "",
        ),
        (
            json!({ "multipleOf": 2 }),
            json!({ "multipleOf": 4 }),
            "`multipleOf` was 2 and is 4",
            "",
        ),
        (
            json!({ "multipleOf": 2 }),
            json!({ "multipleOf": 3 }),
            "`multipleOf`",
            "`multipleOf`",
        ),
        (
            json!({ "minimum": 1, "exclusiveMinimum": false }),
            json!({ "minimum": 1, "exclusiveMinimum": true }),
            "`exclusiveMinimum` is true now",
            "",
        ),
        (
            any.clone(),
            json!({ "unevaluatedProperties": false }),
            "`unevaluatedProperties` is false now",
            "",
        ),
        // Each part of `allOf` counts, also where several say something with the same keyword.
        (
            json!({ "allOf": [{ "minLength": 1 }] }),
            json!({ "allOf": [{ "minLength": 5 }, { "minLength": 1 }] }),
            "`minLength` was 1 and is 5",
            "",
        ),
        (
            json!({ "allOf": [{ "pattern": "^a" }] }),
            json!({ "allOf": [{ "pattern": "^b" }, { "pattern": "^a" }] }),
            "`pattern`",
            "`pattern`",
        ),
        (
            json!({ "allOf": [{ "enum": [1, 2] }] }),
            json!({ "allOf": [{ "enum": [1] }, { "enum": [1, 2] }] }),
            "2 is not taken",
            "",
        ),
        (
            json!({ "allOf": [{ "type": ["string", "null"] }] }),
            json!({ "allOf": [text, { "type": ["string", "null"] }] }),
            "has become string",
            "",
        ),
        (
            json!({ "allOf": [{ "anyOf": [text, { "type": "null" }] }] }),
            json!({ "allOf": [{ "anyOf": [text] }, { "anyOf": [text, { "type": "null" }] }] }),
            "variant 2 is not taken",
            "",
        ),
        // Words for people say nothing.
        (
            json!({ "not": { "type": "string", "description": "no text" } }),
            json!({ "not": text, "title": "x", "x-order": 3, "default": 7 }),
            "",
            "",
        ),
    ];
    for (one, other, there, back) in cases {
        for (old, new, wanted) in [(&one, &other, there), (&other, &one, back)] {
            let found = blocking(&request(old), &request(new));
            let told: Vec<String> = found.iter().map(ToString::to_string).collect();
            let is_told = told.iter().any(|told| told.contains(wanted));
            assert_eq!(
                !told.is_empty(),
                !wanted.is_empty(),
                "{wanted}: {old} => {new}: {told:?}"
            );
            assert!(
                wanted.is_empty() || is_told,
                "{wanted}: {old} => {new}: {told:?}"
            );
            assert_eq!(compare(&request(old), &request(old)), [], "{old}");
        }
    }
    // A body of which nothing was said took everything.
    let untold = document(&json!({
        "requestBody": { "content": { "application/json": {} } }, "responses": { "204": { "description": "" } },
    }));
    assert!(!blocking(&untold, &request(&text)).is_empty());
    assert_eq!(blocking(&request(&text), &untold), []);
}

#[test]
fn what_keywords_lead_to_is_compared_and_not_where_it_stands() {
    let with = |name: &str, kind: &str| {
        let mut document =
            request(&json!({ "not": { "$ref": format!("#/components/schemas/{name}") } }));
        document["components"] = json!({ "schemas": { name: { "type": kind } } });
        document
    };
    assert_eq!(
        blocking(&with("One", "string"), &with("Other", "string")),
        []
    );
    assert_eq!(
        blocking(&with("One", "string"), &with("One", "integer")).len(),
        1
    );
}

#[test]
fn what_is_too_large_or_too_deep_to_be_compared_breaks() {
    let deep = |leaf: &str| {
        let mut schema = json!({ "type": leaf });
        for _ in 0..70 {
            schema = json!({ "type": "object", "properties": { "a": schema } });
        }
        request(&schema)
    };
    let wide = |leaf: &str| {
        let fields = (0..50).map(|at| (format!("f{at}"), json!({ "type": leaf })));
        let fields: serde_json::Map<String, Value> = fields.collect();
        request(&json!({ "type": "object", "properties": fields }))
    };
    let told = |found: Vec<Difference>| -> Vec<String> {
        let blocking = found.iter().filter(|difference| difference.is_blocking);
        blocking.map(ToString::to_string).collect()
    };
    let found = told(compare(&deep("string"), &deep("integer")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("too large or too deep"), "{found:?}");
    let (old, new) = (wide("string"), wide("integer"));
    assert_eq!(told(compare_within(&old, &new, 1000)).len(), 50);
    let found = told(compare_within(&old, &new, 30));
    let cut = found.iter().filter(|told| told.contains("too large"));
    assert_eq!(cut.count(), 1, "once: {found:?}");
    // Parts of `allOf` that refer to one another take no longer either.
    let mut laughs = request(&json!({ "$ref": "#/components/schemas/l25" }));
    laughs["components"] = json!({ "schemas": { "l0": { "type": "string" } } });
    for level in 1..=25 {
        let below = json!({ "$ref": format!("#/components/schemas/l{}", level - 1) });
        laughs["components"]["schemas"][format!("l{level}")] = json!({ "allOf": [below, below] });
    }
    let mut others = laughs.clone();
    others["components"]["schemas"]["l0"] = json!({ "type": "integer" });
    let found = told(compare_within(&laughs, &others, 10_000));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("too large"), "{found:?}");
}

#[test]
fn what_has_not_changed_is_kept_however_large_it_is() {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    // A union of many, and parents and children that lead to one another.
    let many: Vec<Value> = (0..200)
        .map(|at| json!({ "type": "object", "required": [format!("f{at}")] }))
        .collect();
    let mut old = request(&json!({ "oneOf": many, "allOf": [reference("parent")] }));
    old["components"] = json!({ "schemas": {
        "parent": { "oneOf": [reference("one"), reference("two")] },
        "one": { "allOf": [reference("parent"), { "type": "object" }] },
        "two": { "allOf": [reference("parent"), { "type": "object" }] },
        "other": { "type": "string" },
    } });
    let mut new = old.clone();
    assert_eq!(compare_within(&old, &new, 10), []);
    // What is said elsewhere does not matter.
    new["components"]["schemas"]["other"]["type"] = json!("integer");
    assert_eq!(compare_within(&old, &new, 10), []);
    new["components"]["schemas"]["two"] = json!({ "type": "string" });
    assert_ne!(compare_within(&old, &new, 2000), []);
    // Variants stay where they are, and one changes.
    let union = |first: &str| {
        let mut variants = many.clone();
        variants[0]["required"] = json!([first]);
        request(&json!({ "oneOf": variants }))
    };
    let found = compare_within(&union("f0"), &union("g0"), 2000);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("variant 1"), "{found:?}");
}

#[test]
fn more_in_answers_breaks_nobody() {
    for (old, new) in [
        (
            json!({ "type": "object", "additionalProperties": false }),
            json!({ "type": "object", "additionalProperties": false,
                    "patternProperties": { "^x-": { "type": "string" } } }),
        ),
        (
            json!({ "type": "array", "prefixItems": [{ "type": "string" }], "items": false }),
            json!({ "type": "array", "prefixItems": [{ "type": "string" }, { "type": "string" }],
                    "items": false }),
        ),
    ] {
        assert_eq!(blocking(&response(&old), &response(&new)), []);
    }
}

#[test]
fn many_warnings_do_not_push_out_what_breaks() {
    let fields = |count: usize| {
        let fields = (0..count).map(|at| (format!("f{at:04}"), json!({ "type": "string" })));
        let fields: serde_json::Map<String, Value> = fields.collect();
        object(&Value::Object(fields), &json!([]))
    };
    let mut old = request(&fields(1200));
    old["paths"]["/zebras"] = json!({ "get": { "responses": {} } });
    let found = compare(&old, &request(&fields(0)));
    assert!(found[0].is_blocking, "{}", found[0]);
    assert_eq!(found.len(), 500);
}
