//! Generates the checked-in bindings of guests in Rust and C from `wit/`, so that a plugin's build parses no WIT.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use wit_bindgen_core::wit_parser::{PackageId, Resolve, UnresolvedPackageGroup};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

/// One generated file.
struct Target {
    /// The folder whose package has the world; its dependencies are looked for in `wit/`.
    package: &'static str,
    world: &'static str,
    output: &'static str,
    /// The macro that exports the world, where somebody implements it.
    export_macro: Option<&'static str>,
    /// The Rust path of the generated module, as the export macro must name it.
    module: &'static str,
    /// Interfaces that another file has already: the errors of all worlds must be one type.
    reuse: &'static [(&'static str, &'static str)],
}

const TARGETS: &[Target] = &[
    Target {
        package: "wit/worlds",
        world: "module",
        output: "plugin-sdk/src/bindings/module.rs",
        export_macro: Some("export_module"),
        module: "::gantry_sdk::__rt::bindings::module",
        reuse: &[],
    },
    Target {
        package: "wit/worlds",
        world: "transformation",
        output: "plugin-sdk/src/bindings/transformation.rs",
        export_macro: Some("export_transformation"),
        module: "::gantry_sdk::__rt::bindings::transformation",
        reuse: &[
            (
                "gantry:types/types@1.0.0",
                "::gantry_sdk::__rt::bindings::module::gantry::types::types",
            ),
            (
                "wasi:config/store@0.2.0-rc.1",
                "::gantry_sdk::__rt::bindings::module::wasi::config::store",
            ),
            (
                "wasi:logging/logging@0.1.0-draft",
                "::gantry_sdk::__rt::bindings::module::wasi::logging::logging",
            ),
        ],
    },
    Target {
        package: "wit/lifecycle",
        world: "checked",
        output: "plugin-sdk/src/bindings/checked.rs",
        export_macro: Some("export_checked"),
        module: "::gantry_sdk::__rt::bindings::checked",
        reuse: &[(
            "gantry:types/types@1.0.0",
            "::gantry_sdk::__rt::bindings::module::gantry::types::types",
        )],
    },
    Target {
        package: "wit/lifecycle",
        world: "migrating",
        output: "plugin-sdk/src/bindings/migrating.rs",
        export_macro: Some("export_migrating"),
        module: "::gantry_sdk::__rt::bindings::migrating",
        reuse: &[(
            "gantry:types/types@1.0.0",
            "::gantry_sdk::__rt::bindings::module::gantry::types::types",
        )],
    },
    Target {
        package: "wit/http",
        world: "filtering-requests",
        output: "plugin-sdk/src/bindings/filtering_requests.rs",
        export_macro: Some("export_filtering_requests"),
        module: "::gantry_sdk::__rt::bindings::filtering_requests",
        reuse: &[
            (
                "gantry:types/types@1.0.0",
                "::gantry_sdk::__rt::bindings::module::gantry::types::types",
            ),
            (
                "gantry:http/types@0.1.0",
                "::gantry_sdk::__rt::bindings::module::gantry::http::types",
            ),
        ],
    },
    Target {
        package: "wit/http",
        world: "filtering-responses",
        output: "plugin-sdk/src/bindings/filtering_responses.rs",
        export_macro: Some("export_filtering_responses"),
        module: "::gantry_sdk::__rt::bindings::filtering_responses",
        reuse: &[
            (
                "gantry:types/types@1.0.0",
                "::gantry_sdk::__rt::bindings::module::gantry::types::types",
            ),
            (
                "gantry:http/types@0.1.0",
                "::gantry_sdk::__rt::bindings::module::gantry::http::types",
            ),
            (
                "gantry:http/filter@0.1.0",
                "::gantry_sdk::__rt::bindings::filtering_requests::gantry::http::filter",
            ),
        ],
    },
    Target {
        package: "tests/guests/wit",
        world: "guest",
        output: "tests/guests/undeclared_import/bindings.rs",
        export_macro: None,
        module: "crate::bindings",
        reuse: &[],
    },
    Target {
        package: "tests/guests/keyvalue_02/wit",
        world: "guest",
        output: "tests/guests/keyvalue_02/bindings.rs",
        export_macro: None,
        module: "crate::bindings",
        reuse: &[],
    },
];

/// Writes the bindings, or with `--check` fails if they are not what the WIT says.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let only_check = match options {
        [] => false,
        [option] if option == "--check" => true,
        _ => bail!("`cargo xtask bindings` takes only `--check`"),
    };
    write(only_check)
}

/// Fails if the bindings are not what the WIT says.
pub(crate) fn check() -> anyhow::Result<()> {
    write(true)
}

fn write(only_check: bool) -> anyhow::Result<()> {
    for target in TARGETS {
        let text = generate(target).with_context(|| format!("generating {}", target.output))?;
        write_file(target.output, &text, only_check)?;
    }
    for (name, text) in generate_c().context("generating the bindings for C")? {
        write_file(&format!("{C_FOLDER}/{name}"), &text, only_check)?;
    }
    Ok(())
}

fn write_file(output: &str, text: &str, only_check: bool) -> anyhow::Result<()> {
    let path = crate::root().join(output);
    let is_current = fs::read_to_string(&path).is_ok_and(|current| current == text);
    match (is_current, only_check) {
        (true, _) => {}
        (false, true) => bail!("{output} is stale: run `cargo xtask bindings`"),
        (false, false) => {
            fs::write(&path, text)?;
            println!("wrote {output}");
        }
    }
    Ok(())
}

/// Where the kit for C is.
const C_FOLDER: &str = "languages/c/gantry";

/// `bindings.h` and `bindings.c`, of everything that a business module may use.
fn generate_c() -> anyhow::Result<Vec<(String, String)>> {
    let (mut resolve, package) = resolve("wit/worlds")?;
    let world = resolve.select_world(&[package], Some("module"))?;
    let options = wit_bindgen_c::Opts {
        // What the component is made of follows from the manifest, when it is made.
        no_object_file: true,
        rename_world: Some("bindings".to_owned()),
        ..wit_bindgen_c::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    files
        .iter()
        .map(|(name, text)| Ok((name.to_owned(), String::from_utf8(text.to_vec())?)))
        .collect()
}

fn generate(target: &Target) -> anyhow::Result<String> {
    let (mut resolve, package) = resolve(target.package)?;
    let world = resolve.select_world(&[package], Some(target.world))?;
    let options = Opts {
        format: true,
        generate_all: true,
        runtime_path: Some("::wit_bindgen::rt".to_owned()),
        export_macro_name: target.export_macro.map(str::to_owned),
        pub_export_macro: target.export_macro.is_some(),
        default_bindings_module: Some(target.module.to_owned()),
        with: target
            .reuse
            .iter()
            .map(|(interface, path)| {
                (
                    (*interface).to_owned(),
                    WithOption::Path((*path).to_owned()),
                )
            })
            .collect(),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, source) = files.iter().next().context("the generator wrote no file")?;
    Ok(String::from_utf8(source.to_vec())?)
}

/// The package in a folder of `wit/`, with all others that it may need.
pub(crate) fn resolve(folder: &str) -> anyhow::Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let main = UnresolvedPackageGroup::parse_dir(crate::root().join(folder))?;
    let package = resolve.push_groups(main, packages_beside(folder)?)?;
    Ok((resolve, package))
}

/// All packages of `wit/`, except the one that is generated. The parser sorts them by who needs whom.
fn packages_beside(main: &str) -> anyhow::Result<Vec<UnresolvedPackageGroup>> {
    let wit = crate::root().join("wit");
    let main = crate::root().join(main).canonicalize()?;
    let mut packages = Vec::new();
    for parent in [wit.join("deps"), wit] {
        for folder in sorted_folders(&parent)? {
            if folder.file_name().is_some_and(|name| name != "deps")
                && folder.canonicalize()? != main
            {
                packages.push(UnresolvedPackageGroup::parse_dir(&folder)?);
            }
        }
    }
    Ok(packages)
}

fn sorted_folders(parent: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bindings_say_what_the_wit_says() {
        super::run(&["--check".to_owned()]).unwrap();
    }
}
