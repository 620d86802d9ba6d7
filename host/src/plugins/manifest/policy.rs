//! `roles`, `scopes` and `condition` of a route: who may call it, beyond a login and permissions.

use toml::Spanned;

use super::ENTRIES_MAX;
use super::reader::{Fields, Reader, clip, parsed, refuse_duplicates};
use super::route::Auth;
use crate::condition::{Expression, TEXT_BYTES_MAX};
use crate::ids::{RoleName, SCOPE_BYTES_MAX, is_scope};

/// What a route asks of a caller beside a login and permissions. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// One of them must be the caller's. Roles are the operator's, so a plugin that names them is made for one host.
    pub roles: Vec<RoleName>,
    /// All of them must be the credential's.
    pub scopes: Vec<String>,
    /// An expression (CEL) that must be true of the request.
    pub condition: Option<String>,
}

impl Policy {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        auth: Option<Auth>,
    ) -> Self {
        let mut roles = Vec::new();
        for text in fields.strings(reader, "roles", ENTRIES_MAX, 64) {
            if let Some(role) = parsed::<RoleName>(reader, "roles", &text) {
                roles.push((text.span(), role.into_inner()));
            }
        }
        let mut scopes = Vec::new();
        for text in fields.strings(reader, "scopes", ENTRIES_MAX, SCOPE_BYTES_MAX) {
            if is_scope(text.get_ref()) {
                scopes.push((text.span(), (*text.get_ref()).to_owned()));
            } else {
                let message = format!("`{}` is not a scope", clip(text.get_ref()));
                let help = "letters, digits and signs, without blanks, quotes and backslashes";
                reader.mistake_with_help(text.span(), message, help);
            }
        }
        for (key, first) in [
            ("roles", roles.first().map(|(at, _)| at)),
            ("scopes", scopes.first().map(|(at, _)| at)),
        ] {
            if let (Some(at), Some(auth)) = (first, auth)
                && auth != Auth::Required
            {
                let message = format!("`{key}` cannot be asked for with `auth = \"{auth}\"`");
                reader.mistake_with_help(at.clone(), message, "write `auth = \"required\"`");
            }
        }
        refuse_duplicates(reader, "the role", roles.iter().cloned());
        refuse_duplicates(reader, "the scope", scopes.iter().cloned());
        Self {
            roles: roles.into_iter().map(|(_, role)| role).collect(),
            scopes: scopes.into_iter().map(|(_, scope)| scope).collect(),
            condition: read_condition(reader, fields),
        }
    }
}

fn read_condition(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<String> {
    let text: Spanned<&str> = fields.string(reader, "condition", TEXT_BYTES_MAX)?;
    if let Err(error) = Expression::compile(text.get_ref()) {
        let help = "for example `condition = \"claims.sub == params.id\"`";
        reader.mistake_with_help(text.span(), format!("`condition`: {error}"), help);
    }
    Some((*text.get_ref()).to_owned())
}
