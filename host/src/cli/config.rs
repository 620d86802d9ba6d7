//! `gantry config check`: the settings as the server would use them, and whether the one that runs uses the same.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use crate::admin::settings::{SettingsBody, hide_passwords};
use crate::admin::status::StatusBody;
use crate::cli::client::{Client, ClientError, Options};
use crate::cli::output;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the settings that the server would use, or what is wrong with them. Says in what they differ from
    /// those of the server that runs, if there is one.
    Check {
        /// The file with the settings. Without one, the defaults and the environment count.
        #[arg(long, env = "GANTRY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let Command::Check { config: file } = command;
    let mut config = Config::load(file.as_deref())?;
    // As `gantry serve` takes it.
    if let Some(data_dir) = &server.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    // Secrets are no settings: keys are in the data directory, and the secrets of plugins in the rows.
    output::print(&toml::to_string_pretty(&config)?);
    let mut here = serde_json::to_value(&config)?;
    hide_passwords(&mut here);
    compare(&here, server).await;
    Ok(())
}

/// Tells how the settings of the running server differ. That it cannot be asked is no failure of this command.
async fn compare(here: &Value, options: &Options) {
    let running = async {
        let client = Client::new(options)?;
        let settings = client.get::<SettingsBody>(&["settings"]).await?.settings;
        let status = client.get::<StatusBody>(&["status"]).await?;
        anyhow::Ok((client.address(""), settings, status.idle_settings))
    };
    match running.await {
        Ok((address, there, idle)) => {
            // It alone knows which plugins there are.
            for setting in idle {
                output::warn(&setting);
            }
            let differences = differences(here, &there);
            if differences.is_empty() {
                output::progress("Same", &format!("as the server at {address} uses"));
                return;
            }
            output::warn(&format!(
                "the server at {address} runs with other settings:"
            ));
            for (name, here, there) in differences {
                eprintln!("  {name} = {there} there, {here} here");
            }
            output::progress("Restart", "the server with these settings to use them");
        }
        Err(error) if is_unreachable(&error) => output::next("gantry serve"),
        Err(error) => output::warn(&format!(
            "the settings of the server that runs cannot be compared: {error:#}"
        )),
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Unreachable { .. }))
}

/// The names of settings that differ, each with both values: `runtime.concurrency_max`, here, there.
fn differences(here: &Value, there: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    collect("", here, there, &mut found);
    found
}

fn collect(name: &str, here: &Value, there: &Value, found: &mut Vec<(String, String, String)>) {
    if let (Value::Object(ours), Value::Object(theirs)) = (here, there) {
        let new = theirs.keys().filter(|key| !ours.contains_key(*key));
        for key in ours.keys().chain(new) {
            let name = if name.is_empty() {
                key.clone()
            } else {
                format!("{name}.{key}")
            };
            let of = |values: &serde_json::Map<String, Value>| {
                values.get(key).cloned().unwrap_or(Value::Null)
            };
            collect(&name, &of(ours), &of(theirs), found);
        }
    } else if here != there && !is_same_folder(name, here, there) {
        found.push((name.to_owned(), shown(here), shown(there)));
    }
}

/// The same folder may be written in two ways.
fn is_same_folder(name: &str, here: &Value, there: &Value) -> bool {
    let folder = |value: &Value| Path::new(value.as_str()?).canonicalize().ok();
    name == "data_dir" && folder(here).is_some_and(|here| folder(there) == Some(here))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(nothing)".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_differ_are_named_and_no_others() {
        let here = json!({
            "listen": "127.0.0.1:8080", "http": { "connections_max": 10, "idle_ms": 5 }, "old": true,
        });
        let there = json!({
            "listen": "127.0.0.1:8080", "http": { "connections_max": 20, "idle_ms": 5 }, "new": [1],
        });
        let found: Vec<String> = differences(&here, &there)
            .into_iter()
            .map(|(name, here, there)| format!("{name} {here} {there}"))
            .collect();
        assert_eq!(
            found,
            [
                "http.connections_max 10 20",
                "old true (nothing)",
                "new (nothing) [1]"
            ]
        );
        assert!(differences(&here, &here).is_empty());
    }
}
