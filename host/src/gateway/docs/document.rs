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

/// What decides a document, beside the table. Nothing in it is a client's to make up: else there would be as many documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// If plugins hang on this name.
    host: Option<String>,
    selection: Selection,
    /// The operations that the caller sees.
    seen: [u8; 32],
    table: usize,
}

impl Documents {
    pub(super) fn new(config: &Config, accounts: Option<Accounts>) -> Self {
        let bytes = |key: &Key, document: &Arc<Document>| {
            u32::try_from(key.size() + document.size()).unwrap_or(u32::MAX)
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
        // On all names that nobody hangs on there is the same.
        let host = table.has_host(host).then(|| plain(host).into_owned());
        let is_here = |plugin: &&Arc<LivePlugin>| {
            let own = plugin.mount.host.as_ref();
            own.is_none_or(|own| Some(own) == host.as_ref())
        };
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
        let descriptions = plugins.iter().map(|plugin| plugin.description());
        let selection = &told(selection, &descriptions, is_shown);
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

impl Key {
    /// The memory that it takes.
    fn size(&self) -> usize {
        let Selection {
            plugin,
            version,
            tag,
        } = &self.selection;
        let texts = [&self.host, plugin, version, tag];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

impl Document {
    /// The memory that it takes, with what the cache needs beside it.
    fn size(&self) -> usize {
        const BESIDE: usize = 512;
        self.bytes.len() + size_of::<Self>() + BESIDE
    }

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

/// The same selection with one word for every name that tells this caller nothing: of a plugin, a version or a tag that is
/// not there, or of which they are shown nothing. No plugin, version or tag has it.
fn told<'a>(
    selection: &Selection,
    descriptions: &(impl Iterator<Item = &'a Description> + Clone),
    is_shown: impl Fn(&Description, &Described) -> bool,
) -> Selection {
    let is_told = |is_meant: &dyn Fn(&Description, &Described) -> bool| {
        descriptions.clone().any(|plugin| {
            let mut all = plugin.operations.iter();
            all.any(|operation| is_shown(plugin, operation) && is_meant(plugin, operation))
        })
    };
    let kept = |name: &Option<String>, is_told: &dyn Fn(&str) -> bool| {
        let name = name.as_deref()?;
        let known = if is_told(name) { name } else { "" };
        Some(known.to_owned())
    };
    Selection {
        plugin: kept(&selection.plugin, &|name| {
            is_told(&|plugin, _| plugin.plugin.as_str() == name)
        }),
        version: kept(&selection.version, &|name| {
            is_told(&|_, operation| operation.version.as_deref() == Some(name))
        }),
        tag: kept(&selection.tag, &|name| {
            name == describe::ACCOUNTS || is_told(&|_, operation| operation.tag == name)
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::Manifest;

    fn selection(plugin: &str, version: &str, tag: &str) -> Selection {
        let given = |name: &str| Some(name.to_owned()).filter(|name| name != "-");
        Selection {
            plugin: given(plugin),
            version: given(version),
            tag: given(tag),
        }
    }

    /// Whoever makes up names fills nothing with them: not with hosts, and not with plugins, versions and tags.
    #[test]
    fn names_that_mean_nothing_share_one_document() {
        let config = Config::default();
        let documents = Documents::new(&config, None);
        let table = Arc::new(LiveTable::default());
        let get = |host: &str, selection: &Selection| {
            let document = documents.get(&config, &table, host, selection, None);
            documents.kept.run_pending_tasks();
            document
        };
        for at in 0..50 {
            let host = format!("h{at}.example.com");
            get(&host, &Selection::default());
            let name = format!("nope-{at}");
            get(&host, &selection(&name, &name, &name));
        }
        assert_eq!(documents.kept.entry_count(), 2);
        let one = get("a", &Selection::default()).bytes.len();
        let other = get("a", &selection("x", "y", "z")).bytes.len();
        assert!(
            documents.kept.weighted_size() > (one + other) as u64,
            "keys count, too"
        );
    }

    #[test]
    fn what_a_caller_is_not_shown_is_to_them_as_if_it_were_not_there() {
        let route = |path: &str, version: &str, tag: &str, auth: &str| {
            format!(
                "[[route]]\nmethod = \"GET\"\npath = \"{path}\"\nversion = \"{version}\"\ntag = \"{tag}\"\nauth = \"{auth}\"\n"
            )
        };
        let description = |name: &str, routes: &str| {
            let manifest = format!(
                "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n\
                 [versioning]\nby = \"header\"\ndefault = \"v1\"\n[[version]]\nname = \"v1\"\n[[version]]\nname = \"v2\"\n{routes}"
            );
            Description::of(&Manifest::parse(&manifest).unwrap(), "")
        };
        let open = route("/a", "v1", "Open", "public");
        let closed = route("/b", "v2", "Closed", "required");
        let all = [
            description("shop", &format!("{open}{closed}")),
            description("staff", &closed),
        ];
        let is_shown = |plugin: &Description, operation: &Described| {
            super::is_shown(Anonymous::Public, plugin, operation, None)
        };
        for (asked, wanted) in [
            (selection("-", "-", "-"), selection("-", "-", "-")),
            (
                selection("shop", "v1", "Open"),
                selection("shop", "v1", "Open"),
            ),
            (selection("staff", "v2", "Closed"), selection("", "", "")),
            (selection("none", "v9", "none"), selection("", "", "")),
            (
                selection("-", "-", "Accounts"),
                selection("-", "-", "Accounts"),
            ),
        ] {
            assert_eq!(told(&asked, &all.iter(), is_shown), wanted, "{asked:?}");
            // It is another name and not another document.
            let about = About {
                title: String::new(),
                version: String::new(),
                description: String::new(),
            };
            let document = |selection| describe::document(&about, &all, selection, is_shown);
            assert_eq!(document(&asked), document(&wanted), "{asked:?}");
        }
    }
}
