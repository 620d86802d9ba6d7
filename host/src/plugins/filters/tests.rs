//! What an operator may write about filters, and around which plugins they then stand.

use super::*;
use crate::plugins::Mount;

fn told(filters: &str) -> Vec<String> {
    check(&parsed(filters)).unwrap_err()
}

fn parsed(filters: &str) -> Vec<OperatorFilter> {
    #[derive(serde::Deserialize)]
    struct File {
        filters: Vec<OperatorFilter>,
    }
    toml::from_str::<File>(filters).unwrap().filters
}

#[test]
fn a_filter_of_the_operator_stands_around_the_plugins_that_hang_where_it_says() {
    let around = check(&parsed(
        "[[filters]]\nuse = \"security-headers\"\n\
         [[filters]]\nuse = \"plugin:guard\"\non_failure = \"closed\"\nmount = \"/api\"\n\
         [[filters]]\nuse = \"body-limit\"\nbody_bytes_max = 10\nhost = \"shop.example.com\"\n",
    ))
    .unwrap();
    for (host, path, expected) in [
        (None, "/", [true, false, false]),
        (None, "/api", [true, true, false]),
        (None, "/api/shop", [true, true, false]),
        (None, "/apish", [true, false, false]),
        (Some("shop.example.com"), "/", [true, false, true]),
        (Some("shop.example.com"), "/api/x", [true, true, true]),
        (Some("other.example.com"), "/", [true, false, false]),
    ] {
        let mount = Mount::new(host, path).unwrap();
        let covered: Vec<bool> = around.iter().map(|one| one.covers(&mount)).collect();
        assert_eq!(covered, expected, "{host:?} {path}");
    }
}

#[test]
fn an_operator_is_told_every_mistake_at_once() {
    let told = told(
        "[[filters]]\nuse = \"secure-headers\"\n\
         [[filters]]\nuse = \"plugin:guard\"\nbody_bytes_max = 1\n\
         [[filters]]\nuse = \"plugin:No Name\"\non_failure = \"open\"\n\
         [[filters]]\nuse = \"security-headers\"\non_failure = \"open\"\n\
         [[filters]]\nuse = \"body-limit\"\n\
         [[filters]]\nuse = \"headers\"\nmount = \"shop\"\n\
         request = { set = { host = \"evil\", x-a = \"a\\nb\" } }\n\
         response = { remove = [\"x-request-id\", \"a b\"] }\n",
    );
    let told = told.join("\n");
    for expected in [
        "filter 1 (`secure-headers`): there is no such filter; write `plugin:NAME` or one of headers, security-headers, body-limit",
        "filter 2 (`plugin:guard`): `on_failure` is missing: write `open` or `closed`",
        "filter 2 (`plugin:guard`): `body_bytes_max` belongs to `body-limit`",
        "filter 3 (`plugin:No Name`): ",
        "filter 4 (`security-headers`): `on_failure` is for plugins; the host's own filters do not fail",
        "filter 5 (`body-limit`): `body_bytes_max` is missing",
        "filter 6 (`headers`): the header `host` is the host's to set",
        "filter 6 (`headers`): the value of the header `x-a` has characters that are not allowed",
        "filter 6 (`headers`): the header `x-request-id` is the host's to set",
        "filter 6 (`headers`): `a b` is not the name of a header",
        "filter 6 (`headers`): `shop` is not a mount: write `/` or for example `/api/shop`",
    ] {
        assert!(told.contains(expected), "{expected}\n---\n{told}");
    }
    assert_eq!(told.lines().count(), 11, "{told}");
}

#[test]
fn only_the_operator_decides_for_everything_under_a_host_name() {
    let around = check(&parsed(
        "[[filters]]\nuse = \"headers\"\n\
         response = { set = { strict-transport-security = \"max-age=31536000\" } }\n",
    ))
    .unwrap();
    let What::Native(native) = &around[0].filter.what else {
        panic!("headers are the host's own");
    };
    let mut headers = http::HeaderMap::new();
    native.after(&mut headers);
    assert_eq!(headers["strict-transport-security"], "max-age=31536000");
}

#[test]
fn what_a_plugin_says_about_its_pages_stays() {
    let mut headers = http::HeaderMap::new();
    headers.insert("x-frame-options", "DENY".parse().unwrap());
    Native::SecurityHeaders.after(&mut headers);
    assert_eq!(headers["x-frame-options"], "DENY");
    assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
    assert_eq!(headers.len(), 5);
}
