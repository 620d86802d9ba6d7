//! `gantry audit …`: the audit trail. `verify` looks at the rows themselves, or at an export, and asks no server: who can
//! change the rows may answer for the server, too.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use futures_util::StreamExt as _;

use crate::admin::audit::EventBody;
use crate::admin::page::PageBody;
use crate::app::AUDIT_KEY;
use crate::audit::read_heads;
use crate::auth::Keys;
use crate::cli::client::{Client, Options, find_data_dir};
use crate::cli::output;
use crate::config::Config;
use crate::db::Db;
use crate::ledger::{Checkpoint, Report, key_of, key_text, verify, verify_export, verifying_key};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List events, newest first.
    List {
        /// Only what this user or key did.
        #[arg(long)]
        actor: Option<String>,
        /// Only this action, or those that begin so: `role.*`.
        #[arg(long)]
        action: Option<String>,
        /// Only what was done to this.
        #[arg(long)]
        target: Option<String>,
        /// Only what ended so: done, refused, failed or noticed.
        #[arg(long)]
        outcome: Option<String>,
        /// Only what is not older than this (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only what is older than this (RFC 3339).
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Most events.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the trail, one event in each line, with a signed checkpoint at the end.
    Export {
        /// Only events behind this one.
        #[arg(long, value_name = "NUMBER")]
        after: Option<i64>,
    },
    /// Find out whether somebody has changed, removed or added events.
    Verify {
        /// Look at an export instead of the rows of a server on this machine.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Hold this against the trail: a checkpoint, or an export that ends with one. May be given several times.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// The key that must have signed, as `gantry audit key` prints it. Without it, an export is only asked whether it is
        /// whole in itself.
        #[arg(long, value_name = "KEY", requires = "file")]
        key: Option<String>,
        /// The server's file of settings, if its rows are not in its data directory (`db.url`).
        #[arg(
            long,
            env = "GANTRY_CONFIG",
            value_name = "FILE",
            conflicts_with = "file"
        )]
        config: Option<PathBuf>,
    },
    /// Print the public key that signs the trail of a server on this machine.
    Key,
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    match command {
        Command::List {
            actor,
            action,
            target,
            outcome,
            since,
            until,
            limit,
            json,
        } => {
            let limit = limit.to_string();
            let given = [
                ("actor", actor.as_deref()),
                ("action", action.as_deref()),
                ("target", target.as_deref()),
                ("outcome", outcome.as_deref()),
                ("since", since.as_deref()),
                ("until", until.as_deref()),
                ("limit", Some(limit.as_str())),
            ];
            let query: Vec<_> = given
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let client = Client::new(server)?;
            let page: PageBody<EventBody> = client.get_with(&["audit"], &query).await?;
            if json {
                return output::print_json(&page.items);
            }
            let rows: Vec<Vec<String>> = page.items.into_iter().map(row).collect();
            let heads = [
                "seq", "at", "actor", "address", "action", "target", "outcome", "detail",
            ];
            output::print(&output::table(&heads, &rows));
        }
        Command::Export { after } => {
            let after = after.map(|after| after.to_string());
            let query: Vec<_> = after
                .iter()
                .map(|after| ("after", after.as_str()))
                .collect();
            let mut chunks = Client::new(server)?
                .download(&["audit", "export"], &query)
                .await?;
            let mut stdout = std::io::stdout().lock();
            while let Some(chunk) = chunks.next().await {
                stdout.write_all(&chunk?)?;
            }
            stdout.flush()?;
        }
        Command::Verify {
            file,
            checkpoint,
            key,
            config,
        } => {
            let checkpoints = checkpoint.iter().map(|path| checkpoint_of(path));
            let checkpoints: Vec<Checkpoint> = checkpoints.collect::<anyhow::Result<_>>()?;
            let report = match file {
                Some(file) => verify_file(&file, key.as_deref(), &checkpoints)?,
                None => verify_rows(server, config.as_deref(), checkpoints).await?,
            };
            return tell(&report);
        }
        Command::Key => {
            let (_, key) = data_of(server)?;
            output::print(&(key_text(&key) + "\n"));
        }
    }
    Ok(())
}

fn row(event: EventBody) -> Vec<String> {
    let actor = match event.actor.is_empty() {
        true => event.actor_kind,
        false => format!("{} {}", event.actor_kind, event.actor),
    };
    vec![
        event.seq.to_string(),
        event.at,
        actor,
        event.address,
        event.action,
        output::plain(&event.target),
        event.outcome,
        output::plain(&event.detail.to_string()),
    ]
}

fn data_of(server: &Options) -> anyhow::Result<(PathBuf, ed25519_dalek::VerifyingKey)> {
    let Some(folder) = find_data_dir(server.data_dir.as_deref()) else {
        bail!(
            "there is no data directory here; name the server's with --data-dir or GANTRY_DATA_DIR"
        );
    };
    if !folder.join("keys/master.key").is_file() {
        bail!(
            "{} has no keys; is it the data directory of a server?",
            folder.display()
        );
    }
    let key = verifying_key(&Keys::open(&folder)?.derive(AUDIT_KEY));
    Ok((folder, key))
}

async fn verify_rows(
    server: &Options,
    config: Option<&Path>,
    checkpoints: Vec<Checkpoint>,
) -> anyhow::Result<Report> {
    let (folder, key) = data_of(server)?;
    // Also without a file: the address may be in the environment.
    let config = Config::load(config).context("the settings that say where the rows are")?;
    // Before the rows: the server may go on meanwhile, and the rows are never behind the file.
    let (mut heads, problems) = read_heads(&folder)?;
    heads.extend(checkpoints);
    let rows = Db::look(&folder.join("gantry.db"), &config.db).await;
    let rows =
        rows.context("if the rows are on a server, say where with --config or GANTRY_DB__URL")?;
    let mut report = verify(&rows, &key, &heads).await?;
    rows.close().await;
    for problem in problems {
        report
            .findings
            .push(crate::ledger::Finding { seq: None, problem });
    }
    Ok(report)
}

fn verify_file(
    path: &Path,
    key: Option<&str>,
    checkpoints: &[Checkpoint],
) -> anyhow::Result<Report> {
    let key = key
        .map(|key| {
            key_of(key).context("the key is not written as `ed25519:` and 64 hexadecimal digits")
        })
        .transpose()?;
    if key.is_none() {
        let rest = "without --key, whoever has made all of it anew is not found";
        output::warn(rest);
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    Ok(verify_export(lines, key.as_ref(), checkpoints)?)
}

/// The checkpoint in a file: alone, or in the last line of an export.
fn checkpoint_of(path: &Path) -> anyhow::Result<Checkpoint> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut last = String::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        if !line.trim().is_empty() {
            last = line;
        }
    }
    let mut value: serde_json::Value = serde_json::from_str(&last).unwrap_or_default();
    if let Some(inner) = value.get_mut("checkpoint") {
        value = inner.take();
    }
    serde_json::from_value(value).with_context(|| format!("{shown} does not end with a checkpoint"))
}

fn tell(report: &Report) -> anyhow::Result<()> {
    let Report {
        events,
        first,
        last,
        findings,
        left_out,
    } = report;
    if findings.is_empty() {
        let which = match events {
            0 => "no events".to_owned(),
            _ => format!("{events} events, {first} to {last}"),
        };
        output::print(&format!("ok: {which}\n"));
        return Ok(());
    }
    for finding in findings {
        output::print(&format!("WRONG {}\n", output::plain(&finding.to_string())));
    }
    if *left_out > 0 {
        output::print(&format!("and {left_out} more\n"));
    }
    bail!("the audit trail is not as the server wrote it");
}
