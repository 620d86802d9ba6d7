//! Headers in which a client says who it is, where it is and what it has asked for. The host knows that itself.

use http::Method;

use super::*;

/// Where a client would like to be.
const ELSEWHERE: &str = "203.0.113.7";

/// What proxies and other servers believe, each with a value that would be worth something.
fn forged(id: &str) -> Vec<(&'static str, String)> {
    let people = [
        "x-user-id",
        "x-user",
        "x-userid",
        "x-username",
        "x-remote-user",
        "remote-user",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-preferred-username",
        "x-auth-request-user",
        "x-auth-request-email",
        "x-authenticated-user",
        "x-webauth-user",
        "x-goog-authenticated-user-email",
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "x-amzn-oidc-identity",
        "x-amzn-oidc-data",
        "x-consumer-id",
        "x-consumer-username",
        "x-gantry-user",
        "x-gantry-principal",
        "x-principal",
        "x-subject",
        "x-session",
        "x-session-id",
        "x-client-cert",
        "ssl-client-cert",
        "x-ssl-client-s-dn",
        "from",
    ];
    let rights = [
        ("x-role", "admin"),
        ("x-roles", "admin"),
        ("x-user-role", "admin"),
        ("x-is-admin", "true"),
        ("x-admin", "1"),
        ("x-permissions", "echo:things.write"),
        ("x-scope", "*"),
        ("x-authenticated-scope", "*"),
        ("x-tenant-id", "1"),
        ("x-internal", "true"),
        ("x-debug", "true"),
        ("x-gantry-internal", "1"),
    ];
    let places = [
        ("x-forwarded-for", ELSEWHERE),
        ("x-forwarded-for", "127.0.0.1, 203.0.113.7"),
        (
            "forwarded",
            "for=203.0.113.7;host=evil.example;proto=https;by=127.0.0.1",
        ),
        ("x-real-ip", ELSEWHERE),
        ("x-client-ip", ELSEWHERE),
        ("x-cluster-client-ip", ELSEWHERE),
        ("true-client-ip", ELSEWHERE),
        ("cf-connecting-ip", ELSEWHERE),
        ("fastly-client-ip", ELSEWHERE),
        ("x-originating-ip", ELSEWHERE),
        ("x-remote-ip", ELSEWHERE),
        ("x-remote-addr", ELSEWHERE),
        ("x-forwarded", "for=203.0.113.7"),
        ("via", "1.1 trusted"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-ssl", "on"),
        ("front-end-https", "on"),
        ("x-url-scheme", "https"),
    ];
    let paths = [
        ("x-original-url", "/_gantry/api/v1/users"),
        ("x-rewrite-url", "/_gantry/api/v1/users"),
        ("x-original-uri", "/echo/permitted"),
        ("x-forwarded-uri", "/echo/permitted"),
        ("x-forwarded-path", "/echo/permitted"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-host", "evil.example"),
        ("x-host", "evil.example"),
        ("x-forwarded-server", "evil.example"),
        ("x-forwarded-port", "443"),
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-request-id", "forged"),
        ("x-correlation-id", "forged"),
    ];
    let others = rights.into_iter().chain(places).chain(paths);
    let others = others.map(|(name, value)| (name, value.to_owned()));
    let people = people.into_iter().map(|name| (name, id.to_owned()));
    people.chain(others).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_in_headers_makes_it_nobody_else() {
    let host = host().await;
    host.user("ann@example.com", &["admin"]).await;
    let ann = log_in(&host, "ann@example.com").await;
    let id = ann["user"]["id"].as_str().unwrap();
    // A key that counts only from where the client says it is.
    let new = json!({ "name": "far", "roles": ["admin"], "networks": [ELSEWHERE] });
    let made = host.admin().post(&format!("{API}/api-keys"), &new).await;
    let far: Value = made.assert_status(201).json();
    let far = host.with_token(far["token"].as_str().unwrap());
    let own: Value = host.get("/echo/open/x").await.json();
    for (name, value) in forged(id) {
        for door in [
            "/echo/closed",
            "/echo/permitted",
            "/api/auth/me",
            "/metrics",
        ] {
            let request = host.request(Method::GET, door).header(name, &value);
            let answer = host.send(request).await;
            assert_eq!(answer.status.as_u16(), 401, "{door} {name}: {value}");
        }
        let request = host.request(Method::GET, &format!("{API}/users"));
        let answer = host.send(request.header(name, &value)).await;
        assert_eq!(answer.status.as_u16(), 401, "{name}: {value}");
        for path in ["/echo/open/x", "/echo/optional"] {
            let request = host.request(Method::GET, path).header(name, &value);
            let answer = host.send(request).await.assert_status(200);
            let told = format!("{path} {name}: {value}: {}", answer.text());
            let seen: Value = answer.json();
            assert_eq!(seen["principal"], Value::Null, "{told}");
            assert_eq!(seen["client_address"], own["client_address"], "{told}");
            assert_eq!(seen["method"], "GET", "{told}");
            assert_ne!(seen["request_id"], "forged", "{told}");
            assert_ne!(answer.header("x-request-id"), Some("forged"), "{told}");
            assert_eq!(answer.header("strict-transport-security"), None, "{told}");
        }
        let request = far
            .request(Method::GET, "/api/auth/me")
            .header(name, &value);
        far.send(request)
            .await
            .assert_problem(401, "auth.key_elsewhere");
    }
    // Where somebody was who failed is where they really were.
    for (name, value) in forged(id) {
        let login = json!({ "email": "ann@example.com", "password": "wrong wrong" });
        let request = host.request(Method::POST, "/api/auth/login");
        host.send(request.header(name, value).json(&login)).await;
    }
    let path = format!("{API}/audit?action=login.failed&limit=200");
    let mut addresses = Vec::new();
    for _ in 0..50 {
        let found: Value = host.admin().get(&path).await.assert_status(200).json();
        let items = found["items"].as_array().unwrap();
        addresses = items.iter().map(|item| item["address"].clone()).collect();
        if !addresses.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!addresses.is_empty(), "failures are recorded");
    for address in addresses {
        assert_eq!(address, "127.0.0.1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_where_a_client_is_and_nothing_else() {
    let host = TestHost::build().with(|config| {
        config.gateway.trusted_proxies = serde_json::from_value(json!(["127.0.0.1"])).unwrap();
    });
    let host = host.start().await;
    host.deploy(ECHO, guest("echo")).await;
    host.user("ann@example.com", &["admin"]).await;
    let ann = log_in(&host, "ann@example.com").await;
    let id = ann["user"]["id"].as_str().unwrap();
    let at = async |headers: &[(&str, &str)]| -> Value {
        let mut request = host.request(Method::GET, "/echo/open/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        host.send(request).await.assert_status(200).json()
    };
    for (headers, wanted) in [
        (&[("x-forwarded-for", "198.51.100.1")][..], "198.51.100.1"),
        // What the client has written stands left of what the proxy has.
        (
            &[("x-forwarded-for", "203.0.113.7, 198.51.100.1")],
            "198.51.100.1",
        ),
        (
            &[
                ("x-forwarded-for", "203.0.113.7"),
                ("x-forwarded-for", "198.51.100.1"),
            ],
            "198.51.100.1",
        ),
        (&[("x-forwarded-for", "203.0.113.7, nonsense")], "127.0.0.1"),
        (&[("x-forwarded-for", "203.0.113.7, ")], "127.0.0.1"),
        (&[("x-real-ip", ELSEWHERE)], "127.0.0.1"),
        (&[("forwarded", "for=203.0.113.7")], "127.0.0.1"),
        (
            &[
                ("x-forwarded-for", "198.51.100.1"),
                ("x-real-ip", ELSEWHERE),
            ],
            "198.51.100.1",
        ),
    ] {
        let seen = at(headers).await;
        assert_eq!(seen["client_address"], wanted, "{headers:?}");
    }
    // Nobody is somebody because a proxy says so: clients can say it through the proxy.
    for (name, value) in forged(id) {
        let request = host.request(Method::GET, "/echo/closed");
        let answer = host.send(request.header(name, &value)).await;
        assert_eq!(answer.status.as_u16(), 401, "{name}: {value}");
        let seen = at(&[(name, &value)]).await;
        assert_eq!(seen["principal"], Value::Null, "{name}");
        assert_eq!(seen["method"], "GET", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_that_a_client_names_is_in_no_address_that_the_host_writes() {
    let host = TestHost::build().with(|config| {
        config.auth.registration = gantry::auth::Registration::Open;
    });
    let host = host.start().await;
    host.deploy(ECHO, guest("echo")).await;
    for name in ["evil.example", "evil.example:80@good.example", "localhost"] {
        for path in [
            "/",
            "/api/auth/me",
            "/api/auth/oauth",
            "/api/auth/openapi.json",
            "/api/openapi.json",
            "/.well-known/jwks.json",
            "/_gantry",
            "/_gantry/api/v1/openapi.json",
            "/_gantry/api/v1/users",
            "/api/docs",
            "/livez",
            "/readyz",
            "/nowhere",
        ] {
            let request = host.request(Method::GET, path);
            let request = request.header("host", name);
            let answer = host.send(request).await;
            let told = format!("{path} {name}: {:?} {}", answer.headers, answer.text());
            assert!(
                !told.replace(&format!("{path} {name}"), "").contains("evil"),
                "{told}"
            );
            for header in ["location", "refresh", "link", "content-location"] {
                let value = answer.header(header).unwrap_or_default();
                assert!(!value.contains("://"), "{told}");
            }
        }
    }
    for request in [
        "GET /echo/open/x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /echo/open/x HTTP/1.1\r\nhost: a, b\r\n\r\n",
        "GET /echo/open/x HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET http:///echo/open/x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://a:b:c/echo/open/x HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let answer = raw(&host, request.as_bytes()).await;
        let is_refused = answer.starts_with("HTTP/1.1 4") || answer.is_empty();
        assert!(is_refused, "{request}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_origin_is_allowed_to_read_what_is_the_hosts_own() {
    let host = host().await;
    let own = format!("http://{}", host.app().address);
    for path in [
        "/api/auth/me",
        "/api/auth/login",
        "/api/auth/refresh",
        "/api/auth/sessions",
        "/api/openapi.json",
        "/.well-known/jwks.json",
        "/_gantry/api/v1/users",
        "/_gantry/api/v1/openapi.json",
        "/metrics",
        "/readyz",
        // A route that allows no origin, and one that is not there.
        "/echo/closed",
        "/echo/open/x",
        "/nowhere",
    ] {
        for origin in [
            "null",
            "*",
            "https://evil.example",
            "http://127.0.0.1",
            "file://",
            own.as_str(),
        ] {
            for method in [Method::OPTIONS, Method::GET] {
                let request = host
                    .request(method.clone(), path)
                    .header("origin", origin)
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", "authorization")
                    .header("access-control-request-private-network", "true");
                let answer = host.send(request).await;
                for (name, value) in &answer.headers {
                    let allows = name.as_str().starts_with("access-control-allow");
                    assert!(!allows, "{method} {path} {origin}: {name}: {value:?}");
                }
            }
        }
    }
}
