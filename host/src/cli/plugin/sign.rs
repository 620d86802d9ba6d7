//! `gantry plugin sign`: signs a bundle that is there already.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bytes::Bytes;

use crate::cli::failure::Usage;
use crate::cli::output;
use crate::cli::plugin::project::check;
use crate::cli::plugin::signing;
use crate::ids::PluginName;
use crate::plugins::bundle::{self, Bundle, pack_component};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A bundle (.gantry), which gets the signature, or a component (.wasm), of which a bundle is made.
    what: PathBuf,
    /// The file with the private key, made by `gantry plugin keygen`.
    #[arg(long, env = "GANTRY_SIGN_KEY", value_name = "FILE")]
    key: PathBuf,
    /// The name of the plugin. Only for a component without a manifest.
    #[arg(long)]
    name: Option<PluginName>,
    /// Where the signed bundle goes. Default: in place of the bundle.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let key = signing::read_key(&args.key)?;
    let (bundle, default) = load(&args.what, args.name.as_ref())?;
    let (signed, signature) = signing::sign(&bundle, &key)?;
    let path = args.output.unwrap_or(default);
    // Beside it first, so that a full disk leaves the bundle as it was.
    let draft = path.with_extension("gantry.partial");
    fs::write(&draft, &signed)
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    signing::tell(&signature);
    output::progress("Written", &path.display().to_string());
    output::next(&format!("gantry plugin deploy {}", path.display()));
    Ok(())
}

/// The bundle, and where its signed form goes unless somebody says otherwise.
fn load(what: &Path, name: Option<&PluginName>) -> anyhow::Result<(Bytes, PathBuf)> {
    let bytes = fs::read(what).with_context(|| format!("cannot read {}", what.display()))?;
    let bytes = Bytes::from(bytes);
    if !Bundle::is_component(&bytes) {
        let packed = check(bytes, Path::new("plugin.toml"))?;
        return Ok((packed.bytes, what.to_owned()));
    }
    let Some(name) = name else {
        let text = "a component alone has no manifest: give the plugin a name with --name";
        return Err(Usage(text.to_owned()).into());
    };
    let bundle = pack_component(name, bytes, &bundle::Config::default())?;
    Ok((bundle, what.with_file_name(format!("{name}-0.0.0.gantry"))))
}
