//! `gantry plugin verify`: whether a bundle is what a trusted key signed, without deploying it.

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;

use crate::admin::trust::TrustedKeyBody;
use crate::cli::client::{Client, Options};
use crate::cli::oci::{self, Remote};
use crate::cli::output;
use crate::cli::plugin::signing::read_public;
use crate::plugins::bundle::{self, Bundle, BundleError};
use crate::plugins::manifest::Manifest;
use crate::plugins::trust::{TrustList, TrustedKey, compare};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A bundle (.gantry), or one in a registry: `oci://HOST/REPOSITORY:TAG`.
    what: String,
    /// Trust this key alone, itself or the file that it is in. Default: those that the server trusts.
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let bytes = match oci::Reference::in_text(&args.what)? {
        Some(reference) => args.remote.pull(&reference).await?.bytes,
        None => Bytes::from(
            std::fs::read(&args.what).with_context(|| format!("cannot read {}", args.what))?,
        ),
    };
    let list = match &args.public_key {
        Some(key) => only(key)?,
        None => of_server(&Client::new(server)?).await?,
    };
    let bundle = if Bundle::is_component(&bytes) {
        anyhow::bail!(
            "a component alone carries no signature; `gantry plugin sign` makes a bundle of it"
        )
    } else {
        Bundle::read(&bytes, &bundle::Config::default())?
    };
    let about = Manifest::parse(&bundle.manifest)
        .map_err(BundleError::Manifest)?
        .plugin;
    let now_ms = Timestamp::now().as_millisecond();
    let signature = list.check(&about.name, bundle.signature.as_deref(), now_ms)?;
    compare(&signature, &about.name, &about.version, &bundle.files)?;
    let owner = list
        .get(signature.key)
        .map(|key| output::plain(&key.owner))
        .unwrap_or_default();
    let what = format!(
        "{} {}: {} files, signed with the key {} ({owner})",
        about.name,
        about.version,
        bundle.files.len(),
        signature.key
    );
    output::progress("Verified", &what);
    Ok(())
}

/// A list with one key, which may sign everything.
fn only(key: &str) -> anyhow::Result<TrustList> {
    let key = TrustedKey {
        public: read_public(key)?,
        owner: "given with --public-key".to_owned(),
        plugins: vec!["*".parse()?],
        expires_at_ms: None,
        revoked_at_ms: None,
        added_by: String::new(),
        added_at_ms: 0,
        is_in_settings: false,
    };
    Ok([key].into_iter().collect())
}

async fn of_server(client: &Client) -> anyhow::Result<TrustList> {
    let keys: Vec<TrustedKeyBody> = client.list(&["trust", "keys"]).await?;
    let time = |text: Option<&str>| -> anyhow::Result<Option<i64>> {
        let time = text.map(str::parse::<Timestamp>).transpose()?;
        Ok(time.map(Timestamp::as_millisecond))
    };
    keys.into_iter()
        .map(|key| {
            Ok(TrustedKey {
                public: key.public_key.parse()?,
                plugins: key
                    .plugins
                    .iter()
                    .map(|pattern| pattern.parse())
                    .collect::<Result<_, _>>()?,
                expires_at_ms: time(key.expires_at.as_deref())?,
                revoked_at_ms: time(key.revoked_at.as_deref())?,
                owner: key.owner,
                added_by: key.added_by,
                added_at_ms: 0,
                is_in_settings: key.is_in_settings,
            })
        })
        .collect()
}
