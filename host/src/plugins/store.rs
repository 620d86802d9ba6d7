//! The rows of plugins, their deployments and their grants. A deployment is never changed; which one is live is a
//! pointer in the plugin's row.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::Row as _;

use crate::db::{Db, Transaction, now_ms};
use crate::ids::{DeploymentId, Digest, PluginName};
use crate::plugins::row::{config, deployment, entry, entry_word, mount, optional, parsed, plugin};
use crate::plugins::validate::{Grant, Grants};
use crate::plugins::{GrantMode, Mount};
use crate::runtime::EntryKind;

/// How much history is kept.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most deployments of one plugin; the oldest go first, the live one never. Default: 100.
    pub deployments_kept_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deployments_kept_max: 100,
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
}

/// Access to the rows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    config: Config,
}

impl Store {
    /// Access to these rows.
    pub fn new(db: Db, config: Config) -> Self {
        Self { db, config }
    }

    /// All live deployments, by name of the plugin.
    pub async fn live(&self) -> Result<Vec<LiveRow>, StoreError> {
        let query = sqlx::query(
            "SELECT d.id, d.plugin, d.version, d.component, d.entry, d.manifest, \
             p.mount_host, p.mount_path, p.config \
             FROM plugins p JOIN deployments d ON d.id = p.live_deployment ORDER BY d.plugin",
        );
        let rows = query.fetch_all(self.db.reader()).await?;
        let mut grants = self.all_grants().await?;
        let mut live = Vec::with_capacity(rows.len());
        for row in &rows {
            let plugin: PluginName = parsed(row, "plugins", "plugin")?;
            live.push(LiveRow {
                deployment: parsed(row, "deployments", "id")?,
                manifest: row.try_get("manifest")?,
                version: parsed(row, "deployments", "version")?,
                component: parsed(row, "deployments", "component")?,
                entry: entry(row)?,
                mount: mount(row)?,
                config: config(row)?,
                grants: grants
                    .remove(&plugin)
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                plugin,
            });
        }
        Ok(live)
    }

    /// Writes a deployment with mount and settings, and makes it live, all or nothing. Grants are written only if they
    /// are given along: those that were there when the deployment began may have been taken back since. Returns also
    /// which one was live before.
    pub async fn record(
        &self,
        wanted: &LiveRow,
        grant: GrantMode,
        by: &str,
        note: Option<&str>,
    ) -> Result<(Deployment, Option<DeploymentId>), StoreError> {
        let now = now_ms();
        let mut tx = self.db.begin().await?;
        let replaced = live_of(&mut tx, &wanted.plugin).await?.flatten();
        refuse_taken(&mut *tx, &wanted.plugin, &wanted.mount).await?;
        sqlx::query(
            "INSERT INTO plugins \
             (name, mount_host, mount_path, config, live_by, live_at_ms, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $6) \
             ON CONFLICT (name) DO UPDATE SET mount_host = excluded.mount_host, \
             mount_path = excluded.mount_path, config = excluded.config",
        )
        .bind(wanted.plugin.as_str())
        .bind(wanted.mount.host.as_deref().unwrap_or_default())
        .bind(wanted.mount.path.as_str())
        .bind(Value::Object(wanted.config.clone()).to_string())
        .bind(by)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if grant == GrantMode::AllAsked {
            write_grants(&mut tx, &wanted.plugin, &wanted.grants, by, now).await?;
        }
        sqlx::query(
            "INSERT INTO deployments \
             (id, plugin, version, component, entry, manifest, created_at_ms, created_by, note) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(wanted.deployment.to_string())
        .bind(wanted.plugin.as_str())
        .bind(wanted.version.to_string())
        .bind(wanted.component.to_string())
        .bind(entry_word(wanted.entry))
        .bind(wanted.manifest.as_str())
        .bind(now)
        .bind(by)
        .bind(note)
        .execute(&mut *tx)
        .await?;
        set_live(&mut tx, &wanted.plugin, wanted.deployment, by, now).await?;
        self.forget_oldest(&mut tx, &wanted.plugin, wanted.deployment)
            .await?;
        tx.commit().await?;
        let deployment = Deployment {
            id: wanted.deployment,
            plugin: wanted.plugin.clone(),
            version: wanted.version.clone(),
            component: wanted.component,
            entry: wanted.entry,
            manifest: wanted.manifest.clone(),
            created_at_ms: now,
            created_by: by.to_owned(),
            note: note.map(str::to_owned),
            is_live: true,
        };
        Ok((deployment, replaced))
    }

    /// Makes an earlier deployment live again: the newest one before the live one, if none is named. Returns also
    /// which one was live before.
    pub async fn roll_back(
        &self,
        plugin: &PluginName,
        to: Option<DeploymentId>,
        by: &str,
    ) -> Result<(Deployment, Option<DeploymentId>), StoreError> {
        let mut tx = self.db.begin().await?;
        let replaced = live_of(&mut tx, plugin).await?;
        let replaced = replaced.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))?;
        let row = match to {
            Some(to) => {
                sqlx::query("SELECT * FROM deployments WHERE plugin = $1 AND id = $2")
                    .bind(plugin.as_str())
                    .bind(to.to_string())
                    .fetch_optional(&mut *tx)
                    .await?
            }
            None => {
                // Ids are ordered by time.
                sqlx::query(
                    "SELECT * FROM deployments WHERE plugin = $1 AND id < $2 ORDER BY id DESC LIMIT 1",
                )
                .bind(plugin.as_str())
                .bind(replaced.map(|id| id.to_string()).unwrap_or_default())
                .fetch_optional(&mut *tx)
                .await?
            }
        };
        let row = row.ok_or_else(|| StoreError::DeploymentNotFound {
            plugin: plugin.clone(),
        })?;
        let mut deployment = deployment(&row, None)?;
        set_live(&mut tx, plugin, deployment.id, by, now_ms()).await?;
        tx.commit().await?;
        deployment.is_live = true;
        Ok((deployment, replaced))
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
        let query =
            sqlx::query("SELECT capability FROM grants WHERE plugin = $1").bind(plugin.as_str());
        let rows = query.fetch_all(self.db.reader()).await?;
        rows.iter()
            .map(|row| parsed::<Grant>(row, "grants", "capability"))
            .collect()
    }

    /// Of all plugins at once: a query for each would make every swap as slow as there are plugins.
    async fn all_grants(&self) -> Result<HashMap<PluginName, Vec<Grant>>, StoreError> {
        let rows = sqlx::query("SELECT plugin, capability FROM grants")
            .fetch_all(self.db.reader())
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

    /// Gives a plugin exactly these, from the next refresh on.
    pub async fn set_grants(
        &self,
        plugin: &PluginName,
        grants: &Grants,
        by: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let found = live_of(&mut tx, plugin).await?;
        found.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))?;
        write_grants(&mut tx, plugin, grants, by, now_ms()).await?;
        Ok(tx.commit().await?)
    }

    /// Fails with [`StoreError::MountTaken`] if another plugin hangs there now.
    pub async fn refuse_taken(&self, plugin: &PluginName, mount: &Mount) -> Result<(), StoreError> {
        refuse_taken(self.db.reader(), plugin, mount).await
    }

    /// Hangs a plugin elsewhere, from the next refresh on.
    pub async fn set_mount(&self, plugin: &PluginName, mount: &Mount) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        refuse_taken(&mut *tx, plugin, mount).await?;
        let done =
            sqlx::query("UPDATE plugins SET mount_host = $1, mount_path = $2 WHERE name = $3")
                .bind(mount.host.as_deref().unwrap_or_default())
                .bind(mount.path.as_str())
                .bind(plugin.as_str())
                .execute(&mut *tx)
                .await?;
        found(plugin, done.rows_affected())?;
        Ok(tx.commit().await?)
    }

    /// Gives a plugin these settings, from the next refresh on. They were checked against its schema.
    pub async fn set_config(
        &self,
        plugin: &PluginName,
        config: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE plugins SET config = $1 WHERE name = $2")
            .bind(Value::Object(config.clone()).to_string())
            .bind(plugin.as_str())
            .execute(self.db.writer())
            .await?;
        found(plugin, done.rows_affected())
    }

    /// Forgets a plugin with its deployments and grants. What it stored through services stays.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for statement in [
            "DELETE FROM grants WHERE plugin = $1",
            "DELETE FROM deployments WHERE plugin = $1",
        ] {
            sqlx::query(statement)
                .bind(plugin.as_str())
                .execute(&mut *tx)
                .await?;
        }
        let done = sqlx::query("DELETE FROM plugins WHERE name = $1")
            .bind(plugin.as_str())
            .execute(&mut *tx)
            .await?;
        found(plugin, done.rows_affected())?;
        Ok(tx.commit().await?)
    }

    /// The components that some deployment needs; all other artifacts may go.
    pub async fn referenced_artifacts(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let query = sqlx::query("SELECT DISTINCT component FROM deployments");
        let rows = query.fetch_all(self.db.reader()).await?;
        rows.iter()
            .map(|row| parsed(row, "deployments", "component"))
            .collect()
    }

    async fn forget_oldest(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        live: DeploymentId,
    ) -> Result<(), StoreError> {
        // The live one is mostly the newest, but of two that were deployed at once it may be the other.
        sqlx::query(
            "DELETE FROM deployments WHERE plugin = $1 AND id <> $3 AND id NOT IN \
             (SELECT id FROM deployments WHERE plugin = $1 ORDER BY id DESC LIMIT $2)",
        )
        .bind(plugin.as_str())
        .bind(i64::from(self.config.deployments_kept_max.max(1)))
        .bind(live.to_string())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Nothing if there is no such plugin; inside, nothing if none of it is live.
async fn live_of(
    tx: &mut Transaction,
    plugin: &PluginName,
) -> Result<Option<Option<DeploymentId>>, StoreError> {
    let query =
        sqlx::query("SELECT live_deployment FROM plugins WHERE name = $1").bind(plugin.as_str());
    match query.fetch_optional(&mut **tx).await? {
        Some(row) => optional(&row, "plugins", "live_deployment").map(Some),
        None => Ok(None),
    }
}

async fn refuse_taken(
    rows: impl sqlx::Executor<'_, Database = sqlx::Any>,
    plugin: &PluginName,
    mount: &Mount,
) -> Result<(), StoreError> {
    let taken = sqlx::query(
        "SELECT name FROM plugins WHERE mount_host = $1 AND mount_path = $2 AND name <> $3",
    )
    .bind(mount.host.as_deref().unwrap_or_default())
    .bind(mount.path.as_str())
    .bind(plugin.as_str())
    .fetch_optional(rows)
    .await?;
    match taken {
        Some(row) => {
            let by = parsed(&row, "plugins", "name")?;
            Err(StoreError::MountTaken {
                mount: mount.clone(),
                by,
            })
        }
        None => Ok(()),
    }
}

async fn set_live(
    tx: &mut Transaction,
    plugin: &PluginName,
    deployment: DeploymentId,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE plugins SET live_deployment = $1, live_by = $2, live_at_ms = $3 WHERE name = $4",
    )
    .bind(deployment.to_string())
    .bind(by)
    .bind(now)
    .bind(plugin.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Leaves exactly these grants. Those that were there keep who gave them and when.
async fn write_grants(
    tx: &mut Transaction,
    plugin: &PluginName,
    grants: &Grants,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT capability FROM grants WHERE plugin = $1")
        .bind(plugin.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let wanted: BTreeSet<String> = grants.iter().map(ToString::to_string).collect();
    for row in rows {
        let capability: String = row.try_get("capability")?;
        if !wanted.contains(&capability) {
            sqlx::query("DELETE FROM grants WHERE plugin = $1 AND capability = $2")
                .bind(plugin.as_str())
                .bind(capability)
                .execute(&mut **tx)
                .await?;
        }
    }
    for capability in wanted {
        sqlx::query(
            "INSERT INTO grants (plugin, capability, granted_by, granted_at_ms) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (plugin, capability) DO NOTHING",
        )
        .bind(plugin.as_str())
        .bind(capability)
        .bind(by)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn found(plugin: &PluginName, rows: u64) -> Result<(), StoreError> {
    if rows == 0 {
        Err(StoreError::PluginNotFound(plugin.clone()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db;

    async fn store(deployments_kept_max: u32) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("gantry.db"), &db::Config::default())
            .await
            .unwrap();
        (
            folder,
            Store::new(
                db,
                Config {
                    deployments_kept_max,
                },
            ),
        )
    }

    fn row(plugin: &str, version: &str) -> LiveRow {
        let Value::Object(config) = json!({ "currency": "EUR" }) else {
            unreachable!()
        };
        LiveRow {
            plugin: plugin.parse().unwrap(),
            deployment: DeploymentId::new(),
            manifest: format!("the manifest of {version}"),
            version: version.parse().unwrap(),
            component: Digest::of(version.as_bytes()),
            entry: EntryKind::WasiHttp02,
            mount: Mount::new(None, &format!("/{plugin}")).unwrap(),
            config,
            grants: ["kv:carts", "http:*.example.com"]
                .iter()
                .map(|g| g.parse().unwrap())
                .collect(),
        }
    }

    #[tokio::test]
    async fn what_is_recorded_is_live_and_the_same() {
        let (_folder, store) = store(100).await;
        let wanted = row("shop", "1.0.0");

        let (deployment, replaced) = store
            .record(&wanted, GrantMode::AllAsked, "ana", Some("first"))
            .await
            .unwrap();

        assert_eq!(replaced, None);
        assert_eq!(store.live().await.unwrap(), [wanted]);
        let name = deployment.plugin.clone();
        assert_eq!(
            store.deployments(&name, None, 10).await.unwrap(),
            [deployment]
        );
    }

    #[tokio::test]
    async fn rolling_back_makes_the_one_before_live_again() {
        let (_folder, store) = store(100).await;
        let (first, second) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
        store
            .record(&first, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        let (_, replaced) = store
            .record(&second, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        assert_eq!(replaced, Some(first.deployment));
        let name = &first.plugin;

        let (deployment, replaced) = store.roll_back(name, None, "ben").await.unwrap();

        assert_eq!(
            (deployment.id, replaced),
            (first.deployment, Some(second.deployment))
        );
        assert_eq!(store.live().await.unwrap(), std::slice::from_ref(&first));
        assert_eq!(
            store.find_plugin(name).await.unwrap().unwrap().live_by,
            "ben"
        );
        let listed = store.deployments(name, None, 10).await.unwrap();
        let listed: Vec<_> = listed.iter().map(|d| (d.id, d.is_live)).collect();
        assert_eq!(
            listed,
            [(second.deployment, false), (first.deployment, true)]
        );
        let older = store
            .deployments(name, Some(second.deployment), 10)
            .await
            .unwrap();
        assert_eq!(older.len(), 1);
        // There is nothing before the first one, and a named one may be newer.
        let none = store.roll_back(name, None, "ben").await;
        assert!(
            matches!(none, Err(StoreError::DeploymentNotFound { .. })),
            "{none:?}"
        );
        store
            .roll_back(name, Some(second.deployment), "ben")
            .await
            .unwrap();
        assert_eq!(store.live().await.unwrap(), [second]);
    }

    #[tokio::test]
    async fn a_deployment_of_another_plugin_is_not_rolled_back_to() {
        let (_folder, store) = store(100).await;
        let (shop, blog) = (row("shop", "1.0.0"), row("blog", "1.0.0"));
        store
            .record(&shop, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        store
            .record(&blog, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();

        let refused = store
            .roll_back(&shop.plugin, Some(blog.deployment), "ana")
            .await;

        assert!(
            matches!(refused, Err(StoreError::DeploymentNotFound { .. })),
            "{refused:?}"
        );
        let nobody = store
            .roll_back(&"nobody".parse().unwrap(), None, "ana")
            .await;
        assert!(
            matches!(nobody, Err(StoreError::PluginNotFound(_))),
            "{nobody:?}"
        );
    }

    #[tokio::test]
    async fn a_mount_belongs_to_one_plugin() {
        let (_folder, store) = store(100).await;
        let shop = row("shop", "1.0.0");
        store
            .record(&shop, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        let mut blog = row("blog", "1.0.0");
        blog.mount = shop.mount.clone();

        let refused = store.record(&blog, GrantMode::AllAsked, "ana", None).await;

        assert!(matches!(refused, Err(StoreError::MountTaken { by, .. }) if by == shop.plugin));
        assert_eq!(
            store.plugins().await.unwrap().len(),
            1,
            "nothing of it was written"
        );
        blog.mount = Mount::new(Some("blog.example.com"), "/shop").unwrap();
        store
            .record(&blog, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        let refused = store.set_mount(&blog.plugin, &shop.mount).await;
        assert!(
            matches!(refused, Err(StoreError::MountTaken { .. })),
            "{refused:?}"
        );
        store
            .set_mount(&blog.plugin, &Mount::new(None, "/").unwrap())
            .await
            .unwrap();
        let [blog, _] = &store.live().await.unwrap()[..] else {
            panic!()
        };
        assert_eq!(blog.mount.to_string(), "/");
    }

    #[tokio::test]
    async fn grants_and_settings_are_replaced_as_a_whole() {
        let (_folder, store) = store(100).await;
        let shop = row("shop", "1.0.0");
        store
            .record(&shop, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        let grants: Grants = std::iter::once("sql:main".parse().unwrap()).collect();

        store
            .set_grants(&shop.plugin, &grants, "ben")
            .await
            .unwrap();
        store.set_config(&shop.plugin, &Map::new()).await.unwrap();

        let [live] = &store.live().await.unwrap()[..] else {
            panic!()
        };
        assert_eq!(live.grants, grants);
        assert_eq!(live.config, Map::new());
        let nobody = "nobody".parse().unwrap();
        assert!(store.set_grants(&nobody, &grants, "ben").await.is_err());
        assert!(store.set_config(&nobody, &Map::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_grant_that_was_taken_back_meanwhile_does_not_come_back() {
        let (_folder, store) = store(100).await;
        let (first, second) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
        store
            .record(&first, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
        // `second` was made of the grants as they were; before it is recorded, they are taken back.
        store
            .set_grants(&first.plugin, &Grants::default(), "ben")
            .await
            .unwrap();

        store
            .record(&second, GrantMode::Keep, "ana", None)
            .await
            .unwrap();

        let [live] = &store.live().await.unwrap()[..] else {
            panic!()
        };
        assert_eq!(live.deployment, second.deployment);
        assert_eq!(live.grants, Grants::default());
    }

    #[tokio::test]
    async fn the_live_deployment_is_never_forgotten() {
        let (_folder, store) = store(1).await;
        // Begun earlier, and so with the smaller id, but recorded later.
        let (slow, fast) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
        for row in [&fast, &slow] {
            store
                .record(row, GrantMode::AllAsked, "ana", None)
                .await
                .unwrap();
        }
        assert_eq!(store.live().await.unwrap(), [slow]);
    }

    #[tokio::test]
    async fn only_so_many_deployments_are_kept() {
        let (_folder, store) = store(2).await;
        let rows = [
            row("shop", "1.0.0"),
            row("shop", "1.1.0"),
            row("shop", "1.2.0"),
        ];
        for row in &rows {
            store
                .record(row, GrantMode::AllAsked, "ana", None)
                .await
                .unwrap();
        }

        let kept = store.deployments(&rows[0].plugin, None, 10).await.unwrap();

        assert_eq!(
            kept.iter().map(|d| d.id).collect::<Vec<_>>(),
            [rows[2].deployment, rows[1].deployment]
        );
        let artifacts = BTreeSet::from([rows[1].component, rows[2].component]);
        assert_eq!(store.referenced_artifacts().await.unwrap(), artifacts);
    }

    #[tokio::test]
    async fn a_deleted_plugin_leaves_nothing_and_can_come_back() {
        let (_folder, store) = store(100).await;
        let shop = row("shop", "1.0.0");
        store
            .record(&shop, GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();

        store.delete_plugin(&shop.plugin).await.unwrap();

        assert_eq!(store.live().await.unwrap(), []);
        assert_eq!(store.grants(&shop.plugin).await.unwrap(), Grants::default());
        assert!(store.referenced_artifacts().await.unwrap().is_empty());
        assert!(store.delete_plugin(&shop.plugin).await.is_err());
        store
            .record(&row("shop", "2.0.0"), GrantMode::AllAsked, "ana", None)
            .await
            .unwrap();
    }
}
