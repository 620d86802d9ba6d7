//! A server with a restaurant in it: everything from an empty checkout to requests that can be tried out. A second start
//! finds what the first one made.

mod accounts;
mod api;
mod date;
mod mail;
mod restaurant;
mod server;
mod shell;
mod state;
mod tries;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{command, guests, test};
use api::Api;
use mail::Mail;
pub(crate) use server::command as server_command;

use server::Server;
use state::State;

const PLUGIN: &str = "techplus";
const MOUNT: &str = "/api";
/// What makes smaller versions of photos.
const IMAGES: &str = "images";

/// Starts the demo and keeps it running, or with `--once` tries everything out on a server of its own and stops. With
/// `--mail` there is a mail server, too, and people can open accounts.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let has = |name: &str| options.iter().any(|option| option == name);
    if let Some(other) = options
        .iter()
        .find(|option| !["--once", "--mail"].contains(&option.as_str()))
    {
        bail!("`cargo xtask demo` takes `--once` and `--mail`, and not `{other}`");
    }
    if has("--once") {
        run_once(has("--mail"))
    } else {
        run_forever(has("--mail"))
    }
}

fn run_forever(with_mail: bool) -> anyhow::Result<()> {
    build()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let data = crate::root().join("gantry-data");
    let mail = with_mail.then(|| Mail::start(&data)).transpose()?;
    let (server, file) = start(address, &data, mail.as_ref())?;
    shell::print(&file, with_mail);
    println!(
        "Everything is kept in gantry-data; remove the folder to start anew. Requests are logged in\n\
         gantry-data/access.log. Ctrl-C stops the server."
    );
    server.wait()
}

fn run_once(with_mail: bool) -> anyhow::Result<()> {
    build()?;
    // A port that is free now; nobody else takes it in the moment until the server does.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let data = std::env::temp_dir().join(format!("gantry-demo-{}", std::process::id()));
    let mail = with_mail.then(|| Mail::start(&data)).transpose()?;
    let tried = start(address, &data, mail.as_ref()).and_then(|(server, file)| {
        shell::check(&file, with_mail)?;
        // A second start must find everything.
        server.stop()?;
        let (server, _) = start(address, &data, mail.as_ref())?;
        server.stop()
    });
    if tried.is_ok() {
        fs::remove_dir_all(&data)?;
        println!("\nevery line did what it should");
    }
    tried.with_context(|| format!("the server's files are in {}", data.display()))
}

fn build() -> anyhow::Result<()> {
    guests::add_target()?;
    test::build_server()
}

/// A server at this address with a live plugin, accounts and a restaurant, and what a shell needs to try it.
fn start(
    address: SocketAddr,
    data: &Path,
    mail: Option<&Mail>,
) -> anyhow::Result<(Server, PathBuf)> {
    let settings = mail.map(Mail::settings);
    let server = Server::start(address, data, settings.as_ref().map_or(&[], |all| all))?;
    let mut state = State::open(data)?;
    deploy(server.api(), &mut state, IMAGES, "/images")?;
    deploy(server.api(), &mut state, PLUGIN, MOUNT)?;
    accounts::ensure(server.api(), &mut state)?;
    restaurant::ensure(server.api(), &mut state)?;
    println!("\nGantry is at {}", server.url());
    println!(
        "Its API can be read and tried out at {}/api/docs",
        server.url()
    );
    accounts::print(&state);
    let file = shell::write(server.api(), &state, &server.url(), data)?;
    Ok((server, file))
}

/// Makes a plugin live, unless this very bundle is.
fn deploy(api: &Api, state: &mut State, plugin: &str, mount: &str) -> anyhow::Result<()> {
    let folder = crate::root().join("plugins").join(plugin);
    let (deployment, kept) = (
        format!("deployment of {plugin}"),
        format!("bundle of {plugin}"),
    );
    let mut gantry = server::command();
    command::run(gantry.args(["plugin", "build", "--quiet"]).arg(&folder))?;
    let bundle = fs::read(newest_bundle(&folder)?)?;
    let digest = state::digest(&bundle);
    let live = api.admin("GET", &format!("/plugins/{plugin}"), b"")?;
    let is_live = live.status == 200
        && live.json()?["deployment"].as_str() == state.text(&deployment).as_deref()
        && state.text(&kept) == Some(digest.clone());
    if is_live {
        println!("{plugin} is live already");
        return Ok(());
    }
    let path = format!("/deployments?mount={mount}&grant=all&note=demo");
    let deployed = api.admin("POST", &path, &bundle)?.expect(201)?;
    let id = deployed["deployment"]["id"]
        .as_str()
        .context("a deployment has an id")?;
    state.set(&deployment, id);
    state.set(&kept, digest);
    state.save()?;
    println!(
        "{plugin} is live at {mount}, after {} ms",
        deployed["took_ms"]
    );
    Ok(())
}

/// What `gantry plugin build` left.
fn newest_bundle(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let mut bundles = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "gantry")
        {
            bundles.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let newest = bundles
        .into_iter()
        .max()
        .context("`gantry plugin build` left no bundle")?;
    Ok(newest.1)
}
