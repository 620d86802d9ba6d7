//! `gantry serve`: the server itself, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::cli::client::Options;
use crate::cli::output;
use crate::config::Config;
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file with the settings. Without one, the defaults and the environment count.
    #[arg(long, env = "GANTRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to take requests, instead of what the settings say.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How the log on standard error looks.
    #[arg(long, value_enum, default_value_t)]
    log: telemetry::Format,
}

pub(super) async fn run(args: Args, options: &Options) -> anyhow::Result<()> {
    let mut config = Config::load(args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(data_dir) = &options.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    let collector = telemetry::start(args.log, &config.errors);
    raise_open_files_max();
    // Before the server is there, so that a signal in between is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let data_dir = config.data_dir.clone();
    let app = match Box::pin(App::start(config)).await {
        Ok(app) => app,
        Err(error) => {
            collector.close().await;
            return Err(error);
        }
    };
    output::progress(
        "Listening",
        &format!(
            "on http://{}, Gantry {}",
            app.address,
            env!("CARGO_PKG_VERSION")
        ),
    );
    if let Some(address) = app.admin_address {
        let text = format!("on http://{address}; name it with --server or GANTRY_SERVER");
        output::progress("Operators", &text);
    }
    if app.admin_key.is_some() {
        let file = data_dir.join("admin.key");
        output::progress(
            "Created",
            &format!("the first administrator; the key is in {}", file.display()),
        );
        output::next("gantry plugin new hello");
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    output::progress(
        "Stopping",
        "when the requests in progress are done; once more to stop at once",
    );
    let stop = async {
        app.stop().await;
        collector.close().await;
    };
    tokio::select! {
        () = stop => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Takes as many open files as the system allows. Most start a service with 1024; each component takes one for as long as it
/// is loaded, and each connection one.
fn raise_open_files_max() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Then it is as before.
    let _ = setrlimit(Resource::Nofile, limit);
}
