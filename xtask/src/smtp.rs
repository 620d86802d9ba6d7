//! The mail server that some tests send to: `aiosmtpd` from PyPI, in a folder of its own below `target/`.

use crate::pypi;

/// What the program is called.
pub(crate) const PROGRAM: &str = "aiosmtpd";

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match pypi::fetch("smtp", "aiosmtpd") {
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
