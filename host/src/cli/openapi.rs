//! `gantry openapi …`: the document of what is live, or of a manifest, for other programs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::openapi::postman;
use crate::plugins::describe::{self, About, Description, Selection};
use crate::plugins::manifest::Manifest;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the OpenAPI document of what is live, or of a plugin.toml.
    Export(Args),
    /// Write a collection for Postman, which Insomnia and Bruno read, too.
    Postman(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a document is of.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Source {
    /// Of this manifest, or the plugin.toml in this folder, instead of the server.
    #[arg(long, value_name = "PATH")]
    manifest: Option<PathBuf>,
    /// Only this plugin.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Only this version of the API, and what is in none.
    #[arg(long, value_name = "NAME")]
    api_version: Option<String>,
    /// Only this group.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

impl Source {
    /// Whether login and accounts cannot be in the document.
    pub(super) fn is_of_plugins_only(&self) -> bool {
        self.manifest.is_some() || self.plugin.is_some() || self.api_version.is_some()
    }
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let (args, is_postman) = match command {
        Command::Export(args) => (args, false),
        Command::Postman(args) => (args, true),
    };
    let document = document(&args.source, server).await?;
    let result = if is_postman {
        postman::collection(&document, &Client::new(server)?.address(""))
    } else {
        document
    };
    let Some(file) = args.output else {
        return output::print_json(&result);
    };
    let text = serde_json::to_string_pretty(&result)? + "\n";
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    output::progress("Written", &file.display().to_string());
    Ok(())
}

/// The document of a manifest, or of what is live on the server.
pub(super) async fn document(source: &Source, server: &Options) -> anyhow::Result<Value> {
    if let Some(path) = &source.manifest {
        return of_manifest(path, source);
    }
    let given = [
        ("plugin", &source.plugin),
        ("version", &source.api_version),
        ("tag", &source.tag),
    ];
    let query: Vec<(&str, &str)> = given
        .iter()
        .filter_map(|(key, value)| Some((*key, value.as_deref()?)))
        .collect();
    let client = Client::new(server)?;
    client.get_with(&["documentation"], &query).await
}

fn of_manifest(path: &Path, source: &Source) -> anyhow::Result<Value> {
    let file = if path.is_dir() {
        path.join("plugin.toml")
    } else {
        path.to_owned()
    };
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let manifest = Manifest::parse(&text).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} has mistakes:\n  {}", file.display(), told.join("\n  "))
    })?;
    // Where it hangs unless the operator says otherwise.
    let description = Description::of(&manifest, &format!("/{}", manifest.plugin.name));
    let about = About {
        title: description.title.clone(),
        version: description.version.clone(),
        description: description.text.clone().unwrap_or_default(),
    };
    let selection = Selection {
        plugin: source.plugin.clone(),
        version: source.api_version.clone(),
        tag: source.tag.clone(),
    };
    Ok(describe::document(
        &about,
        [&description],
        &selection,
        |_, _| true,
    ))
}
