//! `gantry plugin dev`: builds and deploys with every change, into a server that runs, and shows what the plugin logs.
//! At the end the last good version stays live.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::admin::status::StatusBody;
use crate::cli::client::{Client, Options};
use crate::cli::plugin::deploy::{self, Place, Sending};
use crate::cli::plugin::logs;
use crate::cli::plugin::project::{BuildFailed, Packed, Project};
use crate::cli::plugin::signing::SigningArgs;
use crate::cli::plugin::watch::Watch;
use crate::cli::{failure, output};
use crate::ids::Digest;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The folder of the plugin.
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    signing: SigningArgs,
    /// Grant everything that the plugin asks for. On a server of this machine that is so without being said.
    #[arg(long)]
    grant_all: bool,
}

/// How long to wait before the logs are asked for again, when the server is away.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let project = Project::open(&args.dir)?;
    let name = project.manifest.plugin.name.to_string();
    let grants_all = args.grant_all || client.is_local();
    if grants_all && client.is_local() {
        output::progress(
            "Granting",
            "everything that plugin.toml asks for, because the server is on this machine",
        );
    }
    tell_of_answers(&client).await;
    let mut session = Session {
        client: client.clone(),
        dir: args.dir,
        place: args.place,
        signing: args.signing,
        grants_all,
        live: None,
    };
    tokio::select! {
        ended = session.go_on() => ended?,
        () = show_logs(&client, &name) => {}
        _ = tokio::signal::ctrl_c() => eprintln!(),
    }
    match session.live {
        Some(_) => {
            output::progress(
                "Stopped",
                &format!("the last good version of {name} stays live"),
            );
            output::next(&format!("gantry plugin logs {name} --follow"));
        }
        None => output::progress("Stopped", "nothing was deployed"),
    }
    Ok(())
}

/// Tells whether this server holds answers against what the manifest says of them: an author who counts on it should know. A
/// server that is away, or does not tell this account, is met again soon enough.
async fn tell_of_answers(client: &Client) {
    let Ok(status) = client.get::<StatusBody>(&["status"]).await else {
        return;
    };
    let (verb, what) = match status.answers_are_checked {
        true => (
            "Checking",
            "answers against the `response_schema` of their routes",
        ),
        false => (
            "Unchecked",
            "answers are not held against `response_schema` on this server; to have that while developing, start it with \
             GANTRY_GATEWAY__ANSWERS_ARE_CHECKED=true (`answers_are_checked` under `[gateway]`)",
        ),
    };
    output::progress(verb, what);
}

struct Session {
    client: Client,
    dir: PathBuf,
    place: Place,
    signing: SigningArgs,
    grants_all: bool,
    /// Of the bundle that was deployed last.
    live: Option<Digest>,
}

impl Session {
    async fn go_on(&mut self) -> anyhow::Result<()> {
        let mut patterns = patterns(&self.dir);
        // Before the first build, so that a change during it is not missed.
        let mut watch = Watch::start(&self.dir, &patterns)?;
        let mut began = Instant::now();
        loop {
            if let Err(error) = self.once(began).await {
                tell(&error);
                output::progress("Waiting", "for the next change");
            }
            let Some(path) = watch.changed().await else {
                return Ok(());
            };
            began = Instant::now();
            output::progress("Changed", &shown(&self.dir, &path));
            let now = self::patterns(&self.dir);
            if now != patterns {
                patterns = now;
                watch = Watch::start(&self.dir, &patterns)?;
            }
        }
    }

    async fn once(&mut self, began: Instant) -> anyhow::Result<()> {
        let dir = self.dir.clone();
        // Off this thread, so that logs go on while it builds.
        let (packed, build) = tokio::task::spawn_blocking(move || build(&dir)).await??;
        let digest = Digest::of(&packed.bytes);
        if self.live == Some(digest) {
            output::progress("Unchanged", "the build gave the same plugin");
            return Ok(());
        }
        let sending = Sending {
            bytes: self.signing.apply(packed.bytes)?,
            source: None,
            allows_downgrade: false,
            // What is being written has no callers yet.
            allows_breaking: true,
            place: &self.place,
            name: None,
            grants_all: self.grants_all,
            reason: Some("gantry plugin dev"),
            canary: None,
        };
        let deployed = deploy::send(&self.client, sending).await?;
        let is_first = self.live.replace(digest).is_none();
        if is_first {
            deploy::tell(&self.client, &deployed);
        } else {
            let deployment = &deployed.deployment;
            let times = format!(
                "{} ms, of which the build {} ms",
                began.elapsed().as_millis(),
                build.as_millis()
            );
            output::progress(
                "Live",
                &format!("{} {} after {times}", deployment.plugin, deployment.version),
            );
        }
        Ok(())
    }
}

fn build(dir: &Path) -> anyhow::Result<(Packed, Duration)> {
    let project = Project::open(dir)?;
    let about = &project.manifest.plugin;
    output::progress("Building", &format!("{} {}", about.name, about.version));
    let took = project.build()?;
    Ok((project.pack()?, took))
}

fn tell(error: &anyhow::Error) {
    // The build has printed its errors itself.
    if error.is::<BuildFailed>() {
        output::progress("Failed", &error.to_string());
    } else {
        eprint!("{}", failure::render(error));
    }
}

/// What to watch: what `[build] watch` names, or the sources; and always what decides about the plugin.
fn patterns(dir: &Path) -> Vec<String> {
    let mut patterns = vec!["plugin.toml".to_owned(), "Cargo.toml".to_owned()];
    match Project::open(dir) {
        Ok(project) => {
            let sql = &project.manifest.capabilities.sql;
            patterns.extend(
                sql.iter()
                    .filter_map(|database| database.migrations.clone()),
            );
            match project.manifest.build {
                Some(build) if !build.watch.is_empty() => patterns.extend(build.watch),
                _ => patterns.push("src/**".to_owned()),
            }
        }
        Err(_) => patterns.push("src/**".to_owned()),
    }
    patterns
}

fn shown(dir: &Path, path: &Path) -> String {
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    path.strip_prefix(folder)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Shows what the plugin logs, also after the server was away.
async fn show_logs(client: &Client, name: &str) {
    let mut has_complained = false;
    loop {
        if let Err(error) = logs::follow(client, name, None, false).await
            && !std::mem::replace(&mut has_complained, true)
        {
            output::warn(&format!(
                "the logs of {name} cannot be shown now: {error:#}"
            ));
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"shop.wasm\"\n";

    #[test]
    fn the_manifest_says_what_is_watched_and_sources_are_watched_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("plugin.toml"), text).unwrap();
        write(HEAD);
        assert_eq!(
            patterns(dir.path()),
            ["plugin.toml", "Cargo.toml", "src/**"]
        );
        write(&format!(
            "{HEAD}[build]\ncommand = \"make\"\nwatch = [\"lib\", \"*.c\"]\n"
        ));
        assert_eq!(
            patterns(dir.path()),
            ["plugin.toml", "Cargo.toml", "lib", "*.c"]
        );
        write(&format!(
            "{HEAD}[capabilities]\nsql = [{{ label = \"main\", migrations = \"migrations\" }}]\n"
        ));
        assert_eq!(
            patterns(dir.path()),
            ["plugin.toml", "Cargo.toml", "migrations", "src/**"]
        );
        write("not a manifest");
        assert_eq!(
            patterns(dir.path()),
            ["plugin.toml", "Cargo.toml", "src/**"]
        );
    }
}
