//! Builds plugins that are not written in Rust: lays the language's kit beside the author's sources, fetches the tools
//! that make a component of both, and runs them. All of it on the author's machine; the server sees a component.

mod c;
mod javascript;
mod kit;
mod names;
mod python;
mod toolchain;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::plugins::manifest::{Language, Manifest};

/// Where the build keeps what it makes on the way, below the plugin's folder.
const SCRATCH: &str = "target/gantry";

/// Writes the kit of the language into the plugin's folder, as far as it is not there already.
pub(super) fn lay(folder: &Path, manifest: &Manifest, language: Language) -> anyhow::Result<()> {
    kit::lay(folder, &manifest.capabilities, language)
}

/// Builds the plugin in this folder, and leaves the component where the manifest says.
pub(super) fn build(folder: &Path, manifest: &Manifest, language: Language) -> anyhow::Result<()> {
    // The tools run in the folder, so that they name files as the author does.
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let scratch = folder.join(SCRATCH);
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    lay(&folder, manifest, language)?;
    let wit = world::write(&scratch, &manifest.capabilities, language)?;
    let place = Place {
        folder,
        scratch,
        wit,
    };
    let component = match language {
        Language::JavaScript => javascript::build(&place)?,
        Language::Python => python::build(&place)?,
        Language::C => c::build(&place)?,
    };
    let path = place.folder.join(&manifest.component.path);
    let parent = path.parent().unwrap_or(&place.folder);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::write(&path, component).with_context(|| format!("cannot write {}", path.display()))
}

/// Where everything of one build is, as whole paths.
struct Place {
    /// With `plugin.toml`.
    folder: PathBuf,
    /// For what is made on the way.
    scratch: PathBuf,
    /// The contract, as far as this plugin may use it.
    wit: PathBuf,
}

impl Place {
    /// A source that must be there.
    fn source(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        anyhow::ensure!(
            path.is_file(),
            "there is no {name} in {}: that is where the plugin begins",
            self.folder.display()
        );
        Ok(path)
    }

    /// What a tool has left in this file.
    fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
        fs::read(path).with_context(|| format!("the build left no {}", path.display()))
    }
}
