use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn named(value: &Value) -> BTreeMap<String, Value> {
    let object = value.as_object().unwrap();
    object
        .iter()
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect()
}

fn compile(schema: &Value) -> Result<Schema, String> {
    Schema::compile(schema, &BTreeMap::new())
}

#[test]
fn every_mistake_of_a_value_is_told_with_its_place_and_without_the_value() {
    let named = named(&json!({
        "line": {
            "type": "object",
            "required": ["dish"],
            "additionalProperties": false,
            "properties": { "dish": { "type": "string", "minLength": 2 }, "count": { "minimum": 1 } },
        },
        "mail": { "type": "string", "format": "email" },
    }));
    let schema = json!({
        "type": "object",
        "properties": {
            "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
            "mail": { "$ref": "#/$defs/mail" },
            "at": { "type": "string", "format": "date" },
        },
    });
    let schema = Schema::compile(&schema, &named).unwrap();
    let good =
        json!({ "lines": [{ "dish": "soup", "count": 2 }], "mail": "a@b.de", "at": "2026-11-21" });
    assert_eq!(schema.mismatches(&good, false), []);
    let bad = json!({
        "lines": [{ "dish": "soup" }, { "dish": "secret", "count": 0 }, { "cuont": 1 }],
        "mail": "nobody", "at": "2026-13-01",
    });
    let found = schema.mismatches(&bad, false);
    let mut places: Vec<&str> = found.iter().map(|mistake| &*mistake.pointer).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        ["/at", "/lines/1/count", "/lines/2", "/lines/2", "/mail"]
    );
    let told = format!("{found:?}");
    assert!(
        !told.contains("secret") && !told.contains("nobody"),
        "{told}"
    );
    assert_eq!(schema.mismatches(&bad, true).len(), 1);
}

#[test]
fn a_schema_that_reaches_out_or_never_ends_is_refused() {
    let deep = (0..40).fold(json!({}), |schema, _| json!({ "not": schema }));
    let wide = Value::Array(vec![json!({ "minimum": 1 }); 1001]);
    let words: Vec<String> = (0..2001).map(|word| word.to_string()).collect();
    for (schema, part) in [
        (
            json!({ "$ref": "https://evil.example/schema.json" }),
            "leads nowhere",
        ),
        (json!({ "$ref": "file:///etc/passwd" }), "leads nowhere"),
        (json!({ "$ref": "#" }), "leads nowhere"),
        (json!({ "$ref": "#/$defs/none" }), "leads nowhere"),
        (json!({ "$dynamicRef": "#a" }), "no keyword"),
        (json!({ "$id": "https://evil.example" }), "no keyword"),
        (
            json!({ "$schema": "http://json-schema.org/draft-04/schema#" }),
            "no keyword",
        ),
        (json!({ "$defs": {} }), "under `[schemas]`"),
        (json!({ "maxlength": 3 }), "did you mean `maxLength`?"),
        (
            json!({ "unevaluatedProperties": false }),
            "`additionalProperties`",
        ),
        (json!({ "allOf": { "type": "string" } }), "list"),
        (json!({ "properties": [1] }), "table"),
        (json!({ "items": [{}] }), "table, or true"),
        (json!({ "format": "no-such-format" }), "no-such-format"),
        (json!({ "type": "strnig" }), "strnig"),
        (json!({ "pattern": "(" }), "("),
        (json!({ "pattern": "(?=a)b" }), "(?=a)b"),
        (json!({ "pattern": "a".repeat(1001) }), "1000 bytes"),
        (json!({ "pattern": "((a{1000}){1000}){1000}" }), "a{1000}"),
        (deep, "deeper"),
        (json!({ "anyOf": wide }), "2000 keywords"),
        (json!({ "enum": words }), "2000 keywords"),
        (json!("string"), "table, or true"),
    ] {
        let error = compile(&schema).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn schemas_that_refer_to_themselves_or_multiply_are_refused() {
    let circle = named(&json!({
        "a": { "properties": { "b": { "$ref": "#/$defs/b" } } },
        "b": { "anyOf": [{ "$ref": "#/$defs/a" }, { "type": "null" }] },
        "own": { "$ref": "#/$defs/own" },
    }));
    for name in ["a", "b", "own"] {
        let schema = json!({ "$ref": format!("#/$defs/{name}") });
        let error = Schema::compile(&schema, &circle).unwrap_err();
        assert!(error.contains("refers to itself"), "{error}");
    }
    let mut laughs = BTreeMap::from([("l0".to_owned(), json!({ "type": "string" }))]);
    for level in 1..=30 {
        let below = json!({ "$ref": format!("#/$defs/l{}", level - 1) });
        laughs.insert(format!("l{level}"), json!({ "allOf": [below, below] }));
    }
    let began = Instant::now();
    let error = Schema::compile(&json!({ "$ref": "#/$defs/l30" }), &laughs).unwrap_err();
    assert!(
        error.contains("2000 keywords") || error.contains("deeper"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_large_value_is_checked_in_bounded_time() {
    let branches: Vec<Value> = (0..100).map(|at| json!({ "minimum": 1000 + at })).collect();
    let schema = json!({ "type": "array", "uniqueItems": true, "items": { "anyOf": branches } });
    let schema = compile(&schema).unwrap();
    let text = format!("[{}]", vec!["1"; 100_000].join(","));
    let value = json::read(text.as_bytes()).unwrap();
    let began = Instant::now();
    assert_eq!(schema.mismatches(&value, true).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
    let schema = compile(&json!({ "pattern": "^(a+)+$" })).unwrap();
    let began = Instant::now();
    let value = Value::from("a".repeat(1 << 20) + "b");
    assert_eq!(schema.mismatches(&value, true).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn json_is_read_as_everybody_reads_it_or_not_at_all() {
    assert_eq!(
        json::read(b" {\"a\": [1, -2, 1.5, null, true, \"x\"]} ").unwrap(),
        json!({"a": [1, -2, 1.5, null, true, "x"]})
    );
    for (text, part) in [
        (&b"{\"a\": 1, \"a\": 2}"[..], "`a` is there twice"),
        (b"{\"a\": 1, \"\\u0061\": 2}", "`a` is there twice"),
        (b"[1] 2", "trailing"),
        (b"", "EOF"),
        (b"{'a': 1}", "key must be a string"),
        (b"[1e999]", "number"),
        (b"[NaN]", "expected"),
        (b"\"\xff\"", "unicode"),
    ] {
        let error = json::read(text).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let deep = "[".repeat(10_000);
    assert!(matches!(
        json::read(deep.as_bytes()),
        Err(json::Unreadable::NotJson(_))
    ));
    let many = format!("[{}]", vec!["{}"; 100_000].join(","));
    assert_eq!(json::read(many.as_bytes()), Err(json::Unreadable::TooMany));
}

fn json_text() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("\\u0061"), Just("c")];
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("5".to_owned()),
        Just("6".to_owned()),
        Just("0.5".to_owned()),
        Just("\"x\"".to_owned()),
        Just("null".to_owned()),
        Just("[1]".to_owned()),
    ];
    let field = (name, leaf).prop_map(|(name, value)| format!("\"{name}\": {value}"));
    let object = prop::collection::vec(field, 0..4);
    prop_oneof![
        8 => object.prop_map(|fields| format!("{{{}}}", fields.join(", "))),
        1 => "[\\[\\]{}:,\"a1 ]{0,12}",
    ]
}

proptest! {
    /// Whatever comes: what passes is what a plain reader sees, and it fits.
    #[test]
    fn what_passes_fits_and_reads_the_same_to_everybody(text in json_text()) {
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "additionalProperties": false,
            "properties": { "a": { "type": "integer", "minimum": 1, "maximum": 5 }, "b": { "type": "string" } },
        });
        let schema = compile(&schema).unwrap();
        if let Ok(value) = json::read(text.as_bytes()) {
            let plain: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&plain, &value);
            let fits = value.as_object().is_some_and(|object| {
                object.get("a").and_then(Value::as_i64).is_some_and(|a| (1..=5).contains(&a))
                    && object.get("b").is_none_or(Value::is_string)
                    && object.keys().all(|name| name == "a" || name == "b")
            });
            prop_assert_eq!(schema.mismatches(&value, false).is_empty(), fits, "{}", text);
            prop_assert_eq!(schema.mismatches(&value, true).is_empty(), fits, "{}", text);
        }
    }
}
