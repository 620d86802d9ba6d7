use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::Router;
use crate::testing::{TestApp, TestResponse};

#[derive(Deserialize, serde::Serialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Deserialize, serde::Serialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Name,
    Date,
}

#[derive(Deserialize, serde::Serialize)]
struct Page {
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
    #[serde(default)]
    tag: Vec<String>,
    sort: Option<Sort>,
    #[serde(default)]
    all: bool,
}

fn app() -> TestApp {
    TestApp::new(
        Router::new()
            .post("/orders", |Json(order): Json<Order>| Json(order))
            .get("/page", |Query(page): Query<Page>| Json(page))
            .get("/orders/{id}", |Path(id): Path<u64>| Json(id))
            .get("/by/{sort}/{page}", |Path(by): Path<By>| {
                format!("{:?} {}", by.sort, by.page)
            })
            .post("/text", |text: String| text)
            .post("/echo", |request: Request| {
                request.header("X-Name").unwrap_or_default()
            }),
    )
}

#[derive(Deserialize)]
struct By {
    sort: Sort,
    page: u8,
}

fn outcome(response: &TestResponse) -> (u16, String) {
    (response.status(), response.code())
}

#[test]
fn a_body_of_json_becomes_the_type() {
    let response = app().post_json("/orders", &json!({ "item": "tea", "count": 2 }));

    assert_eq!(
        response.json::<Value>(),
        json!({ "item": "tea", "count": 2 })
    );
}

#[test]
fn a_wrong_body_says_what_is_wrong() {
    let post = |content_type: &str, body: &str| {
        outcome(
            &app()
                .request("POST", "/orders")
                .header("content-type", content_type)
                .body(body)
                .send(),
        )
    };
    for (content_type, body, expected) in [
        ("application/json", "{", (400, "request.invalid_json")),
        ("application/json", "", (400, "request.invalid_json")),
        (
            "application/json",
            r#"{"item":"tea"}"#,
            (422, "request.invalid_body"),
        ),
        (
            "application/json",
            r#"{"item":1,"count":1}"#,
            (422, "request.invalid_body"),
        ),
        (
            "text/plain",
            r#"{"item":"tea","count":1}"#,
            (415, "request.unsupported_media_type"),
        ),
        ("", "{}", (415, "request.unsupported_media_type")),
    ] {
        assert_eq!(
            post(content_type, body),
            (expected.0, expected.1.to_owned()),
            "{body}"
        );
    }
    for content_type in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x+json",
    ] {
        let response = app()
            .request("POST", "/orders")
            .header("content-type", content_type)
            .body(r#"{"item":"tea","count":1}"#)
            .send();
        assert_eq!(response.status(), 200, "{content_type}");
    }
}

#[test]
fn a_query_becomes_the_type() {
    let query = "/page?limit=5&tag=a+b&tag=%C3%A9&sort=date&all=true";

    let page: Value = app().get(query).json();

    let expected =
        json!({ "offset": 0, "limit": 5, "tag": ["a b", "é"], "sort": "date", "all": true });
    assert_eq!(page, expected);
}

#[test]
fn a_wrong_query_names_the_parameter() {
    for (query, name, message) in [
        (
            "limit=many",
            "limit",
            "is `many` and must be a whole number from 0 to 4294967295",
        ),
        (
            "sort=size",
            "sort",
            "is `size` and must be one of: name, date",
        ),
        ("all=1", "all", "is `1` and must be true or false"),
    ] {
        let response = app().get(&format!("/page?{query}"));

        assert_eq!(
            outcome(&response),
            (400, "request.invalid_query".into()),
            "{query}"
        );
        let problem: Value = response.json();
        assert_eq!(problem["detail"], format!("`{name}` {message}"));
        let field = json!([{ "at": name, "code": "invalid", "detail": message }]);
        assert_eq!(problem["errors"], field);
    }
}

#[test]
fn path_parameters_become_the_type() {
    assert_eq!(app().get("/orders/7").json::<u64>(), 7);
    assert_eq!(app().get("/by/name/3").text(), "Name 3");
    for path in ["/orders/seven", "/orders/-1", "/by/size/3", "/by/name/300"] {
        assert_eq!(
            outcome(&app().get(path)),
            (400, "request.invalid_path".into()),
            "{path}"
        );
    }
}

#[test]
fn a_body_that_is_no_text_is_refused() {
    let response = app().request("POST", "/text").body([0xff, 0xfe]).send();

    assert_eq!(outcome(&response), (400, "request.invalid_text".into()));
}

#[test]
fn a_header_is_found_in_any_case() {
    assert_eq!(
        app()
            .request("POST", "/echo")
            .header("x-NAME", "Ann")
            .send()
            .text(),
        "Ann"
    );
}

#[test]
fn broken_escapes_stay_as_they_are() {
    for (text, expected) in [
        ("%", "%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("%41%", "A%"),
        ("%ff", "\u{fffd}"),
        ("%€", "%€"),
    ] {
        assert_eq!(decode_path(text), expected);
    }
}
