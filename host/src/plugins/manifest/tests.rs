use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::*;

const HEAD: &str = "schema = 1
[plugin]
name = \"shop\"
version = \"1.2.3\"
[component]
path = \"shop.wasm\"
";

/// The mistakes of a manifest that is whole except for `rest`, which begins in line 7.
fn mistakes(rest: &str) -> Vec<String> {
    match Manifest::parse(&format!("{HEAD}{rest}")) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_full_manifest_is_read() {
    let text = r#"
schema = 1

[plugin]
name = "shop"
version = "1.2.3"
description = "Sells things"
license = "Apache-2.0"

[component]
path = "../target/wasm32-wasip2/guest/shop.wasm"

[build]
command = "cargo build --profile guest --target wasm32-wasip2"
watch = ["src", "Cargo.toml"]

[[permission]]
name = "orders.write"
description = "Change orders"

[[route]]
method = "GET"
path = "/"
auth = "public"
cache = { ttl = "60s", vary = ["accept-language"], tags = ["all"], stale_if_error = "1h" }
limits = [{ limit = 100, window = "15m" }, { name = "all", limit = 1000, window = "1m", burst = 50, key = "route" }]

[[route]]
method = ["POST", "PUT"]
path = "/orders/{id}"
permissions = ["orders.write"]
timeout = "250ms"
body_bytes_max = "64KiB"
idempotency = "required"
summary = "Changes an order"
tag = "Orders"

[capabilities]
kv = ["carts"]
sql = ["side", { label = "main", migrations = "migrations/" }]
http = [{ host = "*.stripe.com", methods = ["POST"], reason = "Charge cards" }]

[[capabilities.secrets]]
label = "stripe"
use = "inject"
host = "api.stripe.com"
header = "Authorization"
prefix = "Bearer "

[[capabilities.secrets]]
label = "pepper"
use = "reveal"

[limits]
memory = "64MiB"
cpu = "50ms"
wall = "10s"
concurrency = 1_000
log_bytes = "64KiB"

[config]
required = ["currency"]
properties.currency = { type = "string", enum = ["EUR", "USD"], default = "EUR" }
properties.vat = { type = "number", default = 0.2 }
"#;

    let manifest = Manifest::parse(text).unwrap();

    assert_eq!(manifest.plugin.name.as_str(), "shop");
    assert_eq!(manifest.plugin.version, semver::Version::new(1, 2, 3));
    assert_eq!(
        manifest.build.as_ref().unwrap().watch,
        ["src", "Cargo.toml"]
    );
    let [index, change] = &manifest.routes[..] else {
        panic!("{:?}", manifest.routes)
    };
    assert_eq!(index.auth, Auth::Public);
    let cache = index.cache.as_ref().unwrap();
    assert_eq!(cache.ttl, Duration::from_secs(60));
    assert_eq!(cache.stale_if_error, Duration::from_secs(3600));
    assert!(cache.stale_while_revalidate.is_zero() && !cache.is_shared);
    assert_eq!(cache.vary, [http::header::ACCEPT_LANGUAGE]);
    assert_eq!(cache.tags[0].fill(&[]).unwrap().as_str(), "all");
    assert_eq!(change.idempotency, Some(Idempotency::Required));
    assert_eq!((&index.idempotency, &change.cache), (&None, &None));
    assert_eq!(index.limits[0].name, "ip");
    assert!(!index.limits[0].is_shared);
    assert!(index.limits[1].is_shared);
    assert_eq!(index.limits[0].window, Some(Duration::from_secs(900)));
    assert_eq!(index.limits[1].burst, Some(50));
    assert_eq!(index.limits[1].key, RateKey::Route);
    assert_eq!(change.methods, [Method::POST, Method::PUT]);
    assert_eq!(change.auth, Auth::Required);
    assert_eq!(change.permissions[0].as_str(), "orders.write");
    assert_eq!(change.timeout, Some(Duration::from_millis(250)));
    assert_eq!(change.body_bytes_max, Some(65536));
    let wants = &manifest.capabilities;
    assert_eq!(wants.kv[0].as_str(), "carts");
    assert_eq!(wants.sql[0].migrations, None);
    assert_eq!(wants.sql[1].migrations.as_deref(), Some("migrations/"));
    assert!(wants.http[0].host.is_wildcard());
    let SecretUse::Inject(injection) = &wants.secrets[0].usage else {
        panic!("{wants:?}")
    };
    assert_eq!(injection.header, http::header::AUTHORIZATION);
    assert_eq!(injection.prefix, "Bearer ");
    assert_eq!(wants.secrets[1].usage, SecretUse::Reveal);
    assert_eq!(manifest.limits.memory_bytes_max, Some(64 << 20));
    assert_eq!(manifest.limits.cpu_max, Some(Duration::from_millis(50)));
    assert_eq!(manifest.limits.concurrency_max, Some(1000));
    assert_eq!(
        manifest.place("kv:carts"),
        Some(Location {
            line: 39,
            column: 7
        })
    );
    assert_eq!(manifest.place("route:1").unwrap().line, 28);
    let schema = manifest.config.unwrap();
    assert_eq!(schema.as_json()["type"], "object");
    assert_eq!(schema.as_json()["properties"]["vat"]["default"], 0.2);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let told = mistakes(
        "[[route]]
method = \"get\"
pat = \"/\"
[capabilities]
kv = [\"Carts\"]
[limits]
memory = 64
",
    );

    insta::assert_snapshot!(told.join("\n"), @r#"
    plugin.toml:7:1: `path` is missing in `[[route]]`
    plugin.toml:8:10: `get` is not a method that a route can have (write `GET`)
    plugin.toml:9:1: unknown key `pat` in `[[route]]` (did you mean `path`?)
    plugin.toml:11:7: `kv`: `Carts` is not a valid label: 1 to 64 small letters, digits, hyphens and underscores, beginning with a letter
    plugin.toml:13:10: `memory` needs a unit (write for example `memory = "1MiB"`; units: B, KiB, MiB, GiB)
    "#);
}

#[test]
fn an_empty_file_names_what_must_be_there() {
    let told = Manifest::parse("").unwrap_err();

    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "plugin.toml:1:1: `schema` is missing (write `schema = 1` in the first line)",
            "plugin.toml:1:1: `[plugin]` is missing",
            "plugin.toml:1:1: `[component]` is missing",
        ]
    );
}

#[test]
fn each_mistake_says_where_what_and_how_to_mend_it() {
    let route = |lines: &str| format!("[[route]]\nmethod = \"GET\"\npath = \"/\"\n{lines}");
    let path = |path: &str| format!("[[route]]\nmethod = \"GET\"\npath = \"{path}\"\n");
    let wants = |line: &str| format!("[capabilities]\n{line}");
    let cases = [
        // Later parts are refused, never skipped.
        (
            "[[job]]\nqueue = \"mail\"".into(),
            "7:3: `[[job]]` is not supported yet",
        ),
        (
            wants("env = []"),
            "8:1: `env` is not supported yet in `[capabilities]`",
        ),
        (
            wants("tokens = true"),
            "8:1: unknown key `tokens` in `[capabilities]` (tokens need no capability)",
        ),
        // TOML itself.
        (
            "x = ".into(),
            "7:5: string values must be quoted, expected literal string",
        ),
        ("[plugin]".into(), "7:2: duplicate key"),
        // Routes.
        (
            "[route]\nmethod = \"GET\"".into(),
            "7:1: `route` must be a list, not a table (write `[[route]]`)",
        ),
        (
            "[[route]]\npath = \"/\"".into(),
            "7:1: `method` is missing in `[[route]]` (write `method = \"GET\"` or a list)",
        ),
        (
            "[[route]]\nmethod = [\"GET\", \"GET\"]\npath = \"/\"".into(),
            "8:18: the method `GET` is declared twice",
        ),
        (
            "[[route]]\nmethod = []\npath = \"/\"".into(),
            "8:10: `method` is empty",
        ),
        (path("orders"), "9:8: `path`: a path begins with `/`"),
        (
            path("/a//b"),
            "9:8: `path`: a path has no empty segment (`//`)",
        ),
        (
            path("/../b"),
            "9:8: `path`: a path has no segment `.` or `..`",
        ),
        (
            path("/{id"),
            "9:8: `path`: a parameter is written `{name}` or `{*name}`",
        ),
        (
            path("/{id}/{id}"),
            "9:8: `path`: the parameter `id` occurs twice",
        ),
        (
            path("/{a}-{b}"),
            "9:8: `path`: only one parameter is allowed in a segment",
        ),
        (
            path("/{*rest}/x"),
            "9:8: `path`: `{*name}` is only allowed as the last segment, alone",
        ),
        (path("/é"), "9:8: `path`: a path does not contain `é`"),
        (path("/a%20b"), "9:8: `path`: a path does not contain `%`"),
        (
            route("auth = \"none\""),
            "10:8: `auth` cannot be \"none\" (write \"public\" or \"optional\" or \"required\")",
        ),
        (
            route("permissions = [\"orders.write\"]"),
            "10:16: the permission `orders.write` is not declared (add `[[permission]]` with \
             `name = \"orders.write\"`)",
        ),
        (
            route("auth = \"public\"\npermissions = [\"a\"]\n[[permission]]\nname = \"a\""),
            "11:16: `permissions` cannot be asked for with `auth = \"public\"` (write `auth = \
             \"required\"`)",
        ),
        (
            route("timeout = 5"),
            "10:11: `timeout` needs a unit (write for example `timeout = \"5s\"`; units: ms, s, m, h)",
        ),
        (
            route("timeout = \"2h\""),
            "10:11: `timeout` must be between 1ms and 15m",
        ),
        (
            route("timeout = \"5 s\""),
            "10:11: `5 s` is not a duration (write for example `timeout = \"5s\"`; units: ms, s, m, h)",
        ),
        (
            route("limits = [{ limit = 5 }]"),
            "10:11: `window` is missing in `limits` (for example `limits = [{ limit = 100, window = \
             \"15m\", key = \"ip\" }]`)",
        ),
        (
            route("limits = [{ limit = 0, window = \"1m\" }]"),
            "10:21: `limit` must be between 1 and 1000000000",
        ),
        (
            route("limits = [{ limit = 5, window = \"1500ms\" }]"),
            "10:33: `window` must be whole seconds",
        ),
        (
            route("limits = [{ limit = 5, window = \"1m\" }, { limit = 9, window = \"1h\" }]"),
            "10:41: the limit `ip` is declared twice",
        ),
        (
            route(
                "limits = [{ name = \"all\", limit = 5, window = \"1m\" }]\n[[route]]\nmethod = \"GET\"\n\
                 path = \"/y\"\nlimits = [{ name = \"all\", limit = 5, window = \"1m\", key = \"route\" }]",
            ),
            "14:11: the limit `all` is another one than in line 10 (routes that name a limit share it: give all the \
             same `limit`, `window`, `burst` and `key`, or this one another name)",
        ),
        (
            route("auth = \"public\"\nlimits = [{ limit = 5, window = \"1m\", key = \"user\" }]"),
            "11:45: `key = \"user\"` has nobody to count with `auth = \"public\"` (write `key = \
             \"ip\"`)",
        ),
        (
            route("summary = \"a\\u0007\""),
            "10:11: `summary` contains control characters",
        ),
        // Capabilities.
        (
            wants("kv = [\"a\", \"a\"]"),
            "8:12: the kv entry `a` is declared twice",
        ),
        (
            wants("kv = \"a\""),
            "8:6: `kv` must be a list, not a string (write `kv = [\"a\"]`)",
        ),
        (
            wants("sql = [{ label = \"main\", migrations = \"../m\" }]"),
            "8:39: `migrations` must be a folder beside the manifest (write for example `migrations \
             = \"migrations/\"`)",
        ),
        (
            wants("http = [{ host = \"https://a.b\" }]"),
            "8:18: `host`: `https://a.b` is not a host: write `api.example.com`, `*.example.com` or \
             `api.example.com:8443`",
        ),
        (
            wants("http = [{ host = \"*.com\" }]"),
            "8:18: `host`: `*.com` is not a host: write `api.example.com`, `*.example.com` or \
             `api.example.com:8443`",
        ),
        (
            wants("secrets = [{ label = \"s\" }]"),
            "8:12: `use` is missing in an entry of `secrets`",
        ),
        (
            wants("secrets = [{ label = \"s\", use = \"show\" }]"),
            "8:33: `use` cannot be \"show\" (write \"inject\" or \"reveal\")",
        ),
        (
            wants("secrets = [{ label = \"s\", use = \"reveal\", host = \"a.b\" }]"),
            "8:50: `host` means nothing with `use = \"reveal\"`",
        ),
        (
            wants(
                "secrets = [{ label = \"s\", use = \"inject\", host = \"a.b\", header = \"x-key\" }]",
            ),
            "8:50: the secret goes to `a.b`, which the plugin may not call (add `{ host = \"a.b\", \
             reason = \"…\" }` to `http`)",
        ),
        (
            wants(
                "http = [{ host = \"a.b\" }]\nsecrets = [{ label = \"s\", use = \"inject\", host = \
                 \"a.b\", header = \"host\" }]",
            ),
            "9:66: a secret cannot be put into the header `host`",
        ),
        // Settings.
        (
            "[config]\ntype = \"string\"".into(),
            "7:1: `[config]` must have `type = \"object\"` (settings have names: describe each under \
             `[config.properties]`)",
        ),
        (
            "[config.properties]\nvat = { type = \"number\", default = \"x\" }".into(),
            "7:2: the default at `/vat` does not fit: \"x\" is not of type \"number\"",
        ),
        (
            "[limits]\nconcurrency = 0".into(),
            "8:15: `concurrency` must be between 1 and 10000",
        ),
        (
            "[limits]\nmemory = \"1KiB\"".into(),
            "8:10: `memory` must be between 64KiB and 4GiB",
        ),
    ];

    let wrong: Vec<String> = cases
        .iter()
        .map(|(rest, expected)| (rest, mistakes(rest), [format!("plugin.toml:{expected}")]))
        .filter(|(_, told, expected)| told != expected)
        .map(|(rest, told, expected)| {
            format!(
                "{rest}
 told {told:#?}
 not {expected:#?}"
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.join(
            "

"
        )
    );
}

#[test]
fn a_schema_that_is_none_is_refused() {
    let told = mistakes("[config.properties.a]\ntype = \"nonsense\"");

    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("`[config]` is not a JSON Schema"),
        "{told:?}"
    );
}

#[test]
fn a_host_covers_only_what_it_means() {
    let covers = |wide: &str, narrow: &str| {
        let wide: HostPattern = wide.parse().unwrap();
        wide.covers(&narrow.parse().unwrap())
    };

    for (wide, narrow) in [
        ("api.example.com", "API.example.com"),
        ("*.example.com", "api.example.com"),
        ("*.example.com", "a.b.example.com"),
        ("*.example.com", "*.example.com"),
        ("*.example.com", "*.b.example.com"),
        ("localhost:8080", "localhost:8080"),
    ] {
        assert!(covers(wide, narrow), "{wide} covers {narrow}");
    }
    for (wide, narrow) in [
        ("*.example.com", "example.com"),
        ("*.example.com", "badexample.com"),
        ("api.example.com", "*.example.com"),
        ("*.b.example.com", "*.example.com"),
        ("api.example.com", "api.example.com:8443"),
        ("api.example.com:8443", "api.example.com"),
    ] {
        assert!(!covers(wide, narrow), "{wide} does not cover {narrow}");
    }
}

#[test]
fn a_bare_component_gets_a_manifest_without_capabilities() {
    let name = "hello".parse().unwrap();
    for (path, paths) in [
        ("/", vec!["/", "/{*rest}"]),
        ("/api", vec!["/api", "/api/{*rest}"]),
        ("/api/{id}", vec!["/api/{id}"]),
    ] {
        let text = Manifest::for_bare_component(&name, path, Auth::Public);

        let manifest = Manifest::parse(&text).unwrap();

        let found: Vec<&str> = manifest
            .routes
            .iter()
            .map(|route| route.path.as_str())
            .collect();
        assert_eq!(found, paths);
        assert_eq!(manifest.capabilities, Capabilities::default());
    }
}

#[test]
fn a_wrong_path_for_a_bare_component_cannot_write_other_keys() {
    let name = "hello".parse().unwrap();
    let path = "/\"\nauth = \"public\"\n{";

    let text = Manifest::for_bare_component(&name, path, Auth::Required);

    let told = Manifest::parse(&text).unwrap_err();
    assert!(
        told.iter()
            .all(|mistake| mistake.message.contains("`path`")),
        "{told:?}"
    );
}

#[test]
fn absurd_nesting_is_refused_before_a_tree_is_built() {
    let dotted = "a.".repeat(100_000);
    for text in [
        format!("{dotted}a = 1"),
        format!("[{dotted}a]"),
        format!("x = {{ {dotted}a = 1 }}"),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(80_000)),
    ] {
        let told = Manifest::parse(&text).unwrap_err();
        assert_eq!(told[0].message, "this is nested too deeply");
    }
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let told = Manifest::parse(&"#".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();

    assert!(told[0].message.contains("at most 262144"), "{told:?}");
}

/// Words of the format in any order reach deeper than arbitrary characters do.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "#",
        " ",
        "1",
        "-1",
        "0x",
        "1.5",
        "true",
        "1979-05-27",
        "\"/{id}\"",
        "\"5s\"",
        "\"é\"",
        "\\",
        "route",
        "path",
        "method",
        "limits",
        "capabilities",
        "secrets",
        "config",
        "schema",
        "plugin",
        "permission",
        "properties",
        "default",
        "type",
        "\"object\"",
        "kv",
        "sql",
        "http",
        "host",
        "use",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

#[test]
fn the_manifests_of_this_repository_have_no_mistakes() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let folders =
        ["plugins", "examples"].map(|folder| std::fs::read_dir(format!("{root}/{folder}")));
    for folder in folders.into_iter().flatten().flatten() {
        let file = folder.unwrap().path().join("plugin.toml");
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let mistakes = Manifest::parse(&text).err().unwrap_or_default();
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(
            mistakes.is_empty(),
            "{}:\n{}",
            file.display(),
            mistakes.join("\n")
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn no_rest_makes_the_reader_panic(rest in words()) {
        let _ = Manifest::parse(&format!("{HEAD}{rest}"));
    }

    #[test]
    fn no_pattern_makes_the_router_panic(pattern in "/[a-z{}*/._é-]{0,20}") {
        let _ = path::mistake(&pattern);
    }
}
