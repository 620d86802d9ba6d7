//! The rows of plugins, their deployments and their grants, to be read. A deployment is never changed; which one is live
//! is a pointer in the plugin's row. Writing is in `change`.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{AnyConnection, AnyPool, Row as _, any::AnyRow};

use crate::db::{Db, Rows, Transaction};
use crate::ids::{DeploymentId, Digest, PluginName};
use crate::ledger::Event;
use crate::plugins::Mount;
use crate::plugins::rollout::Weight;
use crate::plugins::rollout::store::weight;
use crate::plugins::row::{config, deployment, entry, mount, parsed, plugin};
use crate::plugins::validate::{Grant, Grants};
use crate::runtime::EntryKind;

/// How much history is kept.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most deployments of one plugin; the oldest go first, the live one never. Default: 100.
    pub deployments_kept_max: u32,
    /// Most lines of one plugin's history: who deployed, promoted, rolled back, and why. Default: 1000.
    pub events_kept_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deployments_kept_max: 100,
            events_kept_max: 1000,
        }
    }
}

/// Why the rows could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no plugin `{0}`")]
    PluginNotFound(PluginName),
    #[error(
        "the plugin `{plugin}` has no such deployment; `gantry plugin inspect {plugin}` lists those it can go back to"
    )]
    DeploymentNotFound { plugin: PluginName },
    #[error("the mount `{mount}` is taken by the plugin `{by}`; choose another one")]
    MountTaken { mount: Mount, by: PluginName },
    #[error(
        "the mount `{mount}` of `{plugin}` and the mount `{other}` of the plugin `{by}` lie one inside the other: on the \
         paths of both the longer one answers; say `nested` (`--nested`) if that is wanted, or choose another mount"
    )]
    MountNested {
        plugin: PluginName,
        mount: Mount,
        by: PluginName,
        other: Mount,
    },
    #[error(
        "`{plugin}` was changed meanwhile (another deployment, its grants, its mount or its settings); look at it with \
         `gantry plugin inspect {plugin}` and deploy again"
    )]
    Changed { plugin: PluginName },
    #[error("`{plugin}` has no canary; `gantry plugin status {plugin}` shows what answers")]
    RolloutNotFound { plugin: PluginName },
    #[error("nothing of `{plugin}` waits for approval")]
    ApprovalNotFound { plugin: PluginName },
    #[error(
        "another upgrade of `{plugin}` waits by now; look at what it asks for with `gantry plugin approve {plugin}`"
    )]
    ApprovalChanged { plugin: PluginName },
    #[error("`{grant}` is not granted to the plugin `{plugin}`")]
    GrantNotFound { plugin: PluginName, grant: Grant },
    #[error("a row of the table `{table}` cannot be understood: {reason}")]
    Row { table: &'static str, reason: String },
    #[error("the host's rows cannot be reached")]
    Rows(#[from] sqlx::Error),
}

/// Everything that decides how a plugin runs. Equal rows mean that nothing has to be loaded anew.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRow {
    pub plugin: PluginName,
    pub deployment: DeploymentId,
    /// The manifest's text; it was valid when it was recorded.
    pub manifest: String,
    /// From the manifest.
    pub version: semver::Version,
    /// The component's address in the artifact store.
    pub component: Digest,
    pub entry: EntryKind,
    pub mount: Mount,
    /// The operator's values, without the author's defaults.
    pub config: Map<String, Value>,
    pub grants: Grants,
}

/// What is to answer for one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedRow {
    pub stable: LiveRow,
    /// With its part of the requests.
    pub canary: Option<(LiveRow, Weight)>,
}

/// One version of a plugin as it was put on the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub id: DeploymentId,
    pub plugin: PluginName,
    pub version: semver::Version,
    pub component: Digest,
    pub entry: EntryKind,
    pub manifest: String,
    pub created_at_ms: i64,
    pub created_by: String,
    pub note: Option<String>,
    pub is_live: bool,
}

/// A plugin, live or not.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRow {
    pub name: PluginName,
    pub mount: Mount,
    pub live: Option<DeploymentId>,
    /// Who made the live deployment live, and when.
    pub live_by: String,
    pub live_at_ms: i64,
    /// The operator's values.
    pub config: Map<String, Value>,
    pub created_at_ms: i64,
    /// Another one after each change of the plugin, of its grants too.
    pub revision: i64,
}

/// Access to the rows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    pub(super) config: Config,
}

macro_rules! live_rows {
    () => {
        "SELECT d.id, d.plugin, d.version, d.component, d.entry, d.manifest, p.mount_host, p.mount_path, p.config \
         FROM plugins p JOIN deployments d ON d.id = p.live_deployment"
    };
}

macro_rules! canary_rows {
    () => {
        "SELECT d.id, d.plugin, d.version, d.component, d.entry, d.manifest, p.mount_host, p.mount_path, p.config, \
         r.weight FROM rollouts r JOIN plugins p ON p.name = r.plugin JOIN deployments d ON d.id = r.deployment"
    };
}

impl Store {
    /// Access to these rows.
    pub fn new(db: Db, config: Config) -> Self {
        let db = db.one_by_one(Rows::Plugins);
        Self { db, config }
    }

    pub(super) fn reader(&self) -> &AnyPool {
        self.db.reader()
    }

    pub(super) fn writer(&self) -> &AnyPool {
        self.db.writer()
    }

    /// Now, as all hosts of these rows count.
    pub(super) fn now_ms(&self) -> i64 {
        self.db.now_ms()
    }

    /// What is to answer for each plugin, by name, as it is at one moment.
    pub async fn wanted(&self) -> Result<Vec<WantedRow>, StoreError> {
        let mut tx = self.db.reader().begin().await?;
        let stable = sqlx::query(LIVE_ROWS).fetch_all(&mut *tx).await?;
        let canaries = sqlx::query(CANARY_ROWS).fetch_all(&mut *tx).await?;
        let mut grants = all_grants(&mut tx).await?;
        let mut of_plugin = HashMap::new();
        for row in &canaries {
            let plugin: PluginName = parsed(row, "plugins", "plugin")?;
            of_plugin.insert(plugin, row);
        }
        let mut wanted = Vec::with_capacity(stable.len());
        for row in &stable {
            let plugin: PluginName = parsed(row, "plugins", "plugin")?;
            let own = grants.remove(&plugin).unwrap_or_default();
            let canary = of_plugin.remove(&plugin);
            wanted.push(wanted_row(row, canary, own.into_iter().collect())?);
        }
        Ok(wanted)
    }

    /// What is to answer for one plugin, as this transaction leaves it.
    pub(super) async fn wanted_of(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
    ) -> Result<Option<WantedRow>, StoreError> {
        let query = sqlx::query(LIVE_ROW).bind(plugin.as_str());
        let Some(row) = query.fetch_optional(&mut **tx).await? else {
            return Ok(None);
        };
        let query = sqlx::query(CANARY_ROW).bind(plugin.as_str());
        let canary = query.fetch_optional(&mut **tx).await?;
        let grants = grants_of(&mut *tx, plugin).await?;
        wanted_row(&row, canary.as_ref(), grants).map(Some)
    }

    /// The canary of a plugin with the text of its manifest. [`StoreError::PluginNotFound`],
    /// [`StoreError::RolloutNotFound`].
    pub(super) async fn canary(
        &self,
        plugin: &PluginName,
    ) -> Result<(DeploymentId, String), StoreError> {
        let query = sqlx::query(CANARY_ROW).bind(plugin.as_str());
        if let Some(row) = query.fetch_optional(self.db.reader()).await? {
            let id = parsed(&row, "deployments", "id")?;
            return Ok((id, row.try_get("manifest")?));
        }
        let is_there = self.find_plugin(plugin).await?.is_some();
        let plugin = plugin.clone();
        Err(match is_there {
            true => StoreError::RolloutNotFound { plugin },
            false => StoreError::PluginNotFound(plugin),
        })
    }

    /// Records what a transaction does.
    pub(super) async fn record_event(
        &self,
        tx: &mut Transaction,
        event: Event,
    ) -> Result<(), StoreError> {
        Ok(self.db.record(tx, event).await?)
    }

    /// A transaction for [`Self::apply`]. Rolls back when dropped.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.db.begin().await?)
    }

    /// All plugins by name.
    pub async fn plugins(&self) -> Result<Vec<PluginRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM plugins ORDER BY name");
        query
            .fetch_all(self.db.reader())
            .await?
            .iter()
            .map(plugin)
            .collect()
    }

    /// One plugin, if there is one of this name.
    pub async fn find_plugin(&self, name: &PluginName) -> Result<Option<PluginRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM plugins WHERE name = $1").bind(name.as_str());
        query
            .fetch_optional(self.db.reader())
            .await?
            .as_ref()
            .map(plugin)
            .transpose()
    }

    /// The version that is live; nothing if none is.
    pub async fn live_version(
        &self,
        name: &PluginName,
    ) -> Result<Option<semver::Version>, StoreError> {
        let query = sqlx::query(
            "SELECT d.version FROM plugins p JOIN deployments d ON d.id = p.live_deployment \
             WHERE p.name = $1",
        );
        let row = query
            .bind(name.as_str())
            .fetch_optional(self.db.reader())
            .await?;
        row.map(|row| parsed(&row, "deployments", "version"))
            .transpose()
    }

    /// Deployments of a plugin, newest first, older than `before`, at most `limit`.
    pub async fn deployments(
        &self,
        name: &PluginName,
        before: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        let live = self.find_plugin(name).await?;
        let live = live
            .ok_or_else(|| StoreError::PluginNotFound(name.clone()))?
            .live;
        let query = sqlx::query(
            "SELECT * FROM deployments WHERE plugin = $1 AND ($2 = '' OR id < $2) \
             ORDER BY id DESC LIMIT $3",
        )
        .bind(name.as_str())
        .bind(before.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit));
        let rows = query.fetch_all(self.db.reader()).await?;
        rows.iter().map(|row| deployment(row, live)).collect()
    }

    /// What a plugin was given; nothing for one that does not exist.
    pub async fn grants(&self, plugin: &PluginName) -> Result<Grants, StoreError> {
        let mut connection = self.db.reader().acquire().await?;
        grants_of(&mut connection, plugin).await
    }

    /// Fails with [`StoreError::MountTaken`] or [`StoreError::MountNested`] if another plugin is in the way now.
    pub async fn refuse_mount(
        &self,
        plugin: &PluginName,
        mount: &Mount,
        is_nested_accepted: bool,
    ) -> Result<(), StoreError> {
        let mut connection = self.db.reader().acquire().await?;
        refuse_mount(&mut connection, plugin, mount, is_nested_accepted).await
    }

    /// Notes that a plugin without data is being deployed for the first time: should the host die, nobody wants what it has
    /// made.
    pub(in crate::plugins) async fn begin_first(
        &self,
        plugin: &PluginName,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "INSERT INTO unwanted_data (plugin, with_secrets) VALUES ($1, 0) ON CONFLICT DO NOTHING",
        );
        query.bind(plugin.as_str()).execute(self.writer()).await?;
        Ok(())
    }

    /// Plugins that are not there and whose data nobody wants, and whether their secrets go, too.
    pub(in crate::plugins) async fn unwanted_data(
        &self,
    ) -> Result<Vec<(PluginName, bool)>, StoreError> {
        let query = sqlx::query(
            "SELECT plugin, with_secrets FROM unwanted_data \
             WHERE plugin NOT IN (SELECT name FROM plugins)",
        );
        let rows = query.fetch_all(self.reader()).await?;
        let read = |row: &AnyRow| {
            let with_secrets: i64 = row.try_get("with_secrets")?;
            Ok((parsed(row, "unwanted_data", "plugin")?, with_secrets == 1))
        };
        rows.iter().map(read).collect()
    }

    /// Notes that there is no data any more that nobody wants.
    pub(in crate::plugins) async fn forget_unwanted(
        &self,
        plugin: &PluginName,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM unwanted_data WHERE plugin = $1")
            .bind(plugin.as_str())
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Whether the rows are on a server, which other hosts may reach, too.
    pub(in crate::plugins) fn is_on_server(&self) -> bool {
        self.db.has_server()
    }

    /// Keeps an artifact in the rows. One that is there is young again.
    pub(in crate::plugins) async fn put_artifact(
        &self,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), sqlx::Error> {
        let now_ms = self.db.now_ms();
        let touched = sqlx::query("UPDATE artifacts SET put_at_ms = $2 WHERE digest = $1");
        let touched = touched.bind(digest.to_string()).bind(now_ms);
        if touched.execute(self.writer()).await?.rows_affected() > 0 {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO artifacts (digest, bytes, put_at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (digest) DO UPDATE SET put_at_ms = excluded.put_at_ms",
        )
        .bind(digest.to_string())
        .bind(bytes)
        .bind(now_ms)
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// An artifact in the rows.
    pub(in crate::plugins) async fn artifact(
        &self,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT bytes FROM artifacts WHERE digest = $1");
        let query = query.bind(digest.to_string());
        query.fetch_optional(self.reader()).await
    }

    /// Removes artifacts from the rows to which no other row refers, but for young ones.
    pub(in crate::plugins) async fn remove_artifacts(
        &self,
        age_min: Duration,
    ) -> Result<(), sqlx::Error> {
        let age_ms = i64::try_from(age_min.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(
            "DELETE FROM artifacts WHERE put_at_ms < $1 \
             AND digest NOT IN (SELECT component FROM deployments) \
             AND digest NOT IN (SELECT upload FROM approvals)",
        )
        .bind(self.db.now_ms().saturating_sub(age_ms))
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// The components that some deployment needs, and the uploads that wait; all other artifacts may go.
    pub async fn referenced_artifacts(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let query = sqlx::query(
            "SELECT component FROM deployments UNION SELECT upload AS component FROM approvals",
        );
        let rows = query.fetch_all(self.db.reader()).await?;
        rows.iter()
            .map(|row| parsed(row, "deployments", "component"))
            .collect()
    }
}

/// Live deployments of all plugins.
const LIVE_ROWS: &str = concat!(live_rows!(), " ORDER BY p.name");
/// That of one plugin: found by its name, however many there are.
const LIVE_ROW: &str = concat!(live_rows!(), " WHERE p.name = $1");

/// The same of canaries.
const CANARY_ROWS: &str = concat!(canary_rows!(), " ORDER BY p.name");
const CANARY_ROW: &str = concat!(canary_rows!(), " WHERE p.name = $1");

fn wanted_row(
    stable: &AnyRow,
    canary: Option<&AnyRow>,
    grants: Grants,
) -> Result<WantedRow, StoreError> {
    let canary = match canary {
        Some(row) => Some((live_row(row, grants.clone())?, weight(row, "rollouts")?)),
        None => None,
    };
    let stable = live_row(stable, grants)?;
    Ok(WantedRow { stable, canary })
}

fn live_row(row: &AnyRow, grants: Grants) -> Result<LiveRow, StoreError> {
    Ok(LiveRow {
        plugin: parsed(row, "plugins", "plugin")?,
        deployment: parsed(row, "deployments", "id")?,
        manifest: row.try_get("manifest")?,
        version: parsed(row, "deployments", "version")?,
        component: parsed(row, "deployments", "component")?,
        entry: entry(row)?,
        mount: mount(row)?,
        config: config(row)?,
        grants,
    })
}

/// Of all plugins at once: a query for each would make starting as slow as there are plugins.
async fn all_grants(
    rows: &mut AnyConnection,
) -> Result<HashMap<PluginName, Vec<Grant>>, StoreError> {
    let rows = sqlx::query("SELECT plugin, capability FROM grants")
        .fetch_all(rows)
        .await?;
    let mut grants = HashMap::<PluginName, Vec<Grant>>::new();
    for row in &rows {
        let plugin = parsed(row, "grants", "plugin")?;
        grants
            .entry(plugin)
            .or_default()
            .push(parsed(row, "grants", "capability")?);
    }
    Ok(grants)
}

pub(super) async fn grants_of(
    rows: &mut AnyConnection,
    plugin: &PluginName,
) -> Result<Grants, StoreError> {
    let query =
        sqlx::query("SELECT capability FROM grants WHERE plugin = $1").bind(plugin.as_str());
    let rows = query.fetch_all(rows).await?;
    rows.iter()
        .map(|row| parsed::<Grant>(row, "grants", "capability"))
        .collect()
}

/// Other plugins whose mount has the path `$2`, lies below it or holds it: a host has few of them, however many plugins it
/// has. Host names are not looked at.
const NEAR_MOUNTS: &str = "SELECT name, mount_host, mount_path FROM plugins WHERE name <> $1 \
     AND (substr($2, 1, length(rtrim(mount_path, '/')) + 1) = rtrim(mount_path, '/') || '/' \
     OR substr(rtrim(mount_path, '/') || '/', 1, length($2)) = $2) ORDER BY name";

/// Two plugins cannot share a mount, and one inside the mount of another takes requests from it: that must be wanted.
pub(super) async fn refuse_mount(
    rows: &mut AnyConnection,
    plugin: &PluginName,
    wanted: &Mount,
    is_nested_accepted: bool,
) -> Result<(), StoreError> {
    let query = sqlx::query("SELECT mount_host, mount_path FROM plugins WHERE name = $1");
    let own = query
        .bind(plugin.as_str())
        .fetch_optional(&mut *rows)
        .await?;
    if let Some(row) = own
        && mount(&row)? == *wanted
    {
        // It hangs there already, so that was decided before.
        return Ok(());
    }
    let query = sqlx::query(NEAR_MOUNTS)
        .bind(plugin.as_str())
        .bind(format!("{}/", wanted.path.trim_end_matches('/')));
    let rows = query.fetch_all(rows).await?;
    let mut nested = None;
    for row in &rows {
        let (by, other): (PluginName, Mount) = (parsed(row, "plugins", "name")?, mount(row)?);
        let mount = wanted.clone();
        if other == mount {
            return Err(StoreError::MountTaken { mount, by });
        }
        if mount.overlaps(&other) && nested.is_none() {
            nested = Some(StoreError::MountNested {
                plugin: plugin.clone(),
                mount,
                by,
                other,
            });
        }
    }
    match nested {
        Some(error) if !is_nested_accepted => Err(error),
        _ => Ok(()),
    }
}
