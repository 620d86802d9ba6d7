//! What is larger than anybody needs. It is refused before it costs what it would cost: no password is hashed, no plugin runs,
//! nothing is kept.

use http::Method;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_accounts_is_refused_before_anything_is_hashed() {
    let host = TestHost::build().with(|config| {
        config.auth.registration = gantry::auth::Registration::Open;
        config.auth.even_answer_ms = 0;
        config.auth.client_failures_free = 10_000;
    });
    let host = host.start().await;
    host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com").await;
    let ann = host.with_token(tokens["access_token"].as_str().unwrap());
    let admin = host.admin();
    let hashed = metric(&admin, "gantry_passwords_hashed_total").await;
    // Short enough for a body, too long for what it is.
    let (long, whole) = ("x".repeat(1500), "x".repeat(100_000));
    let email = format!("{long}@example.com");
    let login = |email: &str, password: &str| json!({ "email": email, "password": password });
    for (client, path, body, status) in [
        (&*host, "login", login("ann@example.com", &long), 401),
        (&host, "login", login(&email, PASSWORD), 401),
        (&host, "login", login("ann@example.com", &whole), 413),
        (&host, "login", login(&whole, PASSWORD), 413),
        (&host, "register", login("ben@example.com", &long), 422),
        (&host, "register", login(&email, PASSWORD), 422),
        (&host, "register", login("ben@example.com", &whole), 413),
        (&host, "refresh", json!({ "refresh_token": long }), 401),
        (&host, "refresh", json!({ "refresh_token": whole }), 413),
        (&host, "logout", json!({ "refresh_token": whole }), 413),
        (&host, "register/confirm", json!({ "code": long }), 422),
        (&host, "register/confirm", json!({ "code": whole }), 413),
        (&host, "password/reset", json!({ "email": whole }), 413),
        (
            &host,
            "password/reset/confirm",
            json!({ "code": "x", "new_password": long }),
            422,
        ),
        (
            &ann,
            "password",
            json!({ "old_password": PASSWORD, "new_password": long }),
            422,
        ),
        (
            &ann,
            "password",
            json!({ "old_password": PASSWORD, "new_password": whole }),
            413,
        ),
        (&ann, "totp", json!({ "password": whole }), 413),
        (&ann, "totp/confirm", json!({ "code": whole }), 413),
    ] {
        // The host may close after it has refused what it has not read.
        let client = client.on_a_connection_of_its_own();
        let answer = client.post(&format!("/api/auth/{path}"), &body).await;
        let told = format!("{path} {}: {}", body.to_string().len(), answer.text());
        assert_eq!(answer.status.as_u16(), status, "{told}");
        assert!(
            answer.body.len() < 2000,
            "nothing of it is repeated: {told}"
        );
    }
    // The second factor is asked for only who has the password, and it is not a password.
    let mut with_code = login("ann@example.com", PASSWORD);
    with_code["code"] = json!("x".repeat(2000));
    let before = metric(&admin, "gantry_passwords_hashed_total").await;
    assert_eq!(before, hashed, "nothing of this was hashed");
    host.post("/api/auth/login", &with_code).await;

    // Bodies that are deep, or many things at once.
    let deep = format!("{}{}", "[".repeat(1500), "]".repeat(1500));
    let many = format!("{{{}\"email\":1}}", "\"a\":1,".repeat(600));
    for body in [deep.as_str(), &many] {
        let request = host.request(Method::POST, "/api/auth/login");
        let request = request.header("content-type", "application/json");
        let answer = host.send(request.body(body.to_owned())).await;
        answer.assert_problem(422, "request.invalid_body");
    }
    let request = admin.request(Method::POST, "/api/auth/introspect");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = admin.send(request.body(format!("token={whole}"))).await;
    answer.assert_problem(413, "request.body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_admin_api_is_refused() {
    let host = host().await;
    let admin = host.admin();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (path, body, statuses) in [
        ("roles", "x".repeat(2 << 20), [413, 413]),
        ("users", "x".repeat(2 << 20), [413, 413]),
        ("roles", deep.clone(), [400, 422]),
        ("explain", deep, [400, 422]),
    ] {
        let admin = admin.on_a_connection_of_its_own();
        let request = admin.request(Method::POST, &format!("{API}/{path}"));
        let request = request.header("content-type", "application/json");
        let answer = admin.send(request.body(body)).await;
        let status = answer.status.as_u16();
        assert!(statuses.contains(&status), "{path}: {}", answer.text());
        assert!(answer.body.len() < 2000, "{path}");
    }
    let name = "n".repeat(10_000);
    let roles: Vec<String> = (0..1000).map(|at| format!("r{at}")).collect();
    let names: Vec<String> = (0..5000).map(|at| format!("echo:p{at}")).collect();
    for (path, body) in [
        ("roles", json!({ "name": name, "permissions": [] })),
        ("roles", json!({ "name": "many", "permissions": names })),
        (
            "users",
            json!({ "email": format!("{name}@example.com"), "password": PASSWORD }),
        ),
        (
            "users",
            json!({ "email": "ann@example.com", "password": name }),
        ),
        (
            "users",
            json!({ "email": "ann@example.com", "password": PASSWORD, "roles": roles }),
        ),
        ("api-keys", json!({ "name": name, "roles": ["admin"] })),
        ("api-keys", json!({ "name": "k", "roles": roles })),
        (
            "api-keys",
            json!({ "name": "k", "roles": ["admin"], "networks": vec!["192.0.2.1"; 10_000] }),
        ),
        (
            "api-keys",
            json!({ "name": "k", "roles": ["admin"], "scopes": vec!["platform.read"; 10_000] }),
        ),
        ("service-accounts", json!({ "name": name, "roles": [] })),
    ] {
        let answer = admin.post(&format!("{API}/{path}"), &body).await;
        let status = answer.status.as_u16();
        assert!(
            [400, 409, 422].contains(&status),
            "{path}: {status} {}",
            answer.text()
        );
        assert!(answer.body.len() < 2000, "{path}: {}", answer.body.len());
    }
    for query in [
        "limit=201",
        "limit=99999999999999999999",
        "limit=-1",
        "limit=1e3",
    ] {
        let answer = admin.get(&format!("{API}/audit?{query}")).await;
        assert_eq!(answer.status.as_u16(), 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused_by_their_size_and_not_by_what_is_in_them() {
    let host = host().await;
    let key = std::fs::read_to_string(host.data_dir().join("admin.key")).unwrap();
    for (name, value, status) in [
        ("authorization", format!("Bearer {}", "x".repeat(5000)), 401),
        (
            "authorization",
            format!("Bearer {}", "x.".repeat(2500)),
            401,
        ),
        (
            "authorization",
            format!("Bearer {}{}", key.trim(), "0".repeat(5000)),
            401,
        ),
        (
            "authorization",
            format!("Bearer {}", "x".repeat(40_000)),
            431,
        ),
        ("x-api-key", format!("gk_{}", "0".repeat(5000)), 401),
        (
            "cookie",
            format!("__Host-gantry-access={}", "x".repeat(5000)),
            401,
        ),
        ("cookie", "a=1; ".repeat(5000), 401),
        ("cookie", "a=1; ".repeat(10_000), 431),
        ("x-forwarded-for", "192.0.2.1, ".repeat(2000), 401),
        ("accept", "text/html;q=0.1, ".repeat(1500), 401),
        ("accept-encoding", "gzip;q=0.1, ".repeat(2000), 401),
        ("if-none-match", "\"a\", ".repeat(5000), 401),
        ("user-agent", "x".repeat(20_000), 401),
        ("traceparent", "0".repeat(20_000), 401),
        ("origin", format!("https://{}", "x".repeat(20_000)), 401),
    ] {
        let request = host
            .request(Method::GET, "/echo/closed")
            .header(name, &value);
        let answer = host.send(request).await;
        let told = format!("{name} {}: {}", value.len(), answer.text());
        assert_eq!(answer.status.as_u16(), status, "{told}");
        assert!(answer.body.len() < 2000, "{told}");
    }
    let with_headers = |count: usize| {
        let request = host.request(Method::GET, "/echo/open/x");
        (0..count).fold(request, |request, at| {
            request.header(format!("x-{at}"), "1")
        })
    };
    host.send(with_headers(80)).await.assert_status(200);
    host.send(with_headers(95))
        .await
        .assert_problem(431, "request.headers_too_large");
    // More of them are no request any more.
    host.send(with_headers(200)).await.assert_status(431);
    for path in [
        format!("/echo/open/{}", "x".repeat(9000)),
        format!("/echo/open/x?{}", "a=1&".repeat(2500)),
        format!("/api/auth/me?{}", "x".repeat(9000)),
        format!("{API}/audit?actor={}", "x".repeat(9000)),
    ] {
        host.get(&path)
            .await
            .assert_problem(414, "request.uri_too_long");
    }
    // What fits is read: as many parameters and segments as go into a path.
    let request = format!("/echo/open/{}?{}", "x/".repeat(1900), "a&".repeat(1900));
    let status = host.get(&request).await.status.as_u16();
    assert!([200, 404].contains(&status), "{status}");
    for key in [
        "k".repeat(5000),
        "k".repeat(300),
        String::new(),
        "k k".to_owned(),
    ] {
        let request = host.request(Method::POST, "/echo/once").body("{}");
        let answer = host.send(request.header("idempotency-key", &key)).await;
        let code = answer.code();
        assert!(
            ["idempotency.key_invalid", "idempotency.key_missing"].contains(&code.as_str()),
            "{}: {}",
            key.len(),
            answer.text()
        );
    }
    host.get("/echo/open/x").await.assert_status(200);
}
