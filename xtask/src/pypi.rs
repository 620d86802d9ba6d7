//! Programs from PyPI, each in a folder of its own below `target/`.

use std::{fs, process::Command};

use anyhow::bail;

use crate::command;

/// Installs exactly the packages that `tests/NAME/requirements.txt` lists, by their hashes, into `target/tools/NAME`, unless they
/// are there. `module` is what Python imports.
pub(crate) fn fetch(name: &str, module: &str) -> anyhow::Result<()> {
    let folder = crate::root().join("target/tools").join(name);
    let python = folder.join("bin/python");
    let list = folder.join("requirements.txt");
    let packages = crate::root()
        .join("tests")
        .join(name)
        .join("requirements.txt");
    let wanted = fs::read_to_string(&packages)?;
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
            // Nothing that is not in the list, no byte other than it says, and nothing of theirs is run to install it.
            .args(["--no-deps", "--require-hashes", "--only-binary", ":all:"])
            .arg("--requirement")
            .arg(&packages),
    )?;
    if !has(&python) {
        bail!("it was installed and cannot be imported");
    }
    fs::write(list, wanted)?;
    Ok(())
}
