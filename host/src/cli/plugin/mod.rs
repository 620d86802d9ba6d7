//! `gantry plugin …`: everything between an empty folder and a plugin that answers.

mod approve;
mod build;
mod config;
mod deploy;
mod deprecated;
mod dev;
mod grant;
mod history;
mod inspect;
mod keygen;
mod language;
mod list;
mod logs;
mod new;
mod project;
mod promote;
mod push;
mod remove;
mod rollback;
mod routes;
mod sign;
mod signing;
mod status;
mod test;
mod usage;
mod verify;
mod watch;

use clap::Subcommand;

use crate::cli::client::Options;

pub(in crate::cli) use signing::read_public;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Write a new plugin: a small project that builds, tests and deploys.
    New(new::Args),
    /// Build a plugin and pack it as one file.
    Build(build::Args),
    /// Build and deploy again with every change, and show what the plugin logs.
    Dev(dev::Args),
    /// Run the tests of plugin.toml on a real host of their own; no server is needed.
    Test(test::Args),
    /// Put a plugin on the server and make it live.
    Deploy(deploy::Args),
    /// Make a key that signs plugins.
    Keygen(keygen::Args),
    /// Sign a bundle.
    Sign(sign::Args),
    /// Find out whether a bundle is what a trusted key signed.
    Verify(verify::Args),
    /// Put a plugin into a registry.
    Push(push::PushArgs),
    /// Fetch a plugin from a registry.
    Pull(push::PullArgs),
    /// Make an earlier deployment live again.
    Rollback(rollback::Args),
    /// Give a canary more requests, or all of them.
    Promote(promote::Args),
    /// Agree to what an upgrade asks for, or refuse it.
    Approve(approve::Args),
    /// Show which versions of a plugin answer, and how well.
    Status(status::Args),
    /// Show what happened to the versions of a plugin, who did it and why.
    History(history::Args),
    /// List the plugins of the server.
    List(list::Args),
    /// Show what a plugin is, asks for and serves: of a file, a folder or the server.
    Inspect(inspect::Args),
    /// Show what a plugin has used, route by route.
    Usage(usage::Args),
    /// Show who still calls deprecated routes of a plugin.
    Deprecated(deprecated::Args),
    /// Show what a plugin logs.
    Logs(logs::Args),
    /// Decide what a plugin may use.
    Grant(grant::Args),
    /// Show or change the settings of a plugin.
    Config(config::Args),
    /// Take a plugin off the server. Its data stays.
    Remove(remove::Args),
}

pub(in crate::cli) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Dev(args) => dev::run(args, server).await,
        Command::Test(args) => Box::pin(test::run(args)).await,
        Command::Deploy(args) => deploy::run(args, server).await,
        Command::Keygen(args) => keygen::run(&args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args, server).await,
        Command::Push(args) => push::push(args).await,
        Command::Pull(args) => push::pull(args).await,
        Command::Rollback(args) => rollback::run(args, server).await,
        Command::Promote(args) => promote::run(args, server).await,
        Command::Approve(args) => approve::run(args, server).await,
        Command::Status(args) => status::run(args, server).await,
        Command::History(args) => history::run(args, server).await,
        Command::List(args) => list::run(args, server).await,
        Command::Inspect(args) => inspect::run(args, server).await,
        Command::Usage(args) => usage::run(args, server).await,
        Command::Deprecated(args) => deprecated::run(args, server).await,
        Command::Logs(args) => logs::run(args, server).await,
        Command::Grant(args) => grant::run(args, server).await,
        Command::Config(args) => config::run(args, server).await,
        Command::Remove(args) => remove::run(args, server).await,
    }
}
