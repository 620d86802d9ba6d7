//! What comparing, sampling and collections must do, on documents written out and on ones made up.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::compare::{Difference, compare};
use super::{postman, sample::sample};

/// A document with one operation.
pub(super) fn document(operation: &Value) -> Value {
    json!({ "openapi": "3.1.1", "info": { "title": "t", "version": "1" }, "paths": { "/orders/{id}": { "post": operation } } })
}

pub(super) fn request(schema: &Value) -> Value {
    document(&json!({
        "requestBody": { "content": { "application/json": { "schema": schema } } },
        "responses": { "204": { "description": "" } },
    }))
}

pub(super) fn response(schema: &Value) -> Value {
    document(&json!({
        "responses": { "200": { "description": "", "content": { "application/json": { "schema": schema } } } },
    }))
}

fn with_query(parameters: &Value) -> Value {
    document(&json!({ "parameters": parameters, "responses": { "204": { "description": "" } } }))
}

fn with_codes(status: &str, codes: &Value) -> Value {
    document(&json!({ "responses": { status: { "description": "", "x-gantry-codes": codes } } }))
}

pub(super) fn object(properties: &Value, required: &Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

pub(super) fn blocking(old: &Value, new: &Value) -> Vec<Difference> {
    compare(old, new)
        .into_iter()
        .filter(|difference| difference.is_blocking)
        .collect()
}

#[test]
fn what_breaks_callers_is_told_and_what_does_not_is_not() {
    let text = json!({ "type": "string" });
    let words = |words: &[&str]| json!({ "type": "string", "enum": words });
    let a = object(&json!({ "a": text }), &json!([]));
    let a_needed = object(&json!({ "a": text }), &json!(["a"]));
    let ab = object(&json!({ "a": text, "b": text }), &json!([]));
    let ab_needed = object(&json!({ "a": text, "b": text }), &json!(["a", "b"]));
    let limit = |more: Value| {
        let mut parameter =
            json!({ "name": "limit", "in": "query", "schema": { "type": "integer" } });
        parameter
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        with_query(&json!([parameter]))
    };
    let open = document(&json!({ "security": [], "responses": {} }));
    let closed = document(&json!({ "security": [{ "token": [] }], "responses": {} }));
    let scoped = document(&json!({ "security": [{ "token": ["shop:write"] }], "responses": {} }));
    let renamed = json!({ "paths": { "/orders/{order}": { "post": { "responses": { "204": { "description": "" } } } } } });
    // (old, new, what is told; empty if nothing breaks)
    let cases = [
        (
            response(&a),
            json!({ "paths": {} }),
            "the operation is gone",
        ),
        (
            response(&a),
            json!({ "paths": { "/orders/{x}": { "get": { "responses": {} } } } }),
            "does not take this method",
        ),
        (with_query(&json!([])), renamed, ""),
        (request(&a), request(&ab), ""),
        (request(&a), request(&a_needed), "`a` is required now"),
        (request(&a), request(&ab_needed), "`b` is new and required"),
        (request(&ab), request(&a), ""),
        (
            request(&text),
            request(&json!({ "type": ["string", "null"] })),
            "",
        ),
        (
            request(&json!({ "type": ["string", "null"] })),
            request(&text),
            "has become string",
        ),
        (
            request(&json!({ "type": "integer" })),
            request(&json!({ "type": "number" })),
            "",
        ),
        (
            request(&json!({ "type": "number" })),
            request(&json!({ "type": "integer" })),
            "has become integer",
        ),
        (
            request(&words(&["x", "y"])),
            request(&words(&["x"])),
            "\"y\" is not taken any more",
        ),
        (request(&words(&["x"])), request(&words(&["x", "y"])), ""),
        (request(&text), request(&words(&["x"])), "only some values"),
        (
            request(&json!({ "type": "string", "maxLength": 9 })),
            request(&json!({ "type": "string", "maxLength": 8 })),
            "`maxLength` was 9 and is 8",
        ),
        (
            request(&json!({ "type": "string", "maxLength": 8 })),
            request(&json!({ "type": "string", "maxLength": 9 })),
            "",
        ),
        (
            request(&text),
            request(&json!({ "type": "string", "pattern": "^a" })),
            "`pattern`",
        ),
        (response(&ab), response(&a), "`b` is gone"),
        (response(&a), response(&ab), ""),
        (response(&a_needed), response(&a), "`a` may be missing"),
        (response(&a), response(&a_needed), ""),
        (
            response(&text),
            response(&json!({ "type": "integer" })),
            "string has become integer",
        ),
        (
            response(&text),
            response(&json!({ "type": ["string", "null"] })),
            "null",
        ),
        (
            response(&words(&["x"])),
            response(&words(&["x", "y"])),
            "\"y\" is new",
        ),
        (response(&words(&["x", "y"])), response(&words(&["x"])), ""),
        (
            response(&json!({ "type": "array", "items": ab })),
            response(&json!({ "type": "array", "items": a })),
            "`b` is gone",
        ),
        (
            response(&json!({ "oneOf": [a, text] })),
            response(&json!({ "oneOf": [a] })),
            "",
        ),
        (
            response(&json!({ "oneOf": [text] })),
            response(&json!({ "oneOf": [text, { "type": "integer" }] })),
            "variant 2 is new",
        ),
        (
            request(&json!({ "oneOf": [text, { "type": "integer" }] })),
            request(&json!({ "oneOf": [text] })),
            "variant 2 is not taken",
        ),
        (
            with_codes("409", &json!(["orders.closed"])),
            with_codes("409", &json!([])),
            "`orders.closed` is gone",
        ),
        (
            with_codes("409", &json!(["orders.closed"])),
            with_codes("422", &json!(["orders.closed"])),
            "`orders.closed` is gone",
        ),
        (
            with_codes("409", &json!([])),
            with_codes("409", &json!(["orders.closed"])),
            "",
        ),
        // The host's own errors come and go with limits and schemas.
        (
            with_codes("429", &json!(["limit.quota_exceeded"])),
            with_codes("409", &json!([])),
            "",
        ),
        (
            limit(json!({})),
            with_query(&json!([])),
            "not read page by page",
        ),
        (
            limit(json!({})),
            limit(json!({ "required": true })),
            "is required now",
        ),
        (
            limit(json!({})),
            limit(json!({ "schema": { "type": "integer", "maximum": 10 } })),
            "`maximum`",
        ),
        (with_query(&json!([])), limit(json!({})), ""),
        (
            with_query(&json!([])),
            limit(json!({ "required": true })),
            "is new and required",
        ),
        (open.clone(), closed.clone(), "credentials are needed"),
        (closed.clone(), open, ""),
        (closed.clone(), scoped.clone(), "`shop:write` is needed"),
        (scoped, closed, ""),
    ];
    for (old, new, wanted) in cases {
        let found = blocking(&old, &new);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        if wanted.is_empty() {
            assert!(told.is_empty(), "{old} => {new}: {told:?}");
        } else {
            assert!(
                told.iter().any(|told| told.contains(wanted)),
                "{wanted}: {old} => {new}: {told:?}"
            );
        }
    }
}

#[test]
fn schemas_that_contain_themselves_are_compared_to_their_end() {
    let tree = |leaf: &str| {
        let mut document = response(&json!({ "$ref": "#/components/schemas/Tree" }));
        document["components"] = json!({ "schemas": { "Tree": {
            "type": "object",
            "properties": { "leaf": { "type": leaf }, "left": { "$ref": "#/components/schemas/Tree" } },
        } } });
        document
    };
    assert_eq!(compare(&tree("string"), &tree("string")), []);
    let found = blocking(&tree("string"), &tree("integer"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].operation, "POST /orders/{id}");
    assert!(
        found[0].pointer.ends_with("/properties/leaf/type"),
        "{found:?}"
    );
}

#[test]
fn the_prefix_of_a_server_counts_and_its_host_does_not() {
    let old = json!({ "servers": [{ "url": "https://api.example.com/shop/" }], "paths": { "/orders": { "get": { "responses": {} } } } });
    let new = json!({ "servers": [{ "url": "/" }], "paths": { "/shop/orders": { "get": { "responses": {} } } } });
    assert_eq!(compare(&old, &new), []);
}

#[test]
fn a_collection_has_folders_variables_and_bodies() {
    let mut document = request(&json!({
        "type": "object", "required": ["amount"], "properties": { "amount": { "type": "integer", "minimum": 3 } },
    }));
    document["tags"] = json!([{ "name": "Orders", "description": "What is bought" }]);
    let operation = &mut document["paths"]["/orders/{id}"]["post"];
    operation["tags"] = json!(["Orders"]);
    operation["summary"] = "Changes an order".into();
    operation["security"] = json!([{ "access_token": [] }]);
    operation["parameters"] = json!([
        { "name": "id", "in": "path", "required": true, "schema": { "type": "string" }, "example": "7" },
        { "name": "dry", "in": "query", "schema": { "type": "boolean" } },
    ]);
    let collection = postman::collection(&document, "http://localhost:8080/");
    assert_eq!(collection["variable"][0]["value"], "http://localhost:8080");
    assert_eq!(collection["variable"][1]["key"], "token");
    let folder = &collection["item"][0];
    assert_eq!(
        (&folder["name"], &folder["description"]),
        (&json!("Orders"), &json!("What is bought"))
    );
    let request = &folder["item"][0]["request"];
    assert_eq!(request["url"]["raw"], "{{baseUrl}}/orders/:id");
    assert_eq!(request["url"]["variable"][0]["value"], "7");
    assert_eq!(request["url"]["query"][0]["disabled"], true);
    let body: Value = serde_json::from_str(request["body"]["raw"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({ "amount": 3 }));
    assert_eq!(request.get("auth"), None, "the token of the collection");
}

#[test]
fn samples_show_what_authors_give_and_stay_within_bounds() {
    let document = json!({ "$defs": { "Loop": { "type": "object", "required": ["next"], "properties": { "next": { "$ref": "#/$defs/Loop" } } } } });
    for (schema, wanted) in [
        (
            json!({ "type": "string", "example": "ann" }),
            Some(json!("ann")),
        ),
        (json!({ "examples": [7, 8] }), Some(json!(7))),
        (json!({ "const": null }), Some(json!(null))),
        (
            json!({ "type": ["null", "integer"], "minimum": 5 }),
            Some(json!(5)),
        ),
        (
            json!({ "type": "string", "pattern": "^[A-Z]{3}-\\d{2,4}$" }),
            Some(json!("AAA-00")),
        ),
        (
            json!({ "type": "string", "minLength": 6, "maxLength": 6 }),
            Some(json!("textaa")),
        ),
        (
            json!({ "type": "array", "minItems": 2, "uniqueItems": true, "items": { "enum": ["a", "b", "c"] } }),
            Some(json!(["a", "b"])),
        ),
        (
            json!({ "allOf": [{ "required": ["a"] }, { "properties": { "a": { "const": 1 } } }], "type": "object" }),
            Some(json!({ "a": 1 })),
        ),
        // These end, and have no value.
        (json!({ "$ref": "#/$defs/Loop" }), None),
        (json!({ "type": "array", "minItems": 1_000_000 }), None),
        (
            json!({ "type": "integer", "minimum": 5, "maximum": 4 }),
            None,
        ),
        (json!(false), None),
    ] {
        assert_eq!(sample(&schema, &document), wanted, "{schema}");
    }
}

/// Schemas as authors write them.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0_u64..12, 0_u64..12).prop_map(|(least, more)| json!({ "type": "string", "minLength": least, "maxLength": least + more })),
        prop::sample::select(vec!["date-time", "date", "email", "uuid", "uri", "ipv4"]).prop_map(|format| json!({ "type": "string", "format": format })),
        prop::sample::select(vec!["^[a-f0-9]{8}$", "^(yes|no)$", "^\\+[1-9]\\d{6,14}$", "^v\\d+(\\.\\d+)*$"]).prop_map(|pattern| json!({ "type": "string", "pattern": pattern })),
        (-50_i64..50, 0_i64..50).prop_map(|(least, more)| json!({ "type": "integer", "minimum": least, "maximum": least + more })),
        (-50_i64..50, 1_i64..50).prop_map(|(least, more)| json!({ "type": "number", "exclusiveMinimum": least, "exclusiveMaximum": least + more })),
        (1_u64..20, 0_u64..100).prop_map(|(step, least)| json!({ "type": "integer", "multipleOf": step, "minimum": least })),
        prop::collection::btree_set("[a-z]{1,4}", 1..4).prop_map(|words| json!({ "enum": words })),
        Just(json!({ "type": "boolean" })),
        Just(json!({ "type": ["string", "null"] })),
        Just(json!({})),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            (prop::collection::btree_map("[a-d]", inner.clone(), 0..4), any::<bool>(), any::<bool>()).prop_map(|(properties, is_needed, is_closed)| {
                let required: Vec<&String> = properties.keys().filter(|_| is_needed).collect();
                json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": !is_closed })
            }),
            (inner.clone(), 0_u64..3, 0_u64..3).prop_map(|(items, least, more)| json!({ "type": "array", "items": items, "minItems": least, "maxItems": least + more })),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|choices| json!({ "anyOf": choices })),
            inner.prop_map(|part| json!({ "allOf": [part] })),
        ]
    })
}

proptest! {
    #[test]
    fn a_sample_fits_its_schema_and_is_the_same_each_time(schema in schema()) {
        let value = sample(&schema, &Value::Null).expect("one within the bounds");
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        prop_assert!(validator.is_valid(&value), "{} {}", schema, value);
        prop_assert_eq!(sample(&schema, &Value::Null), Some(value));
    }

    #[test]
    fn a_document_keeps_what_it_promises_itself(schema in schema()) {
        for document in [request(&schema), response(&schema)] {
            prop_assert_eq!(compare(&document, &document), []);
        }
    }

    #[test]
    fn another_optional_field_never_breaks_anybody(schema in schema(), more in schema()) {
        let with = |fields: Value| object(&fields, &json!([]));
        let (old, new) = (with(json!({ "a": schema })), with(json!({ "a": schema, "zz": more })));
        prop_assert_eq!(blocking(&request(&old), &request(&new)), []);
        prop_assert_eq!(blocking(&response(&old), &response(&new)), []);
    }
}
