//! The mail server that some tests send to: `aiosmtpd` from PyPI, in a folder of its own below `target/`.

use std::{fs, process::Command};

use anyhow::bail;

use crate::command;

/// What the program is called.
pub(crate) const PROGRAM: &str = "aiosmtpd";
/// It and all that it needs.
const PACKAGES: [&str; 3] = ["aiosmtpd==1.4.6", "atpublic==9.0.0", "attrs==26.1.0"];

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match fetch() {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with a mail server. {PROGRAM} cannot be fetched ({error:#}). Python with `venv` and \
                 PyPI are needed."
            );
            false
        }
    }
}

fn fetch() -> anyhow::Result<()> {
    let folder = crate::root().join("target/tools/smtp");
    let python = folder.join("bin/python");
    let has = |python| {
        let mut import = Command::new(python);
        import.args(["-c", "import aiosmtpd"]);
        import.status().is_ok_and(|status| status.success())
    };
    if python.exists() && has(&python) {
        return Ok(());
    }
    if folder.exists() {
        // Of another interpreter, or cut off.
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
            .args(PACKAGES),
    )?;
    if !has(&python) {
        bail!("it was installed and cannot be imported");
    }
    Ok(())
}
