//! The `gantry` executable.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use gantry::runtime::{Bounds, compile_child};

#[derive(Parser)]
#[command(version, about = "Hosts sandboxed WebAssembly plugins.")]
enum Command {
    /// Runs the server.
    Serve {
        /// The settings.
        #[arg(long, env = "GANTRY_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Turns a component into machine code, for the server.
    #[command(hide = true)]
    Compile {
        #[arg(long)]
        cpu_s: u64,
        #[arg(long)]
        memory_bytes_max: u64,
    },
}

fn main() -> ExitCode {
    match Command::parse() {
        // Before any thread is started.
        Command::Compile {
            cpu_s,
            memory_bytes_max,
        } => compile_child(Bounds {
            cpu_s,
            memory_bytes_max,
        }),
        Command::Serve { config } => match serve(config.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

#[tokio::main]
async fn serve(config: Option<&std::path::Path>) -> anyhow::Result<()> {
    gantry::telemetry::start(gantry::telemetry::Format::Text);
    let app = gantry::app::App::start(gantry::config::Config::load(config)?).await?;
    println!("listening on http://{}", app.address);
    tokio::signal::ctrl_c().await?;
    app.stop().await;
    Ok(())
}
