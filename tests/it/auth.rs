//! Who may call what.

use gantry_harness::{TestHost, guests::guest};
use serde_json::{Value, json};

const MANIFEST: &str = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[permission]]
name = "things.write"
description = "Change things"
[[route]]
method = "GET"
path = "/public"
auth = "public"
[[route]]
method = "GET"
path = "/optional"
auth = "optional"
[[route]]
method = "GET"
path = "/required"
[[route]]
method = "GET"
path = "/permitted"
permissions = ["things.write"]
[[route]]
method = "GET"
path = "/limited"
auth = "public"
limits = [{ name = "few", limit = 3, window = "1h", key = "ip" }]
[[route]]
method = "GET"
path = "/limited-user"
limits = [{ name = "mine", limit = 2, window = "1h", key = "user" }]
"#;

async fn host() -> TestHost {
    let host = TestHost::start().await;
    host.deploy(MANIFEST, guest("echo")).await;
    let auth = &host.app().auth;
    auth.create_role("writer".parse().unwrap(), &["echo:things.write"])
        .await
        .unwrap();
    auth.create_role("reader".parse().unwrap(), &[])
        .await
        .unwrap();
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_open_to_those_who_may() {
    let host = host().await;
    let reader = host.user("reader@example.com", &["reader"]).await;
    let writer = host.user("writer@example.com", &["writer"]).await;
    let forged = host.with_token("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.");

    host.get("/echo/public").await.assert_status(200);
    forged.get("/echo/public").await.assert_status(200);
    host.get("/echo/optional").await.assert_status(200);
    forged.get("/echo/optional").await.assert_status(401);
    host.get("/echo/required")
        .await
        .assert_problem(401, "auth.required");
    reader.get("/echo/required").await.assert_status(200);
    host.get("/echo/permitted")
        .await
        .assert_problem(401, "auth.required");
    reader
        .get("/echo/permitted")
        .await
        .assert_problem(403, "auth.permission_missing");
    let seen = writer
        .get("/echo/permitted")
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(seen["principal"]["name"], "writer@example.com");
    assert_eq!(seen["principal"]["permissions"], json!(["things.write"]));
    let seen = host.get("/echo/optional").await.json::<Value>();
    assert_eq!(seen["principal"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_a_token_and_a_wrong_one_tells_nothing() {
    let host = host().await;
    let user = host.user("ann@example.com", &["writer"]).await;
    let me = user
        .get("/api/auth/me")
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(me["name"], "ann@example.com");
    host.get("/api/auth/me")
        .await
        .assert_problem(401, "auth.required");
    let login = |email: &str, password: &str| json!({ "email": email, "password": password });
    let wrong = host
        .post(
            "/api/auth/login",
            &login("ann@example.com", "wrong password"),
        )
        .await;
    let unknown = host
        .post(
            "/api/auth/login",
            &login("nobody@example.com", "wrong password"),
        )
        .await;
    let detail = |answer: &gantry_harness::Answer| answer.json::<Value>()["detail"].clone();
    assert_eq!(detail(&wrong), detail(&unknown));
    wrong.assert_problem(401, "auth.credentials_wrong");
    unknown.assert_problem(401, "auth.credentials_wrong");
    host.post("/api/auth/login", &json!({ "email": "x" }))
        .await
        .assert_problem(422, "request.invalid_body");
    let odd = json!({ "email": 1, "password": "x" });
    let odd = host.post("/api/auth/login", &odd).await;
    let told: Value = odd.assert_problem(422, "request.invalid_body").json();
    assert_eq!(told["errors"][0]["at"], "/email");
    let form = host
        .request(http::Method::POST, "/api/auth/login")
        .body("email=x");
    host.send(form)
        .await
        .assert_problem(415, "request.unsupported_media_type");
    let keys = host
        .get("/.well-known/jwks.json")
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(keys["keys"][0]["kty"], "OKP");
    assert!(keys["keys"][0].get("d").is_none(), "the private part stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_account_counts_at_once() {
    let host = host().await;
    let writer = host.user("writer@example.com", &["writer"]).await;
    writer.get("/echo/permitted").await.assert_status(200);
    let auth = &host.app().auth;
    let user = auth
        .find_user_by_email("writer@example.com")
        .await
        .unwrap()
        .unwrap();
    auth.set_user_roles(user.id, vec!["reader".parse().unwrap()])
        .await
        .unwrap();
    writer
        .get("/echo/permitted")
        .await
        .assert_problem(403, "auth.permission_missing");
    auth.set_disabled(user.id, true).await.unwrap();
    writer.get("/echo/required").await.assert_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_and_told() {
    let host = host().await;
    for left in [2, 1, 0] {
        let answer = host.get("/echo/limited").await.assert_status(200);
        assert!(
            answer
                .header("ratelimit-policy")
                .unwrap()
                .contains("\"few\";q=3;w=3600")
        );
        assert!(
            answer
                .header("ratelimit")
                .unwrap()
                .contains(&format!("\"few\";r={left}"))
        );
    }
    let answer = host
        .get("/echo/limited")
        .await
        .assert_problem(429, "limit.quota_exceeded");
    assert_eq!(answer.json::<Value>()["violated-policies"], json!(["few"]));
    assert!(answer.header("ratelimit").unwrap().contains("r=0"));

    let ann = host.user("ann@example.com", &[]).await;
    let bob = host.user("bob@example.com", &[]).await;
    ann.get("/echo/limited-user").await.assert_status(200);
    ann.get("/echo/limited-user").await.assert_status(200);
    ann.get("/echo/limited-user").await.assert_status(429);
    bob.get("/echo/limited-user").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_name_a_limit_share_it_and_one_without_a_name_is_its_routes_own() {
    let host = TestHost::start().await;
    let route = |method: &str, limits: &str| {
        format!(
            "[[route]]\nmethod = \"{method}\"\npath = \"/x\"\nauth = \"public\"\nlimits = [{limits}]\n"
        )
    };
    let shared = "{ name = \"manage\", limit = 3, window = \"1h\" }";
    let manifest = "schema = 1\n[plugin]\nname = \"echo\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n"
        .to_owned()
        + &route("GET", shared)
        + &route("DELETE", shared)
        + &route("PUT", "{ limit = 1, window = \"1h\" }")
        + &route("POST", "{ limit = 1, window = \"1h\" }");
    host.deploy(&manifest, guest("echo")).await;
    let body = json!({});
    host.get("/echo/x").await.assert_status(200);
    host.delete("/echo/x").await.assert_status(200);
    host.get("/echo/x").await.assert_status(200);
    host.delete("/echo/x").await.assert_status(429);
    host.get("/echo/x").await.assert_status(429);
    host.put("/echo/x", &body).await.assert_status(200);
    host.put("/echo/x", &body).await.assert_status(429);
    host.post("/echo/x", &body).await.assert_status(200);

    // A new version whose routes stand in another order counts on.
    let parts: Vec<&str> = manifest.split("[[route]]").collect();
    let turned = [parts[0], parts[4], parts[3], parts[2], parts[1]].join("\n[[route]]");
    host.deploy(&turned, guest("echo")).await;
    host.put("/echo/x", &body).await.assert_status(429);
    host.get("/echo/x").await.assert_status(429);

    // The plugin was not called, so the reason is in the host's log.
    let log = host.access_log().await;
    let refused = log.lines().find(|line| line.contains("\"status\":429"));
    let refused: Value = serde_json::from_str(refused.unwrap()).unwrap();
    assert_eq!(refused["code"], "limit.quota_exceeded");
    assert_eq!(refused["limit"], "manage");
    assert!(!log.lines().next().unwrap().contains("\"code\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_login_tells_how_many_tries_are_left() {
    let host = TestHost::build()
        .with(|config| config.gateway.login_limit.limit = 4)
        .start()
        .await;
    host.user("ann@example.com", &[]).await;
    let login = |password: &str| json!({ "email": "ann@example.com", "password": password });
    let path = "/api/auth/login";
    for (answer, status, left) in [
        (host.post(path, &login("wrong wrong wrong")).await, 401, 2),
        (host.post(path, &json!({ "email": 1 })).await, 422, 1),
        (
            host.post(path, &login("correct horse battery")).await,
            200,
            0,
        ),
        (
            host.post(path, &login("correct horse battery")).await,
            429,
            0,
        ),
    ] {
        let answer = answer.assert_status(status);
        let told = answer.header("ratelimit").unwrap();
        assert!(told.contains(&format!("r={left}")), "{status}: {told}");
        assert!(answer.header("ratelimit-policy").is_some());
    }
}
