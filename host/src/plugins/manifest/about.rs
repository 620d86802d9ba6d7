//! The parts of a manifest that describe the plugin and how its author builds it.

use super::ENTRIES_MAX;
use super::reader::{Fields, Reader, refuse_duplicates};
use crate::ids::{Permission, PluginName};

/// `[plugin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Fixed for the life of the plugin.
    pub name: PluginName,
    /// For people; a deployment is told from others by its id.
    pub version: semver::Version,
    /// One sentence for the operator.
    pub description: Option<String>,
    /// An SPDX expression by convention; not checked.
    pub license: Option<String>,
}

impl About {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let name = fields.required_parsed(reader, "name");
        let version = fields.required_parsed(reader, "version");
        let description = fields.string(reader, "description", 500);
        let license = fields.string(reader, "license", 100);
        fields.finish(
            reader,
            &["authors", "homepage", "id", "repository", "tags"],
            &[("licence", "did you mean `license`?")],
        );
        Some(Self {
            name: name?.into_inner(),
            version: version?.into_inner(),
            description: description.map(|text| (*text.get_ref()).to_owned()),
            license: license.map(|text| (*text.get_ref()).to_owned()),
        })
    }
}

/// `[component]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The file that the build leaves, relative to the manifest. In a bundle the component is always `plugin.wasm`.
    pub path: String,
}

impl Component {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let path = fields.required_string(reader, "path", 1024);
        fields.finish(reader, &["worlds"], &[]);
        Some(Self {
            path: (*path?.get_ref()).to_owned(),
        })
    }
}

/// `[build]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// What makes the component.
    pub step: BuildStep,
    /// Files and folders whose change means to build again.
    pub watch: Vec<String>,
}

/// What makes the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildStep {
    /// Run by the command line in the manifest's folder, never by the server.
    Command(String),
    /// The command line knows how to build plugins of this language, and fetches what that needs.
    Language(Language),
}

/// A language whose plugins the command line builds by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `src/plugin.js`
    JavaScript,
    /// `src/plugin.py`
    Python,
    /// All of `src/*.c`
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::JavaScript, Self::Python, Self::C];

    /// As it is written in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

impl Build {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let command = fields.string(reader, "command", 1024);
        let language = fields.string(reader, "language", 100);
        let watch = fields.strings(reader, "watch", ENTRIES_MAX, 1024);
        let span = fields.span();
        // What is there but no string has been told of.
        let is_read = fields.has("command") == command.is_some()
            && fields.has("language") == language.is_some();
        fields.finish(reader, &[], &[("lang", "did you mean `language`?")]);
        let step = match (command, language) {
            _ if !is_read => return None,
            (Some(command), None) => BuildStep::Command((*command.get_ref()).to_owned()),
            (None, Some(language)) => {
                let mut all = Language::ALL.into_iter();
                let Some(known) = all.find(|known| known.word() == *language.get_ref()) else {
                    let message = format!("`{}` is not a known language", language.get_ref());
                    let help = "write `js`, `python` or `c`, or a `command` that builds it";
                    reader.mistake_with_help(language.span(), message, help);
                    return None;
                };
                BuildStep::Language(known)
            }
            (command, _) => {
                let message = match command {
                    Some(_) => "`[build]` has both `command` and `language`",
                    None => "`[build]` has neither `command` nor `language`",
                };
                let help = "say how it is built: a `command`, or the `language` it is written in";
                reader.mistake_with_help(span, message, help);
                return None;
            }
        };
        Some(Self {
            step,
            watch: watch
                .into_iter()
                .map(|path| (*path.get_ref()).to_owned())
                .collect(),
        })
    }
}

/// `[[permission]]`: a right that roles may carry and routes may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredPermission {
    /// For example `reservations.write`.
    pub name: Permission,
    /// What somebody may do who has it.
    pub description: Option<String>,
}

impl DeclaredPermission {
    pub(super) fn read_all(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<Self> {
        let mut names = Vec::new();
        let mut permissions = Vec::new();
        for mut fields in fields.tables(reader, "permission", "`[[permission]]`", ENTRIES_MAX) {
            let name = fields.required_parsed::<Permission>(reader, "name");
            let description = fields.string(reader, "description", 500);
            fields.finish(reader, &[], &[]);
            if let Some(name) = name {
                names.push((name.span(), name.get_ref().clone()));
                permissions.push(Self {
                    name: name.into_inner(),
                    description: description.map(|text| (*text.get_ref()).to_owned()),
                });
            }
        }
        refuse_duplicates(reader, "the permission", names);
        permissions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::Manifest;

    const HEAD: &str = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.2.3\"\n[component]\npath = \"shop.wasm\"\n";

    #[test]
    fn a_build_is_a_command_or_a_language() {
        for language in Language::ALL {
            let text = format!("{HEAD}[build]\nlanguage = \"{}\"\n", language.word());
            let build = Manifest::parse(&text).unwrap().build.unwrap();
            assert_eq!(build.step, BuildStep::Language(language));
        }
        for (build, told) in [
            (
                "language = \"cobol\"",
                "8:12: `cobol` is not a known language (write `js`, `python` or `c`, or a `command` that builds it)",
            ),
            (
                "language = \"js\"\ncommand = \"make\"",
                "7:1: `[build]` has both `command` and `language` (say how it is built: a `command`, or the `language` it is \
                 written in)",
            ),
            (
                "watch = []",
                "7:1: `[build]` has neither `command` nor `language` (say how it is built: a `command`, or the `language` it \
                 is written in)",
            ),
            (
                "language = 1",
                "8:12: `language` must be a string, not a whole number",
            ),
        ] {
            let text = format!("{HEAD}[build]\n{build}\n");
            let mistakes = Manifest::parse(&text).unwrap_err();
            assert_eq!(mistakes[0].to_string(), format!("plugin.toml:{told}"));
            assert_eq!(mistakes.len(), 1);
        }
    }
}
