//! Who may call a route: every kind of rule against every kind of caller, why a request is refused, and who may what.

use std::process::Command;

use gantry_harness::{Client, TestHost, guests, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::cli;

const SHOP: &str = r#"
schema = 1
[plugin]
name = "shop"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[permission]]
name = "orders.write"
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
path = "/permission"
permissions = ["orders.write"]
[[route]]
method = "GET"
path = "/role"
roles = ["cook", "boss"]
[[route]]
method = "GET"
path = "/scope"
scopes = ["orders:read"]
[[route]]
method = "GET"
path = "/own/{id}"
condition = "claims.id == params.id"
[[route]]
method = "GET"
path = "/tenant"
auth = "public"
condition = "headers['x-tenant'] == 'north' && int(query.page) < 10"
[[route]]
method = "GET"
path = "/all"
permissions = ["orders.write"]
roles = ["cook"]
condition = "'cook' in claims.roles && claims.kind == 'user'"
"#;

async fn with_roles(host: &TestHost) -> (Client, Client, Client) {
    for (role, permissions) in [
        ("cook", vec!["shop:orders.write"]),
        ("waiter", vec!["shop:orders.write"]),
        ("guest", vec![]),
    ] {
        let role = json!({ "name": role, "permissions": permissions });
        host.admin()
            .post("/_gantry/api/v1/roles", &role)
            .await
            .assert_status(201);
    }
    let cook = host.user("cook@example.org", &["cook"]).await;
    let waiter = host.user("waiter@example.org", &["waiter"]).await;
    let guest = host.user("guest@example.org", &["guest"]).await;
    (cook, waiter, guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_lets_those_through_who_meet_it_and_nobody_else() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let (cook, waiter, visitor) = with_roles(&host).await;
    let nobody = host.get("/shop/public").await;
    nobody.assert_status(200);
    let anonymous = Client::new(host.app().address);
    let callers = [
        ("nobody", &anonymous),
        ("guest", &visitor),
        ("waiter", &waiter),
        ("cook", &cook),
        ("admin", &host.admin()),
    ];
    const OK: (u16, &str) = (200, "");
    const LOGIN: (u16, &str) = (401, "auth.required");
    const PERMISSION: (u16, &str) = (403, "auth.permission_missing");
    const ROLE: (u16, &str) = (403, "auth.role_missing");
    const CONDITION: (u16, &str) = (403, "auth.condition_unmet");
    for (path, wanted) in [
        ("/public", [OK, OK, OK, OK, OK]),
        ("/optional", [OK, OK, OK, OK, OK]),
        ("/required", [LOGIN, OK, OK, OK, OK]),
        ("/permission", [LOGIN, PERMISSION, OK, OK, OK]),
        ("/role", [LOGIN, ROLE, ROLE, OK, OK]),
        // Logins of the host are not narrowed to scopes.
        ("/scope", [LOGIN, OK, OK, OK, OK]),
        (
            "/own/somebody",
            [LOGIN, CONDITION, CONDITION, CONDITION, CONDITION],
        ),
        ("/tenant", [CONDITION; 5]),
        ("/tenant?page=3", [CONDITION; 5]),
        ("/all", [LOGIN, PERMISSION, ROLE, OK, CONDITION]),
    ] {
        for ((name, caller), (status, code)) in callers.iter().zip(wanted) {
            let answer = caller.get(&format!("/shop{path}")).await;
            assert_eq!(
                answer.status.as_u16(),
                status,
                "{path} as {name}: {}",
                answer.text()
            );
            if status != 200 {
                assert_eq!(answer.code(), code, "{path} as {name}");
                // What else the route asks for is nobody's business.
                assert!(!answer.text().contains("claims"), "{}", answer.text());
            }
        }
    }
    let me: Value = cook.get("/shop/required").await.json();
    let own = format!("/shop/own/{}", me["principal"]["id"].as_str().unwrap());
    cook.get(&own).await.assert_status(200);
    waiter
        .get(&own)
        .await
        .assert_problem(403, "auth.condition_unmet");
    let north = |query: &str, tenant: &str| {
        let path = format!("/shop/tenant{query}");
        host.request(Method::GET, &path).header("x-tenant", tenant)
    };
    host.send(north("?page=3", "north"))
        .await
        .assert_status(200);
    for (query, tenant) in [
        ("?page=30", "north"),
        ("?page=x", "north"),
        ("?page=3", "south"),
        ("?page=3&page=4", "north"),
    ] {
        host.send(north(query, tenant))
            .await
            .assert_problem(403, "auth.condition_unmet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_learn_which_rule_decides_and_callers_do_not() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let (_, waiter, _) = with_roles(&host).await;
    let explain = async |request: Value| -> Value {
        let answer = host.admin().post("/_gantry/api/v1/explain", &request).await;
        answer.assert_status(200).json()
    };
    let found =
        explain(json!({ "method": "GET", "path": "/shop/all", "user": "waiter@example.org" }))
            .await;
    assert_eq!(found["is_allowed"], false);
    assert_eq!(found["code"], "auth.role_missing");
    assert_eq!(found["because"], "the caller lacks the role `cook`");
    assert_eq!(found["route"]["path"], "/shop/all");
    let met: Vec<(&str, bool)> = found["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            (
                rule["kind"].as_str().unwrap(),
                rule["is_met"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        met,
        [
            ("login", true),
            ("permission", true),
            ("role", false),
            ("condition", false)
        ]
    );
    for (request, allowed, code) in [
        (
            json!({ "method": "GET", "path": "/shop/all" }),
            false,
            json!("auth.required"),
        ),
        (
            json!({ "method": "GET", "path": "/shop/all", "roles": ["cook"] }),
            true,
            Value::Null,
        ),
        (
            json!({ "method": "GET", "path": "/shop/%61ll", "roles": ["cook"] }),
            true,
            Value::Null,
        ),
        (
            json!({ "method": "GET", "path": "/shop/public" }),
            true,
            Value::Null,
        ),
        (
            json!({ "method": "GET", "path": "/shop/tenant?page=1", "headers": { "x-tenant": "north" } }),
            true,
            Value::Null,
        ),
        (
            json!({ "method": "GET", "path": "/shop/tenant?page=1" }),
            false,
            json!("auth.condition_unmet"),
        ),
        (
            json!({ "method": "PUT", "path": "/shop/all" }),
            false,
            json!("route.method_not_allowed"),
        ),
        (
            json!({ "method": "GET", "path": "/nowhere" }),
            false,
            json!("route.not_found"),
        ),
        (
            json!({ "method": "GET", "path": "/shop/all", "token": "gk_none" }),
            false,
            json!("auth.malformed"),
        ),
    ] {
        let found = explain(request.clone()).await;
        assert_eq!(
            (
                &found["is_allowed"],
                found.get("code").unwrap_or(&Value::Null)
            ),
            (&json!(allowed), &code),
            "{request}: {found}"
        );
    }
    let request = json!({ "method": "GET", "path": "/shop/all" });
    waiter
        .post("/_gantry/api/v1/explain", &request)
        .await
        .assert_problem(403, "auth.permission_missing");
    for path in ["/api/auth/me", "/_gantry/api/v1/plugins", "/livez"] {
        let own = json!({ "method": "GET", "path": path });
        let answer = host.admin().post("/_gantry/api/v1/explain", &own).await;
        let answer = answer.assert_problem(422, "request.invalid_body");
        assert!(answer.text().contains("the host's own"), "{path}");
    }
    let both = json!({ "method": "GET", "path": "/shop/all", "user": "x", "roles": [] });
    host.admin()
        .post("/_gantry/api/v1/explain", &both)
        .await
        .assert_problem(422, "request.invalid_body");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_show_a_caller_what_the_rules_let_them_use() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let (cook, waiter, visitor) = with_roles(&host).await;
    let key = async |scope: &str| {
        let new = json!({ "name": "till", "roles": ["cook"], "scopes": [scope] });
        let made = host.admin().post("/_gantry/api/v1/api-keys", &new).await;
        let made: Value = made.assert_status(201).json();
        host.with_token(made["token"].as_str().unwrap())
    };
    let callers = [
        ("nobody", Client::new(host.app().address)),
        ("guest", visitor),
        ("waiter", waiter),
        ("cook", cook),
        ("admin", host.admin()),
        ("a key to read", key("orders:read").await),
        ("a key to write", key("shop:orders.write").await),
    ];
    for (name, caller) in callers {
        let document = caller.get("/api/openapi.json?plugin=shop").await;
        let document: Value = document.assert_status(200).json();
        for path in [
            "/public",
            "/optional",
            "/required",
            "/permission",
            "/role",
            "/scope",
            "/own/{id}",
            "/tenant",
            "/all",
        ] {
            let is_shown = document["paths"].get(format!("/shop{path}")).is_some();
            let asked = format!("/shop{path}").replace("{id}", "x");
            let answer = caller.get(&asked).await;
            // Conditions are about requests, so they hide nothing.
            let may = answer.status.is_success() || answer.code() == "auth.condition_unmet";
            assert_eq!(is_shown, may, "{path} as {name}: {}", answer.text());
        }
    }
}

/// An API key of a cook.
async fn cooks_key(host: &TestHost, more: Value) -> String {
    let mut new = json!({ "name": "till", "roles": ["cook"] });
    let more = more.as_object().unwrap().clone();
    new.as_object_mut().unwrap().extend(more);
    let made = host.admin().post("/_gantry/api/v1/api-keys", &new).await;
    let made: Value = made.assert_status(201).json();
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_the_scopes_that_it_names_and_what_stands_for_many_covers_each() {
    let host = TestHost::start().await;
    let routes = r#"
[[route]]
method = "GET"
path = "/word"
scopes = ["orders.read"]
[[route]]
method = "GET"
path = "/named"
scopes = ["shop:orders.read"]
"#;
    host.deploy(&format!("{SHOP}{routes}"), guest("echo")).await;
    with_roles(&host).await;
    const OK: &str = "";
    const SCOPE: &str = "auth.scope_missing";
    const PERMISSION: &str = "auth.permission_missing";
    for (scopes, wanted) in [
        (json!([]), [OK, OK, OK]),
        (json!(["*"]), [OK, OK, OK]),
        (json!(["shop:*"]), [SCOPE, OK, OK]),
        (json!(["shop:orders.read"]), [SCOPE, OK, PERMISSION]),
        (json!(["shop:orders.write"]), [SCOPE, SCOPE, OK]),
        // It gives no permission.
        (json!(["orders.read"]), [OK, SCOPE, PERMISSION]),
        (json!(["orders.read", "shop:orders.write"]), [OK, SCOPE, OK]),
    ] {
        let token = cooks_key(&host, json!({ "scopes": scopes })).await;
        let caller = host.with_token(&token);
        for (path, code) in ["/word", "/named", "/permission"].iter().zip(wanted) {
            let answer = caller.get(&format!("/shop{path}")).await;
            let status = if code.is_empty() { 200 } else { 403 };
            assert_eq!(answer.status.as_u16(), status, "{path} with {scopes}");
            if status != 200 {
                assert_eq!(answer.code(), code, "{path} with {scopes}");
            }
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_where_a_key_may_be_used_is_explained_for_an_address() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    with_roles(&host).await;
    let token = cooks_key(&host, json!({ "networks": ["192.0.2.0/24"] })).await;
    for (address, code) in [
        (Value::Null, Value::Null),
        (json!("192.0.2.7"), Value::Null),
        (json!("198.51.100.7"), json!("auth.key_elsewhere")),
    ] {
        let request =
            json!({ "method": "GET", "path": "/shop/role", "token": token, "address": address });
        let found = host.admin().post("/_gantry/api/v1/explain", &request).await;
        let found: Value = found.assert_status(200).json();
        assert_eq!(found["is_allowed"], code.is_null(), "{address}: {found}");
        assert_eq!(found["code"], code, "{address}: {found}");
    }
    for wrong in [
        json!({ "method": "GET", "path": "/shop/role", "address": "192.0.2.7" }),
        json!({ "method": "GET", "path": "/shop/role", "token": token, "address": "here" }),
    ] {
        let answer = host.admin().post("/_gantry/api/v1/explain", &wrong).await;
        answer.assert_problem(422, "request.invalid_body");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("till.key");
    std::fs::write(&file, &token).unwrap();
    for (more, beginning) in [
        (&[][..], "allowed: "),
        (&["--address", "192.0.2.7"], "allowed: "),
        (&["--address", "198.51.100.7"], "refused: "),
    ] {
        let asked = ["explain", "GET", "/shop/role", "--token-stdin"];
        let output = cli::gantry(&host, folder.path(), &[&asked[..], more].concat())
            .stdin(std::fs::File::open(&file).unwrap())
            .output()
            .await
            .unwrap();
        let text = cli::succeeded(&output);
        assert!(text.starts_with(beginning), "{more:?}: {text}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_says_of_each_role_what_the_host_does() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let (cook, waiter, visitor) = with_roles(&host).await;
    let matrix: Value = host
        .admin()
        .get("/_gantry/api/v1/rbac/matrix?plugin=shop")
        .await
        .assert_status(200)
        .json();
    assert_eq!(matrix["roles"], json!(["admin", "cook", "guest", "waiter"]));
    for route in matrix["routes"].as_array().unwrap() {
        let path = route["path"].as_str().unwrap().replace("{id}", "x");
        for (at, caller) in [(1, &cook), (2, &visitor), (3, &waiter)] {
            let said = route["access"][at].as_str().unwrap();
            let answer = caller.get(&path).await.status.as_u16();
            match said {
                "allowed" => assert_eq!(answer, 200, "{path} {at}"),
                "refused" => assert_eq!(answer, 403, "{path} {at}"),
                _ => assert!(answer == 200 || answer == 403, "{path} {at}"),
            }
        }
    }
    let anybody: Vec<(&str, &str)> = matrix["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            (
                route["path"].as_str().unwrap(),
                route["anybody"].as_str().unwrap(),
            )
        })
        .filter(|(_, access)| *access != "refused")
        .collect();
    assert_eq!(
        anybody,
        [
            ("/shop/optional", "allowed"),
            ("/shop/public", "allowed"),
            ("/shop/tenant", "conditional")
        ]
    );

    let run = |arguments: &[&str]| {
        let output = Command::new(guests::gantry())
            .args(arguments)
            .arg("--server")
            .arg(format!("http://{}", host.app().address))
            .arg("--data-dir")
            .arg(host.data_dir())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["rbac", "matrix", "--plugin", "shop"]);
    assert!(text.contains("| shop | GET | /shop/role | required | a login; one of the roles `cook`, `boss` | no | yes | yes | no | no |"), "{text}");
    let text = run(&["rbac", "matrix", "--format", "csv"]);
    assert!(
        text.starts_with("\"plugin\",\"methods\",\"path\""),
        "{text}"
    );
    let text = run(&["explain", "get", "/shop/role", "--role", "waiter"]);
    assert!(
        text.starts_with("refused: the caller lacks one of the roles `cook`, `boss`"),
        "{text}"
    );
    assert!(
        text.contains("the caller is told: auth.role_missing"),
        "{text}"
    );
    let text = run(&[
        "explain",
        "GET",
        "/shop/tenant?page=1",
        "--header",
        "x-tenant: north",
    ]);
    assert!(text.starts_with("allowed: "), "{text}");
}

#[test]
fn what_no_request_could_meet_or_could_take_long_is_refused_with_its_line() {
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    let long = vec!["method == 'GET'"; 100].join(" || ");
    for (key, part) in [
        ("condition = \"claims.sub ==\"", "no expression"),
        (
            "condition = \"user.name == 'x'\"",
            "nothing is called `user`",
        ),
        (
            "condition = \"claims.sub.matches('(a{1000}){1000}')\"",
            "cannot be used",
        ),
        ("condition = \"path.matches(query.p)\"", "as text"),
        (
            "condition = \"claims.a.all(x, claims.a.all(y, x == y))\"",
            "one list within another",
        ),
        (&*format!("condition = \"{deep}\""), "nested too deeply"),
        (&*format!("condition = \"{long}\""), "at most 1000"),
        ("scopes = [\"a b\"]", "not a scope"),
        ("roles = [\"A B\"]", "`roles`"),
        (
            "auth = \"public\"\nroles = [\"cook\"]",
            "`auth = \"public\"`",
        ),
        (
            "auth = \"optional\"\nscopes = [\"a\"]",
            "`auth = \"optional\"`",
        ),
    ] {
        let head = "schema = 1\n[plugin]\nname = \"a\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n";
        let text = format!("{head}[[route]]\nmethod = \"GET\"\npath = \"/\"\n{key}\n");
        let began = std::time::Instant::now();
        let mistakes = gantry::plugins::manifest::Manifest::parse(&text).unwrap_err();
        let told = mistakes[0].to_string();
        assert!(
            told.starts_with("plugin.toml:1") && told.contains(part),
            "{key}: {told}"
        );
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "{key}");
    }
}
