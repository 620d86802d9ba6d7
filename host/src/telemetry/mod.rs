//! The host's own log: what happened to the host, for whoever runs it. One line per state change or failure, on standard
//! error, as text for people or JSON for collectors. What went wrong is told to a collector of errors, too, if one is set.

mod collector;
mod config;
mod envelope;

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

pub use collector::Collector;
pub use config::{Config, Dsn, Level};

/// How the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts the log. `RUST_LOG` chooses what is written; the default is `info`. Of what is written, the collector gets what
/// its settings say. To be called within a runtime.
pub fn start(format: Format, errors: &Config) -> Collector {
    let (collector, layer) = Collector::start(errors);
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,hyper=warn"));
    let registry = tracing_subscriber::registry().with(filter).with(layer);
    let result = match format {
        Format::Text => registry
            .with(
                fmt::layer()
                    .with_writer(std::io::stderr)
                    // Colours in a file or a collector are only noise.
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init(),
        Format::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .try_init(),
    };
    if result.is_err() {
        // Somebody who embeds the host has a log already.
        tracing::debug!("A log is set up already");
    }
    collector
}
