//! The examples, deployed out of their folders as an author would and asked as a consumer would.

use gantry_harness::{TestHost, guests};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn hello_greets_by_name() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/hello", "/").await;
    let answer = host.get("/hello/Ann").await.assert_status(200);
    assert_eq!(answer.text(), "Hello, Ann!");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(host.get("/hello/Ann%20Li").await.text(), "Hello, Ann Li!");
    host.post("/hello/Ann", &json!(null))
        .await
        .assert_problem(405, "route.method_not_allowed");
    host.get("/hello")
        .await
        .assert_problem(404, "route.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn guard_turns_unwanted_clients_away() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/guard", "/guard").await;
    let filters = "filters = [{ use = \"plugin:guard\", on_failure = \"closed\" }]\n";
    let manifest = crate::manifests::open("echo")
        + "[[route]]\nmethod = \"GET\"\npath = \"/guarded\"\nauth = \"public\"\n";
    host.deploy(&(manifest + filters), guests::guest("echo"))
        .await;
    let ask = async |path: &str, agent: &str| {
        let request = host.request(Method::GET, path).header("user-agent", agent);
        host.send(request).await
    };
    let answer = ask("/echo/guarded", "curl/8").await.assert_status(200);
    assert_eq!(answer.header("x-guarded-by"), Some("guard/0.1"));
    assert!(answer.text().contains("[\"x-guard\",\"passed\"]"));
    let refused = ask("/echo/guarded", "badbot/1").await;
    refused.assert_problem(403, "guard.blocked");
    ask("/echo/elsewhere", "badbot/1").await.assert_status(200);
    host.get("/guard/")
        .await
        .assert_problem(404, "route.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_counter_counts_and_lets_only_some_forget() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/kv-counter", "/counter").await;
    for visits in 1..=2 {
        let answer = host
            .post("/counter/pages/home/visits", &json!(null))
            .await
            .assert_status(200);
        assert_eq!(
            answer.json::<Value>(),
            json!({ "page": "home", "visits": visits })
        );
    }
    host.post("/counter/pages/help/visits", &json!(null))
        .await
        .assert_status(200);
    let listed = host
        .get("/counter/pages?prefix=ho")
        .await
        .assert_status(200);
    assert_eq!(
        listed.json::<Value>(),
        json!([{ "page": "home", "visits": 2 }])
    );

    host.delete("/counter/pages/home")
        .await
        .assert_problem(401, "auth.required");
    let reader = host.user("reader@example.com", &[]).await;
    reader
        .delete("/counter/pages/home")
        .await
        .assert_problem(403, "auth.permission_missing");
    let role = json!({ "name": "editor", "permissions": ["kv-counter:pages.write"] });
    host.admin()
        .post("/_gantry/api/v1/roles", &role)
        .await
        .assert_status(201);
    let editor = host.user("editor@example.com", &["editor"]).await;
    editor
        .delete("/counter/pages/home")
        .await
        .assert_status(204);
    editor
        .delete("/counter/pages/home")
        .await
        .assert_problem(404, "page.unknown");
    assert_eq!(
        host.get("/counter/pages?prefix=ho").await.json::<Value>(),
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transform_csv_turns_objects_into_lines() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/transform-csv", "/").await;
    let rows = json!([{ "name": "Ann", "n": 1 }, { "n": null, "name": "=1+1" }]);
    let answer = host
        .post("/csv?columns=name,n", &rows)
        .await
        .assert_status(200);
    assert_eq!(answer.text(), "name,n\r\nAnn,1\r\n'=1+1,\r\n");
    assert_eq!(
        answer.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    let answer = host.post("/csv", &json!({ "no": "list" })).await;
    assert!(
        matches!(answer.status.as_u16(), 400 | 422),
        "{}",
        answer.text()
    );
    assert_eq!(answer.code(), "transform.invalid_input");
}

#[tokio::test(flavor = "multi_thread")]
async fn wasi_http_runs_a_component_that_knows_nothing_of_gantry() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/wasi-http", "/plain").await;
    let answer = host
        .get("/plain/some/path?x=1&y=%20")
        .await
        .assert_status(200);
    assert_eq!(
        answer.text(),
        "You asked for /some/path?x=1&y=%20 with 0 bytes\n"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let body = vec![b'x'; 300_000];
    let request = host
        .request(Method::POST, "/plain/upload")
        .header("x-custom", "1")
        .body(body);
    let answer = host.send(request).await.assert_status(200);
    assert_eq!(answer.text(), "You asked for /upload with 300000 bytes\n");
    let chunks =
        futures_util::stream::iter((0..4).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1000])));
    let request = host
        .request(Method::POST, "/plain/chunks")
        .body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(
        host.send(request).await.text(),
        "You asked for /chunks with 4000 bytes\n"
    );
    host.delete("/plain/x")
        .await
        .assert_problem(405, "route.method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn extism_count_vowels_is_a_transformation_with_a_setting() {
    if !guests::has_extism_examples() {
        return;
    }
    let host = TestHost::start().await;
    host.deploy_folder("examples/extism-count-vowels", "/vowels")
        .await;
    let count = async |text: &'static str| {
        let request = host.request(Method::POST, "/vowels/count").body(text);
        host.send(request).await.assert_status(200)
    };
    let answer = count("hello world").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let told: Value = answer.json();
    assert_eq!(told, json!({ "count": 3, "vowels": "aeiouAEIOU" }));
    let settings = json!({ "vowels": "o" });
    host.admin()
        .set_config("extism-count-vowels", &settings)
        .await
        .assert_status(200);
    assert_eq!(count("hello world").await.json::<Value>()["count"], 2);
    host.get("/vowels/count")
        .await
        .assert_problem(405, "route.method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn extism_quote_answers_requests_as_json() {
    if !guests::has_extism_examples() {
        return;
    }
    let host = TestHost::start().await;
    host.deploy_folder("examples/extism-quote", "/").await;
    let answer = host.get("/quotes/dijkstra").await.assert_status(200);
    assert_eq!(answer.text(), "Simplicity is prerequisite for reliability.");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let request = host.request(Method::GET, "/quotes/dijkstra");
    let answer = host.send(request.header("accept-language", "de")).await;
    assert_eq!(
        answer.text(),
        "Einfachheit ist Voraussetzung für Zuverlässigkeit."
    );
    host.get("/quotes/nobody")
        .await
        .assert_problem(404, "plugin.refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn wasi_http_03_answers_in_capitals_while_it_is_asked() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/wasi-http-03", "/capitals")
        .await;
    let answer = host.get("/capitals/x").await.assert_status(200);
    assert_eq!(answer.text(), "Send me something.\n");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let request = host
        .request(Method::POST, "/capitals/x")
        .body(vec![b'x'; 300_000]);
    let answer = host.send(request).await.assert_status(200);
    assert_eq!(answer.text(), "X".repeat(300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn sse_sends_events_until_the_client_leaves() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/sse", "/").await;
    let request = host.request(Method::GET, "/ticks?every_ms=20");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = String::new();
    while !events.contains("id: 5\n") {
        let piece = response.chunk().await.unwrap().unwrap();
        events.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(
        events.starts_with("event: tick\nid: 0\ndata: {\"tick\":0}\n\n"),
        "{events}"
    );
    drop(response);
    host.until_in_progress(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_kept_in_every_language() {
    let host = TestHost::start().await;
    for name in ["js-notes", "python-notes", "c-notes"] {
        if guests::in_language(&format!("examples/{name}")).is_none() {
            continue;
        }
        // Its tests are run, too, before it is live.
        host.deploy_folder(&format!("examples/{name}"), &format!("/{name}"))
            .await;
        let (all, one) = (format!("/{name}/notes"), format!("/{name}/notes/1"));
        let request = host.request(Method::POST, &all).body(" Buy müsli\n");
        let answer = host.send(request).await.assert_status(201);
        let note = json!({ "id": 1, "text": "Buy müsli" });
        assert_eq!(answer.json::<Value>(), note, "{name}");
        for reads in 1..=2 {
            let answer = host.get(&one).await.assert_status(200);
            let note = json!({ "id": 1, "text": "Buy müsli", "reads": reads });
            assert_eq!(answer.json::<Value>(), note, "{name}");
        }
        host.delete(&one).await.assert_problem(401, "auth.required");
        let permission = format!("{name}:notes.write");
        let role = json!({ "name": name, "permissions": [permission] });
        host.admin()
            .post("/_gantry/api/v1/roles", &role)
            .await
            .assert_status(201);
        let writer = host.user(&format!("{name}@example.com"), &[name]).await;
        writer.delete(&one).await.assert_status(204);
        writer
            .delete(&one)
            .await
            .assert_problem(404, "note.unknown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extism_assemblyscript_counts_words_and_is_held_to_its_limits() {
    const FOLDER: &str = "examples/extism-assemblyscript";
    if guests::in_language(FOLDER).is_none() {
        return;
    }
    let host = TestHost::start().await;
    host.deploy_folder(FOLDER, "/as").await;
    let count = async |text: &'static str| {
        let request = host.request(Method::POST, "/as/words").body(text);
        host.send(request).await.assert_status(200)
    };
    let answer = count(" grüne Bäume\n🦀 ").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json::<Value>(), json!({ "words": 3 }));
    let settings = json!({ "separators": "," });
    host.admin()
        .set_config("extism-assemblyscript", &settings)
        .await
        .assert_status(200);
    assert_eq!(count("a b,c").await.json::<Value>(), json!({ "words": 2 }));
    let endless = host.request(Method::POST, "/as/loop");
    host.send(endless)
        .await
        .assert_problem(504, "plugin.cpu_exceeded");
    count("still there").await;
}
