//! From rows to types: a row that cannot be understood is an error that names its table, never a guess.

use std::str::FromStr;

use serde_json::{Map, Value};
use sqlx::{Row as _, any::AnyRow};

use crate::ids::DeploymentId;
use crate::plugins::Mount;
use crate::plugins::store::{Deployment, PluginRow, StoreError};
use crate::runtime::EntryKind;

pub(super) fn plugin(row: &AnyRow) -> Result<PluginRow, StoreError> {
    Ok(PluginRow {
        name: parsed(row, "plugins", "name")?,
        mount: mount(row)?,
        live: optional(row, "plugins", "live_deployment")?,
        live_by: row.try_get("live_by")?,
        live_at_ms: row.try_get("live_at_ms")?,
        config: config(row)?,
        created_at_ms: row.try_get("created_at_ms")?,
        revision: row.try_get("revision")?,
    })
}

pub(super) fn deployment(
    row: &AnyRow,
    live: Option<DeploymentId>,
) -> Result<Deployment, StoreError> {
    let id = parsed(row, "deployments", "id")?;
    Ok(Deployment {
        id,
        plugin: parsed(row, "deployments", "plugin")?,
        version: parsed(row, "deployments", "version")?,
        component: parsed(row, "deployments", "component")?,
        entry: entry(row)?,
        manifest: row.try_get("manifest")?,
        created_at_ms: row.try_get("created_at_ms")?,
        created_by: row.try_get("created_by")?,
        note: row.try_get("note")?,
        is_live: live == Some(id),
    })
}

pub(super) fn mount(row: &AnyRow) -> Result<Mount, StoreError> {
    let host: String = row.try_get("mount_host")?;
    let host = Some(host).filter(|host| !host.is_empty());
    Ok(Mount {
        host,
        path: row.try_get("mount_path")?,
    })
}

pub(super) fn config(row: &AnyRow) -> Result<Map<String, Value>, StoreError> {
    let text: String = row.try_get("config")?;
    serde_json::from_str(&text).map_err(|error| StoreError::Row {
        table: "plugins",
        reason: error.to_string(),
    })
}

const ENTRIES: [(EntryKind, &str); 6] = [
    (EntryKind::Handler, "handler"),
    (EntryKind::WasiHttp02, "wasi-http-0.2"),
    (EntryKind::Transform, "transform"),
    (EntryKind::Extism, "extism"),
    (EntryKind::WasiHttp03, "wasi-http-0.3"),
    (EntryKind::Filter, "filter"),
];

pub(super) fn entry_word(entry: EntryKind) -> &'static str {
    match entry {
        EntryKind::Handler => ENTRIES[0].1,
        EntryKind::WasiHttp02 => ENTRIES[1].1,
        EntryKind::Transform => ENTRIES[2].1,
        EntryKind::Extism => ENTRIES[3].1,
        EntryKind::WasiHttp03 => ENTRIES[4].1,
        EntryKind::Filter => ENTRIES[5].1,
    }
}

pub(super) fn entry(row: &AnyRow) -> Result<EntryKind, StoreError> {
    let word: String = row.try_get("entry")?;
    let found = ENTRIES.iter().find(|(_, known)| *known == word);
    found.map(|(entry, _)| *entry).ok_or_else(|| {
        let reason = format!("`{word}` is not an entry that this version knows");
        StoreError::Row {
            table: "deployments",
            reason,
        }
    })
}

pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
    row: &AnyRow,
    table: &'static str,
    column: &str,
) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| StoreError::Row {
        table,
        reason: format!("{column}: {error}"),
    })
}

pub(super) fn optional<T: FromStr<Err: std::fmt::Display>>(
    row: &AnyRow,
    table: &'static str,
    column: &str,
) -> Result<Option<T>, StoreError> {
    let is_set = row.try_get::<Option<String>, _>(column)?.is_some();
    if is_set {
        parsed(row, table, column).map(Some)
    } else {
        Ok(None)
    }
}
