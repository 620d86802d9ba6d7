//! `gantry config check`: the settings as the server would use them.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::output;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the settings that the server would use, or everything that is wrong with them.
    Check {
        /// The file with the settings. Without one, the defaults and the environment count.
        #[arg(long, env = "GANTRY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Check { config: file } = command;
    let config = Config::load(file.as_deref())?;
    // Secrets are no settings: keys are in the data directory, and the secrets of plugins in the rows.
    output::print(&toml::to_string_pretty(&config)?);
    output::next("gantry serve");
    Ok(())
}
