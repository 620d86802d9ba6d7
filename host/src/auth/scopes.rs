//! What API keys are narrowed to: permissions that they keep, and words that only routes know, which give nothing.

use std::{fmt, str::FromStr};

use crate::auth::permissions::{InvalidPermission, PlatformPermission, RolePermission};
use crate::ids::{SCOPE_BYTES_MAX, is_scope};

/// One scope of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The key keeps this permission, if its roles have it. To routes that ask for the same text as a scope, it is that, too.
    Permission(RolePermission),
    /// A word that routes may ask for. No permission.
    Free(Box<str>),
}

impl Scope {
    /// Whether it is a word that gives no permission.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Free(_))
    }
}

impl FromStr for Scope {
    type Err = InvalidPermission;

    /// Whatever looks like a permission of the host or like a pattern must be one: it would be narrower than its author thinks.
    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let is_free = is_scope(text)
            && text.len() <= SCOPE_BYTES_MAX
            && !text.starts_with("platform.")
            && !text.contains('*');
        match text.parse::<RolePermission>() {
            Ok(permission) => Ok(Self::Permission(permission)),
            Err(_) if is_free => Ok(Self::Free(text.into())),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(permission) => write!(f, "{permission}"),
            Self::Free(text) => f.write_str(text),
        }
    }
}

/// Whether a key with this scope has also that one, for which a route asks: `shop:*` covers `shop:orders.read`.
pub(super) fn covers(own: &str, asked: &str) -> bool {
    match own.strip_suffix('*') {
        Some(beginning) => asked.starts_with(beginning),
        None => {
            own == asked
                || (own == PlatformPermission::Admin.as_str()
                    && PlatformPermission::find(asked).is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_permission_or_a_plain_word_and_nothing_that_only_looks_like_one() {
        for (text, is_free) in [
            ("*", Some(false)),
            ("shop:*", Some(false)),
            ("shop:orders.read", Some(false)),
            ("platform.read", Some(false)),
            ("orders.read", Some(true)),
            ("Orders:Read", Some(true)),
            ("https://api.example.com/orders", Some(true)),
            ("", None),
            ("a b", None),
            ("a\"b", None),
            ("ä", None),
            ("platform.raed", None),
            ("orders.*", None),
            ("shop:orders.*", None),
            (&*"x".repeat(101), None),
        ] {
            let scope = text.parse::<Scope>();
            let found = scope.as_ref().ok().map(Scope::is_free);
            assert_eq!(found, is_free, "{text}");
            if let Ok(scope) = scope {
                assert_eq!(scope.to_string(), text);
            }
        }
    }

    #[test]
    fn what_stands_for_many_covers_each_of_them() {
        for (own, asked, is_covered) in [
            ("*", "orders.read", true),
            ("shop:*", "shop:orders.read", true),
            ("shop:*", "shopping:orders.read", false),
            ("shop:*", "shop", false),
            ("orders.read", "orders.read", true),
            ("orders.read", "orders.reader", false),
            ("platform.admin", "platform.read", true),
            ("platform.admin", "platform.raed", false),
            ("platform.read", "platform.admin", false),
        ] {
            assert_eq!(covers(own, asked), is_covered, "{own} {asked}");
        }
    }
}
