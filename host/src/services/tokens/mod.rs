//! Signed tokens that a plugin hands to people without an account. Signing is `auth`'s work; this is the plugin's way
//! to it.

pub mod host;
