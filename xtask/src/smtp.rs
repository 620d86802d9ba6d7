//! The mail server that some tests send to: `aiosmtpd` from PyPI, in a folder of its own below `target/`.

use crate::pypi;

/// What the program is called.
pub(crate) const PROGRAM: &str = "aiosmtpd";
/// It and all that it needs.
const PACKAGES: [&str; 3] = ["aiosmtpd==1.4.6", "atpublic==9.0.0", "attrs==26.1.0"];

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match pypi::fetch("smtp", "aiosmtpd", &PACKAGES) {
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
