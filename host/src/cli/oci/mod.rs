//! Plugins in registries of the OCI distribution protocol, as container images are: what `gantry plugin push`, `pull` and
//! `deploy oci://…` do. Only this machine talks to the registry; the server gets the bytes, and a note of where they came from.

mod artifact;
mod credentials;
mod reference;
mod registry;

use std::path::PathBuf;

use bytes::Bytes;

pub(in crate::cli) use artifact::Kind;
pub(in crate::cli) use reference::Reference;

use registry::Registry;

/// How to talk to a registry.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Remote {
    /// Talk to the registry without encryption and without credentials. A registry on this machine needs no such leave.
    #[arg(long)]
    plain_http: bool,
}

/// What a registry had.
#[derive(Debug)]
pub(in crate::cli) struct Pulled {
    /// A bundle or a component, exactly as it was pushed.
    pub(in crate::cli) bytes: Bytes,
    /// Where it is, by its digest: the same bytes whenever it is asked for.
    pub(in crate::cli) pinned: Reference,
    title: Option<String>,
}

impl Pulled {
    /// The file that it was made of, in this folder. A registry cannot choose another folder.
    pub(in crate::cli) fn file_name(&self) -> PathBuf {
        let is_plain = |title: &&String| {
            let is_safe = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            title.len() <= 200 && !title.starts_with('.') && title.chars().all(is_safe)
        };
        match self.title.as_ref().filter(is_plain) {
            Some(title) => title.into(),
            None => "pulled.gantry".into(),
        }
    }
}

impl Remote {
    /// Fetches a plugin, every byte held against its digest.
    pub(in crate::cli) async fn pull(&self, from: &Reference) -> anyhow::Result<Pulled> {
        let mut registry = Registry::new(from, self.plain_http)?;
        artifact::pull(&mut registry, from).await
    }

    /// Puts a plugin into the registry. Returns where it is, by its digest.
    pub(in crate::cli) async fn push(
        &self,
        to: &Reference,
        kind: &Kind,
        bytes: Bytes,
    ) -> anyhow::Result<Reference> {
        let mut registry = Registry::new(to, self.plain_http)?;
        artifact::push(&mut registry, to, kind, bytes).await
    }
}
