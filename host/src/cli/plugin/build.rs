//! `gantry plugin build`: runs the author's build and packs the result.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::output;
use crate::cli::plugin::project::{Packed, Project};
use crate::cli::plugin::signing::SigningArgs;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The folder of the plugin.
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    signing: SigningArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let (project, packed) = build(&args.dir)?;
    let path = project.folder.join(project.file_name());
    let bytes = args.signing.apply(packed.bytes)?;
    std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    output::progress(
        "Packed",
        &format!("{} ({})", path.display(), size(bytes.len())),
    );
    output::next(&format!("gantry plugin deploy {}", path.display()));
    Ok(())
}

/// Builds and packs the plugin in this folder, telling what happens.
pub(super) fn build(folder: &Path) -> anyhow::Result<(Project, Packed)> {
    let project = Project::open(folder)?;
    let about = &project.manifest.plugin;
    if project.manifest.build.is_some() {
        output::progress("Building", &format!("{} {}", about.name, about.version));
    }
    project.build()?;
    let packed = project.pack()?;
    Ok((project, packed))
}

/// Bytes as people read them.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
