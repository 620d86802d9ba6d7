//! The tools of other languages: fetched once from the registries of their languages, in versions and with hashes that
//! this program knows, and kept in a folder of the author's.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, anyhow, bail};

use crate::cli::failure::Lacking;
use crate::cli::output;
use crate::ids::Digest;

/// What to fetch, and with what.
pub(super) struct Toolchain {
    /// For people, and in the name of the folder: `js`.
    pub(super) name: &'static str,
    /// Files that say versions and hashes. A change of them is another toolchain.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The program that fetches, with its arguments, run where the files are.
    pub(super) fetch: &'static [&'static str],
    /// What to install if that program is not there.
    pub(super) needs: &'static str,
    /// Where it comes from.
    pub(super) source: &'static str,
}

impl Toolchain {
    /// The folder with the tools, fetched if they are not there yet.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        let all = cache()?.join("toolchains");
        let content: String = self.files.iter().map(|(_, text)| *text).collect();
        let digest = Digest::of(content.as_bytes()).to_string();
        let folder = all.join(format!("{}-{}", self.name, &digest[..12]));
        if folder.is_dir() {
            return Ok(folder);
        }
        output::progress(
            "Fetching",
            &format!("the tools for {}, once, from {}", self.name, self.source),
        );
        fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
        // Beside its place, so that it appears there whole or not at all.
        let fetched = tempfile::Builder::new()
            .prefix("fetching-")
            .tempdir_in(&all)
            .with_context(|| format!("cannot write to {}", all.display()))?;
        for (name, text) in self.files {
            fs::write(fetched.path().join(name), text)?;
        }
        let [program, arguments @ ..] = self.fetch else {
            bail!("there is no way to fetch the tools for {}", self.name);
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(fetched.path());
        run(&mut command, self.needs).map_err(|error| {
            if error.is::<Lacking>() {
                return error;
            }
            let what = format!(
                "the tools for {} could not be fetched from {}; they are needed once, connect and try again",
                self.name, self.source
            );
            Lacking(format!("{what} ({error})")).into()
        })?;
        match fs::rename(fetched.path(), &folder) {
            Ok(()) => drop(fetched.keep()),
            // Somebody else was faster.
            Err(_) if folder.is_dir() => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", folder.display()));
            }
        }
        Ok(folder)
    }
}

/// Where things are kept that can be fetched or made again.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let home = |below: &str| set("HOME").map(|home| Path::new(&home).join(below));
    set("GANTRY_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("XDG_CACHE_HOME")?).join("gantry")))
        .or_else(|| home(".cache/gantry"))
        .context("set GANTRY_CACHE_DIR to a folder for the tools: there is no HOME")
}

/// Runs a tool. What it prints is shown if it fails.
pub(super) fn run(command: &mut Command, needs: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let name = Path::new(&program).file_name().unwrap_or(OsStr::new("?"));
    let name = name.to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Lacking(format!("there is no `{name}` on the PATH: {needs}")).into()
        } else {
            anyhow!(error).context(format!("cannot start `{name}`"))
        }
    })?;
    if !output.status.success() {
        let told = [output.stdout, output.stderr].concat();
        eprint!("{}", String::from_utf8_lossy(&told));
        bail!("`{name}` failed ({})", output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_to_install() {
        let mut command = Command::new("/nowhere/no-such-tool");
        let error = run(&mut command, "install the tool")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "there is no `no-such-tool` on the PATH: install the tool"
        );
    }

    #[test]
    fn a_tool_that_fails_is_named() {
        let error = run(Command::new("false").arg("x"), "").unwrap_err();
        assert!(error.to_string().starts_with("`false` failed ("), "{error}");
    }
}
