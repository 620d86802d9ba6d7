use super::*;
use crate::testing::TestApp;
use crate::{Bytes, Path};

fn app() -> TestApp {
    TestApp::new(
        Router::new()
            .get("/", || "root")
            .get("/orders/{id}", |Path(id): Path<u64>| format!("order {id}"))
            .get("/orders/new", || "new")
            .put("/orders/{id}", |Path(id): Path<u64>, Bytes(body): Bytes| {
                format!("{id}: {} bytes", body.len())
            })
            .delete("/orders/{id}", || ())
            .get(
                "/orders/{id}/items/{item}",
                |Path((id, item)): Path<(u64, String)>| format!("{id}/{item}"),
            )
            .get("/files/{*path}", |Path(path): Path<String>| path),
    )
}

#[test]
fn the_most_special_pattern_answers() {
    for (path, expected) in [
        ("/", "root"),
        ("/orders/7", "order 7"),
        ("/orders/new", "new"),
        ("/orders/7/items/a%20b", "7/a b"),
        ("/orders/7/items/a+b", "7/a+b"),
        ("/orders/7/items/a%2Fb", "7/a/b"),
        ("/files/a/b%20c/d.txt", "a/b c/d.txt"),
    ] {
        let response = app().get(path);
        assert_eq!(
            (response.status(), response.text()),
            (200, expected),
            "{path}"
        );
    }
}

#[test]
fn a_path_that_no_pattern_fits_is_not_found() {
    for path in [
        "/order",
        "/orders",
        "/orders/",
        "/orders/7/",
        "/orders/7/items",
        "/files/",
        "//",
    ] {
        let response = app().get(path);
        assert_eq!(
            (response.status(), response.code()),
            (404, "route.not_found".into()),
            "{path}"
        );
    }
}

#[test]
fn a_wrong_method_learns_which_ones_are_right() {
    let response = app().post("/orders/7");

    assert_eq!(
        (response.status(), response.code()),
        (405, "route.method_not_allowed".into())
    );
    assert_eq!(response.header("allow"), Some("GET, PUT, DELETE"));
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn head_is_answered_by_the_route_for_get() {
    assert_eq!(app().request("HEAD", "/orders/7").send().status(), 200);
}

#[test]
fn an_empty_answer_has_no_content() {
    assert_eq!(app().delete("/orders/7").status(), 204);
}

#[test]
fn merged_routers_answer_as_one() {
    let app = TestApp::new(
        Router::new()
            .get("/a", || "a")
            .merge(Router::new().get("/b", || "b")),
    );

    assert_eq!(app.get("/b").text(), "b");
}
