//! The document for a caller, made when somebody asks for it for the first time after something went live, and then kept.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::auth::Principal;
use crate::gateway::docs::{Anonymous, Config};
use crate::plugins::describe::{self, About, Accounts, Described, Description, Selection};
use crate::plugins::registry::{LivePlugin, LiveTable};
use crate::plugins::routes::plain;

/// A document, ready to be sent.
pub(super) struct Document {
    pub(super) bytes: Bytes,
    pub(super) etag: HeaderValue,
}

/// Documents that were asked for, of the table that is live.
pub(super) struct Documents {
    kept: moka::sync::Cache<Key, Arc<Document>>,
    /// The table that they are of. Only its address counts, and that stays its own as long as this is held.
    table: Mutex<Weak<LiveTable>>,
    accounts: Option<Accounts>,
    about: About,
}

/// What decides a document, beside the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    selection: Selection,
    /// The operations that the caller sees.
    seen: [u8; 32],
    table: usize,
}

impl Documents {
    pub(super) fn new(config: &Config, accounts: Option<Accounts>) -> Self {
        let bytes = |_: &Key, document: &Arc<Document>| {
            u32::try_from(document.bytes.len()).unwrap_or(u32::MAX)
        };
        Self {
            kept: moka::sync::Cache::builder()
                .max_capacity(config.documents_bytes_max)
                .weigher(bytes)
                .build(),
            table: Mutex::default(),
            accounts,
            about: About {
                title: config.title.clone(),
                version: config.version.clone(),
                description: config.description.clone(),
            },
        }
    }

    /// The document of what this caller may use on this host.
    pub(super) fn get(
        &self,
        config: &Config,
        table: &Arc<LiveTable>,
        host: &str,
        selection: &Selection,
        caller: Option<&Principal>,
    ) -> Arc<Document> {
        self.turn_to(table);
        let host = plain(host).into_owned();
        let is_here =
            |plugin: &&Arc<LivePlugin>| plugin.mount.host.as_ref().is_none_or(|own| *own == host);
        let plugins: Vec<_> = table.iter().filter(is_here).collect();
        let is_shown = |plugin: &Description, operation: &Described| {
            is_shown(config.anonymous, plugin, operation, caller)
        };
        let mut seen = Sha256::new();
        for plugin in &plugins {
            let description = plugin.description();
            let own = description.operations.iter();
            let own: Vec<u8> = own
                .map(|operation| u8::from(is_shown(description, operation)))
                .collect();
            seen.update(&own);
        }
        let key = Key {
            host,
            selection: selection.clone(),
            seen: seen.finalize().into(),
            table: Arc::as_ptr(table).addr(),
        };
        self.kept.get_with(key, || {
            let descriptions = plugins.iter().map(|plugin| plugin.description());
            let mut document = describe::document(&self.about, descriptions, selection, is_shown);
            if let Some(accounts) = &self.accounts {
                accounts.add_to(&mut document, selection);
            }
            document["x-gantry-apis"] =
                apis(plugins.iter().map(|plugin| plugin.description()), is_shown);
            Arc::new(Document::new(&document))
        })
    }

    /// Forgets what was made of another table.
    fn turn_to(&self, table: &Arc<LiveTable>) {
        let mut known = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(known.as_ptr(), Arc::as_ptr(table)) {
            *known = Arc::downgrade(table);
            self.kept.invalidate_all();
        }
    }
}

impl Document {
    fn new(document: &Value) -> Self {
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        let mut hash = DefaultHasher::new();
        bytes.hash(&mut hash);
        let etag = format!("\"{:016x}\"", hash.finish());
        Self {
            bytes: bytes.into(),
            etag: HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }
}

/// Whether somebody may use an operation, or at least read of it.
fn is_shown(
    anonymous: Anonymous,
    plugin: &Description,
    operation: &Described,
    caller: Option<&Principal>,
) -> bool {
    let is_open = anonymous == Anonymous::All && caller.is_none();
    is_open || operation.is_for(&plugin.plugin, caller)
}

/// Which plugins there are for this caller, with the versions and tags of their APIs: for pages to choose from.
fn apis<'a>(
    descriptions: impl Iterator<Item = &'a Description>,
    is_shown: impl Fn(&Description, &Described) -> bool,
) -> Value {
    let mut apis = Vec::new();
    for description in descriptions {
        let shown = description.operations.iter();
        let shown: Vec<&Described> = shown
            .filter(|operation| is_shown(description, operation))
            .collect();
        if shown.is_empty() {
            continue;
        }
        let mut versions: Vec<&str> = shown
            .iter()
            .filter_map(|operation| operation.version.as_deref())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        let mut tags: Vec<&str> = shown
            .iter()
            .map(|operation| operation.tag.as_str())
            .collect();
        tags.sort_unstable();
        tags.dedup();
        apis.push(json!({
            "plugin": description.plugin.as_str(),
            "title": description.title,
            "version": description.version,
            "versions": versions,
            "tags": tags,
        }));
    }
    Value::Array(apis)
}
