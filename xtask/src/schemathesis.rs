//! The program that tries out what documents of APIs promise: `schemathesis` from PyPI, in a folder of its own below `target/`.

use crate::pypi;

/// What the program is called.
pub(crate) const PROGRAM: &str = "schemathesis";

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match pypi::fetch("schemathesis", "schemathesis") {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests that hold answers against documents of APIs. {PROGRAM} cannot be fetched ({error:#}). \
                 Python with `venv` and PyPI are needed."
            );
            false
        }
    }
}
