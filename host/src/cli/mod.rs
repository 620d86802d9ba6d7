//! The command line: one file per command. It talks to a running host over the admin API and leaves all decisions to it;
//! only `serve`, `compile`, `config check` and `doctor` look at this machine.

mod audit;
mod cache;
mod client;
mod compile;
mod config;
mod contract;
mod doctor;
mod explain;
mod failure;
mod hash;
mod key;
mod oci;
mod openapi;
mod output;
mod plugin;
mod rbac;
mod renew;
mod role;
mod secret;
mod serve;
mod service_account;
mod status;
mod token_key;
mod trust;
mod user;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use client::Options;
use failure::{Lacking, Usage};

/// Gantry: a server that hosts sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    server: Options,
    /// Print only results, warnings and errors: not what is being done, and not what could be done next.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Write, build, deploy and watch plugins.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Manage accounts.
    #[command(subcommand)]
    User(user::Command),
    /// Manage roles: bundles of permissions.
    #[command(subcommand)]
    Role(role::Command),
    /// Explain why a request is refused, or that it is not. Nothing is sent to a plugin.
    Explain(explain::Args),
    /// Show which roles may call which routes.
    #[command(subcommand)]
    Rbac(rbac::Command),
    /// Manage API keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Manage accounts of programs, which own API keys.
    #[command(subcommand)]
    ServiceAccount(service_account::Command),
    /// Manage the keys that sign access tokens.
    #[command(subcommand)]
    TokenKey(token_key::Command),
    /// See what is kept of plugins' answers, and throw it away.
    #[command(subcommand)]
    Cache(cache::Command),
    /// Manage the secrets of plugins.
    #[command(subcommand)]
    Secret(secret::Command),
    /// Decide whose plugins the server takes: the keys that sign them.
    #[command(subcommand)]
    Trust(trust::Command),
    /// Read the audit trail, and find out whether somebody has changed it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write the OpenAPI document of what is live, or a collection of it.
    #[command(subcommand)]
    Openapi(openapi::Command),
    /// Check that the server keeps what a front end relies on.
    #[command(subcommand)]
    Contract(contract::Command),
    /// Show what the server is doing.
    Status(status::Args),
    /// Look at the server's settings.
    #[command(subcommand)]
    Config(config::Command),
    /// Look for what is missing or wrong on this machine.
    Doctor(doctor::Args),
    /// Turn a component on standard input into machine code on standard output. The server starts this itself.
    #[command(hide = true)]
    Compile(compile::Args),
    /// Hash the passwords that come on standard input, a socket. The server starts this itself.
    #[command(hide = true)]
    Hash(hash::Args),
}

/// The whole life of the `gantry` executable: reads the arguments, does the command, and says what the process exits
/// with: 0, 1 if the command failed, 2 if it was not understood.
pub fn run() -> ExitCode {
    let cli = parse();
    // Before anything starts a thread: the compile child gives up its rights, and threads would keep theirs.
    match cli.command {
        Command::Compile(args) => return compile::run(args),
        Command::Hash(args) => return hash::run(args),
        _ => {}
    }
    if cli.quiet {
        output::be_quiet();
    }
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", failure::render(&error));
            ExitCode::from(match () {
                () if error.is::<Usage>() => 2,
                () if error.is::<Lacking>() => 3,
                () => 1,
            })
        }
    }
}

/// Reads the arguments, or ends with what is wrong with them.
fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| without_settings(error).exit())
}

/// Takes out of the line that shows how a command is used what the environment has said already: it is not needed there.
fn without_settings(mut error: clap::Error) -> clap::Error {
    const SET: [&str; 4] = [
        " --server <URL>",
        " --api-key <KEY>",
        " --data-dir <DIR>",
        " --config <FILE>",
    ];
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let mut plain = usage.to_string();
        for set in SET {
            plain = plain.replace(set, "");
        }
        error.insert(ContextKind::Usage, ContextValue::StyledStr(plain.into()));
    }
    error
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let mut builder = match cli.command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(dispatch(cli));
    // A prompt that nobody answers would hold the process up.
    runtime.shutdown_background();
    result
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let server = &cli.server;
    match cli.command {
        Command::Serve(args) => serve::run(args, server).await,
        Command::Plugin(command) => Box::pin(plugin::run(command, server)).await,
        Command::User(command) => user::run(command, server).await,
        Command::Role(command) => role::run(command, server).await,
        Command::Explain(args) => explain::run(args, server).await,
        Command::Rbac(command) => rbac::run(command, server).await,
        Command::Key(command) => key::run(command, server).await,
        Command::ServiceAccount(command) => service_account::run(command, server).await,
        Command::TokenKey(command) => token_key::run(command, server).await,
        Command::Cache(command) => cache::run(command, server).await,
        Command::Secret(command) => secret::run(command, server).await,
        Command::Trust(command) => trust::run(command, server).await,
        Command::Audit(command) => audit::run(command, server).await,
        Command::Openapi(command) => openapi::run(command, server).await,
        Command::Contract(command) => contract::run(command, server).await,
        Command::Status(args) => status::run(args, server).await,
        Command::Config(command) => config::run(command, server).await,
        Command::Doctor(args) => doctor::run(args, server).await,
        Command::Compile(_) | Command::Hash(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_contradict_each_other_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_takes_a_secret_from_the_arguments() {
        for args in [
            &["gantry", "secret", "set", "shop", "stripe", "sk_live_1"][..],
            &[
                "gantry",
                "user",
                "add",
                "ann@example.com",
                "--password",
                "x",
            ],
            &["gantry", "user", "password", "ann@example.com", "x"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
