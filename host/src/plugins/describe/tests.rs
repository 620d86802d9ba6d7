//! What is made of a manifest.

use serde_json::{Value, json};

use super::{About, Description, Selection, document, mock_of};
use crate::plugins::manifest::Manifest;

const SHOP: &str = r##"
schema = 1
[plugin]
name = "shop"
version = "1.2.3"
description = "Sells things"
[component]
path = "a.wasm"
[docs]
title = "Shop"
tags = { Orders = "What is bought" }
[[permission]]
name = "orders.write"
[schemas.order]
type = "object"
required = ["id", "lines"]
properties.id = { type = "string", format = "uuid" }
properties.lines = { type = "array", items = { "$ref" = "#/$defs/line" } }
[schemas.line]
type = "object"
required = ["sku"]
properties.sku = { type = "string", pattern = "^[A-Z]{2}\\d{4}$" }
[schemas.unused]
type = "string"
[[route]]
method = "GET"
path = "/orders/{id}"
auth = "public"
summary = "Shows an order"
tag = "Orders"
response_schema = "order"
limits = [{ limit = 10, window = "1m" }]
errors = [{ status = 404, code = "orders.unknown", description = "There is no such order" }]
[[route]]
method = "PUT"
path = "/orders/{order}"
permissions = ["orders.write"]
tag = "Orders"
request_schema = "order"
example = { request = { id = "00000000-0000-4000-8000-000000000000", lines = [] } }
[[route]]
method = "GET"
path = "/files/{*rest}"
documented = false
[[route]]
method = "GET"
path = "/plain"
auth = "optional"
deprecation = { since = "2026-01-01", sunset = "2999-01-01" }
[[test]]
name = "it answers"
[[test.step]]
request = "GET /plain"
status = 202
response = { json = { hello = "you" } }
"##;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn about() -> About {
    About {
        title: "All".to_owned(),
        version: "1".to_owned(),
        description: String::new(),
    }
}

fn whole(text: &str, selection: &Selection) -> Value {
    let description = Description::of(&manifest(text), "/shop");
    document(&about(), [&description], selection, |_, _| true)
}

#[test]
fn a_manifest_becomes_operations_with_all_that_callers_must_know() {
    let document = whole(SHOP, &Selection::default());
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/shop/orders/{id}", "/shop/plain"]);
    let get = &document["paths"]["/shop/orders/{id}"]["get"];
    assert_eq!(get["operationId"], "shop_get_orders_by_id");
    assert_eq!(get["security"], json!([]));
    assert_eq!(get["parameters"][0]["name"], "id");
    let success = &get["responses"]["2XX"];
    let schema = &success["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/shop.order");
    assert_eq!(
        success["headers"]["RateLimit"]["$ref"],
        "#/components/headers/RateLimit"
    );
    assert_eq!(
        get["responses"]["404"]["x-gantry-codes"],
        json!(["orders.unknown"])
    );
    assert_eq!(
        get["responses"]["429"]["x-gantry-codes"],
        json!(["limit.quota_exceeded"])
    );
    assert_eq!(get["responses"].get("401"), None, "nobody has to log in");
    // The same path, though the route names its parameter otherwise.
    let put = &document["paths"]["/shop/orders/{id}"]["put"];
    assert_eq!(put["parameters"][0]["name"], "id");
    assert_eq!(
        put["security"][0]["access_token"],
        json!(["shop:orders.write"])
    );
    assert_eq!(
        put["responses"]["403"]["x-gantry-codes"],
        json!(["auth.permission_missing", "auth.csrf_refused"])
    );
    assert_eq!(put["requestBody"]["required"], true);
    let body = &put["requestBody"]["content"]["application/json"];
    assert_eq!(body["example"]["lines"], json!([]));
    let plain = &document["paths"]["/shop/plain"]["get"];
    assert_eq!(plain["deprecated"], true);
    assert_eq!(plain["tags"], json!(["Shop"]));
    assert_eq!(
        plain["responses"]["202"]["content"]["application/json"]["example"],
        json!({ "hello": "you" })
    );
    let schemas: Vec<&String> = document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(
        schemas,
        ["Problem", "shop.line", "shop.order"],
        "what is used, also by others"
    );
    assert_eq!(
        document["tags"][0],
        json!({ "name": "Orders", "description": "What is bought" })
    );
}

#[test]
fn a_document_has_only_what_is_asked_for() {
    let of = |selection: Selection| {
        let document = whole(SHOP, &selection);
        document["paths"].as_object().unwrap().len()
    };
    let by_tag = |tag: &str| Selection {
        tag: Some(tag.to_owned()),
        ..Selection::default()
    };
    assert_eq!(of(by_tag("Orders")), 1);
    assert_eq!(of(by_tag("Shop")), 1);
    assert_eq!(of(by_tag("None")), 0);
    let other = Selection {
        plugin: Some("other".to_owned()),
        ..Selection::default()
    };
    assert_eq!(of(other), 0);
}

#[test]
fn versions_by_header_are_documents_of_their_own_and_the_default_stands_for_all() {
    let text = r#"
schema = 1
[plugin]
name = "shop"
version = "1.0.0"
[component]
path = "a.wasm"
[versioning]
by = "header"
default = "v1"
[[version]]
name = "v1"
[[version]]
name = "v2"
[[route]]
method = "GET"
path = "/a"
version = "v1"
summary = "Old"
[[route]]
method = "GET"
path = "/a"
version = "v2"
summary = "New"
"#;
    let summary = |version: Option<&str>| {
        let selection = Selection {
            version: version.map(str::to_owned),
            ..Selection::default()
        };
        let document = whole(text, &selection);
        document["paths"]["/shop/a"]["get"]["summary"].clone()
    };
    assert_eq!(summary(None), "Old");
    assert_eq!(summary(Some("v1")), "Old");
    assert_eq!(summary(Some("v2")), "New");
    let new = whole(
        text,
        &Selection {
            version: Some("v2".to_owned()),
            ..Selection::default()
        },
    );
    let header = &new["paths"]["/shop/a"]["get"]["parameters"][0];
    assert_eq!(
        (&header["name"], &header["required"]),
        (&json!("api-version"), &json!(true))
    );
}

#[test]
fn a_mock_is_the_example_else_what_fits_the_schema() {
    let manifest = manifest(SHOP);
    let order = mock_of(&manifest, 0).unwrap();
    assert_eq!(
        (order.status, order.content_type.as_deref()),
        (200, Some("application/json"))
    );
    let body: Value = serde_json::from_slice(&order.body).unwrap();
    assert_eq!(
        body,
        json!({ "id": "00000000-0000-4000-8000-000000000000", "lines": [{ "sku": "AA0000" }] })
    );
    let plain = mock_of(&manifest, 3).unwrap();
    assert_eq!(
        (plain.status, &*plain.body),
        (202, &b"{\"hello\":\"you\"}"[..])
    );
    let shown = SHOP.replace(
        "response_schema = \"order\"",
        "response_schema = { 201 = \"order\" }\nexample = { response = { id = \"x\", lines = [] } }",
    );
    let shown = mock_of(&self::manifest(&shown), 0).unwrap();
    assert_eq!(
        (shown.status, &*shown.body),
        (201, &b"{\"id\":\"x\",\"lines\":[]}"[..])
    );
}
