//! The client that a test uploads with: `tus-js-client` from npm.

use crate::npm;

/// What the program is called.
pub(crate) const PROGRAM: &str = "tus-js-client";

/// Finds or fetches the program. If neither works, says that the test that needs it is left out.
pub(crate) fn prepare() -> bool {
    match npm::fetch("tus", PROGRAM) {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the test with a client for resumable uploads. {PROGRAM} cannot be fetched ({error:#}). Node.js 20 \
                 or newer with `npm`, and npm's registry, are needed."
            );
            false
        }
    }
}
