//! `gantry contract check`: does the server still keep what a front end relies on?

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

use crate::cli::client::{ClientError, Options};
use crate::cli::failure::Usage;
use crate::cli::openapi::{self, Source};
use crate::cli::output;
use crate::openapi::compare::{Difference, compare};
use crate::plugins::describe::without_accounts;

/// Most bytes of a document.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compare the document that a front end was built against with what is live. Exits with 1 if something that it relies
    /// on is gone or different.
    Check(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The OpenAPI document that the front end was built against, as JSON.
    #[arg(long, value_name = "FILE")]
    contract: PathBuf,
    /// Compare with this document instead of the server.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "plugin"])]
    against: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Fail with warnings, too.
    #[arg(long)]
    strict: bool,
    /// Print the differences as JSON.
    #[arg(long)]
    json: bool,
}

/// A difference for programs.
#[derive(Serialize)]
struct Shown<'a> {
    blocking: bool,
    operation: &'a str,
    pointer: &'a str,
    what: &'a str,
    why: &'a str,
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let Command::Check(args) = command;
    let mut contract = read(&args.contract)?;
    if args.source.is_of_plugins_only() {
        without_accounts(&mut contract);
    }
    let live = match &args.against {
        Some(file) => read(file)?,
        None => openapi::document(&args.source, server)
            .await
            .map_err(say_what_everybody_may_read)?,
    };
    let found = compare(&contract, &live);
    let blocking = found
        .iter()
        .filter(|difference| difference.is_blocking)
        .count();
    if args.json {
        let shown: Vec<Shown<'_>> = found.iter().map(shown).collect();
        output::print_json(&shown)?;
    } else {
        found.iter().for_each(tell);
    }
    let count = crate::openapi::operations(&contract).count();
    if blocking > 0 || (args.strict && !found.is_empty()) {
        bail!(
            "the contract is not kept: {blocking} blocking difference{} and {} warnings in {count} operations",
            if blocking == 1 { "" } else { "s" },
            found.len() - blocking
        );
    }
    output::progress(
        "Kept",
        &format!("{count} operations, {} warnings", found.len()),
    );
    Ok(())
}

/// Whoever builds a front end usually may not read the platform.
fn say_what_everybody_may_read(error: anyhow::Error) -> anyhow::Error {
    let is_refused = error
        .downcast_ref::<ClientError>()
        .is_some_and(ClientError::is_forbidden);
    if !is_refused {
        return error;
    }
    error.context(
        "the whole document of the server asks for `platform.read`; compare with the one that your callers are shown: save what \
         the server gives at `/api/openapi.json` and name that file with --against",
    )
}

fn shown(difference: &Difference) -> Shown<'_> {
    Shown {
        blocking: difference.is_blocking,
        operation: &difference.operation,
        pointer: &difference.pointer,
        what: &difference.what,
        why: difference.why,
    }
}

fn tell(difference: &Difference) {
    let word = if difference.is_blocking {
        "BREAKS"
    } else {
        "warning"
    };
    let Difference {
        operation,
        pointer,
        what,
        why,
        ..
    } = difference;
    let place = if pointer.is_empty() {
        String::new()
    } else {
        format!("\n         at   {}", output::plain(pointer))
    };
    let (operation, what) = (output::plain(operation), output::plain(what));
    output::print(&format!(
        "{word:<8} {operation}{place}\n         what {what}\n         why  {why}\n"
    ));
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let shown = file.display();
    let size = std::fs::metadata(file)
        .with_context(|| format!("cannot read {shown}"))?
        .len();
    if size > BYTES_MAX {
        bail!("{shown} has more than {BYTES_MAX} bytes");
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Usage(format!(
            "{shown} is no JSON ({error}); turn YAML into JSON first, for example with `yq -o json`"
        ))
    })?;
    if document.get("paths").and_then(Value::as_object).is_none() {
        return Err(Usage(format!("{shown} is no OpenAPI document: it has no `paths`")).into());
    }
    Ok(document)
}
