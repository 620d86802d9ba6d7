//! Modules of Extism: what their kit promises them holds here, what hosts hold against plugins holds against them.

mod hostile;
mod probe;
mod reference;

use bytes::Bytes;

/// A manifest with a route for each of these exports, `/NAME`, all of them open to everybody.
fn manifest(name: &str, exports: &[&str], more: &str) -> String {
    let mut text = format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n"
    );
    for export in exports {
        text.push_str(&format!(
            "[[route]]\nmethod = \"POST\"\npath = \"/{export}\"\nauth = \"public\"\ntransform = \"{export}\"\n\
             output_type = \"text/plain\"\n"
        ));
    }
    text + more
}

/// `hostile.wat`, and the names of what it exports.
fn hostile() -> (Bytes, Vec<&'static str>) {
    const TEXT: &str = include_str!("hostile.wat");
    let names = TEXT.split("(func").skip(1).filter_map(|function| {
        let name = function.split("(export \"").nth(1)?.split('"').next()?;
        // An export that belongs to a later function is found with that one.
        function
            .trim_start()
            .split('\n')
            .next()?
            .contains(name)
            .then_some(name)
    });
    (wat::parse_str(TEXT).unwrap().into(), names.collect())
}
