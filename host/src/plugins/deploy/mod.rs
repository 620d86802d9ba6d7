//! Putting a plugin on the platform: `upload → validate → store → compile → link → rehearse → migrate → health → record →
//! swap`. Each step takes what the last one made; the last two are one. Whatever fails, the version that was live stays
//! live.

mod check;
mod error;
mod migrate;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::db::now_ms;
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::change::{Approved, Change, Changed, Record};
use crate::plugins::promise::warnings_of;
use crate::plugins::rehearsal::{Play, Report};
use crate::plugins::rollout::store::Wish;
use crate::plugins::rollout::{Approval, Weight};
use crate::plugins::store::{Deployment, LiveRow, StoreError};
use crate::plugins::validate::Grant;
use crate::plugins::{Mount, Plugins, build};

pub use error::DeployError;

use check::Checked;

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
    /// The part of the requests that it gets at first; nothing for all of them at once.
    pub canary: Option<Weight>,
    /// Config values from now on; nothing leaves them as they are.
    pub config: Option<Map<String, Value>>,
    /// Where the bytes are from, as whoever uploads them says.
    pub source: Option<String>,
    /// Whether it may be older than what is live.
    pub allows_downgrade: bool,
    /// Whether it may break callers of what is live.
    pub allows_breaking: bool,
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

/// What became of an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It answers all requests.
    Live,
    /// It answers a part of the requests.
    Canary(Weight),
    /// It asks for these capabilities, which it was not granted. What was live stays live until somebody agrees.
    Waiting(Vec<Grant>),
}

/// A deployment that is live now, or on its way.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub state: State,
    pub deployment: Deployment,
    /// Which one was live before.
    pub replaced: Option<DeploymentId>,
    pub mount: Mount,
    /// Migrations that ran, as `label/version`.
    pub migrated: Vec<String>,
    /// What would have kept it off, were signatures required, and what it breaks.
    pub warnings: Vec<String>,
    /// How its tests went, if it has any and they were run.
    pub tests: Option<Report>,
    /// From the upload to the moment from which requests reach it.
    pub took: Duration,
}

impl Plugins {
    /// Makes an upload live, or a canary. If the plugin is changed by somebody else meanwhile, [`StoreError::Changed`]. An
    /// upgrade that asks for more than was granted waits for approval.
    pub async fn deploy(&self, upload: Upload) -> Result<Deployed, DeployError> {
        self.put(upload, None).await
    }

    /// The same, perhaps with somebody's agreement to what it asks for.
    pub(super) async fn put(
        &self,
        upload: Upload,
        approved: Option<Approved>,
    ) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        tracing::debug!("An upload is checked");
        let checked = self.check(&upload, approved.as_ref()).await?;
        let Checked {
            wanted,
            plugin,
            admitted,
            began_from,
            missing,
        } = checked;
        // Who agrees to an upgrade that waited has seen what it is.
        let allows_breaking = upload.allows_breaking || approved.is_some();
        let breaks = self.check_promises(&wanted.plugin, &plugin.manifest, allows_breaking);
        let breaks = breaks.await?;
        let promises = warnings_of(&breaks);
        let spec = build::spec(&wanted, &plugin.manifest, &wanted.config, &self.config)?;
        let name = wanted.plugin.clone();
        let step = |what: &str| {
            tracing::debug!(plugin.name = %name, deployment.id = %wanted.deployment, "Deploying `{name}`: {what}");
        };
        step("store");
        self.artifacts.put(plugin.component.clone()).await?;
        step("compile");
        // Linking happens here too, so a missing import fails the deployment and not the first request.
        let loaded = self
            .runtime
            .load(spec, plugin.component, &upload.by)
            .await?;
        step("rehearse");
        let play = Play::of(&upload.bytes, &plugin.manifest, &plugin.migrations);
        let tests = self.rehearse(play).await?;
        if !missing.is_empty() {
            step("ask for approval");
            let warnings = [admitted.warnings, promises].concat();
            let asked = self.ask(upload, &wanted, missing, warnings, began).await?;
            return Ok(Deployed { tests, ..asked });
        }
        // It is decided when the deployment is recorded. Asking again spares the migrations, which cannot be undone.
        let now = self.store.find_plugin(&wanted.plugin).await?;
        if now.map(|row| row.revision) != began_from {
            let plugin = wanted.plugin;
            return Err(StoreError::Changed { plugin }.into());
        }
        if began_from.is_none() {
            self.begin_first(&wanted.plugin).await?;
        }
        step("migrate databases");
        let mut migrated = self
            .migrate(&wanted, &plugin.manifest, &plugin.migrations)
            .await?;
        // On a stage, each test begins with data of its own, and nothing outside is as the gate expects it.
        if self.stage.is_some() {
            step("migrate data");
            if self.run_migrate_hook(&wanted, &loaded).await? {
                migrated.push(format!("data/{}", wanted.version));
            }
            step("ask its gate");
            self.registry.check_health(&wanted.plugin, &loaded).await?;
        }
        let ready = self
            .registry
            .with_routes(wanted.clone(), plugin.manifest, loaded)?;
        step("record");
        let mount = wanted.mount.clone();
        // Before it goes live, because then its signature is asked for.
        let kept = self.trust.keep(wanted.deployment, &admitted).await;
        kept.map_err(StoreError::from)?;
        let record = Record {
            wanted,
            began_from,
            grant: upload.grant,
            is_nested_accepted: upload.is_nested_accepted,
            note: upload.note,
            canary: upload.canary,
            breaks,
            approved,
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
        let mut warnings = [admitted.warnings, promises].concat();
        if upload.canary.is_some() && matches!(deployed.state, State::Live) {
            let told =
                "no version was live beside which it could be a canary: it answers every request";
            warnings.push(told.to_owned());
        }
        Ok(Deployed {
            warnings,
            tests,
            ..deployed
        })
    }

    /// Keeps an upload until somebody agrees to what it asks for.
    async fn ask(
        &self,
        upload: Upload,
        wanted: &LiveRow,
        missing: Vec<Grant>,
        warnings: Vec<String>,
        began: Instant,
    ) -> Result<Deployed, DeployError> {
        let digest = self.artifacts.put(upload.bytes).await?;
        let mount = upload.mount.as_ref();
        let approval = Approval {
            plugin: wanted.plugin.clone(),
            id: wanted.deployment,
            version: wanted.version.clone(),
            upload: digest,
            missing: missing.clone(),
            asked_by: upload.by.clone(),
            asked_at_ms: now_ms(),
            reason: upload.note.clone(),
            wish: Wish {
                mount_host: mount.and_then(|mount| mount.host.clone()),
                mount_path: mount.map(|mount| mount.path.clone()),
                is_nested_accepted: upload.is_nested_accepted,
                canary: upload.canary.map(Weight::percent),
                config: upload.config,
                source: upload.source,
                allows_downgrade: upload.allows_downgrade,
            },
        };
        let deployment = Deployment {
            id: wanted.deployment,
            plugin: wanted.plugin.clone(),
            version: wanted.version.clone(),
            component: wanted.component,
            entry: wanted.entry,
            manifest: wanted.manifest.clone(),
            created_at_ms: approval.asked_at_ms,
            created_by: upload.by.clone(),
            note: upload.note,
            is_live: false,
        };
        let name = wanted.plugin.clone();
        self.registry
            .change(name, Change::Ask(Box::new(approval)), None, upload.by)
            .await?;
        Ok(Deployed {
            state: State::Waiting(missing),
            deployment,
            replaced: None,
            mount: wanted.mount.clone(),
            migrated: Vec::new(),
            warnings,
            tests: None,
            took: began.elapsed(),
        })
    }
}

/// What a change made live, for those who asked for it.
pub(super) fn deployed(
    changed: Changed,
    mount: Mount,
    migrated: Vec<String>,
    began: Instant,
) -> Result<Deployed, DeployError> {
    let (state, deployment, replaced) = match changed {
        Changed::Live {
            deployment,
            replaced,
        } => (State::Live, deployment, replaced),
        Changed::Canary { deployment, weight } => (State::Canary(weight), deployment, None),
        Changed::Settings => {
            let error = anyhow::anyhow!("a deployment made nothing live");
            return Err(DeployError::Host(error));
        }
    };
    Ok(Deployed {
        state,
        deployment: *deployment,
        replaced,
        mount,
        migrated,
        warnings: Vec::new(),
        tests: None,
        took: began.elapsed(),
    })
}
