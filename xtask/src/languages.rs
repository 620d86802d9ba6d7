//! Builds the plugins that are not in Rust, with `gantry plugin build` as an author would, and measures what each language
//! costs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};

use crate::{command, guests, test};

/// Where they are: folders of folders.
const FOLDERS: &[&str] = &["examples", "tests/languages"];

/// What the build command of a plugin begins with whose author has chosen tools from npm.
const NPM: &str = "command = \"npm ci";

/// What they are made of, beside their own files.
const SHARED: &[&str] = &["host/src/cli/plugin/language", "languages", "wit"];

/// What `gantry` exits with if the machine lacks a program or a connection.
const LACKING: i32 = 3;

/// The languages that are measured.
const MEASURED: &[&str] = &["rust", "js", "python", "c"];

/// Builds all of them. With `--measure` says what each language costs, in a release build; with `--dev` in the build that
/// is there, whose figures mean nothing, to see that it works.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    match options {
        [] => {
            test::build_server()?;
            prepare().map(drop)
        }
        [measure] if measure == "--measure" => self::measure("release"),
        [measure, dev] if measure == "--measure" && dev == "--dev" => self::measure("debug"),
        _ => bail!("`cargo xtask languages` takes only `--measure`, and with it `--dev`"),
    }
}

/// Builds what has changed, with the `gantry` of the tests. Languages whose tools cannot be had are returned, after saying
/// so.
pub(crate) fn prepare() -> anyhow::Result<Vec<String>> {
    let gantry = guests::target_folder().join("debug/gantry");
    let mut without = BTreeSet::new();
    for plugin in plugins()? {
        if without.contains(&plugin.language) || plugin.is_current()? {
            continue;
        }
        if plugin.build(&gantry)?.is_none() {
            eprintln!(
                "\nLEFT OUT: plugins in {}. What builds them is not to be had here (see above).",
                plugin.language
            );
            without.insert(plugin.language);
        }
    }
    Ok(without.into_iter().collect())
}

/// A plugin that is not in Rust.
struct Plugin {
    folder: PathBuf,
    language: String,
}

fn plugins() -> anyhow::Result<Vec<Plugin>> {
    let (mut plugins, mut with_npm) = (Vec::new(), Vec::new());
    for folder in FOLDERS {
        for entry in fs::read_dir(crate::root().join(folder))? {
            let folder = entry?.path();
            let Ok(manifest) = fs::read_to_string(folder.join("plugin.toml")) else {
                continue;
            };
            let mut lines = manifest.lines();
            if let Some(word) = lines.find_map(|line| line.strip_prefix("language = \"")) {
                let language = word.trim_end_matches('"').to_owned();
                plugins.push(Plugin { folder, language });
            } else if manifest.contains(NPM) {
                let language = "js".to_owned();
                with_npm.push(Plugin { folder, language });
            }
        }
    }
    plugins.sort_by(|one, other| one.folder.cmp(&other.folder));
    // Last: whether npm works is known by then.
    plugins.extend(with_npm);
    Ok(plugins)
}

impl Plugin {
    fn component(&self) -> PathBuf {
        self.folder.join("target/plugin.wasm")
    }

    /// Whether nothing it is made of has changed since it was built.
    fn is_current(&self) -> anyhow::Result<bool> {
        let Ok(built) = fs::metadata(self.component()).and_then(|file| file.modified()) else {
            return Ok(false);
        };
        let mut newest = newest(&self.folder.join("src"))?;
        newest = newest.max(fs::metadata(self.folder.join("plugin.toml"))?.modified()?);
        for shared in SHARED {
            newest = newest.max(self::newest(&crate::root().join(shared))?);
        }
        Ok(newest < built)
    }

    /// Makes its sources new, so that they are built again.
    fn touch(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.folder.join("src"))? {
            let file = fs::File::options().append(true).open(entry?.path())?;
            file.set_modified(SystemTime::now())?;
        }
        Ok(())
    }

    /// How long it took; nothing if the machine lacks what it takes.
    fn build(&self, gantry: &Path) -> anyhow::Result<Option<Duration>> {
        let mut command = Command::new(gantry);
        command
            .args(["plugin", "build"])
            .arg(&self.folder)
            .current_dir(crate::root());
        let began = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("cannot start {}", gantry.display()))?;
        match status.code() {
            Some(0) => Ok(Some(began.elapsed())),
            Some(LACKING) => Ok(None),
            _ => bail!("{} does not build ({status})", self.folder.display()),
        }
    }
}

/// When the newest file below a folder was changed.
fn newest(folder: &Path) -> anyhow::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let time = match entry.file_type()?.is_dir() {
            true => self::newest(&entry.path())?,
            false => entry.metadata()?.modified()?,
        };
        newest = newest.max(time);
    }
    Ok(newest)
}

/// Builds the plugin that `gantry plugin new` makes in each language, and lets the benchmarks measure it.
fn measure(profile: &str) -> anyhow::Result<()> {
    guests::add_target()?;
    if profile == "release" {
        let packages = ["-p", "gantry", "-p", "gantry-bench"];
        command::run(command::cargo(&["build", "--release"]).args(packages))?;
    } else {
        command::run(command::cargo(&["build", "--bins"]).args(test::SELECTION))?;
    }
    let built = guests::target_folder().join(profile);
    let gantry = built.join("gantry");
    let all = guests::target_folder().join("languages");
    if all.exists() {
        fs::remove_dir_all(&all)?;
    }
    let mut plugins = Vec::new();
    for language in MEASURED {
        let folder = all.join(language);
        fs::create_dir_all(&folder)?;
        command::run(
            Command::new(&gantry)
                .args(["plugin", "new", "hello", "--lang", language])
                .current_dir(&folder),
        )?;
        let plugin = Plugin {
            folder: folder.join("hello"),
            language: (*language).to_owned(),
        };
        // Once so that the tools are there, and then again for the time.
        if plugin.build(&gantry)?.is_none() {
            continue;
        }
        plugin.touch()?;
        if let Some(took) = plugin.build(&gantry)? {
            let (folder, seconds) = (plugin.folder.display(), took.as_secs_f64());
            plugins.push(format!("{language}={folder}={seconds:.1}"));
        }
    }
    let mut bench = Command::new(built.join("gantry-bench"));
    command::run(bench.arg("languages").args(plugins))
}
