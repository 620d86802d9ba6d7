//! A plugin's folder on this machine: its manifest, its build and its bundle.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;

use crate::cli::plugin::language;
use crate::plugins::Mistake;
use crate::plugins::bundle::{self, Bundle, pack};
use crate::plugins::manifest::{BuildStep, Manifest};
use crate::plugins::mistake;
use crate::plugins::validate::{Ceilings, Grants, ValidPlugin, validate};

/// A folder with a `plugin.toml` that can be read.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

/// A built plugin as it is sent to the server.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) bytes: Bytes,
    pub(super) plugin: ValidPlugin,
}

/// What is wrong with a plugin, every mistake on a line of its own as `path/plugin.toml:12:3: …`.
#[derive(Debug, thiserror::Error)]
pub(super) struct Mistakes {
    manifest: PathBuf,
    mistakes: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the plugin has {}", mistake::count(&self.mistakes))?;
        for mistake in &self.mistakes {
            let place = mistake
                .location
                .map(|location| format!("{}:{location}: ", self.manifest.display()));
            write!(f, "\n  {}{}", place.unwrap_or_default(), mistake.message)?;
            if let Some(help) = &mistake.help {
                write!(f, "\n      help: {help}")?;
            }
        }
        Ok(())
    }
}

/// The author's build did not succeed; what it printed says why.
#[derive(Debug, thiserror::Error)]
#[error("the build failed ({status}): {command}")]
pub(super) struct BuildFailed {
    command: String,
    status: ExitStatus,
}

impl Project {
    /// Reads `plugin.toml` in this folder.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("plugin.toml");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "there is no plugin in {}: cannot read plugin.toml",
                folder.display()
            )
        })?;
        let manifest = Manifest::parse(&text).map_err(|mistakes| Mistakes {
            manifest: path,
            mistakes,
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// Builds what the manifest says how to, and says how long it took.
    pub(super) fn build(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        match self.manifest.build.as_ref().map(|build| &build.step) {
            None => return Ok(Duration::ZERO),
            Some(BuildStep::Command(command)) => self.run(command)?,
            Some(BuildStep::Language(language)) => {
                language::build(&self.folder, &self.manifest, *language)?;
            }
        }
        Ok(began.elapsed())
    }

    /// Runs the manifest's build command. What it prints goes to standard error as it comes, so that standard output
    /// stays for results.
    fn run(&self, command: &str) -> anyhow::Result<()> {
        let status = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.folder)
            // The manifest says where the result is; a target directory of the caller's would put it elsewhere.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET_DIR")
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("cannot run the build: {command}"))?;
        if !status.success() {
            return Err(BuildFailed {
                command: command.to_owned(),
                status,
            }
            .into());
        }
        Ok(())
    }

    /// Packs what was built, and checks it as the server will.
    pub(super) fn pack(&self) -> anyhow::Result<Packed> {
        check(
            pack(&self.folder, &bundle::Config::default())?,
            &self.folder.join("plugin.toml"),
        )
    }

    /// The name that the bundle's file has.
    pub(super) fn file_name(&self) -> String {
        let about = &self.manifest.plugin;
        format!("{}-{}.gantry", about.name, about.version)
    }
}

/// Checks a bundle as the server will, as if everything it asks for were granted. `manifest` is what mistakes are
/// said to be in.
pub(super) fn check(bytes: Bytes, manifest: &Path) -> anyhow::Result<Packed> {
    let bundle = Bundle::read(&bytes, &bundle::Config::default())?;
    let mistaken = |mistakes| Mistakes {
        manifest: manifest.to_owned(),
        mistakes,
    };
    let parsed = Manifest::parse(&bundle.manifest).map_err(mistaken)?;
    let plugin =
        validate(bundle, &Grants::all_of(&parsed), &Ceilings::default()).map_err(mistaken)?;
    Ok(Packed { bytes, plugin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(manifest: &str) -> (tempfile::TempDir, anyhow::Result<Project>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plugin.toml"), manifest).unwrap();
        let project = Project::open(dir.path());
        (dir, project)
    }

    #[test]
    fn every_mistake_is_shown_with_file_line_and_column() {
        let (dir, project) = project("schema = 1\n[plugin]\nname = \"Shop\"\nversion = \"1\"\n");
        let text = project.unwrap_err().to_string();
        let place = dir.path().join("plugin.toml").display().to_string();
        assert!(text.starts_with("the plugin has "), "{text}");
        assert!(text.contains(&format!("\n  {place}:3:8: ")), "{text}");
        assert!(text.contains(&format!("\n  {place}:4:11: ")), "{text}");
    }

    #[test]
    fn a_build_that_fails_names_its_command() {
        let (_dir, project) = project(
            "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"shop.wasm\"\n\
             [build]\ncommand = \"exit 3\"\n",
        );
        let text = project.unwrap().build().unwrap_err().to_string();
        assert!(text.contains("exit 3"), "{text}");
    }

    #[test]
    fn the_build_runs_in_the_folder_of_the_plugin_and_puts_its_result_where_the_manifest_says() {
        let (dir, project) = project(
            "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"shop.wasm\"\n\
             [build]\ncommand = \"echo ${CARGO_TARGET_DIR:-none} > built\"\n",
        );
        project.unwrap().build().unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join("built")).unwrap(),
            "none\n"
        );
    }
}
