//! `gantry plugin keygen`: makes a key that signs plugins.

use std::path::PathBuf;

use crate::cli::output;
use crate::cli::plugin::signing;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Where the private key goes. The public one goes beside it, with `.pub` at its end.
    #[arg(default_value = "gantry-sign.key")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let public = signing::generate(&args.file)?;
    let pub_file = signing::public_file(&args.file);
    output::progress(
        "Created",
        &format!(
            "{}, which only you can read; keep a copy where it is safe",
            args.file.display()
        ),
    );
    output::progress("Key", &public.id().to_string());
    output::print(&format!("{public}\n"));
    output::next(&format!(
        "gantry trust add {} --owner NAME --plugin PLUGIN   (by an operator)",
        pub_file.display()
    ));
    Ok(())
}
