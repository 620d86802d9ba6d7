//! Text that would like to be something else: SQL, a pattern, a header, a line of mail or of a log.

use gantry_harness::SmtpServer;
use http::Method;

use super::*;

/// What stands in the tables of people who look for weak places.
const SQL: &[&str] = &[
    "' OR '1'='1",
    "' OR 1=1 --",
    "\" OR \"\"=\"",
    "'; DROP TABLE users; --",
    "' UNION SELECT password_hash FROM users --",
    "1; ATTACH DATABASE '/tmp/x' AS x; --",
    "x' AND randomblob(900000000) --",
    "$1",
    "?1",
    ":email",
    "%",
    "_",
    "%' ESCAPE '",
    "*",
    "\\",
    "\u{0}",
    "ann@example.com\u{0}",
    "ann@example.com'--",
    "ANN@EXAMPLE.COM' COLLATE NOCASE --",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_in_logins_filters_and_paths_is_text() {
    let host = TestHost::build().with(|config| {
        config.auth.registration = gantry::auth::Registration::Open;
        config.auth.even_answer_ms = 0;
        config.auth.client_failures_free = 10_000;
        config.auth.account_failures_free = 10_000;
    });
    let host = host.start().await;
    host.deploy(ECHO, guest("echo")).await;
    host.user("ann@example.com", &["admin"]).await;
    let admin = host.admin();
    let total = |answer: &Value| answer["items"].as_array().unwrap().len();
    let everybody = format!("{API}/users?limit=200");
    let before: Value = admin.get(&everybody).await.json();
    for text in SQL {
        for (email, password) in [
            ((*text).to_owned(), PASSWORD.to_owned()),
            ("ann@example.com".to_owned(), (*text).to_owned()),
            (format!("{text}@example.com"), PASSWORD.to_owned()),
        ] {
            let login = json!({ "email": email, "password": password });
            let answer = host.post("/api/auth/login", &login).await;
            let status = answer.status.as_u16();
            assert!([401, 429].contains(&status), "{text}: {}", answer.text());
        }
        for path in [
            "/api/auth/password/reset/confirm",
            "/api/auth/register/confirm",
        ] {
            let mut body = json!({ "code": text });
            if path.contains("password") {
                body["new_password"] = json!("another good one");
            }
            let answer = host.post(path, &body).await;
            let status = answer.status.as_u16();
            assert!(
                [422, 429, 403].contains(&status),
                "{path} {text}: {}",
                answer.text()
            );
        }
        let code = encoded(text);
        // Filters that have no such thing find nothing, least of all everything.
        for filter in ["actor", "action", "target", "outcome", "request_id"] {
            // A star at the end of an action is a pattern of ours.
            if filter == "action" && text.ends_with('*') {
                continue;
            }
            let path = format!("{API}/audit?{filter}={code}");
            let answer = admin.get(&path).await;
            match answer.status.as_u16() {
                200 => assert_eq!(total(&answer.json()), 0, "{filter} {text}"),
                status => assert_eq!(status, 400, "{filter} {text}: {}", answer.text()),
            }
        }
        let found = admin.get(&format!("{API}/users?email={code}")).await;
        if found.status == 200 {
            assert_eq!(total(&found.json()), 0, "{text}");
        } else {
            assert_eq!(found.status.as_u16(), 422, "{text}: {}", found.text());
        }
        for path in ["audit", "users"] {
            let answer = admin.get(&format!("{API}/{path}?cursor={code}")).await;
            assert_eq!(
                answer.status.as_u16(),
                400,
                "{path} {text}: {}",
                answer.text()
            );
        }
        for path in [
            "plugins",
            "roles",
            "api-keys",
            "service-accounts",
            "deployments",
        ] {
            let answer = admin.get(&format!("{API}/{path}?cursor={code}")).await;
            let status = answer.status.as_u16();
            assert!(
                [200, 400, 404, 405].contains(&status),
                "{path} {text}: {}",
                answer.text()
            );
        }
        for path in [
            "users/{}",
            "users/{}/sessions",
            "plugins/{}",
            "plugins/{}/usage",
            "plugins/{}/logs",
            "plugins/{}/config",
        ] {
            let path = path.replace("{}", &code);
            let answer = admin.get(&format!("{API}/{path}")).await;
            let status = answer.status.as_u16();
            // A zero or a backslash is refused before anybody asks what it could be.
            assert!(
                [400, 404].contains(&status),
                "{path} {text}: {}",
                answer.text()
            );
        }
        let session = format!("/api/auth/sessions/{code}");
        let answer = host.delete(&session).await;
        assert!([400, 401].contains(&answer.status.as_u16()), "{text}");
    }
    // What is a pattern here is one, and what is a pattern of SQL is not.
    let some: Value = admin
        .get(&format!("{API}/audit?action=plugin.*"))
        .await
        .json();
    assert!(total(&some) > 0);
    for pattern in [
        "plugin.%25",
        "plugin%25",
        "plugin_*",
        "%25*",
        "_lugin.*",
        "plugin%5B.%5D*",
    ] {
        let none: Value = admin
            .get(&format!("{API}/audit?action={pattern}"))
            .await
            .json();
        assert_eq!(total(&none), 0, "{pattern}");
    }
    let after: Value = admin.get(&everybody).await.json();
    assert_eq!(before, after, "nobody came, went or changed");
    log_in(&host, "ann@example.com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_lines_in_what_clients_send_begin_no_line_of_ours() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = TestHost::build().with(|config| {
        server.serve(config);
        config.auth.registration = gantry::auth::Registration::Confirmed;
        config.auth.even_answer_ms = 0;
    });
    let host = host.start().await;
    host.deploy(ECHO, guest("echo")).await;
    // An address with a line of its own is none.
    for email in [
        "ann@example.org\r\nBcc: eve@example.org",
        "ann@example.org\nBcc: eve@example.org",
        "ann@example.org\r\n\r\nClick here",
        "ann@example.org, eve@example.org",
        "ann@example.org; eve@example.org",
        "ann@example.org>\r\nRCPT TO:<eve@example.org",
        "<ann@example.org>",
        "\"ann\r\nBcc: eve@example.org\"@example.org",
        "ann@example.org\u{2028}Bcc: eve@example.org",
    ] {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = host.post("/api/auth/register", &body).await;
        assert_eq!(answer.status.as_u16(), 422, "{email:?}: {}", answer.text());
        let body = json!({ "email": email });
        let answer = host.post("/api/auth/password/reset", &body).await;
        assert!([202, 422].contains(&answer.status.as_u16()), "{email:?}");
    }
    let body = json!({ "email": "last@example.org", "password": PASSWORD });
    host.post("/api/auth/register", &body)
        .await
        .assert_status(202);
    let mails = server.wait_for(1).await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].to, "last@example.org");

    // Wherever a part of a request could come back in a head.
    let line = "%0d%0aset-cookie:%20evil=1%0d%0a%0d%0aevil";
    for path in [
        format!("/{line}"),
        format!("/echo/open/{line}"),
        format!("/echo/open/x?next={line}"),
        format!("/nowhere?{line}"),
        format!("/api/auth/oauth/{line}"),
        format!("/api/auth/oauth/x?return_to={line}"),
        format!("/api/auth/oauth/x/callback?state={line}&code={line}&error={line}&iss={line}"),
        format!("/api/openapi.json?plugin={line}&version={line}&tag={line}"),
        format!("/_gantry/errors/{line}"),
        format!("/_gantry/docs/{line}"),
        format!("/api/docs?{line}"),
    ] {
        let answer = raw(
            &host,
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            !head.to_ascii_lowercase().contains("set-cookie"),
            "{path}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{path}: {answer}");
    }
    // Headers that the host repeats, or makes others of.
    let text = "x\\r\\nset-cookie: evil=1";
    for name in [
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "accept",
        "accept-encoding",
        "if-none-match",
        "if-match",
        "range",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-gantry-version",
        "user-agent",
        "referer",
        "content-type",
        "x-forwarded-host",
    ] {
        for (method, path) in [
            (Method::OPTIONS, "/echo/open/x"),
            (Method::GET, "/echo/open/x"),
            (Method::POST, "/echo/once"),
            (Method::GET, "/api/openapi.json"),
            (Method::POST, "/api/auth/login"),
        ] {
            let request = host.request(method.clone(), path).header(name, text);
            let answer = host.send(request).await;
            let told = format!("{method} {path} {name}: {:?}", answer.headers);
            assert!(answer.status.as_u16() < 500, "{told}");
            assert_eq!(answer.header("set-cookie"), None, "{told}");
        }
    }
    // One line a request, whatever it was.
    let before = host.access_log().await.lines().count();
    for path in [
        "/a%0a{\"status\":200}",
        "/a%0d%0ab",
        "/a?b%0ac",
        "/\u{2028}",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        raw(&host, request.as_bytes()).await;
    }
    let log = host.access_log().await;
    let added: Vec<&str> = log.lines().skip(before).collect();
    assert!((3..=4).contains(&added.len()), "{added:?}");
    for line in added {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["request_id"].is_string() || line["request.id"].is_string(),
            "{line}"
        );
    }
}
