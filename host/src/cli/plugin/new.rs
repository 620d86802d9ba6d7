//! `gantry plugin new`: writes a small project that builds, tests and deploys as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::cli::output;
use crate::cli::plugin::language;
use crate::cli::plugin::project::Project;
use crate::ids::PluginName;
use crate::plugins::manifest::Language;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The name of the plugin, and of its folder.
    name: PluginName,
    /// What the plugin begins as.
    #[arg(long, value_enum, default_value_t)]
    template: Template,
    /// What it is written in.
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// The folder of the `gantry-sdk` crate. Default: one in a folder above, else the published version.
    #[arg(long, env = "GANTRY_SDK_PATH", value_name = "DIR")]
    sdk_path: Option<PathBuf>,
}

/// What a plugin begins as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Template {
    /// Answers HTTP requests.
    #[default]
    Http,
    /// Turns one document into another.
    Transform,
    /// Stands before and behind the routes of other plugins.
    Filter,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// With the crate `gantry-sdk`.
    #[default]
    Rust,
    /// JavaScript, which runs in QuickJS.
    Js,
    /// Python, which runs in CPython.
    Python,
    /// C, with the C library of WASI.
    C,
}

/// A path in the plugin's folder, and what stands there.
type File = (&'static str, &'static str);

impl Lang {
    /// The language that the command line builds by itself, and the files of a plugin in it.
    fn files(self) -> Option<(Language, [File; 3])> {
        match self {
            Self::Rust => None,
            Self::Js => Some((
                Language::JavaScript,
                [
                    (
                        "plugin.toml",
                        include_str!("templates/js/plugin.toml.template"),
                    ),
                    (
                        "src/plugin.js",
                        include_str!("templates/js/plugin.js.template"),
                    ),
                    ("README.md", include_str!("templates/js/README.md.template")),
                ],
            )),
            Self::Python => Some((
                Language::Python,
                [
                    (
                        "plugin.toml",
                        include_str!("templates/python/plugin.toml.template"),
                    ),
                    (
                        "src/plugin.py",
                        include_str!("templates/python/plugin.py.template"),
                    ),
                    (
                        "README.md",
                        include_str!("templates/python/README.md.template"),
                    ),
                ],
            )),
            Self::C => Some((
                Language::C,
                [
                    (
                        "plugin.toml",
                        include_str!("templates/c/plugin.toml.template"),
                    ),
                    (
                        "src/plugin.c",
                        include_str!("templates/c/plugin.c.template"),
                    ),
                    ("README.md", include_str!("templates/c/README.md.template")),
                ],
            )),
        }
    }
}

const IGNORED: File = (".gitignore", include_str!("templates/gitignore.template"));

/// The files of a plugin in Rust that do not differ.
const COMMON: [File; 3] = [
    ("Cargo.toml", include_str!("templates/Cargo.toml.template")),
    (
        ".cargo/config.toml",
        include_str!("templates/cargo_config.toml.template"),
    ),
    IGNORED,
];

impl Template {
    fn files(self) -> [File; 3] {
        match self {
            Self::Http => [
                (
                    "plugin.toml",
                    include_str!("templates/http/plugin.toml.template"),
                ),
                ("src/lib.rs", include_str!("templates/http/lib.rs.template")),
                (
                    "README.md",
                    include_str!("templates/http/README.md.template"),
                ),
            ],
            Self::Transform => [
                (
                    "plugin.toml",
                    include_str!("templates/transform/plugin.toml.template"),
                ),
                (
                    "src/lib.rs",
                    include_str!("templates/transform/lib.rs.template"),
                ),
                (
                    "README.md",
                    include_str!("templates/transform/README.md.template"),
                ),
            ],
            Self::Filter => [
                (
                    "plugin.toml",
                    include_str!("templates/filter/plugin.toml.template"),
                ),
                (
                    "src/lib.rs",
                    include_str!("templates/filter/lib.rs.template"),
                ),
                (
                    "README.md",
                    include_str!("templates/filter/README.md.template"),
                ),
            ],
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let here = std::env::current_dir()?;
    let folder = here.join(args.name.as_str());
    if let Some((language, files)) = args.lang.files() {
        if args.template != Template::Http {
            bail!("this template is for Rust only; leave --template or --lang out");
        }
        write_in(language, &folder, &args.name, files)?;
        return tell(&args.name);
    }
    let sdk = match &args.sdk_path {
        Some(path) => Some(sdk_at(path)?),
        None => here
            .ancestors()
            .map(|above| above.join("plugin-sdk"))
            .find(|path| is_sdk(path)),
    };
    write(&folder, &args.name, args.template, sdk.as_deref())?;
    tell(&args.name)
}

fn tell(name: &PluginName) -> anyhow::Result<()> {
    output::progress("Created", &format!("{name}/"));
    output::next(&format!("cd {name} && gantry plugin dev"));
    Ok(())
}

/// A plugin in a language that the command line builds, with the kit, so that an editor finds it at once.
fn write_in(
    language: Language,
    folder: &Path,
    name: &PluginName,
    files: [File; 3],
) -> anyhow::Result<()> {
    refuse_taken(folder)?;
    for (path, text) in files.into_iter().chain([IGNORED]) {
        write_file(folder, path, &text.replace("{{name}}", name.as_str()))?;
    }
    language::lay(folder, &Project::open(folder)?.manifest, language)
}

fn write(
    folder: &Path,
    name: &PluginName,
    template: Template,
    sdk: Option<&Path>,
) -> anyhow::Result<()> {
    refuse_taken(folder)?;
    let sdk = match sdk {
        // As TOML, because a path may hold quotes.
        Some(path) => format!(
            "{{ path = {} }}",
            toml::Value::from(path.to_string_lossy().as_ref())
        ),
        None => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    };
    for (path, text) in COMMON.into_iter().chain(template.files()) {
        let text = text
            .replace("{{name}}", name.as_str())
            .replace("{{crate}}", &name.as_str().replace('-', "_"))
            .replace("{{sdk}}", &sdk);
        write_file(folder, path, &text)?;
    }
    Ok(())
}

fn refuse_taken(folder: &Path) -> anyhow::Result<()> {
    let is_taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken {
        bail!("{} is there already; choose another name", folder.display());
    }
    Ok(())
}

fn write_file(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(path);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create {}", parent.display()))?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn sdk_at(path: &Path) -> anyhow::Result<PathBuf> {
    if !is_sdk(path) {
        bail!("there is no `gantry-sdk` crate in {}", path.display());
    }
    Ok(path.canonicalize()?)
}

fn is_sdk(path: &Path) -> bool {
    std::fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|text| {
        text.lines()
            .any(|line| line.trim() == "name = \"gantry-sdk\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::{BuildStep, Manifest};

    #[test]
    fn every_template_is_a_plugin_of_the_wanted_name_without_a_mistake() {
        let name: PluginName = "my-shop".parse().unwrap();
        for template in [Template::Http, Template::Transform, Template::Filter] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("my-shop");
            write(&folder, &name, template, None).unwrap();
            let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
            let manifest = Manifest::parse(&read("plugin.toml")).unwrap();
            assert_eq!(manifest.plugin.name, name);
            assert_eq!(
                manifest.component.path,
                "target/wasm32-wasip2/release/my_shop.wasm"
            );
            assert_eq!(manifest.routes.is_empty(), template == Template::Filter);
            let cargo: toml::Table = read("Cargo.toml").parse().unwrap();
            assert_eq!(cargo["package"]["name"].as_str(), Some("my-shop"));
            assert_eq!(
                cargo["dependencies"]["gantry-sdk"].as_str(),
                Some(env!("CARGO_PKG_VERSION"))
            );
            // The derives in the sources do not compile without it.
            assert_eq!(cargo["dependencies"]["serde"].as_str(), Some("1"));
            read(".cargo/config.toml").parse::<toml::Table>().unwrap();
            assert!(read("src/lib.rs").contains("#[test]"));
            for path in [
                "README.md",
                "src/lib.rs",
                "plugin.toml",
                "Cargo.toml",
                ".gitignore",
            ] {
                assert!(!read(path).contains("{{"), "{path}");
            }
        }
    }

    #[test]
    fn a_plugin_in_another_language_has_its_source_and_its_kit() {
        let name: PluginName = "my-shop".parse().unwrap();
        for (lang, source, kit) in [
            (Lang::Js, "src/plugin.js", "gantry/index.js"),
            (Lang::Python, "src/plugin.py", "gantry/__init__.py"),
            (Lang::C, "src/plugin.c", "gantry/gantry.h"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (language, files) = lang.files().unwrap();
            write_in(language, dir.path(), &name, files).unwrap();
            let manifest = Project::open(dir.path()).unwrap().manifest;
            assert_eq!(manifest.plugin.name, name);
            assert_eq!(manifest.build.unwrap().step, BuildStep::Language(language));
            for path in [source, kit, "README.md", ".gitignore"] {
                let text = std::fs::read_to_string(dir.path().join(path)).unwrap();
                assert!(!text.contains("{{"), "{path}");
            }
            write_in(language, dir.path(), &name, files).unwrap_err();
        }
    }

    #[test]
    fn the_sdk_beside_is_used_by_its_path_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shop");
        let sdk = Path::new("/a \"quoted\" folder/sdk");
        write(&folder, &"shop".parse().unwrap(), Template::Http, Some(sdk)).unwrap();
        let cargo: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            cargo["dependencies"]["gantry-sdk"]["path"].as_str(),
            sdk.to_str()
        );
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes"), "mine").unwrap();
        let error = write(dir.path(), &"shop".parse().unwrap(), Template::Http, None).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert!(!dir.path().join("Cargo.toml").exists());
    }
}
