//! `[capabilities]`: what the plugin wants from the host. Nothing that is not named here is ever given.

use std::{fmt, ops::Range};

use http::{HeaderName, Method};
use toml::{Spanned, de::DeValue};

use super::reader::{Fields, Reader, parsed, refuse_duplicates, string};
use super::route::{choice, read_method_list};
use super::{ENTRIES_MAX, HostPattern};
use crate::ids::Label;

/// The services that need the operator's grant. Tokens, settings, logging and the context of a call need none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Key-value stores.
    pub kv: Vec<Label>,
    /// Values that are kept for a while.
    pub cache: Vec<Label>,
    /// Files.
    pub blobs: Vec<Label>,
    /// Databases.
    pub sql: Vec<SqlDatabase>,
    /// Secrets, to be used by the host or read by the plugin.
    pub secrets: Vec<Secret>,
    /// Other servers.
    pub http: Vec<HttpHost>,
}

/// A database of the plugin's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlDatabase {
    /// What the plugin opens it by.
    pub label: Label,
    /// The folder of its migrations, relative to the manifest. In a bundle it is always `migrations/<label>/`.
    pub migrations: Option<String>,
}

/// A secret that the operator keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What the plugin asks for it by.
    pub label: Label,
    /// What may happen with the value.
    pub usage: SecretUse,
}

/// What may happen with a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUse {
    /// The host puts it into outgoing requests; the plugin never sees it.
    Inject(Injection),
    /// The plugin may read it.
    Reveal,
}

/// Where the host puts a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// Only in requests to this host; one that `http` covers.
    pub host: HostPattern,
    /// Replaces what the plugin may have set.
    pub header: HeaderName,
    /// Stands before the value: `Bearer `. May be empty.
    pub prefix: String,
}

/// Another server that the plugin may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHost {
    /// One host or all below a name.
    pub host: HostPattern,
    /// Only these methods; empty means all.
    pub methods: Vec<Method>,
    /// Shown to the person who grants it.
    pub reason: Option<String>,
}

/// Capabilities that a later version will know.
const LATER: &[&str] = &[
    "env",
    "events",
    "files",
    "integrations",
    "jobs",
    "metrics",
    "notify",
    "plugins",
    "queue",
    "sockets",
];

impl Capabilities {
    /// Whether there is a secret that the plugin may read.
    pub fn reveals(&self) -> bool {
        let mut secrets = self.secrets.iter();
        secrets.any(|secret| secret.usage == SecretUse::Reveal)
    }

    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Self {
        reader.remember("capabilities".to_owned(), fields.span());
        let kv = read_labels(reader, &mut fields, "kv");
        let cache = read_labels(reader, &mut fields, "cache");
        let blobs = read_labels(reader, &mut fields, "blobs");
        let sql = read_sql(reader, &mut fields);
        let http = read_http(reader, &mut fields);
        let secrets = read_secrets(reader, &mut fields, &http);
        fields.finish(
            reader,
            LATER,
            &[
                (
                    "config",
                    "settings need no capability: describe them in `[config]`",
                ),
                ("context", "the context of a call needs no capability"),
                ("identity", "the caller's identity needs no capability"),
                ("logging", "logging needs no capability"),
                ("tokens", "tokens need no capability"),
            ],
        );
        Self {
            kv,
            cache,
            blobs,
            sql,
            secrets,
            http,
        }
    }
}

fn read_labels(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<Label> {
    let mut labels = Vec::new();
    for text in fields.strings(reader, key, ENTRIES_MAX, 64) {
        if let Some(label) = parsed::<Label>(reader, key, &text) {
            labels.push((text.span(), label.into_inner()));
        }
    }
    keep(reader, key, &labels);
    labels.into_iter().map(|(_, label)| label).collect()
}

fn read_sql(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<SqlDatabase> {
    let mut labels = Vec::new();
    let mut databases = Vec::new();
    for value in fields.list(reader, "sql", ENTRIES_MAX) {
        let (label, migrations) = if let DeValue::String(_) = value.get_ref() {
            let label = string(reader, "sql", value, 64)
                .and_then(|text| parsed::<Label>(reader, "sql", &text));
            (label, None)
        } else {
            let Some(mut fields) = Fields::of(reader, value, "an entry of `sql`") else {
                continue;
            };
            let label = fields.required_parsed::<Label>(reader, "label");
            let migrations = fields.string(reader, "migrations", 256);
            if let Some(folder) = &migrations
                && !is_inner_folder(folder.get_ref())
            {
                let message = "`migrations` must be a folder beside the manifest";
                let help = "write for example `migrations = \"migrations/\"`";
                reader.mistake_with_help(folder.span(), message, help);
            }
            fields.finish(reader, &["access", "seed"], &[]);
            (label, migrations)
        };
        if let Some(label) = label {
            labels.push((label.span(), label.get_ref().clone()));
            databases.push(SqlDatabase {
                label: label.into_inner(),
                migrations: migrations.map(|folder| (*folder.get_ref()).to_owned()),
            });
        }
    }
    keep(reader, "sql", &labels);
    databases
}

fn read_http(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<HttpHost> {
    let mut found = Vec::new();
    let mut hosts = Vec::new();
    for value in fields.list(reader, "http", ENTRIES_MAX) {
        if let DeValue::String(text) = value.get_ref() {
            let help = format!("write `http = [{{ host = \"{text}\", reason = \"…\" }}]`");
            reader.mistake_with_help(value.span(), "an entry of `http` must be a table", help);
            continue;
        }
        let Some(mut fields) = Fields::of(reader, value, "an entry of `http`") else {
            continue;
        };
        let host = fields.required_parsed::<HostPattern>(reader, "host");
        let methods = fields.list(reader, "methods", ENTRIES_MAX);
        let methods = read_method_list(reader, "methods", methods.into_iter());
        let reason = fields.string(reader, "reason", 200);
        fields.finish(reader, &["path", "paths", "scheme"], &[]);
        if let Some(host) = host {
            found.push((host.span(), host.get_ref().clone()));
            hosts.push(HttpHost {
                host: host.into_inner(),
                methods,
                reason: reason.map(|reason| (*reason.get_ref()).to_owned()),
            });
        }
    }
    keep(reader, "http", &found);
    hosts
}

#[derive(Clone, Copy)]
enum Usage {
    Inject,
    Reveal,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inject => "inject",
            Self::Reveal => "reveal",
        })
    }
}

fn read_secrets(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    http: &[HttpHost],
) -> Vec<Secret> {
    let mut labels = Vec::new();
    let mut secrets = Vec::new();
    for value in fields.list(reader, "secrets", ENTRIES_MAX) {
        if let DeValue::String(text) = value.get_ref() {
            let help = format!(
                "write `secrets = [{{ label = \"{text}\", use = \"inject\", host = \"…\", \
                 header = \"authorization\", prefix = \"Bearer \" }}]`"
            );
            reader.mistake_with_help(value.span(), "an entry of `secrets` must be a table", help);
            continue;
        }
        let Some(mut fields) = Fields::of(reader, value, "an entry of `secrets`") else {
            continue;
        };
        let label = fields.required_parsed::<Label>(reader, "label");
        let usage = fields.required_string(reader, "use", 32);
        let usage =
            usage.and_then(|text| choice(reader, "use", &text, &[Usage::Inject, Usage::Reveal]));
        let usage = match usage {
            Some(Usage::Inject) => read_injection(reader, &mut fields, http).map(SecretUse::Inject),
            Some(Usage::Reveal) => {
                for key in ["host", "header", "prefix"] {
                    if let Some(value) = fields.get(key) {
                        let message = format!("`{key}` means nothing with `use = \"reveal\"`");
                        reader.mistake(value.span(), message);
                    }
                }
                Some(SecretUse::Reveal)
            }
            None => {
                // Known, so that one wrong word does not make three more keys look wrong.
                for key in ["host", "header", "prefix"] {
                    fields.get(key);
                }
                None
            }
        };
        fields.finish(reader, &["query"], &[]);
        if let (Some(label), Some(usage)) = (label, usage) {
            labels.push((label.span(), label.get_ref().clone()));
            secrets.push(Secret {
                label: label.into_inner(),
                usage,
            });
        }
    }
    keep(reader, "secret", &labels);
    secrets
}

fn read_injection(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    http: &[HttpHost],
) -> Option<Injection> {
    let host = fields.required_parsed::<HostPattern>(reader, "host");
    let header = fields.required_parsed::<HeaderName>(reader, "header");
    let prefix = match fields.get("prefix") {
        Some(value) if value.get_ref().as_str() == Some("") => Some(""),
        Some(value) => string(reader, "prefix", value, 64).map(Spanned::into_inner),
        None => Some(""),
    };
    if let Some(host) = &host {
        let wanted = host.get_ref();
        if wanted.is_wildcard() {
            let message = "a secret is injected for one host, not for a wildcard";
            reader.mistake(host.span(), message);
        } else if !http.iter().any(|allowed| allowed.host.covers(wanted)) {
            let message = format!("the secret goes to `{wanted}`, which the plugin may not call");
            let help = format!("add `{{ host = \"{wanted}\", reason = \"…\" }}` to `http`");
            reader.mistake_with_help(host.span(), message, help);
        }
    }
    if let Some(header) = &header
        && FRAMING.contains(header.get_ref())
    {
        let message = format!(
            "a secret cannot be put into the header `{}`",
            header.get_ref()
        );
        reader.mistake(header.span(), message);
    }
    let prefix_is_visible = prefix?.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !prefix_is_visible {
        reader.mistake(
            fields.span(),
            "`prefix` contains characters that a header cannot carry",
        );
    }
    Some(Injection {
        host: host?.into_inner(),
        header: header?.into_inner(),
        prefix: prefix?.to_owned(),
    })
}

/// Headers that say how a message is framed and where it goes; a value of the operator's must not change that.
const FRAMING: [HeaderName; 7] = [
    http::header::HOST,
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::EXPECT,
    http::header::TE,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// Remembers the places and refuses what occurs twice.
fn keep<T: fmt::Display + Ord>(
    reader: &mut Reader<'_>,
    kind: &'static str,
    found: &[(Range<usize>, T)],
) {
    for (at, value) in found {
        reader.remember(format!("{kind}:{value}"), at.clone());
    }
    let values = found
        .iter()
        .map(|(at, value)| (at.clone(), value.to_string()));
    refuse_duplicates(reader, &format!("the {kind} entry"), values);
}

fn is_inner_folder(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(is_plain) && !path.contains(['\\', ':'])
}
