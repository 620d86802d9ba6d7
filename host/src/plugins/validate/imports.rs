//! Compares what the component imports with what the host has and what the manifest declares.

use super::component::Interfaces;
use crate::plugins::Mistake;
use crate::plugins::manifest::{Capabilities, Manifest};
use crate::runtime::EntryKind;

/// What must be declared before an interface may be imported.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Kv,
    Cache,
    Blobs,
    Sql,
    Secret,
    Reveal,
    Http,
}

/// Everything that the host links, with the version it has.
const KNOWN: &[(&str, &str, Needs)] = &[
    ("gantry:types/types", "1.0.0", Needs::Nothing),
    ("gantry:blobs/store", "0.1.0", Needs::Blobs),
    ("gantry:cache/purge", "0.1.0", Needs::Nothing),
    ("gantry:cache/store", "0.1.0", Needs::Cache),
    ("gantry:context/identity", "0.1.0", Needs::Nothing),
    ("gantry:context/invocation", "0.1.0", Needs::Nothing),
    ("gantry:http/filter", "0.1.0", Needs::Nothing),
    ("gantry:http/request-headers", "0.1.0", Needs::Nothing),
    ("gantry:http/types", "0.1.0", Needs::Nothing),
    ("gantry:kv/store", "0.1.0", Needs::Kv),
    ("gantry:secrets/reveal", "0.1.0", Needs::Reveal),
    ("gantry:secrets/store", "0.1.0", Needs::Secret),
    ("gantry:sql/client", "0.1.0", Needs::Sql),
    ("gantry:tokens/tokens", "0.1.0", Needs::Nothing),
    ("wasi:cli/environment", "0.2.12", Needs::Nothing),
    ("wasi:cli/exit", "0.2.12", Needs::Nothing),
    ("wasi:cli/stderr", "0.2.12", Needs::Nothing),
    ("wasi:cli/stdin", "0.2.12", Needs::Nothing),
    ("wasi:cli/stdout", "0.2.12", Needs::Nothing),
    ("wasi:cli/terminal-input", "0.2.12", Needs::Nothing),
    ("wasi:cli/terminal-output", "0.2.12", Needs::Nothing),
    ("wasi:cli/terminal-stderr", "0.2.12", Needs::Nothing),
    ("wasi:cli/terminal-stdin", "0.2.12", Needs::Nothing),
    ("wasi:cli/terminal-stdout", "0.2.12", Needs::Nothing),
    ("wasi:clocks/monotonic-clock", "0.2.12", Needs::Nothing),
    ("wasi:clocks/wall-clock", "0.2.12", Needs::Nothing),
    ("wasi:config/store", "0.2.0-rc.1", Needs::Nothing),
    // Standard libraries import files and sockets. They are linked, and there is nothing behind them.
    ("wasi:filesystem/preopens", "0.2.12", Needs::Nothing),
    ("wasi:filesystem/types", "0.2.12", Needs::Nothing),
    ("wasi:http/outgoing-handler", "0.2.12", Needs::Http),
    ("wasi:http/types", "0.2.12", Needs::Nothing),
    ("wasi:io/error", "0.2.12", Needs::Nothing),
    ("wasi:io/poll", "0.2.12", Needs::Nothing),
    ("wasi:io/streams", "0.2.12", Needs::Nothing),
    ("wasi:keyvalue/atomics", "0.2.0-draft", Needs::Kv),
    ("wasi:keyvalue/batch", "0.2.0-draft", Needs::Kv),
    ("wasi:keyvalue/store", "0.2.0-draft", Needs::Kv),
    ("wasi:logging/logging", "0.1.0-draft", Needs::Nothing),
    ("wasi:random/insecure", "0.2.12", Needs::Nothing),
    ("wasi:random/insecure-seed", "0.2.12", Needs::Nothing),
    ("wasi:random/random", "0.2.12", Needs::Nothing),
    ("wasi:sockets/instance-network", "0.2.12", Needs::Nothing),
    ("wasi:sockets/ip-name-lookup", "0.2.12", Needs::Nothing),
    ("wasi:sockets/network", "0.2.12", Needs::Nothing),
    ("wasi:sockets/tcp", "0.2.12", Needs::Nothing),
    ("wasi:sockets/tcp-create-socket", "0.2.12", Needs::Nothing),
    ("wasi:sockets/udp", "0.2.12", Needs::Nothing),
    ("wasi:sockets/udp-create-socket", "0.2.12", Needs::Nothing),
];

/// What the host links beside that for components that export `wasi:http/handler@0.3`.
const KNOWN_03: &[(&str, &str, Needs)] = &[
    ("wasi:cli/environment", "0.3.0", Needs::Nothing),
    ("wasi:cli/exit", "0.3.0", Needs::Nothing),
    ("wasi:cli/stderr", "0.3.0", Needs::Nothing),
    ("wasi:cli/stdin", "0.3.0", Needs::Nothing),
    ("wasi:cli/stdout", "0.3.0", Needs::Nothing),
    ("wasi:cli/terminal-input", "0.3.0", Needs::Nothing),
    ("wasi:cli/terminal-output", "0.3.0", Needs::Nothing),
    ("wasi:cli/terminal-stderr", "0.3.0", Needs::Nothing),
    ("wasi:cli/terminal-stdin", "0.3.0", Needs::Nothing),
    ("wasi:cli/terminal-stdout", "0.3.0", Needs::Nothing),
    ("wasi:cli/types", "0.3.0", Needs::Nothing),
    ("wasi:clocks/monotonic-clock", "0.3.0", Needs::Nothing),
    ("wasi:clocks/system-clock", "0.3.0", Needs::Nothing),
    ("wasi:clocks/types", "0.3.0", Needs::Nothing),
    ("wasi:filesystem/preopens", "0.3.0", Needs::Nothing),
    ("wasi:filesystem/types", "0.3.0", Needs::Nothing),
    ("wasi:http/client", "0.3.0", Needs::Http),
    ("wasi:http/types", "0.3.0", Needs::Nothing),
    ("wasi:random/insecure", "0.3.0", Needs::Nothing),
    ("wasi:random/insecure-seed", "0.3.0", Needs::Nothing),
    ("wasi:random/random", "0.3.0", Needs::Nothing),
    ("wasi:sockets/ip-name-lookup", "0.3.0", Needs::Nothing),
    ("wasi:sockets/types", "0.3.0", Needs::Nothing),
];

/// What the host has of this name, in the version that is asked for if there are several.
fn find(name: &str, version: Option<&str>) -> Option<&'static (&'static str, &'static str, Needs)> {
    let is_03 = version.is_some_and(|version| version.starts_with("0.3."));
    let (first, second) = if is_03 {
        (KNOWN_03, KNOWN)
    } else {
        (KNOWN, KNOWN_03)
    };
    let mut all = first.iter().chain(second);
    all.find(|(known, ..)| *known == name)
}

/// Without a manifest, only whether the host has what is imported; without an entry, whether it has it for any.
pub(super) fn check(
    interfaces: &Interfaces,
    entry: Option<EntryKind>,
    manifest: Option<&Manifest>,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for import in &interfaces.imports {
        let (name, version) = split_name(&import.name);
        let Some((_, ours, needs)) = find(name, version) else {
            let message = format!(
                "the component imports `{}`, which this host does not have",
                import.name
            );
            mistakes.push(Mistake::new(message));
            continue;
        };
        if ours.starts_with("0.3.") && entry.is_some_and(|entry| entry != EntryKind::WasiHttp03) {
            let message = format!("the component imports `{}` of WASI 0.3", import.name);
            let help = "WASI 0.3 is for components that export `wasi:http/handler@0.3`; this one \
                        uses 0.2";
            mistakes.push(Mistake::new(message).with_help(help));
            continue;
        }
        if !version.is_some_and(|version| is_compatible(version, ours)) {
            let message = format!(
                "the component imports `{}`, but this host has {ours}",
                import.name
            );
            mistakes.push(Mistake::new(message).with_help("build it again with a matching SDK"));
            continue;
        }
        if let Some(manifest) = manifest
            && import.has_functions
            && let Some(line) = missing_line(*needs, &manifest.capabilities)
        {
            let message = format!(
                "the component imports `{}`, but the manifest does not ask for it",
                import.name
            );
            let place = manifest.place("capabilities");
            let help = match place {
                Some(_) => format!("add `{line}`"),
                None => format!("add `[capabilities]` with `{line}`"),
            };
            mistakes.push(Mistake::new(message).at(place).with_help(help));
        }
    }
    mistakes
}

/// `gantry:kv/store@0.1.0` into name and version.
pub(super) fn split_name(import: &str) -> (&str, Option<&str>) {
    match import.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (import, None),
    }
}

/// Whether the linker may put our interface in the place of the one asked for. Whether it fits in every type is found
/// when it is linked.
fn is_compatible(asked: &str, ours: &str) -> bool {
    let (Ok(asked), Ok(ours)) = (semver::Version::parse(asked), semver::Version::parse(ours))
    else {
        return false;
    };
    if !asked.pre.is_empty() || !ours.pre.is_empty() {
        return asked == ours;
    }
    asked.major == ours.major && (asked.major > 0 || asked.minor == ours.minor)
}

/// The line to add to the manifest, if it is not there.
fn missing_line(needs: Needs, declared: &Capabilities) -> Option<&'static str> {
    let (is_declared, line) = match needs {
        Needs::Nothing => (true, ""),
        Needs::Kv => (!declared.kv.is_empty(), "kv = [\"LABEL\"]"),
        Needs::Cache => (!declared.cache.is_empty(), "cache = [\"LABEL\"]"),
        Needs::Blobs => (!declared.blobs.is_empty(), "blobs = [\"LABEL\"]"),
        Needs::Sql => (
            !declared.sql.is_empty(),
            "sql = [{ label = \"main\", migrations = \"migrations/\" }]",
        ),
        Needs::Secret => (
            !declared.secrets.is_empty(),
            "secrets = [{ label = \"LABEL\", use = \"reveal\" }]",
        ),
        Needs::Reveal => (
            declared.reveals(),
            "secrets = [{ label = \"LABEL\", use = \"reveal\" }]",
        ),
        Needs::Http => (
            !declared.http.is_empty(),
            "http = [{ host = \"api.example.com\", reason = \"…\" }]",
        ),
    };
    (!is_declared).then_some(line)
}
