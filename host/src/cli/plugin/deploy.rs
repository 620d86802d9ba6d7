//! `gantry plugin deploy`: puts a folder, a bundle or a bare component on the server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;

use crate::admin::deployments::DeployedBody;
use crate::admin::grants::GrantsBody;
use crate::cli::client::{Client, ClientError, Options};
use crate::cli::failure::Usage;
use crate::cli::oci::{Reference, Remote};
use crate::cli::output;
use crate::cli::plugin::build::{build, size};
use crate::cli::plugin::project::check;
use crate::cli::plugin::signing::SigningArgs;
use crate::cli::plugin::test;
use crate::plugins::bundle::{self, Bundle, pack_component};
use crate::plugins::validate::{Grants, ValidPlugin};
use crate::runtime::EntryKind;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A folder with a plugin.toml, which is built first, a bundle (.gantry) or a component (.wasm), or one of these two in
    /// a registry: `oci://HOST/REPOSITORY:TAG` or `oci://HOST/REPOSITORY@sha256:…`.
    #[arg(default_value = ".")]
    what: PathBuf,
    #[command(flatten)]
    pub(super) place: Place,
    /// The name of the plugin. Only for a component without a manifest; otherwise plugin.toml says it.
    #[arg(long)]
    name: Option<String>,
    /// Grant everything that the plugin asks for, without a question.
    #[arg(long)]
    grant_all: bool,
    /// Take it even if it is older than what is live, where that is refused. Needs the right `platform.trust`.
    #[arg(long)]
    allow_downgrade: bool,
    /// Take it even if it does not keep what the live version promises to its callers.
    #[arg(long)]
    allow_breaking: bool,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    remote: Remote,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", alias = "note")]
    reason: Option<String>,
    /// Let it answer so many of a hundred requests at first, 0 to 99; with 0 only those that ask for it by header.
    #[arg(long, value_name = "PERCENT")]
    canary: Option<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Where a plugin's routes hang.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Place {
    /// The path before its routes. Default: where it was; for a new plugin `/` and its name.
    #[arg(long, value_name = "PATH")]
    pub(super) mount: Option<String>,
    /// Answer only requests to this host name.
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// The mount may lie below or above the one of another plugin; on the paths of both the longer one answers.
    #[arg(long)]
    pub(super) nested: bool,
}

/// What is sent to the server.
pub(super) struct Sending<'a> {
    pub(super) bytes: Bytes,
    pub(super) place: &'a Place,
    pub(super) name: Option<&'a str>,
    pub(super) grants_all: bool,
    pub(super) reason: Option<&'a str>,
    pub(super) canary: Option<u32>,
    /// Where the bytes came from, if not from here.
    pub(super) source: Option<&'a str>,
    pub(super) allows_downgrade: bool,
    pub(super) allows_breaking: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let (source, loaded) = fetch(&args).await?;
    let Loaded {
        bytes,
        plugin,
        name,
    } = loaded;
    let mut grants_all = args.grant_all;
    if let Some(plugin) = &plugin
        && !grants_all
    {
        grants_all = ask(&client, plugin).await?;
    }
    let size = size(bytes.len());
    output::progress(
        "Deploying",
        &format!("{} ({size})", title(plugin.as_ref(), name.as_deref())),
    );
    let sending = Sending {
        bytes,
        place: &args.place,
        name: name.as_deref(),
        grants_all,
        reason: args.reason.as_deref(),
        canary: args.canary,
        source: source.as_deref(),
        allows_downgrade: args.allow_downgrade,
        allows_breaking: args.allow_breaking,
    };
    let deployed = send(&client, sending).await?;
    if args.json {
        return output::print_json(&deployed);
    }
    tell(&client, &deployed);
    let plugin = &deployed.deployment.plugin;
    output::next(&match deployed.state.as_str() {
        "pending-approval" => format!("gantry plugin approve {plugin}"),
        "canary" => format!("gantry plugin status {plugin}"),
        _ => format!("gantry plugin logs {plugin} --follow"),
    });
    Ok(())
}

/// Sends a plugin to the server and waits until it is live.
pub(super) async fn send(client: &Client, sending: Sending<'_>) -> anyhow::Result<DeployedBody> {
    let mut query = vec![("grant", if sending.grants_all { "all" } else { "keep" })];
    query.extend(sending.place.mount.as_deref().map(|mount| ("mount", mount)));
    query.extend(sending.place.host.as_deref().map(|host| ("host", host)));
    query.extend(sending.place.nested.then_some(("nested", "true")));
    query.extend(sending.name.map(|name| ("name", name)));
    query.extend(sending.reason.map(|reason| ("note", reason)));
    let canary = sending.canary.map(|percent| percent.to_string());
    query.extend(canary.as_deref().map(|percent| ("canary", percent)));
    query.extend(sending.source.map(|source| ("source", source)));
    if sending.allows_breaking {
        query.push(("allow_breaking", "true"));
    }
    if sending.allows_downgrade {
        query.push(("allow_downgrade", "true"));
    }
    client
        .send_bytes(Method::POST, &["deployments"], &query, sending.bytes)
        .await
}

/// Tells what became live, and where.
pub(super) fn tell(client: &Client, deployed: &DeployedBody) {
    let deployment = &deployed.deployment;
    for migration in &deployed.migrated {
        output::progress("Migrated", migration);
    }
    if let Some(report) = &deployed.tests {
        if report.is_passed() {
            output::progress(
                "Tested",
                &format!("{} in {} ms", report.summary(), report.took_ms),
            );
        } else {
            output::warn(&format!("{}; it is live all the same:", report.summary()));
            eprint!("{}", test::shown(report));
        }
    }
    let what = format!(
        "{} {} in {} ms",
        deployment.plugin, deployment.version, deployed.took_ms
    );
    match deployed.state.as_str() {
        "pending-approval" => {
            output::progress(
                "Waiting",
                &format!("{what}: it asks for more than it was granted"),
            );
            for grant in &deployed.missing {
                output::progress("Missing", grant);
            }
            return;
        }
        "canary" => {
            let percent = deployed.weight_percent.unwrap_or_default();
            output::progress("Canary", &format!("{what}, for {percent} of 100 requests"));
        }
        _ => output::progress("Live", &what),
    }
    for warning in &deployed.warnings {
        output::warn(&output::plain(warning));
    }
    if deployed.entry == EntryKind::Filter.as_str() {
        let plugin = &deployment.plugin;
        let place = format!("routes where a manifest or the settings name `plugin:{plugin}`");
        output::progress("Filters", &place);
        return;
    }
    let mount = &deployed.mount;
    let place = match &mount.host {
        Some(host) => format!("{} for the host {host}", client.address(&mount.path)),
        None => client.address(&mount.path),
    };
    output::progress("Mounted at", &place);
}

/// Shows what the plugin asks for and does not have yet, and lets the operator decide. Yes means to grant all of it.
async fn ask(client: &Client, plugin: &ValidPlugin) -> anyhow::Result<bool> {
    let name = &plugin.manifest.plugin.name;
    let granted = match client
        .get::<GrantsBody>(&["plugins", name.as_str(), "grants"])
        .await
    {
        Ok(body) => body
            .grants
            .iter()
            .filter_map(|grant| grant.parse().ok())
            .collect(),
        Err(error) if is_not_found(&error) => Grants::default(),
        Err(error) => return Err(error),
    };
    let asked = Grants::all_of(&plugin.manifest);
    let missing: Vec<String> = asked
        .iter()
        .filter(|grant| !granted.covers(grant))
        .map(ToString::to_string)
        .collect();
    // The server names every grant that is missing, also to a script.
    if missing.is_empty() || !output::can_ask() {
        return Ok(false);
    }
    eprintln!("`{name}` asks for what it was not granted yet:");
    for grant in missing {
        eprintln!("  {grant}{}", reason(plugin, &grant));
    }
    if output::confirm("Grant all of it?")? {
        Ok(true)
    } else {
        Err(Usage("nothing was deployed; take the capabilities out of plugin.toml, or, if the plugin is on the \
                   server, grant some of them with `gantry plugin grant`".to_owned()).into())
    }
}

fn reason(plugin: &ValidPlugin, grant: &str) -> String {
    let hosts = &plugin.manifest.capabilities.http;
    let http = hosts
        .iter()
        .find(|http| grant == format!("http:{}", http.host));
    let reason = http.and_then(|http| http.reason.as_deref());
    reason
        .map(|reason| format!("  ({})", output::plain(reason)))
        .unwrap_or_default()
}

pub(super) fn is_not_found(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ClientError>()
        .is_some_and(ClientError::is_not_found)
}

/// What is sent.
struct Loaded {
    bytes: Bytes,
    /// What is in them, if they hold a manifest.
    plugin: Option<ValidPlugin>,
    /// Of the plugin, if they do not.
    name: Option<String>,
}

/// The bytes to send, signed if there is a key for it, and where they came from if not from this machine. A folder is built
/// first.
async fn fetch(args: &Args) -> anyhow::Result<(Option<String>, Loaded)> {
    let name = args.name.as_deref();
    let what = args.what.to_str().unwrap_or_default();
    let (source, (bytes, plugin)) = match Reference::in_text(what)? {
        Some(reference) => {
            output::progress("Pulling", &reference.to_string());
            let pulled = args.remote.pull(&reference).await?;
            let pinned = pulled.pinned.to_string();
            output::progress("Pulled", &pinned);
            (Some(pinned), of_bytes(pulled.bytes, name)?)
        }
        None => (None, load(&args.what, name)?),
    };
    let (bytes, plugin, name) = match (plugin, name) {
        (Some(plugin), _) => (args.signing.apply(bytes)?, Some(plugin), None),
        // Only a bundle can carry a signature.
        (None, Some(name)) if args.signing.is_given() => {
            let name = name.parse()?;
            let bundle = pack_component(&name, bytes, &bundle::Config::default())?;
            let packed = check(args.signing.apply(bundle)?, Path::new("plugin.toml"))?;
            (packed.bytes, Some(packed.plugin), None)
        }
        (None, name) => (bytes, None, name.map(str::to_owned)),
    };
    let loaded = Loaded {
        bytes,
        plugin,
        name,
    };
    Ok((source, loaded))
}

fn load(what: &Path, name: Option<&str>) -> anyhow::Result<(Bytes, Option<ValidPlugin>)> {
    if what.is_dir() {
        if name.is_some() {
            return Err(Usage(
                "--name is for a component without a manifest; plugin.toml has the name".to_owned(),
            )
            .into());
        }
        let (_, packed) = build(what)?;
        return Ok((packed.bytes, Some(packed.plugin)));
    }
    let bytes = std::fs::read(what).with_context(|| format!("cannot read {}", what.display()))?;
    of_bytes(Bytes::from(bytes), name)
}

fn of_bytes(bytes: Bytes, name: Option<&str>) -> anyhow::Result<(Bytes, Option<ValidPlugin>)> {
    if Bundle::is_component(&bytes) {
        if name.is_none() {
            return Err(Usage(
                "a component alone has no manifest: give the plugin a name with --name".to_owned(),
            )
            .into());
        }
        return Ok((bytes, None));
    }
    if name.is_some() {
        return Err(Usage(
            "--name is for a component without a manifest; the bundle has its name".to_owned(),
        )
        .into());
    }
    let packed = check(bytes, Path::new("plugin.toml"))?;
    Ok((packed.bytes, Some(packed.plugin)))
}

fn title(plugin: Option<&ValidPlugin>, name: Option<&str>) -> String {
    match plugin {
        Some(plugin) => format!(
            "{} {}",
            plugin.manifest.plugin.name, plugin.manifest.plugin.version
        ),
        None => name.unwrap_or_default().to_owned(),
    }
}
