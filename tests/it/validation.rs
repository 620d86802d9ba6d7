//! What a route says of its requests: what does not fit never reaches the plugin.

use gantry::plugins::manifest::Manifest;
use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

const HEAD: &str = "schema = 1\n[plugin]\nname = \"echo\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n";

const ORDERS: &str = r##"
[schemas]
line = '''{ "type": "object", "required": ["dish"], "additionalProperties": false,
  "properties": { "dish": { "type": "string", "minLength": 1 }, "count": { "type": "integer", "minimum": 1 } } }'''
[schemas.order]
type = "object"
required = ["lines"]
properties.lines = { type = "array", minItems = 1, items = { "$ref" = "#/$defs/line" } }
[[route]]
method = ["POST", "PUT"]
path = "/orders/{table}"
auth = "public"
request_schema = "order"
consumes = ["application/json", "application/merge-patch+json"]
produces = ["application/json"]
parameters = [
  { in = "path", name = "table", schema = { type = "integer", minimum = 1 } },
  { in = "query", name = "tag", schema = { type = "array", maxItems = 2, items = { type = "string" } } },
  { in = "query", name = "page", schema = { type = "integer" } },
  { in = "header", name = "X-Shift", required = true, schema = { enum = ["noon", "evening"] } },
]
[[route]]
method = "POST"
path = "/images"
auth = "public"
consumes = ["image/*"]
[[route]]
method = "POST"
path = "/free"
auth = "public"
"##;

/// What the plugin has used so far; each call adds to it.
async fn used(host: &TestHost) -> Vec<String> {
    let metrics = host.admin().get("/metrics").await.assert_status(200).text();
    let lines = metrics.lines();
    let used = lines.filter(|line| line.starts_with("gantry_invocation_cpu_seconds_total"));
    used.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_fit_never_reaches_the_plugin() {
    let host = TestHost::start().await;
    host.deploy(&format!("{HEAD}{ORDERS}"), guest("echo")).await;
    let good = json!({ "lines": [{ "dish": "soup", "count": 2 }] }).to_string();
    let order = |path: &str, body: &str| {
        host.request(Method::POST, path)
            .header("content-type", "application/json")
            .header("x-shift", "noon")
            .body(body.to_owned())
    };
    let fit = order("/echo/orders/7?tag=a&tag=b&other=1", &good);
    host.send(fit).await.assert_status(200);
    let charset = host
        .request(Method::PUT, "/echo/orders/7")
        .header(
            "content-type",
            "Application/Merge-Patch+JSON; charset=utf-8",
        )
        .header("x-shift", "evening")
        .body(good.clone());
    host.send(charset).await.assert_status(200);
    let before = used(&host).await;
    assert!(!before.is_empty());

    let answer = host
        .send(order(
            "/echo/orders/7",
            r#"{"lines":[{"dish":"","count":0},{"secret":1}]}"#,
        ))
        .await
        .assert_problem(422, "request.invalid_body");
    let problem: Value = answer.json();
    let mut places: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["at"].as_str().unwrap())
        .collect();
    places.sort_unstable();
    assert_eq!(
        places,
        ["/lines/0/count", "/lines/0/dish", "/lines/1", "/lines/1"]
    );
    for (body, status, code) in [
        ("", 400, "request.invalid_json"),
        ("{", 400, "request.invalid_json"),
        ("{}", 422, "request.invalid_body"),
        ("[]", 422, "request.invalid_body"),
        (
            r#"{"lines":[{"dish":"a"}],"lines":[]}"#,
            400,
            "request.invalid_json",
        ),
        (
            r#"{"lines":[{"dish":"a","d\u0069sh":"b"}]}"#,
            400,
            "request.invalid_json",
        ),
        (
            r#"{"lines":[{"dish":"a"}]} {}"#,
            400,
            "request.invalid_json",
        ),
    ] {
        host.send(order("/echo/orders/7", body))
            .await
            .assert_problem(status, code);
    }
    for (path, at) in [
        ("/echo/orders/0", "table"),
        ("/echo/orders/x", "table"),
        ("/echo/orders/7?page=x", "page"),
        ("/echo/orders/7?page=1&page=2", "page"),
        ("/echo/orders/7?tag=a&tag=b&tag=c", "tag"),
    ] {
        let answer = host.send(order(path, &good)).await;
        let problem: Value = answer
            .assert_problem(400, "request.invalid_parameters")
            .json();
        assert_eq!(problem["errors"][0]["at"], at, "{path}: {problem}");
    }
    let twice = order("/echo/orders/7", &good).header("x-shift", "noon");
    host.send(twice)
        .await
        .assert_problem(400, "request.invalid_parameters");
    let bare = host
        .request(Method::POST, "/echo/orders/7")
        .header("content-type", "application/json");
    host.send(bare.body(good.clone()))
        .await
        .assert_problem(400, "request.invalid_parameters");
    for content_type in [
        "text/plain",
        "application/jsonx",
        "application/json, text/plain",
    ] {
        let request = host
            .request(Method::POST, "/echo/orders/7")
            .header("content-type", content_type)
            .header("x-shift", "noon");
        host.send(request.body(good.clone()))
            .await
            .assert_problem(415, "request.unsupported_media_type");
    }
    let encoded = order("/echo/orders/7", &good).header("content-encoding", "gzip");
    host.send(encoded)
        .await
        .assert_problem(415, "request.encoding_unsupported");
    let picky = order("/echo/orders/7", &good).header("accept", "text/html");
    host.send(picky)
        .await
        .assert_problem(406, "request.not_acceptable");
    let text = host
        .request(Method::POST, "/echo/images")
        .header("content-type", "text/plain");
    host.send(text.body("x"))
        .await
        .assert_problem(415, "request.unsupported_media_type");
    assert_eq!(
        used(&host).await,
        before,
        "a request that does not fit has reached the plugin"
    );

    let image = host
        .request(Method::POST, "/echo/images")
        .header("content-type", "image/png");
    host.send(image.body("x")).await.assert_status(200);
    host.send(host.request(Method::POST, "/echo/images"))
        .await
        .assert_status(200);
    host.send(host.request(Method::POST, "/echo/free").body("}{"))
        .await
        .assert_status(200);
    assert_ne!(used(&host).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_checked_and_bombs_are_refused() {
    let host = TestHost::start().await;
    host.deploy(&format!("{HEAD}{ORDERS}"), guest("echo")).await;
    let send = async |lines: String| {
        let request = host
            .request(Method::POST, "/echo/orders/7")
            .header("content-type", "application/json")
            .header("x-shift", "noon")
            .body(format!("{{\"lines\":[{lines}]}}"));
        host.send(request).await
    };
    send(vec!["{\"dish\":\"soup\"}"; 20_000].join(","))
        .await
        .assert_status(200);
    let mut lines = vec!["{\"dish\":\"soup\"}"; 20_000];
    lines[19_999] = "{\"dish\":7}";
    let problem: Value = send(lines.join(","))
        .await
        .assert_problem(422, "request.invalid_body")
        .json();
    assert_eq!(
        problem["errors"],
        json!([{ "at": "/lines/19999/dish", "detail": "value is not of type \"string\"" }])
    );
    send(vec!["{}"; 200_000].join(","))
        .await
        .assert_problem(413, "request.body_too_large");
    send("[".repeat(100_000))
        .await
        .assert_problem(400, "request.invalid_json");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_cannot_be_kept_are_refused_with_their_line() {
    let host = TestHost::start().await;
    let route = "[[route]]\nmethod = \"POST\"\npath = \"/\"\nauth = \"public\"\n";
    for (text, line, part) in [
        (
            "[schemas.a]\n\"$ref\" = \"#/$defs/a\"\n",
            7,
            "refers to itself",
        ),
        (
            "[schemas.a]\n\"$ref\" = \"https://evil.example/a\"\n",
            7,
            "leads nowhere",
        ),
        ("[schemas.a]\nitems = { maxlength = 3 }\n", 7, "`maxLength`"),
        ("[schemas.a]\npattern = \"(?<=a)b\"\n", 7, "a"),
        (
            &*format!("{route}request_schema = {{ format = \"fax\" }}\n"),
            7,
            "fax",
        ),
        (
            &*format!("{route}request_schema = \"none\"\n"),
            11,
            "no schema `none`",
        ),
        (
            &*format!("{route}stream = \"1m\"\nrequest_schema = {{}}\n"),
            12,
            "flows",
        ),
        (
            &*format!("{route}consumes = [\"text/csv\"]\nrequest_schema = {{}}\n"),
            11,
            "fit no `request_schema`",
        ),
        (
            &*format!("{route}parameters = [{{ in = \"path\", name = \"id\" }}]\n"),
            11,
            "no parameter `id`",
        ),
        (
            &*format!("{route}parameters = [{{ in = \"header\", name = \"Authorization\" }}]\n"),
            11,
            "the host's",
        ),
        (
            "[[route]]\nmethod = \"GET\"\npath = \"/\"\nrequest_schema = {}\n",
            10,
            "has no body",
        ),
    ] {
        let text = format!("{HEAD}{text}");
        // Some are found when the manifest is read, the others when it is deployed.
        let mistakes = match Manifest::parse(&text) {
            Err(mistakes) => mistakes,
            Ok(_) => match host
                .try_deploy(&text, guest("echo"), GrantMode::AllAsked)
                .await
            {
                Err(DeployError::Mistakes(mistakes)) => mistakes,
                other => panic!("{text}: {other:?}"),
            },
        };
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let is_told = told
            .iter()
            .any(|told| told.contains(&format!(":{line}:")) && told.contains(part));
        assert!(is_told, "{text}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_held_against_their_schema_where_that_is_asked_for() {
    let manifest = format!(
        "{HEAD}[[route]]\nmethod = \"GET\"\npath = \"/{{kind}}\"\nauth = \"public\"\n\
         response_schema = {{ 200 = {{ type = \"object\", required = [\"method\", \"nothing\"] }} }}\n"
    );
    let host = TestHost::start().await;
    host.deploy(&manifest, guest("echo")).await;
    host.get("/echo/a").await.assert_status(200);
    let host = TestHost::build().with(|config| config.gateway.answers_are_checked = true);
    let host = host.start().await;
    host.deploy(&manifest, guest("echo")).await;
    let problem: Value = host
        .get("/echo/a")
        .await
        .assert_problem(502, "plugin.answer_mismatch")
        .json();
    assert!(
        problem["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("nothing"),
        "{problem}"
    );
}
