//! The OpenID provider that some tests log in at: `oidc-provider` from npm.

use crate::npm;

/// What the program is called.
pub(crate) const PROGRAM: &str = "oidc-provider";

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match npm::fetch("oidc", PROGRAM) {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with an OpenID provider. {PROGRAM} cannot be fetched ({error:#}). Node.js 20 or newer \
                 with `npm`, and npm's registry, are needed."
            );
            false
        }
    }
}
