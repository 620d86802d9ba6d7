//! `gantry plugin inspect`: what a plugin is, asks for and serves.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use serde::Serialize;

use crate::admin::deployments::DeploymentBody;
use crate::admin::page::PageBody;
use crate::admin::plugins::PluginBody;
use crate::admin::usage::UsageBody;
use crate::cli::client::{Client, ClientError, Options};
use crate::cli::output;
use crate::cli::plugin::build::size;
use crate::cli::plugin::project::{Packed, Project, check};
use crate::cli::plugin::{routes, usage};
use crate::ids::PluginName;
use crate::plugins::bundle::Bundle;
use crate::plugins::validate::{Grants, Interfaces, interfaces};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The name of a plugin on the server, or a path: a bundle (`./shop.gantry`), a component (`./shop.wasm`), a folder
    /// that was built (`./shop`, `.`). A bare name is a path only if the server has no such plugin.
    what: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let path = Path::new(&args.what);
    // What has a separator or a dot cannot be a plugin's name.
    if args.what.parse::<PluginName>().is_err() {
        return inspect_file(path, args.json);
    }
    let is_here = path.is_file() || path.join("plugin.toml").is_file();
    let client = Client::new(server)?;
    match LiveBody::fetch(&client, &args.what).await {
        Ok(body) => {
            let beside = if is_here {
                format!("; for what is in this folder, write ./{}", args.what)
            } else {
                String::new()
            };
            let server = client.address("");
            output::progress(
                "Showing",
                &format!("the plugin {} of {server}{beside}", args.what),
            );
            inspect_live(&body, &args)
        }
        Err(error) if is_here && has_no_plugin(&error) => {
            output::progress(
                "Showing",
                &format!("./{} in this folder, because {error:#}", args.what),
            );
            inspect_file(path, args.json)
        }
        Err(error) => Err(error),
    }
}

/// Whether the server has no such plugin, or there is no server.
fn has_no_plugin(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClientError>().is_some_and(|error| {
        error.is_not_found() || matches!(error, ClientError::Unreachable { .. })
    })
}

/// What is in a file.
#[derive(Serialize)]
struct FileBody {
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<PackedBody>,
    imports: Vec<String>,
    exports: Vec<String>,
    /// Whether it is a core module, which nobody can deploy without a manifest.
    is_module: bool,
}

#[derive(Serialize)]
struct PackedBody {
    name: String,
    version: String,
    entry: &'static str,
    digest: String,
    routes: Vec<String>,
    capabilities: Vec<String>,
    limits: Vec<String>,
    migrations: Vec<String>,
}

fn inspect_file(path: &Path, is_json: bool) -> anyhow::Result<()> {
    let body = if path.is_dir() {
        of_bundle(&Project::open(path)?.pack()?)?
    } else {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if Bundle::is_component(&bytes) {
            file_body(bytes.len(), None, &read_interfaces(&bytes)?)
        } else {
            of_bundle(&check(Bytes::from(bytes), Path::new("plugin.toml"))?)?
        }
    };
    if is_json {
        return output::print_json(&body);
    }
    let mut lines = Vec::new();
    if let Some(plugin) = &body.plugin {
        lines.push((
            "plugin",
            vec![format!("{} {}", plugin.name, plugin.version)],
        ));
        lines.push(("answers as", vec![plugin.entry.to_owned()]));
        lines.push(("digest", vec![plugin.digest.clone()]));
        lines.push(("routes", plugin.routes.clone()));
        lines.push(("asks for", plugin.capabilities.clone()));
        lines.push(("limits", plugin.limits.clone()));
        lines.push(("migrations", plugin.migrations.clone()));
    }
    lines.push(("size", vec![size(body.bytes)]));
    lines.push(("exports", body.exports.clone()));
    lines.push(("imports", body.imports.clone()));
    output::print(&sections(&lines));
    match &body.plugin {
        Some(_) => output::next(&format!("gantry plugin deploy {}", path.display())),
        None if body.is_module => {
            output::next("write a plugin.toml whose routes name an export: docs/guide/extism.md");
        }
        None => output::next(&format!(
            "gantry plugin deploy {} --name NAME",
            path.display()
        )),
    }
    Ok(())
}

fn of_bundle(packed: &Packed) -> anyhow::Result<FileBody> {
    let plugin = &packed.plugin;
    let manifest = &plugin.manifest;
    let routes = manifest.routes.iter();
    let routes = routes.flat_map(|route| routes::declared(route, manifest));
    let migrations = plugin.migrations.iter();
    let body = PackedBody {
        name: manifest.plugin.name.to_string(),
        version: manifest.plugin.version.to_string(),
        entry: plugin.entry.as_str(),
        digest: plugin.digest.to_string(),
        routes: routes.collect(),
        capabilities: Grants::all_of(manifest)
            .iter()
            .map(ToString::to_string)
            .collect(),
        limits: limits(manifest),
        migrations: migrations
            .map(|step| format!("{}/{:04}_{}", step.label, step.version, step.name))
            .collect(),
    };
    Ok(file_body(
        packed.bytes.len(),
        Some(body),
        &read_interfaces(&plugin.component)?,
    ))
}

fn limits(manifest: &crate::plugins::manifest::Manifest) -> Vec<String> {
    let limits = &manifest.limits;
    [
        limits
            .memory_bytes_max
            .map(|bytes| format!("memory {}", of_bytes(bytes))),
        limits.cpu_max.map(|time| format!("cpu {}", of_time(time))),
        limits
            .wall_max
            .map(|time| format!("wall {}", of_time(time))),
        limits
            .concurrency_max
            .map(|count| format!("concurrency {count}")),
        limits
            .log_bytes_max
            .map(|bytes| format!("log {}", of_bytes(bytes))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of_bytes(bytes: u64) -> String {
    size(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn of_time(time: Duration) -> String {
    routes::time(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn read_interfaces(wasm: &[u8]) -> anyhow::Result<Interfaces> {
    interfaces(wasm).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(lines.join("\n"))
    })
}

fn file_body(bytes: usize, plugin: Option<PackedBody>, interfaces: &Interfaces) -> FileBody {
    let names = |list: &[crate::plugins::validate::Interface]| {
        list.iter().map(|it| it.name.clone()).collect()
    };
    FileBody {
        bytes,
        plugin,
        imports: names(&interfaces.imports),
        exports: names(&interfaces.exports),
        is_module: interfaces.is_module,
    }
}

/// What is on the server.
#[derive(Serialize)]
struct LiveBody {
    #[serde(flatten)]
    plugin: PluginBody,
    /// The newest first.
    deployments: Vec<DeploymentBody>,
    usage: UsageBody,
}

impl LiveBody {
    async fn fetch(client: &Client, name: &str) -> anyhow::Result<Self> {
        let plugin: PluginBody = client.get(&["plugins", name]).await?;
        let path = ["plugins", name, "deployments"];
        let page: PageBody<DeploymentBody> = client.get_with(&path, &[("limit", "10")]).await?;
        Ok(Self {
            plugin,
            deployments: page.items,
            usage: client.get(&["plugins", name, "usage"]).await?,
        })
    }
}

fn inspect_live(body: &LiveBody, args: &Args) -> anyhow::Result<()> {
    if args.json {
        return output::print_json(body);
    }
    output::print(&sections(&live_lines(body)));
    output::next(&format!("gantry plugin logs {} --follow", args.what));
    Ok(())
}

fn live_lines(body: &LiveBody) -> Vec<(&'static str, Vec<String>)> {
    let plugin = &body.plugin;
    let version = plugin.version.as_deref().unwrap_or("(not live)");
    let routes = plugin.routes.iter().flat_map(routes::live);
    let capabilities = plugin.capabilities.iter().map(|capability| {
        let state = if capability.is_granted {
            "granted"
        } else {
            "NOT granted"
        };
        format!("{}  {state}", capability.capability)
    });
    let deployments = body.deployments.iter().map(|deployment| {
        let live = if deployment.is_live { "  live" } else { "" };
        let note = deployment
            .note
            .as_deref()
            .map(|note| format!("  {}", output::plain(note)))
            .unwrap_or_default();
        format!(
            "{}  {}  {}{live}{note}",
            deployment.id, deployment.version, deployment.created_at
        )
    });
    let host = plugin.mount.host.as_deref().unwrap_or_default();
    let mut lines = vec![
        ("plugin", vec![format!("{} {version}", plugin.name)]),
        (
            "about",
            plugin
                .description
                .iter()
                .map(|text| output::plain(text))
                .collect(),
        ),
        ("mount", vec![format!("{host}{}", plugin.mount.path)]),
        ("answers as", plugin.entry.iter().cloned().collect()),
        ("routes", routes.collect()),
        ("asks for", capabilities.collect()),
    ];
    if let Some(limits) = &plugin.limits {
        lines.push((
            "limits",
            vec![
                format!(
                    "memory {}, cpu {}, wall {}",
                    size(limits.memory_bytes_max),
                    routes::time(limits.cpu_ms),
                    routes::time(limits.wall_ms)
                ),
                format!(
                    "concurrency {}, log {}",
                    limits.concurrency_max,
                    size(limits.log_bytes_max)
                ),
            ],
        ));
    }
    lines.push((
        "in progress",
        vec![plugin.invocations_in_progress.to_string()],
    ));
    let held = plugin.held_routes.iter().map(|held| {
        let whom = match held.retry_after_ms {
            Some(ms) => format!("everybody is kept away for {ms} ms more"),
            None => format!("{} clients are kept away", held.clients),
        };
        let methods = held.methods.join(",");
        format!("{methods} {} keeps crashing: {whom}", held.route)
    });
    lines.push(("held", held.collect()));
    lines.push(("used", usage::lines(&body.usage)));
    lines.push(("deployments", deployments.collect()));
    lines.push((
        "last error",
        plugin
            .last_error
            .iter()
            .map(|text| output::plain(text))
            .collect(),
    ));
    lines
}

/// A heading at the left and its lines beside it; a heading without lines is left out.
fn sections(sections: &[(&str, Vec<String>)]) -> String {
    let mut text = String::new();
    for (heading, lines) in sections {
        for (index, line) in lines.iter().enumerate() {
            let heading = if index == 0 { heading } else { "" };
            text.push_str(format!("{heading:<12} {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_stands_once_and_not_without_lines() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        let text = sections(&[
            ("routes", lines(&["GET /a", "GET /b"])),
            ("limits", lines(&[])),
            ("size", lines(&["1 B"])),
        ]);
        assert_eq!(
            text,
            "routes       GET /a\n             GET /b\nsize         1 B\n"
        );
    }
}
