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

#[test]
fn an_author_sees_what_a_module_exports_and_which_export_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (module, exports) = hostile();
    std::fs::write(dir.path().join("plugin.wasm"), module).unwrap();
    let inspect = |what: &str| {
        let output = std::process::Command::new(gantry_harness::guests::gantry())
            .args(["plugin", "inspect", what])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    };
    let alone = inspect("plugin.wasm");
    for expected in [
        "echo_in_place",
        "extism:host/env#alloc",
        "write a plugin.toml",
    ] {
        assert!(alone.contains(expected), "{alone}");
    }
    let manifest = manifest("hostile", &exports, "");
    std::fs::write(dir.path().join("plugin.toml"), manifest).unwrap();
    let whole = inspect(".");
    for expected in ["extism", "POST /echo  public  transform echo"] {
        assert!(whole.contains(expected), "{whole}");
    }
}
