//! Asks Extism's own host what its modules do there, for the cases that the tests hold Gantry to.

use std::fs;

use anyhow::{Context, bail, ensure};

use crate::{command, guests};

const FOLDER: &str = "tests/extism-reference";

/// Writes `expected.json`; with `--check` says whether it is what the reference says.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let is_check = match options {
        [] => false,
        [option] if option == "--check" => true,
        _ => bail!("`cargo xtask extism-reference` takes only `--check`"),
    };
    guests::build()?;
    let folder = crate::root().join(FOLDER);
    let target = guests::target_folder();
    // A workspace, a lock file and a target folder of its own: its engine is an older one.
    let mut reference = command::cargo(&["run", "--locked", "--manifest-path"]);
    reference
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target.join("extism-reference"))
        .arg("--")
        .arg(folder.join("cases.json"))
        .arg(target.join("wasm32-wasip1/guest/extism_probe.wasm"));
    let said = command::output(&mut reference)?;
    let path = folder.join("expected.json");
    if is_check {
        let kept = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(
            kept == said,
            "the reference says something else than expected.json; run `cargo xtask extism-reference`"
        );
    } else {
        fs::write(&path, said).with_context(|| path.display().to_string())?;
    }
    println!("{} is what Extism's own host says", path.display());
    Ok(())
}
