use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn claims() -> Json {
    json!({ "sub": "u1", "kind": "user", "roles": ["cook", "waiter"], "level": 3, "org": { "id": 7 } })
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("x-tenant", "north".parse().unwrap());
    headers.append("authorization", "Bearer secret".parse().unwrap());
    headers.append("x-api-key", "gk_1".parse().unwrap());
    headers.append("cookie", "a=1".parse().unwrap());
    headers
}

/// What an expression says of one request.
fn holds(text: &str, query: &str) -> Result<bool, Failed> {
    let expression = Expression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let headers = headers();
    let params = [("id".to_owned(), "u1".to_owned())];
    let facts = Facts {
        claims: &claims,
        params: &params,
        query: Some(query),
        headers: &headers,
        method: &Method::POST,
        path: "/orders/u1",
    };
    expression.holds(&facts)
}

#[test]
fn an_expression_sees_the_request_and_no_credentials() {
    for (text, wanted) in [
        ("claims.sub == params.id", true),
        ("'cook' in claims.roles", true),
        ("'boss' in claims.roles", false),
        ("claims.level >= 3 && claims.org.id == 7", true),
        ("claims.roles.exists(r, r.startsWith('wait'))", true),
        ("claims.roles.all(role, size(role) < 3)", false),
        ("has(claims.email)", false),
        ("has(claims.email) ? claims.email == 'x' : true", true),
        ("method == 'POST' && path.startsWith('/orders/')", true),
        ("headers['x-tenant'] == 'north'", true),
        ("'authorization' in headers", false),
        ("'x-api-key' in headers || 'cookie' in headers", false),
        ("query.page.matches('^[0-9]+$')", true),
        ("path.matches('^/orders/[a-z]+$')", false),
        ("int(query.page) < 10", true),
    ] {
        assert_eq!(holds(text, "page=2&q=%C3%A4"), Ok(wanted), "{text}");
    }
}

#[test]
fn what_has_no_value_is_a_failure_and_not_an_answer() {
    for (text, query) in [
        ("claims.email == 'x'", ""),
        ("claims.email != 'x'", ""),
        ("claims.level", ""),
        ("query.a != 'admin'", "a=user&a=admin"),
        ("query.page < 3", "page=2"),
        ("int(query.page) == 1", "page=x"),
        ("claims.level / 0 == 1", ""),
        ("claims.roles[9] == 'x'", ""),
    ] {
        assert!(holds(text, query).is_err(), "{text}");
    }
}

#[test]
fn a_key_is_text_whatever_its_kind() {
    let headers = headers();
    let facts = Facts {
        claims: &claims,
        params: &[],
        query: None,
        headers: &headers,
        method: &Method::GET,
        path: "/",
    };
    let key = |text: &str| Expression::compile(text).unwrap().key(&facts);
    assert_eq!(
        key("claims.sub + ':' + headers['x-tenant']").unwrap(),
        "u1:north"
    );
    assert_eq!(key("claims.level").unwrap(), "3");
    assert_eq!(key("method == 'GET'").unwrap(), "true");
    assert!(key("claims.roles").is_err());
    assert!(key("claims.nobody").is_err());
}

#[test]
fn what_could_take_long_or_means_nothing_is_refused() {
    let many = |part: &str, join: &str, count: usize| vec![part; count].join(join);
    for (text, part) in [
        (String::new(), "empty"),
        ("claims.sub ==".to_owned(), "no expression"),
        ("request.path == ''".to_owned(), "`claims`"),
        ("claims.sub.reverse()".to_owned(), "no function `reverse`"),
        ("timestamp('x') == 1".to_owned(), "no function `timestamp`"),
        ("Message{a: 1}".to_owned(), "no messages"),
        (many("1", "+", 600), "1000"),
        (many("method", "+", 100), "too large"),
        (
            format!("{}1{}", "(".repeat(60), ")".repeat(60)),
            "nested too deeply",
        ),
        (format!("{}true", "!".repeat(200)), "nested too deeply"),
        (many("true?1:", "", 100) + "1", "nested too deeply"),
        (
            "claims.roles.all(a, claims.roles.all(b, a == b))".to_owned(),
            "one list within another",
        ),
        (
            many("claims.roles.exists(a, a == 'x')", "||", 5),
            "at most 4 lists",
        ),
        ("path.matches(query.p)".to_owned(), "as text"),
        ("path.matches('(')".to_owned(), "cannot be used"),
        (
            "path.matches('(a{1000}){1000}')".to_owned(),
            "cannot be used",
        ),
    ] {
        let began = Instant::now();
        let error = Expression::compile(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
        assert!(error.len() < 300, "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "{text}");
    }
}

#[test]
fn a_pattern_that_other_engines_never_finish_is_done_at_once() {
    let text = "query.q.matches('^(a+)+$')";
    let began = Instant::now();
    assert_eq!(holds(text, &format!("q={}b", "a".repeat(7000))), Ok(false));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_failure_does_not_repeat_what_the_caller_sent() {
    let long = "x".repeat(5000);
    let failed = holds("query.q < 1", &format!("q={long}")).unwrap_err();
    assert!(failed.to_string().len() < 300);
}

proptest! {
    /// Whatever an author writes, it compiles or is refused in bounded time, and what compiles ends.
    #[test]
    fn no_text_hangs_or_panics(
        text in "(claims|query|[.]a|[(]|[)]|[\\[]|[\\]]|!|-|[?]|:|&&|[|][|]|==|<|[+]|1|'x'|[.]all[(]a,|[.]map[(]b,|in|[{]|[}]|,| ){0,40}",
    ) {
        let began = Instant::now();
        if let Ok(expression) = Expression::compile(&text) {
            let headers = HeaderMap::new();
            let facts = Facts {
                claims: &claims,
                params: &[],
                query: Some("a=1&b=2"),
                headers: &headers,
                method: &Method::GET,
                path: "/",
            };
            let _ = expression.holds(&facts);
        }
        prop_assert!(began.elapsed() < Duration::from_secs(5), "{}", text);
    }
}
