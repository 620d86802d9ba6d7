//! Putting a plugin on the platform, and going back: `upload → validate → store → compile → link → rehearse → migrate →
//! record → swap`. Each step takes what the last one made; the last two are one. Whatever fails, the version that was live
//! stays live.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::ids::{DeploymentId, Digest, Label, PluginName};
use crate::plugins::artifact::{self, Artifacts};
use crate::plugins::bundle::{self, Bundle, BundleError};
use crate::plugins::change::{Change, Changed, Record};
use crate::plugins::manifest::{Auth, Manifest};
use crate::plugins::mistake;
use crate::plugins::registry::{ChangeError, LiveTable, Registry};
use crate::plugins::rehearsal::{Play, Report, Stage};
use crate::plugins::store::{Deployment, LiveRow, PluginRow, Store, StoreError};
use crate::plugins::trust::{self, Admitted, Presented, Trust};
use crate::plugins::validate::{Grant, Grants, ValidPlugin, validate};
use crate::plugins::{Config, InvalidMount, LoadFailure, Mistake, Mount, build};
use crate::runtime::{LoadError, Runtime};
use crate::services::kv::Kv;
use crate::services::log::Logs;
use crate::services::secrets::Secrets;
use crate::services::sql::{self, Sql};

/// What somebody wants to put on the platform. Nothing of it is believed yet.
#[derive(Debug, Clone)]
pub struct Upload {
    /// A bundle, or a component alone.
    pub bytes: Bytes,
    /// For a component alone: the name of the plugin.
    pub name: Option<PluginName>,
    /// Where its routes hang from now on; nothing leaves it as it is, which for a new plugin is `/` and its name.
    pub mount: Option<Mount>,
    /// Whether the mount may lie below or above the one of another plugin.
    pub is_nested_accepted: bool,
    pub grant: GrantMode,
    /// Config values from now on; nothing leaves them as they are.
    pub config: Option<Map<String, Value>>,
    /// Where the bytes are from, as whoever uploads them says.
    pub source: Option<String>,
    /// Whether it may be older than what is live.
    pub allows_downgrade: bool,
    /// Who it is, for the history.
    pub by: String,
    /// Why, for the history.
    pub note: Option<String>,
}

/// Which capabilities the operator gives along with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantMode {
    /// None beyond what was granted before.
    Keep,
    /// Everything that the manifest asks for. What was granted before stays, because the deployment before this one needs
    /// it when somebody goes back; only what the live manifest asks for has an effect.
    AllAsked,
}

/// A deployment that is live now.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub deployment: Deployment,
    /// Which one was live before.
    pub replaced: Option<DeploymentId>,
    pub mount: Mount,
    /// Migrations that ran, as `label/version`.
    pub migrated: Vec<String>,
    /// What would have kept it off, were signatures required.
    pub warnings: Vec<String>,
    /// How its tests went, if it has any and they were run.
    pub tests: Option<Report>,
    /// From the upload to the moment from which requests reach it.
    pub took: Duration,
}

/// Why a plugin could not be deployed, rolled back or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("the plugin has {}", mistake::count(.0))]
    Mistakes(Vec<Mistake>),
    #[error(transparent)]
    Trust(#[from] trust::Refusal),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("a component alone needs a name; give one with --name")]
    NameMissing,
    #[error(transparent)]
    Mount(#[from] InvalidMount),
    #[error("the config does not fit the plugin's schema: {}", .0.join("; "))]
    Config(Vec<String>),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("migrating the database `{label}` failed: {source}")]
    Migrate {
        label: Label,
        source: sql::MigrateError,
    },
    #[error("{}", .0.summary())]
    Tests(Report),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error("`{plugin}` could not be made live: {reason}")]
    NotLive { plugin: PluginName, reason: String },
    #[error("the host failed while changing plugins")]
    Host(#[source] anyhow::Error),
}

impl From<ChangeError> for DeployError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => Self::Store(error),
            ChangeError::NotLive { plugin, reason } => Self::NotLive { plugin, reason },
            ChangeError::Interrupted => Self::Host(error.into()),
        }
    }
}

impl From<LoadFailure> for DeployError {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::Manifest(mistakes) => Self::Mistakes(mistakes),
            LoadFailure::Config(mistakes) => Self::Config(mistakes),
            LoadFailure::Route(mistake) => Self::Mistakes(vec![Mistake::new(mistake)]),
            LoadFailure::Trust(refusal) => Self::Trust(refusal),
            LoadFailure::Rows(error) => Self::Store(error),
            LoadFailure::Artifact(error) => Self::Artifact(error),
            LoadFailure::Load(error) => Self::Load(error),
        }
    }
}

/// The services that keep something for each plugin.
#[derive(Clone)]
pub struct Kept {
    pub sql: Sql,
    pub kv: Kv,
    pub secrets: Secrets,
    pub logs: Logs,
}

/// The control of all plugins. One per process.
pub struct Plugins {
    store: Store,
    artifacts: Artifacts,
    trust: Arc<Trust>,
    runtime: Arc<Runtime>,
    registry: Arc<Registry>,
    kept: Kept,
    pub(super) config: Config,
    /// Where tests are run; nowhere on a host that is itself such a place.
    pub(super) stage: Option<Stage>,
}

impl Plugins {
    /// Puts the control together.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        trust: Arc<Trust>,
        runtime: Arc<Runtime>,
        registry: Arc<Registry>,
        kept: Kept,
        config: Config,
    ) -> Self {
        Self {
            store,
            artifacts,
            trust,
            runtime,
            registry,
            kept,
            config,
            stage: None,
        }
    }

    /// Makes an upload live. If the plugin is changed by somebody else meanwhile, [`StoreError::Changed`].
    pub async fn deploy(&self, upload: Upload) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        let (wanted, plugin, admitted, began_from) = self.check(&upload).await?;
        let spec = build::spec(&wanted, &plugin.manifest, &wanted.config, &self.config)?;
        self.artifacts.put(plugin.component.clone()).await?;
        // Linking happens here too, so a missing import fails the deployment and not the first request.
        let loaded = self
            .runtime
            .load(spec, plugin.component, &upload.by)
            .await?;
        let play = Play::of(&upload.bytes, &plugin.manifest, &plugin.migrations);
        let tests = self.rehearse(play).await?;
        // It is decided when the deployment is recorded. Asking again spares the migrations, which cannot be undone.
        let now = self.store.find_plugin(&wanted.plugin).await?;
        if now.map(|row| row.revision) != began_from {
            let plugin = wanted.plugin;
            return Err(StoreError::Changed { plugin }.into());
        }
        let migrated = self
            .migrate(&wanted, &plugin.manifest, &plugin.migrations)
            .await?;
        let ready = self
            .registry
            .with_routes(wanted.clone(), plugin.manifest, loaded)?;
        let (name, mount) = (wanted.plugin.clone(), wanted.mount.clone());
        // Before it goes live, because then its signature is asked for.
        let kept = self.trust.keep(wanted.deployment, &admitted).await;
        kept.map_err(StoreError::from)?;
        let record = Record {
            wanted,
            began_from,
            grant: upload.grant,
            is_nested_accepted: upload.is_nested_accepted,
            note: upload.note,
        };
        let changed = self
            .registry
            .change(
                name,
                Change::Record(Box::new(record)),
                Some(ready),
                upload.by,
            )
            .await?;
        let deployed = deployed(changed, mount, migrated, began)?;
        Ok(Deployed {
            warnings: admitted.warnings,
            tests,
            ..deployed
        })
    }

    /// Makes an earlier deployment live again: the one before the live one, if none is named.
    pub async fn roll_back(
        &self,
        plugin: &PluginName,
        to: Option<DeploymentId>,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        let changed = self.change(plugin, Change::RollBack { to }, by).await?;
        let mount = self.get(plugin).await?.mount;
        deployed(changed, mount, Vec::new(), began)
    }

    async fn change(
        &self,
        plugin: &PluginName,
        change: Change,
        by: &str,
    ) -> Result<Changed, ChangeError> {
        self.registry
            .change(plugin.clone(), change, None, by.to_owned())
            .await
    }

    /// Everything that can be known before anything is stored or run.
    /// Returns also the revision of the plugin that all of it was checked against.
    async fn check(
        &self,
        upload: &Upload,
    ) -> Result<(LiveRow, ValidPlugin, Admitted, Option<i64>), DeployError> {
        let bundle = self.unpack(upload).await?;
        let (files, signature) = (bundle.files.clone(), bundle.signature.clone());
        // A manifest that cannot be read is told below, together with what is wrong with the component.
        let name = name_of(&bundle);
        let (row, granted) = match &name {
            // The row first: whatever changes after it is noticed by its revision.
            Some(name) => (
                self.store.find_plugin(name).await?,
                self.store.grants(name).await?,
            ),
            None => (None, Grants::default()),
        };
        let (is_all, ceilings) = (
            upload.grant == GrantMode::AllAsked,
            self.config.ceilings.clone(),
        );
        let check = move || {
            let grants = match Manifest::parse(&bundle.manifest) {
                Ok(manifest) if is_all => {
                    let asked = Grants::all_of(&manifest);
                    granted.iter().chain(asked.iter()).cloned().collect()
                }
                _ => granted,
            };
            validate(bundle, &grants, &ceilings).map(|plugin| (plugin, grants))
        };
        let (plugin, grants) = blocking(check).await?.map_err(DeployError::Mistakes)?;
        let name = plugin.manifest.plugin.name.clone();
        let presented = Presented {
            plugin: name.clone(),
            version: plugin.manifest.plugin.version.clone(),
            files,
            signature,
            source: upload.source.clone(),
            upload: Digest::of(&upload.bytes),
            // Should another one be live when this is recorded, the revision has changed.
            live: self.store.live_version(&name).await?,
            allows_downgrade: upload.allows_downgrade,
        };
        let admitted = self.trust.admit(presented).await;
        let admitted = admitted.map_err(StoreError::from)??;
        let mount = match (&upload.mount, &row) {
            (Some(mount), _) => mount.clone(),
            (None, Some(row)) => row.mount.clone(),
            (None, None) => Mount::default_of(&name)?,
        };
        // It is decided when the deployment is recorded. Asking now spares the compiler, and above all the migrations.
        self.store
            .refuse_mount(&name, &mount, upload.is_nested_accepted)
            .await?;
        let began_from = row.as_ref().map(|row| row.revision);
        let config = upload
            .config
            .clone()
            .or_else(|| row.map(|row| row.config))
            .unwrap_or_default();
        let wanted = LiveRow {
            plugin: name,
            deployment: DeploymentId::new(),
            manifest: plugin.manifest_text.clone(),
            version: plugin.manifest.plugin.version.clone(),
            component: plugin.digest,
            entry: plugin.entry,
            mount,
            config,
            grants,
        };
        Ok((wanted, plugin, admitted, began_from))
    }

    async fn unpack(&self, upload: &Upload) -> Result<Bundle, DeployError> {
        let (bytes, config) = (upload.bytes.clone(), self.config.bundle.clone());
        if !Bundle::is_component(&bytes) {
            return Ok(blocking(move || Bundle::read(&bytes, &config)).await??);
        }
        let name = upload.name.as_ref().ok_or(DeployError::NameMissing)?;
        // Nobody has said who may call it, so everybody who can reach it may; the operator chose the mount.
        Ok(Bundle::from_component(
            name,
            "/",
            Auth::Public,
            bytes,
            &config,
        )?)
    }

    async fn migrate(
        &self,
        wanted: &LiveRow,
        manifest: &Manifest,
        migrations: &[bundle::Migration],
    ) -> Result<Vec<String>, DeployError> {
        let mut applied = Vec::new();
        for database in &manifest.capabilities.sql {
            let label = &database.label;
            let own = migrations
                .iter()
                .filter(|migration| migration.label == *label);
            let own: Vec<sql::Migration> = own
                .map(|migration| sql::Migration {
                    version: migration.version,
                    name: migration.name.clone(),
                    sql: migration.sql.clone(),
                })
                .collect();
            let versions = self.kept.sql.migrate(&wanted.plugin, label, &own).await;
            let versions = versions.map_err(|source| DeployError::Migrate {
                label: label.clone(),
                source,
            })?;
            applied.extend(
                versions
                    .into_iter()
                    .map(|version| format!("{label}/{version}")),
            );
        }
        Ok(applied)
    }

    /// A plugin's row.
    pub async fn get(&self, plugin: &PluginName) -> Result<PluginRow, StoreError> {
        let row = self.store.find_plugin(plugin).await?;
        row.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))
    }

    /// The bounds of uploads, and what plugins get.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The rows of plugins, for lists and histories. Changes go through this type.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who may sign plugins. What changes there counts for what is live from the next [`Plugins::refresh`] on.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Makes what is live agree with the rows, after the trust list was changed.
    pub async fn refresh(&self) -> Result<Arc<LiveTable>, StoreError> {
        self.registry.refresh().await
    }

    /// Hangs a plugin elsewhere.
    pub async fn set_mount(
        &self,
        plugin: &PluginName,
        mount: Mount,
        is_nested_accepted: bool,
        by: &str,
    ) -> Result<(), DeployError> {
        let change = Change::Mount {
            mount,
            is_nested_accepted,
        };
        self.change(plugin, change, by).await?;
        Ok(())
    }

    /// Gives a plugin exactly these capabilities. What its manifest asks for and is not among them is refused when it
    /// is used.
    pub async fn set_grants(
        &self,
        plugin: &PluginName,
        grants: &Grants,
        by: &str,
    ) -> Result<(), DeployError> {
        let change = Change::SetGrants(grants.clone());
        self.change(plugin, change, by).await?;
        Ok(())
    }

    /// Gives a plugin these capabilities, too.
    pub async fn add_grants(
        &self,
        plugin: &PluginName,
        more: Vec<Grant>,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::AddGrants(more), by).await?;
        Ok(())
    }

    /// Takes a capability from a plugin. [`StoreError::GrantNotFound`] if it does not have it.
    pub async fn remove_grant(
        &self,
        plugin: &PluginName,
        grant: Grant,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::RemoveGrant(grant), by).await?;
        Ok(())
    }

    /// Sets a plugin's config, checked against the schema of the live deployment.
    pub async fn set_config(
        &self,
        plugin: &PluginName,
        values: &Map<String, Value>,
        by: &str,
    ) -> Result<(), DeployError> {
        self.get(plugin).await?;
        if let Some(live) = self.registry.live().get(plugin) {
            let schema = live
                .manifest()
                .config
                .as_ref()
                .map(|schema| schema.as_json());
            crate::services::config::resolve(schema, values).map_err(DeployError::Config)?;
        }
        self.change(plugin, Change::Config(values.clone()), by)
            .await?;
        Ok(())
    }

    /// Takes a plugin off the platform, with its history and, if `with_data`, all that it stored.
    pub async fn remove(
        &self,
        plugin: &PluginName,
        with_data: bool,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::Delete, by).await?;
        if with_data {
            let host = |error: crate::services::Error| DeployError::Host(error.into());
            self.kept.sql.delete(plugin).await.map_err(host)?;
            self.kept.kv.delete_plugin(plugin).await.map_err(host)?;
            self.kept
                .secrets
                .delete_plugin(plugin)
                .await
                .map_err(host)?;
            self.kept.logs.delete_plugin(plugin).await.map_err(host)?;
        }
        self.clean_up(Duration::from_secs(3600)).await
    }

    /// Removes components that nobody refers to any more, and what was compiled from them: of deployments that failed,
    /// were interrupted, or fell out of the history. Files younger than `age_min` stay, because somebody may be deploying
    /// them now.
    pub async fn clean_up(&self, age_min: Duration) -> Result<(), DeployError> {
        let keep = self.store.referenced_artifacts().await?;
        self.runtime
            .remove_unreferenced(keep.clone(), age_min)
            .await
            .map_err(|error| DeployError::Host(error.into()))?;
        self.artifacts.remove_unreferenced(keep, age_min).await?;
        let forgotten = self.trust.clean_up(age_min).await;
        forgotten.map_err(StoreError::from)?;
        Ok(())
    }
}

fn deployed(
    changed: Changed,
    mount: Mount,
    migrated: Vec<String>,
    began: Instant,
) -> Result<Deployed, DeployError> {
    match changed {
        Changed::Live {
            deployment,
            replaced,
        } => Ok(Deployed {
            deployment: *deployment,
            replaced,
            mount,
            migrated,
            warnings: Vec::new(),
            tests: None,
            took: began.elapsed(),
        }),
        Changed::Settings => Err(DeployError::Host(anyhow::anyhow!(
            "a deployment made nothing live"
        ))),
    }
}

fn name_of(bundle: &Bundle) -> Option<PluginName> {
    let manifest = Manifest::parse(&bundle.manifest).ok()?;
    Some(manifest.plugin.name)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeployError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DeployError::Host(error.into()))
}
