use crate::plugins::manifest::Auth;

use super::*;

const HANDLER: &str = "gantry:http/handler@0.1.0";

/// A component that imports these interfaces, each with one function, and exports those.
fn component(imports: &[&str], exports: &[&str]) -> Bytes {
    let mut text = "(component\n".to_owned();
    for name in imports {
        text.push_str(&format!(
            "(import \"{name}\" (instance (export \"f\" (func))))\n"
        ));
    }
    text.push_str(
        "(core module $m (func (export \"f\")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i \"f\")))
        (instance $e (export \"f\" (func $f)))\n",
    );
    for name in exports {
        text.push_str(&format!("(export \"{name}\" (instance $e))\n"));
    }
    text.push(')');
    wat::parse_str(text).unwrap().into()
}

/// A bundle around a component; `rest` is added to the manifest from line 10 on.
fn bundle(component: Bytes, rest: &str) -> Bundle {
    let manifest = format!(
        "schema = 1
[plugin]
name = \"shop\"
version = \"1.0.0\"
[component]
path = \"plugin.wasm\"
[[route]]
method = \"GET\"
path = \"/\"
{rest}"
    );
    Bundle {
        manifest,
        component,
        migrations: Vec::new(),
        files: Vec::new(),
        signature: None,
    }
}

/// What is told of a bundle whose capabilities are all granted.
fn told(bundle: Bundle) -> Vec<String> {
    let grants = Manifest::parse(&bundle.manifest).map(|manifest| Grants::all_of(&manifest));
    match validate(bundle, &grants.unwrap_or_default(), &Ceilings::default()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_export_decides_what_a_component_is() {
    for (export, entry) in [
        (HANDLER, EntryKind::Handler),
        ("wasi:http/incoming-handler@0.2.3", EntryKind::WasiHttp02),
        ("wasi:http/handler@0.3.2", EntryKind::WasiHttp03),
        ("gantry:transform/transform@0.1.0", EntryKind::Transform),
    ] {
        let bundle = bundle(component(&[], &[export]), "");
        let digest = Digest::of(&bundle.component);

        let valid = validate(bundle, &Grants::default(), &Ceilings::default()).unwrap();

        assert_eq!(valid.entry, entry, "{export}");
        assert_eq!(valid.digest, digest);
    }
}

#[test]
fn a_component_alone_is_valid_with_its_made_up_manifest() {
    let name = "hello".parse().unwrap();
    let wasm = component(
        &["wasi:http/types@0.2.0"],
        &["wasi:http/incoming-handler@0.2.0"],
    );
    let config = crate::plugins::bundle::Config::default();
    let bundle = Bundle::from_component(&name, "/", Auth::Public, wasm, &config).unwrap();

    let valid = validate(bundle, &Grants::default(), &Ceilings::default()).unwrap();

    assert_eq!(valid.manifest.plugin.name, name);
}

#[test]
fn exports_that_the_host_cannot_call_are_told() {
    let cases: &[(&[&str], &str)] = &[
        (
            &[],
            "the component exports nothing that the host could call",
        ),
        (
            &["wasi:cli/run@0.2.0"],
            "the component exports nothing that the host could call",
        ),
        (
            &["wasi:http/handler@0.4.0"],
            "which this host does not know (it knows `wasi:http/handler@0.3.x`)",
        ),
        (
            &["gantry:http/handler@0.2.0"],
            "which this host does not know (it knows `gantry:http/handler@0.1.x`)",
        ),
        (
            &["gantry:jobs/handler@0.1.0"],
            "the export `gantry:jobs/handler@0.1.0` is not supported yet",
        ),
        (
            &[HANDLER, "wasi:http/incoming-handler@0.2.3"],
            "exports `gantry:http/handler@0.1.0` and `wasi:http/incoming-handler@0.2.3` (export exactly one",
        ),
    ];
    for (exports, expected) in cases {
        let told = told(bundle(component(&[], exports), ""));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{exports:?}: {told:?}");
    }
}

#[test]
fn what_is_no_component_is_told_plainly() {
    let whole = component(&[], &[HANDLER]);
    let cut_off = whole.slice(..whole.len() - 3);
    let broken: Bytes = wat::parse_str("(component (core module (func (result i32))))")
        .unwrap()
        .into();
    let asynchronous: Bytes = wat::parse_str("(component (type (stream u8)))")
        .unwrap()
        .into();
    for (wasm, expected) in [
        (Bytes::from_static(b"PK"), "plugin.wasm is not WebAssembly"),
        (Bytes::new(), "plugin.wasm is not WebAssembly"),
        (cut_off, "the component is not valid at byte"),
        (broken, "the component is not valid at byte"),
        (
            asynchronous,
            "asynchronous functions are for components that export `wasi:http/handler@0.3`",
        ),
    ] {
        let told = told(bundle(wasm, ""));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
    }
}

/// A core module with these parts.
fn module(parts: &str) -> Bytes {
    wat::parse_str(format!("(module {parts})")).unwrap().into()
}

#[test]
fn a_module_of_extism_is_found_by_looking_at_it() {
    let parts = "(import \"extism:host/env\" \"input_length\" (func (result i64)))
        (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32)))
        (func (export \"handle\") (result i32) (i32.const 0))
        (func (export \"silent\"))";
    for rest in [
        "handler = \"handle\"",
        "transform = \"silent\"",
        "[extism]\nhandler = \"handle\"",
    ] {
        let bundle = bundle(module(parts), rest);
        let valid = validate(bundle, &Grants::default(), &Ceilings::default()).unwrap();
        assert_eq!(valid.entry, EntryKind::Extism, "{rest}");
    }
}

#[test]
fn modules_that_the_host_cannot_serve_are_told_all_at_once() {
    let parts = "(import \"extism:host/env\" \"alloc\" (func (param i64) (result i64)))
        (import \"extism:host/env\" \"memory_bytes\" (func (result i64)))
        (import \"extism:host/user\" \"mine\" (func))
        (import \"env\" \"memory\" (memory 1))
        (func (export \"_initialize\"))
        (func (export \"takes\") (param i32))
        (func (export \"gives\") (result i64) (i64.const 0))
        (func (export \"fits\"))
        (global (export \"global\") i32 (i32.const 0))";
    for (rest, expected) in [
        (
            "",
            "plugin.toml:7:1: the route `/` names no export of the module (add `handler = \"fits\"`",
        ),
        (
            "handler = \"takes\"",
            "the module exports no function `takes` that could be called (it exports `fits`)",
        ),
        ("transform = \"gives\"", "exports no function `gives`"),
        ("handler = \"global\"", "exports no function `global`"),
        (
            "handler = \"_initialize\"",
            "exports no function `_initialize`",
        ),
        (
            "[extism]\nhandler = \"fit\"",
            "plugin.toml:10:1: the module exports no function `fit`",
        ),
    ] {
        let told = told(bundle(module(parts), rest));
        assert!(told.iter().any(|line| line.contains(expected)), "{told:?}");
        for import in [
            "`memory_bytes` of `extism:host/env`",
            "`mine` of `extism:host/user`",
            "`memory` of `env`",
        ] {
            assert!(told.iter().any(|line| line.contains(import)), "{told:?}");
        }
        assert_eq!(told.len(), 4, "{told:?}");
    }
    let told = told(bundle(module("(func (result i32))"), "handler = \"f\""));
    assert!(
        told[0].contains("the module is not valid at byte"),
        "{told:?}"
    );
}

#[test]
fn the_number_of_mistakes_about_imports_is_bounded() {
    let imports = "(import \"a\" \"b\" (func))".repeat(10_000);
    let told = told(bundle(module(&imports), "handler = \"f\""));
    assert!(told.len() < 30, "{}", told.len());
}

#[test]
fn a_component_has_no_use_for_keys_of_extism() {
    for rest in [
        "handler = \"handle\"",
        "transform = \"f\"",
        "[extism]\nhandler = \"handle\"",
    ] {
        let told = told(bundle(component(&[], &[HANDLER]), rest));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("for core modules"), "{told:?}");
    }
}

#[test]
fn standard_imports_need_nothing() {
    let imports = [
        "gantry:context/invocation@0.1.0",
        "gantry:http/request-headers@0.1.3",
        "gantry:tokens/tokens@0.1.0",
        "gantry:types/types@1.2.0",
        "wasi:cli/environment@0.2.0",
        "wasi:cli/stdout@0.2.12",
        "wasi:clocks/wall-clock@0.2.6",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:filesystem/types@0.2.6",
        "wasi:io/streams@0.2.99",
        "wasi:logging/logging@0.1.0-draft",
        "wasi:random/random@0.2.6",
        "wasi:sockets/tcp@0.2.6",
    ];

    assert_eq!(told(bundle(component(&imports, &[HANDLER]), "")), [""; 0]);
}

#[test]
fn an_import_that_the_host_does_not_have_is_told_by_name() {
    for (import, expected) in [
        (
            "acme:billing/pay@1.0.0",
            "imports `acme:billing/pay@1.0.0`, which this host does not have",
        ),
        (
            "wasi:clocks/timezone@0.2.0",
            "which this host does not have",
        ),
        (
            "wasi:clocks/system-clock@0.3.0",
            "imports `wasi:clocks/system-clock@0.3.0` of WASI 0.3 (WASI 0.3 is for components",
        ),
        (
            "wasi:io/streams@0.3.0",
            "imports `wasi:io/streams@0.3.0`, but this host has 0.2.12",
        ),
        ("gantry:types/types@2.0.0", "but this host has 1.0.0"),
        ("gantry:kv/store@0.2.0", "but this host has 0.1.0"),
        (
            "wasi:config/store@0.2.0-draft",
            "but this host has 0.2.0-rc.1",
        ),
        (
            "just-a-name",
            "imports `just-a-name`, which this host does not have",
        ),
    ] {
        let told = told(bundle(component(&[import], &[HANDLER]), ""));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{import}: {told:?}");
    }
}

#[test]
fn an_import_that_needs_a_capability_names_the_line_to_add() {
    let inject = "[capabilities]
http = [{ host = \"a.b\" }]
secrets = [{ label = \"s\", use = \"inject\", host = \"a.b\", header = \"x-key\" }]";
    for (import, line) in [
        (
            "gantry:kv/store@0.1.0",
            "add `[capabilities]` with `kv = [\"LABEL\"]`",
        ),
        ("gantry:sql/client@0.1.0", "`sql = [{ label = \"main\""),
        (
            "gantry:secrets/store@0.1.0",
            "`secrets = [{ label = \"LABEL\"",
        ),
        (
            "wasi:http/outgoing-handler@0.2.3",
            "`http = [{ host = \"api.example.com\"",
        ),
    ] {
        let told = told(bundle(component(&[import], &[HANDLER]), ""));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(line), "{import}: {told:?}");
    }
    let reveal = component(&["gantry:secrets/reveal@0.1.0"], &[HANDLER]);
    let told_of_reveal = told(bundle(reveal, inject));
    assert_eq!(told_of_reveal.len(), 1, "{told_of_reveal:?}");
    assert!(
        told_of_reveal[0].starts_with("plugin.toml:10:"),
        "{told_of_reveal:?}"
    );
    let kv = component(&["gantry:kv/store@0.1.0"], &[HANDLER]);
    assert_eq!(
        told(bundle(kv, "[capabilities]\nkv = [\"carts\"]")),
        [""; 0]
    );
}

#[test]
fn an_interface_imported_only_for_its_types_needs_no_capability() {
    let text = format!(
        "(component
            (import \"gantry:kv/store@0.1.0\" (instance (export \"bucket\" (type (sub resource)))))
            (core module $m (func (export \"f\")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i \"f\")))
            (instance $e (export \"f\" (func $f)))
            (export \"{HANDLER}\" (instance $e)))"
    );

    assert_eq!(
        told(bundle(wat::parse_str(text).unwrap().into(), "")),
        [""; 0]
    );
}

#[test]
fn imports_of_an_inner_component_are_not_the_plugins() {
    let text = format!(
        "(component
            (component $inner (import \"acme:x/y@1.0.0\" (instance (export \"f\" (func)))))
            (core module $m (func (export \"f\")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i \"f\")))
            (instance $e (export \"f\" (func $f)))
            (export \"{HANDLER}\" (instance $e)))"
    );

    assert_eq!(
        told(bundle(wat::parse_str(text).unwrap().into(), "")),
        [""; 0]
    );
}

const WANTS: &str = "[capabilities]
kv = [\"carts\"]
sql = [\"main\"]
http = [{ host = \"api.stripe.com\" }]
secrets = [{ label = \"stripe\", use = \"inject\", host = \"api.stripe.com\", header = \"authorization\" }]
";

#[test]
fn everything_that_is_not_granted_is_told_with_the_command_that_grants_it() {
    let grants: Grants = ["kv:carts"]
        .iter()
        .map(|grant| grant.parse().unwrap())
        .collect();

    let mistakes = validate(
        bundle(component(&[], &[HANDLER]), WANTS),
        &grants,
        &Ceilings::default(),
    )
    .unwrap_err();

    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    plugin.toml:12:8: `sql:main` is not granted to the plugin `shop` (`gantry plugin deploy --grant-all` grants all that plugin.toml asks for)
    plugin.toml:13:18: `http:api.stripe.com` is not granted to the plugin `shop` (`gantry plugin deploy --grant-all` grants all that plugin.toml asks for)
    plugin.toml:14:22: `secret:stripe@api.stripe.com` is not granted to the plugin `shop` (`gantry plugin deploy --grant-all` grants all that plugin.toml asks for)
    ");
}

#[test]
fn a_grant_covers_what_it_says_and_nothing_else() {
    let covers = |given: &str, wanted: &str| {
        let given: Grants = std::iter::once(given.parse::<Grant>().unwrap()).collect();
        given.covers(&wanted.parse().unwrap())
    };

    assert!(covers("http:*.example.com", "http:api.example.com"));
    assert!(covers("secret:s", "secret:s@a.b"));
    for (given, wanted) in [
        ("kv:a", "sql:a"),
        ("kv:a", "kv:b"),
        ("http:api.example.com", "http:*.example.com"),
        ("secret:s@a.b", "secret:s"),
        ("secret:s@a.b", "secret:s@c.d"),
        ("secret:s", "secret:t@a.b"),
    ] {
        assert!(!covers(given, wanted), "{given} does not cover {wanted}");
    }
    for text in [
        "",
        "kv",
        "kv:",
        "kv:A",
        "kv:a@b",
        "env:a",
        "http:",
        "secret:@a.b",
        "secret:s@",
    ] {
        assert!(text.parse::<Grant>().is_err(), "{text}");
    }
}

#[test]
fn more_than_the_operator_allows_is_told_with_the_ceiling() {
    let rest = "timeout = \"5m\"
body_bytes_max = \"1GiB\"
[limits]
memory = \"1GiB\"
cpu = \"1m\"
wall = \"10m\"
concurrency = 1000
log_bytes = \"2MiB\"
";

    let told = told(bundle(component(&[], &[HANDLER]), rest));

    insta::assert_snapshot!(told.join("\n"), @r"
    plugin.toml:7:1: `body_bytes_max` of `/` asks for 1GiB, the operator allows at most 32MiB
    plugin.toml:7:1: `timeout` of `/` asks for 5m, the operator allows at most 1m
    plugin.toml:13:10: `limits.memory` asks for 1GiB, the operator allows at most 256MiB
    plugin.toml:14:7: `limits.cpu` asks for 1m, the operator allows at most 5s
    plugin.toml:15:8: `limits.wall` asks for 10m, the operator allows at most 1m
    plugin.toml:16:15: `limits.concurrency` asks for 1000, the operator allows at most 256
    plugin.toml:17:13: `limits.log_bytes` asks for 2MiB, the operator allows at most 1MiB
    ");
}

#[test]
fn routes_that_collide_are_told_with_both_places() {
    let route =
        |method: &str, path: &str| format!("[[route]]\nmethod = \"{method}\"\npath = \"{path}\"\n");
    let handler = component(&[], &[HANDLER]);
    let rest = route("GET", "/a/{id}") + &route("GET", "/a/{name}") + &route("POST", "/a/{key}");

    let same = told(bundle(handler.clone(), &rest));
    assert_eq!(same.len(), 1, "{same:?}");
    assert!(
        same[0].contains("13:1: `GET /a/{name}` is routed twice (the other route is in line 10)"),
        "{same:?}"
    );
    let rest = route("GET", "/a/{id}") + &route("GET", "/a/new") + &route("GET", "/{*rest}");
    assert_eq!(told(bundle(handler.clone(), &rest)), [""; 0]);
    // The router tries one of them, and does not come back to the other.
    let rest = route("GET", "/{a}/x") + &route("GET", "/{a}.json/y");
    let hidden = told(bundle(handler.clone(), &rest));
    assert!(
        hidden[0].contains("the route `/{a}.json/y` collides with `/{a}/x`"),
        "{hidden:?}"
    );
    let rest = route("GET", "/x/{a}") + &route("GET", "/x/{a}.json") + &route("GET", "/{b}.txt/y");
    assert_eq!(told(bundle(handler.clone(), &rest)), [""; 0]);
    let mut without = bundle(handler, "");
    without
        .manifest
        .truncate(without.manifest.find("[[route]]").unwrap());
    let none = told(without);
    assert!(none[0].contains("has no route"), "{none:?}");
}

#[test]
fn migrations_and_databases_belong_together() {
    let migration = |label: &str| Migration {
        label: label.parse().unwrap(),
        version: 1,
        name: "a".to_owned(),
        sql: String::new(),
    };
    let wants = "[capabilities]\nsql = [\"bare\", { label = \"main\", migrations = \"m\" }]";
    let mut bundle = bundle(component(&[], &[HANDLER]), wants);
    bundle.migrations = vec![migration("bare"), migration("other")];

    let told = told(bundle);

    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].contains("has migrations for `bare`, but the manifest does not declare them"));
    assert!(told[2].contains("`main` declares migrations, but the bundle has none"));
    assert!(told[0].contains("has migrations for `other`, which the manifest does not declare"));
}

#[test]
fn mistakes_of_all_checks_are_told_together() {
    let rest = "[limits]\nmemory = \"1GiB\"\n[capabilities]\nkv = [\"carts\"]";
    let bundle = bundle(component(&["acme:x/y@1.0.0"], &[]), rest);

    let mistakes = validate(bundle, &Grants::default(), &Ceilings::default()).unwrap_err();

    assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
}

#[test]
fn a_wrong_manifest_does_not_hide_a_wrong_component() {
    let bundle = Bundle {
        manifest: String::new(),
        ..bundle(Bytes::from_static(b"no"), "")
    };

    let mistakes = validate(bundle, &Grants::default(), &Ceilings::default()).unwrap_err();

    assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
}
