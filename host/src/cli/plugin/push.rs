//! `gantry plugin push` and `gantry plugin pull`: plugins in registries.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;

use crate::cli::failure::Usage;
use crate::cli::oci::{Kind, Reference, Remote};
use crate::cli::output;
use crate::cli::plugin::build::{build, size};
use crate::cli::plugin::project::check;
use crate::cli::plugin::signing::SigningArgs;
use crate::plugins::bundle::Bundle;
use crate::plugins::validate::interfaces;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct PushArgs {
    /// A folder with a plugin.toml, which is built first, a bundle (.gantry) or a component (.wasm).
    what: PathBuf,
    /// Where it goes: `oci://HOST/REPOSITORY:TAG`.
    to: Reference,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct PullArgs {
    /// What to fetch: `oci://HOST/REPOSITORY:TAG` or `oci://HOST/REPOSITORY@sha256:…`.
    from: Reference,
    /// The file to write. Default: the name that it was pushed with.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn push(args: PushArgs) -> anyhow::Result<()> {
    let (kind, bytes) = load(&args.what, &args.signing)?;
    output::progress("Pushing", &format!("{} ({})", args.to, size(bytes.len())));
    let pinned = args.remote.push(&args.to, &kind, bytes).await?;
    output::progress("Pushed", &pinned.to_string());
    output::print(&format!("{pinned}\n"));
    output::next(&format!("gantry plugin deploy {pinned}"));
    Ok(())
}

pub(super) async fn pull(args: PullArgs) -> anyhow::Result<()> {
    let pulled = args.remote.pull(&args.from).await?;
    let path = args.output.unwrap_or_else(|| pulled.file_name());
    let mut file = std::fs::File::create_new(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    std::io::Write::write_all(&mut file, &pulled.bytes)
        .with_context(|| format!("cannot write {}", path.display()))?;
    output::progress(
        "Pulled",
        &format!("{} ({})", path.display(), size(pulled.bytes.len())),
    );
    output::print(&format!("{}\n", pulled.pinned));
    Ok(())
}

/// What is pushed, checked as the server will check it.
fn load(what: &Path, signing: &SigningArgs) -> anyhow::Result<(Kind, Bytes)> {
    let bytes = if what.is_dir() {
        build(what)?.1.bytes
    } else {
        let read = std::fs::read(what);
        Bytes::from(read.with_context(|| format!("cannot read {}", what.display()))?)
    };
    if Bundle::is_component(&bytes) {
        if signing.is_given() {
            let text = "a component alone carries no signature; make a bundle of it with `gantry plugin sign --name NAME`";
            return Err(Usage(text.to_owned()).into());
        }
        let found = interfaces(&bytes).map_err(|mistakes| {
            let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", told.join("; "))
        })?;
        let names = |of: &[crate::plugins::validate::Interface]| {
            of.iter().map(|one| one.name.clone()).collect()
        };
        let (imports, exports) = (names(&found.imports), names(&found.exports));
        return Ok((Kind::Component { imports, exports }, bytes));
    }
    let packed = check(signing.apply(bytes)?, Path::new("plugin.toml"))?;
    let about = packed.plugin.manifest.plugin;
    let kind = Kind::Bundle {
        name: about.name,
        version: about.version,
    };
    Ok((kind, packed.bytes))
}
