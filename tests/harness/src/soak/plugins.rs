//! The plugins of the mixed load.

use bytes::Bytes;

use crate::guests::{component, extism_example, guest, has_extism_examples, root};
use crate::host::pack;

/// A plugin, and how it is made again.
#[derive(Clone)]
pub(super) struct Plugin {
    pub(super) name: String,
    component: Bytes,
    /// Everything of the manifest but name, version and component.
    rest: String,
    /// What is in its bundle beside manifest and component.
    files: Vec<(String, Vec<u8>)>,
}

const OPEN: &str = "[[route]]\nmethod = [\"GET\", \"POST\", \"PUT\", \"DELETE\"]\npath = \"/{*rest}\"\nauth = \"public\"\n\
                    [[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/\"\nauth = \"public\"\n";
const STREAM: &str = "[[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/{*rest}\"\nauth = \"public\"\nstream = \"1m\"\n\
                      body_bytes_max = \"16MiB\"\n[limits]\ncpu = \"5s\"\nconcurrency = 32\n";
const FILTERED: &str = "filters = [{ use = \"security-headers\" }, \
                        { use = \"plugin:mark\", on_failure = \"closed\" }, \
                        { use = \"plugin:shout\", on_failure = \"open\" }]\n";
const KV: &str = "[[route]]\nmethod = \"POST\"\npath = \"/pages/{page}/visits\"\nauth = \"public\"\n\
                  [[route]]\nmethod = \"GET\"\npath = \"/pages\"\nauth = \"public\"\n[capabilities]\nkv = [\"counters\"]\n";

impl Plugin {
    fn new(name: &str, component: Bytes, rest: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            component,
            rest: rest.into(),
            files: Vec::new(),
        }
    }

    /// One of its versions.
    pub(super) fn bundle(&self, version: usize) -> Bytes {
        let files = self.files.iter();
        let files: Vec<_> = files.map(|(name, text)| (&**name, &**text)).collect();
        pack(&self.manifest(version), &self.component, &files)
    }

    /// The same as another plugin.
    pub(super) fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// The same with a section of its own at the end of its component, which only says a number.
    pub(super) fn with_own_component(&self, number: usize) -> Self {
        let text = format!("\u{6}number{number:08}");
        let mut component = self.component.to_vec();
        // A custom section: its id, its length, and a name with its length, each in one byte.
        component.push(0);
        component.push(u8::try_from(text.len()).expect("a short text"));
        component.extend_from_slice(text.as_bytes());
        Self {
            component: component.into(),
            ..self.clone()
        }
    }

    fn manifest(&self, version: usize) -> String {
        let (top, rest) = match self.rest.strip_prefix("filters") {
            Some(rest) => {
                let (line, rest) = rest.split_once('\n').unwrap_or((rest, ""));
                (format!("filters{line}\n"), rest)
            }
            None => (String::new(), &*self.rest),
        };
        format!(
            "schema = 1\n{top}[plugin]\nname = \"{}\"\nversion = \"1.0.{version}\"\n[component]\npath = \"plugin.wasm\"\n\
             {rest}",
            self.name
        )
    }
}

/// All of them, filters before who names them.
pub(super) fn all() -> Vec<Plugin> {
    let cpu = |ms: u32| format!("{OPEN}[limits]\ncpu = \"{ms}ms\"\n");
    let mark = "[config.properties.mark]\ntype = \"string\"\ndefault = \"m\"\n";
    let shout = "[filter]\nresponse_body_max = \"64KiB\"\n";
    let sql = format!(
        "{OPEN}[capabilities]\nsql = [{{ label = \"main\", migrations = \"migrations/\" }}]\n"
    );
    let mut plugins = vec![
        Plugin::new("mark", guest("filter-mark"), mark),
        Plugin::new("shout", guest("filter-shout"), shout),
        Plugin::new("plain", guest("hello-v1"), OPEN),
        Plugin::new("swap-a", guest("hello-v1"), OPEN),
        Plugin::new("swap-b", guest("hello-v2"), OPEN),
        Plugin::new("filtered", guest("echo"), format!("{FILTERED}{OPEN}")),
        Plugin::new("kv-a", component("kv-counter"), KV),
        Plugin::new("kv-b", component("kv-counter"), KV),
        Plugin::new("echo", guest("echo"), OPEN),
        Plugin::new(
            "csv",
            component("transform-csv"),
            "[[route]]\nmethod = \"POST\"\npath = \"/csv\"\nauth = \"public\"\n",
        ),
        Plugin::new("wasi-02", component("wasi-http"), OPEN),
        Plugin::new("wasi-03", component("wasi-http-03"), STREAM),
        Plugin::new("stream-02", guest("stream-02"), STREAM),
        Plugin::new("stream-03", guest("stream-03"), {
            format!(
                "{STREAM}[capabilities]\nhttp = [{{ host = \"api.example.com\", reason = \"none\" }}]\n"
            )
        }),
        Plugin::new(
            "sse",
            component("sse"),
            "[[route]]\nmethod = \"GET\"\npath = \"/ticks\"\nauth = \"public\"\nstream = \"10m\"\n",
        ),
        Plugin::new("slow", guest("slow"), OPEN),
        Plugin::new("fickle", guest("fickle"), OPEN),
        Plugin::new("loops", guest("loop-handler"), cpu(30)),
        Plugin::new("deep", guest("deep-recursion"), OPEN),
        Plugin::new(
            "bomb",
            guest("memory-bomb"),
            format!("{OPEN}[limits]\nmemory = \"8MiB\"\n"),
        ),
        Plugin::new("talks", guest("log-flood"), OPEN),
        Plugin {
            files: vec![(
                "migrations/0001_notes.sql".to_owned(),
                b"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);".to_vec(),
            )],
            ..Plugin::new("sql", guest("open-transaction"), sql)
        },
        techplus(),
    ];
    if has_extism_examples() {
        plugins.push(Plugin::new(
            "vowels",
            extism_example("extism-count-vowels"),
            "[[route]]\nmethod = \"POST\"\npath = \"/count\"\nauth = \"public\"\ntransform = \"count_vowels\"\n\
             output_type = \"application/json\"\n\
             [config]\ntype = \"object\"\nproperties.vowels = { type = \"string\", default = \"aeiou\" }\n",
        ));
        plugins.push(Plugin::new(
            "quote",
            extism_example("extism-quote"),
            "[[route]]\nmethod = \"GET\"\npath = \"/quotes/{author}\"\nauth = \"public\"\n\
             [extism]\nhandler = \"quote\"\n",
        ));
    }
    plugins
}

/// The plugin of this repository that does most.
fn techplus() -> Plugin {
    let folder = root().join("plugins/techplus");
    let manifest = std::fs::read_to_string(folder.join("plugin.toml")).expect("a manifest");
    let (_, rest) = manifest
        .split_once("[capabilities]")
        .expect("it asks for a database");
    let files = std::fs::read_dir(folder.join("migrations")).expect("a folder");
    let read = |file: std::fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = std::fs::read(file.path()).expect("a file");
        (format!("migrations/{name}"), text)
    };
    Plugin {
        files: files.map(|file| read(file.expect("a file"))).collect(),
        ..Plugin::new(
            "techplus",
            component("techplus"),
            format!("[capabilities]{rest}"),
        )
    }
}
