//! Who is calling and what they may do: accounts, roles, API keys, access tokens, guest tokens. What a refusal looks
//! like on the wire is for the front doors to know.

pub mod guest;
pub mod keys;

pub use guest::GuestTokens;
pub use keys::Keys;
