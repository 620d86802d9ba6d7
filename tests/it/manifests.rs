//! Manifests for the guests of `tests/guests`.

/// A plugin that answers every method on every path, open to everybody.
pub(crate) fn open(name: &str) -> String {
    with(name, "")
}

/// The same, with more in its manifest.
pub(crate) fn with(name: &str, more: &str) -> String {
    let route = r#"
[[route]]
method = ["GET", "POST", "PUT", "PATCH", "DELETE"]
auth = "public"
"#;
    format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
         {route}path = \"/\"\n{route}path = \"/{{*rest}}\"\n{more}\n"
    )
}
