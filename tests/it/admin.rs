//! The admin API, as tools meet it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use gantry_harness::{Client, TestHost, guests};
use http::Method;
use serde_json::{Value, json};

const API: &str = "/_gantry/api/v1";

async fn upload(client: &Client, query: &str, bytes: Bytes) -> gantry_harness::Answer {
    let request = client.request(Method::POST, &format!("{API}/deployments?{query}"));
    client.send(request.body(bytes)).await
}

async fn role(host: &TestHost, name: &str, permissions: &[&str]) {
    let body = json!({ "name": name, "permissions": permissions });
    host.admin()
        .post(&format!("{API}/roles"), &body)
        .await
        .assert_status(201);
}

#[tokio::test]
async fn every_operation_turns_away_strangers_and_those_without_the_permission() {
    let host = TestHost::start().await;
    role(&host, "nobody", &[]).await;
    let nobody = host.user("nobody@example.com", &["nobody"]).await;
    let contract: Value = host
        .get(&format!("{API}/openapi.json"))
        .await
        .assert_status(200)
        .json();
    let mut count = 0;
    for (path, methods) in contract["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path
                .replace("{name}", "shop")
                .replace("{label}", "x")
                .replace("{capability}", "kv:x");
            let path = format!(
                "{API}{}",
                path.replace("{id}", "018f0000-0000-7000-8000-000000000000")
            );
            let method: Method = method.to_uppercase().parse().unwrap();
            host.send(host.request(method.clone(), &path))
                .await
                .assert_problem(401, "auth.required");
            nobody
                .send(nobody.request(method, &path))
                .await
                .assert_problem(403, "auth.permission_missing");
            count += 1;
        }
    }
    assert!(count > 25, "{count} operations");
    host.stop().await;
}

#[tokio::test]
async fn a_component_is_deployed_replaced_and_rolled_back() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let first: Value = upload(&admin, "name=hello&note=first", guests::guest("hello_v1"))
        .await
        .assert_status(201)
        .json();
    assert_eq!(first["mount"]["path"], "/hello");
    assert!(first.get("replaced").is_none());
    let before = host.get("/hello/x").await.assert_status(200).text();
    let second: Value = upload(&admin, "name=hello", guests::guest("hello_v2"))
        .await
        .assert_status(201)
        .json();
    assert_eq!(second["replaced"], first["deployment"]["id"]);
    assert_ne!(host.get("/hello/x").await.text(), before);

    let back: Value = admin
        .post(&format!("{API}/plugins/hello/rollback"), &json!({}))
        .await
        .assert_status(200)
        .json();
    assert_eq!(back["deployment"]["id"], first["deployment"]["id"]);
    assert_eq!(host.get("/hello/x").await.text(), before);

    let page: Value = admin
        .get(&format!("{API}/plugins/hello/deployments?limit=1"))
        .await
        .assert_status(200)
        .json();
    assert_eq!(page["items"][0]["id"], second["deployment"]["id"]);
    assert_eq!(page["items"][0]["is_live"], false);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page: Value = admin
        .get(&format!(
            "{API}/plugins/hello/deployments?limit=1&cursor={cursor}"
        ))
        .await
        .json();
    assert_eq!(
        (&page["items"][0]["note"], &page["items"][0]["is_live"]),
        (&json!("first"), &json!(true))
    );
    assert!(page["next_cursor"].is_null());

    let plugin: Value = admin
        .get(&format!("{API}/plugins/hello"))
        .await
        .assert_status(200)
        .json();
    assert_eq!(plugin["deployment"], first["deployment"]["id"]);
    let routes: Value = admin
        .get(&format!("{API}/routes"))
        .await
        .assert_status(200)
        .json();
    assert_eq!(routes["items"][0]["plugin"], "hello");

    admin
        .delete(&format!("{API}/plugins/hello"))
        .await
        .assert_status(204);
    host.get("/hello/x")
        .await
        .assert_problem(404, "route.not_found");
    admin
        .get(&format!("{API}/plugins/hello"))
        .await
        .assert_problem(404, "plugin.not_found");
    host.stop().await;
}

#[tokio::test]
async fn an_upload_that_cannot_be_used_is_refused_and_what_was_live_stays_live() {
    let host = TestHost::build()
        .with(|config| config.plugins.bundle.bytes_max = 4 << 20)
        .start()
        .await;
    let admin = host.admin();
    upload(&admin, "name=hello", guests::guest("hello_v1"))
        .await
        .assert_status(201);
    let cases: [(&str, Bytes, u16, &str); 8] = [
        (
            "name=hello",
            Bytes::from_static(b"neither"),
            422,
            "deploy.bundle_invalid",
        ),
        ("", guests::guest("hello_v1"), 400, "deploy.name_missing"),
        (
            "name=hello",
            Bytes::from(vec![0; (4 << 20) + 1]),
            413,
            "deploy.too_large",
        ),
        (
            "name=hello&mount=/_gantry",
            guests::guest("hello_v1"),
            400,
            "deploy.mount_invalid",
        ),
        (
            "name=other&mount=/api/auth/more",
            guests::guest("hello_v1"),
            422,
            "deploy.mount_invalid",
        ),
        (
            "name=other&mount=/hello",
            guests::guest("hello_v1"),
            409,
            "deploy.mount_taken",
        ),
        (
            "name=hello&colour=red",
            guests::guest("hello_v1"),
            400,
            "request.invalid_query",
        ),
        (
            "name=Hello",
            guests::guest("hello_v1"),
            400,
            "request.invalid_query",
        ),
    ];
    for (query, bytes, status, code) in cases {
        upload(&admin, query, bytes)
            .await
            .assert_problem(status, code);
    }
    host.get("/hello/x").await.assert_status(200);
    host.stop().await;
}

#[tokio::test]
async fn granting_everything_needs_more_than_the_right_to_deploy() {
    let host = TestHost::start().await;
    role(&host, "deployer", &["platform.deploy"]).await;
    let deployer = host.user("dan@example.com", &["deployer"]).await;
    upload(&deployer, "name=hello&grant=all", guests::guest("hello_v1"))
        .await
        .assert_problem(403, "auth.permission_missing");
    upload(&deployer, "name=hello", guests::guest("hello_v1"))
        .await
        .assert_status(201);
    host.stop().await;
}

#[tokio::test]
async fn grants_are_set_added_and_taken_away() {
    let host = TestHost::start().await;
    let admin = host.admin();
    upload(&admin, "name=hello", guests::guest("hello_v1"))
        .await
        .assert_status(201);
    let path = format!("{API}/plugins/hello/grants");
    let grants = |answer: gantry_harness::Answer| {
        answer.assert_status(200).json::<Value>()["grants"].clone()
    };
    let given = grants(
        admin
            .put(&path, &json!({ "grants": ["kv:a", "sql:b"] }))
            .await,
    );
    assert_eq!(given, json!(["kv:a", "sql:b"]));
    assert_eq!(
        grants(admin.post(&path, &json!({ "grants": ["kv:c"] })).await),
        json!(["kv:a", "kv:c", "sql:b"])
    );
    admin
        .delete(&format!("{path}/kv:a"))
        .await
        .assert_status(204);
    admin
        .delete(&format!("{path}/kv:a"))
        .await
        .assert_problem(404, "grant.not_found");
    assert_eq!(grants(admin.get(&path).await), json!(["kv:c", "sql:b"]));
    admin
        .put(&path, &json!({ "grants": ["disk:a"] }))
        .await
        .assert_problem(422, "grant.invalid");
    admin
        .put(&path, &json!({ "grants": [], "all": true }))
        .await
        .assert_problem(422, "request.invalid_body");
    host.stop().await;
}

#[tokio::test]
async fn the_value_of_a_secret_goes_in_and_never_out() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let path = format!("{API}/plugins/shop/secrets");
    let put = || admin.request(Method::PUT, &format!("{path}/stripe"));
    let set = admin.send(put().body("sk_live_1")).await.assert_status(200);
    assert!(!set.text().contains("sk_live_1"));
    let listed = admin.get(&path).await.assert_status(200);
    assert_eq!(listed.json::<Value>()["items"][0]["label"], "stripe");
    assert!(!listed.text().contains("sk_live_1"));
    admin
        .send(put().body(""))
        .await
        .assert_problem(400, "secrets.empty");
    admin
        .delete(&format!("{path}/stripe"))
        .await
        .assert_status(204);
    admin
        .delete(&format!("{path}/stripe"))
        .await
        .assert_problem(404, "secrets.not_set");
    host.stop().await;
}

#[tokio::test]
async fn accounts_roles_and_keys_are_made_changed_and_ended() {
    let host = TestHost::start().await;
    let admin = host.admin();
    role(&host, "reader", &["platform.read"]).await;
    let new = json!({ "email": "Ann@example.com", "password": "correct horse battery", "roles": ["reader"] });
    let user: Value = admin
        .post(&format!("{API}/users"), &new)
        .await
        .assert_status(201)
        .json();
    assert!(!user.to_string().contains("horse"));
    admin
        .post(&format!("{API}/users"), &new)
        .await
        .assert_problem(409, "auth.email_taken");
    let found: Value = admin
        .get(&format!("{API}/users?email=ann@example.com"))
        .await
        .assert_status(200)
        .json();
    assert_eq!(found["items"], json!([user]));
    let path = format!("{API}/users/{}", user["id"].as_str().unwrap());
    let unknown = json!({ "roles": ["no-such-role"] });
    admin
        .put(&format!("{path}/roles"), &unknown)
        .await
        .assert_problem(422, "auth.role_not_found");
    admin
        .put(&format!("{path}/disabled"), &json!({ "is_disabled": true }))
        .await
        .assert_status(200);
    admin
        .delete(&format!("{API}/roles/reader"))
        .await
        .assert_problem(409, "auth.role_in_use");
    admin.delete(&path).await.assert_status(204);
    admin
        .get(&path)
        .await
        .assert_problem(404, "auth.user_not_found");

    let new = json!({ "name": "ci", "roles": ["reader"] });
    let key: Value = admin
        .post(&format!("{API}/api-keys"), &new)
        .await
        .assert_status(201)
        .json();
    let token = key["token"].as_str().unwrap();
    let ci = host.with_token(token);
    ci.get(&format!("{API}/status")).await.assert_status(200);
    ci.get(&format!("{API}/users"))
        .await
        .assert_problem(403, "auth.permission_missing");
    let listed = admin
        .get(&format!("{API}/api-keys"))
        .await
        .assert_status(200)
        .text();
    assert!(listed.contains(key["id"].as_str().unwrap()) && !listed.contains(token));
    admin
        .delete(&format!("{API}/api-keys/{}", key["id"].as_str().unwrap()))
        .await
        .assert_status(204);
    ci.get(&format!("{API}/status"))
        .await
        .assert_problem(401, "auth.key_revoked");
    host.stop().await;
}

#[tokio::test]
async fn nobody_gives_rights_that_they_do_not_have() {
    let host = TestHost::start().await;
    let admin = host.admin();
    role(&host, "people", &["platform.users", "shop:orders.read"]).await;
    role(&host, "deployer", &["platform.deploy"]).await;
    role(&host, "reader", &["shop:orders.read"]).await;
    let people = host.user("people@example.com", &["people"]).await;
    let created = json!({ "email": "boss@example.com", "password": "correct horse battery", "roles": ["admin"] });
    let boss: Value = admin
        .post(&format!("{API}/users"), &created)
        .await
        .assert_status(201)
        .json();
    let page: Value = admin
        .get(&format!("{API}/users?email=people@example.com"))
        .await
        .json();
    let own = page["items"][0]["id"].as_str().unwrap();
    let boss = boss["id"].as_str().unwrap();
    let password = "another long password";
    let refused = [
        (
            "POST",
            "api-keys".to_owned(),
            json!({ "name": "k", "roles": ["admin"] }),
        ),
        (
            "POST",
            "api-keys".to_owned(),
            json!({ "name": "k", "roles": ["people", "deployer"] }),
        ),
        (
            "POST",
            "roles".to_owned(),
            json!({ "name": "all", "permissions": ["*"] }),
        ),
        (
            "POST",
            "roles".to_owned(),
            json!({ "name": "all", "permissions": ["platform.admin"] }),
        ),
        (
            "POST",
            "roles".to_owned(),
            json!({ "name": "all", "permissions": ["shop:*"] }),
        ),
        (
            "PUT",
            "roles/people/permissions".to_owned(),
            json!({ "permissions": ["platform.users", "platform.deploy"] }),
        ),
        (
            "PUT",
            "roles/reader/permissions".to_owned(),
            json!({ "permissions": ["shop:orders.write"] }),
        ),
        (
            "POST",
            "users".to_owned(),
            json!({ "email": "new@example.com", "password": password, "roles": ["admin"] }),
        ),
        (
            "PUT",
            format!("users/{own}/roles"),
            json!({ "roles": ["people", "admin"] }),
        ),
        (
            "PUT",
            format!("users/{boss}/password"),
            json!({ "password": password }),
        ),
    ];
    let send = |method: &str, path: &str, body: &Value| {
        let method = method.parse().unwrap();
        let request = people.request(method, &format!("{API}/{path}"));
        people.send(request.json(body))
    };
    for (method, path, body) in &refused {
        let answer = send(method, path, body).await;
        let answer = answer.assert_problem(403, "auth.permission_beyond");
        assert!(
            answer.text().contains("do not have yourself"),
            "{path}: {}",
            answer.text()
        );
    }
    people
        .get(&format!("{API}/plugins"))
        .await
        .assert_problem(403, "auth.permission_missing");
    let allowed = [
        (
            "POST",
            "api-keys".to_owned(),
            json!({ "name": "k", "roles": ["reader"] }),
            201,
        ),
        (
            "POST",
            "roles".to_owned(),
            json!({ "name": "less", "permissions": ["shop:orders.read"] }),
            201,
        ),
        (
            "PUT",
            "roles/deployer/permissions".to_owned(),
            json!({ "permissions": [] }),
            200,
        ),
        (
            "PUT",
            format!("users/{own}/roles"),
            json!({ "roles": ["people", "reader"] }),
            200,
        ),
        (
            "PUT",
            format!("users/{boss}/disabled"),
            json!({ "is_disabled": true }),
            200,
        ),
    ];
    for (method, path, body, status) in &allowed {
        send(method, path, body).await.assert_status(*status);
    }
    host.stop().await;
}

#[tokio::test]
async fn followed_logs_come_at_once_and_end_with_the_host() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let request = admin.request(
        Method::GET,
        &format!("{API}/plugins/shop/logs/follow?level=info"),
    );
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    for level in [
        gantry::services::log::Level::Debug,
        gantry::services::log::Level::Info,
    ] {
        host.app().logs.append(gantry::services::log::Entry {
            plugin: "shop".parse().unwrap(),
            deployment: None,
            request_id: None,
            level,
            context: String::new(),
            message: format!("at {}", level.as_str()),
            at_ms: 0,
        });
    }
    let chunk = tokio::time::timeout(Duration::from_secs(5), stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&chunk);
    assert!(
        text.contains("event: log") && text.contains("at info"),
        "{text}"
    );
    assert!(!text.contains("at debug"), "{text}");
    tokio::join!(host.stop(), async {
        while let Some(Ok(_)) = stream.next().await {}
    });
}
