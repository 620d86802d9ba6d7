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
    /// Run by the command line in the manifest's folder, never by the server.
    pub command: String,
    /// Files and folders whose change means to build again.
    pub watch: Vec<String>,
}

impl Build {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<Self> {
        let command = fields.required_string(reader, "command", 1024);
        let watch = fields.strings(reader, "watch", ENTRIES_MAX, 1024);
        fields.finish(reader, &[], &[]);
        Some(Self {
            command: (*command?.get_ref()).to_owned(),
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
