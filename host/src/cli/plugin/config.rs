//! `gantry plugin config`: the settings that a plugin takes.

use anyhow::Context as _;
use http::Method;
use serde_json::{Map, Value};

use crate::admin::config::ConfigBody;
use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Set `key=value`. The value is JSON; what is no JSON is taken as text. `key=` goes back to the default.
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let path = ["plugins", &args.name, "config"];
    let mut body: ConfigBody = client.get(&path).await?;
    if !args.settings.is_empty() {
        apply(&mut body.values, &args.settings)?;
        body = client
            .send_json(Method::PUT, &path, &body.values)
            .await
            .context("the settings were not changed")?;
    }
    if args.json {
        return output::print_json(&body);
    }
    let rows: Vec<Vec<String>> = body
        .effective
        .iter()
        .map(|(key, value)| {
            let origin = if body.values.contains_key(key) {
                "set"
            } else {
                "default"
            };
            vec![key.clone(), output::plain(value), origin.to_owned()]
        })
        .collect();
    output::print(&output::table(&["setting", "value", "origin"], &rows));
    Ok(())
}

fn apply(values: &mut Map<String, Value>, settings: &[String]) -> Result<(), Usage> {
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(Usage(format!(
                "`{setting}` is no setting; write `key=value`"
            )));
        };
        if value.is_empty() {
            values.remove(key);
        } else {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            values.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_or_else_text_and_nothing_means_the_default() {
        let mut values = Map::new();
        values.insert("old".to_owned(), Value::from(1));
        let settings = [
            "seats=4",
            "name=Chez Ann",
            "open=true",
            "days=[\"mon\"]",
            "old=",
        ]
        .map(str::to_owned);
        apply(&mut values, &settings).unwrap();
        let expected =
            serde_json::json!({"seats": 4, "name": "Chez Ann", "open": true, "days": ["mon"]});
        assert_eq!(Value::Object(values), expected);
        assert!(apply(&mut Map::new(), &["seats".to_owned()]).is_err());
    }
}
