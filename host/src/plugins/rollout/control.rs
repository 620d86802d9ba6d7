//! What operators do with versions that are on their way, and what the host does by itself: it takes back a canary that
//! does worse than the stable version.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::change::{Approved, Change};
use crate::plugins::deploy::deployed;
use crate::plugins::manifest::Manifest;
use crate::plugins::promise::warnings_of;
use crate::plugins::registry::{ChangeError, LivePlugin};
use crate::plugins::rollout::{Approval, Sum, Weight, judge};
use crate::plugins::store::StoreError;
use crate::plugins::{DeployError, Deployed, GrantMode, Plugins, Upload};

/// How often canaries are judged.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// Who stands in the history for what the host does by itself.
const HOST: &str = "gantry";

/// What answers for a plugin now, and how well.
#[derive(Debug, Clone)]
pub struct Status {
    /// Nothing if no version is live.
    pub stable: Option<VersionStatus>,
    /// With its part of the requests.
    pub canary: Option<(VersionStatus, Weight)>,
    /// The upgrade that waits.
    pub approval: Option<Approval>,
}

/// One version and what it did lately.
#[derive(Debug, Clone)]
pub struct VersionStatus {
    pub deployment: DeploymentId,
    pub version: semver::Version,
    pub lately: Sum,
    pub calls_in_progress: u32,
}

impl Plugins {
    /// Makes an earlier deployment live again. If none is named: the stable one, if there is a canary, and otherwise the
    /// newest one that was live before.
    pub async fn roll_back(
        &self,
        plugin: &PluginName,
        to: Option<DeploymentId>,
        by: &str,
        reason: Option<String>,
    ) -> Result<Deployed, DeployError> {
        self.move_on(plugin, Change::RollBack { to, reason }, by)
            .await
    }

    /// Gives a canary another part of the requests. [`StoreError::RolloutNotFound`].
    pub async fn set_canary_weight(
        &self,
        plugin: &PluginName,
        weight: Weight,
        by: &str,
        reason: Option<String>,
    ) -> Result<Deployed, DeployError> {
        self.move_on(plugin, Change::CanaryWeight { weight, reason }, by)
            .await
    }

    /// Gives a canary all requests. [`StoreError::RolloutNotFound`], or [`StoreError::Changed`] if another one has taken its
    /// place meanwhile. Unless `allows_breaking`, it must keep what the stable version promises to callers.
    pub async fn promote(
        &self,
        plugin: &PluginName,
        by: &str,
        reason: Option<String>,
        allows_breaking: bool,
    ) -> Result<Deployed, DeployError> {
        // Out of the rows: on another host it may be live already, and here not yet.
        let (canary, manifest) = self.store.canary(plugin).await?;
        let mut breaks = Vec::new();
        // One that cannot be read any more cannot be made live either.
        if let Ok(manifest) = Manifest::parse(&manifest) {
            breaks = self
                .check_promises(plugin, &manifest, allows_breaking)
                .await?;
        }
        let warnings = warnings_of(&breaks);
        let change = Change::Promote {
            canary,
            reason,
            breaks,
        };
        let deployed = self.move_on(plugin, change, by).await?;
        Ok(Deployed {
            warnings: [deployed.warnings, warnings].concat(),
            ..deployed
        })
    }

    /// Agrees to what this upgrade asks for, and deploys it as it was meant to be. Only what it asked for when it came is
    /// granted: if something else is missing by now, it goes on waiting. [`StoreError::ApprovalNotFound`], or
    /// [`StoreError::ApprovalChanged`] if another one has taken its place since somebody looked.
    pub async fn approve(
        &self,
        plugin: &PluginName,
        deployment: DeploymentId,
        by: &str,
        reason: Option<String>,
    ) -> Result<Deployed, DeployError> {
        let approval = self.get_approval(plugin).await?;
        if approval.id != deployment {
            let plugin = plugin.clone();
            return Err(StoreError::ApprovalChanged { plugin }.into());
        }
        let bytes = self.artifacts.get(approval.upload).await?;
        let canary = approval.canary();
        let upload = Upload {
            bytes,
            name: Some(plugin.clone()),
            mount: approval.wish.mount(),
            is_nested_accepted: approval.wish.is_nested_accepted,
            grant: GrantMode::Keep,
            canary,
            config: approval.wish.config,
            source: approval.wish.source,
            allows_downgrade: approval.wish.allows_downgrade,
            allows_breaking: true,
            by: approval.asked_by,
            note: approval.reason,
        };
        let approved = Approved {
            deployment,
            grants: approval.missing,
            by: by.to_owned(),
            reason,
        };
        self.put(upload, Some(approved)).await
    }

    /// Refuses what an upgrade asks for. What is live stays live. [`StoreError::ApprovalNotFound`].
    pub async fn reject(
        &self,
        plugin: &PluginName,
        by: &str,
        reason: Option<String>,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::Reject { reason }, by).await?;
        Ok(())
    }

    /// The upgrade that waits. [`StoreError::ApprovalNotFound`] if there is none.
    pub async fn get_approval(&self, plugin: &PluginName) -> Result<Approval, StoreError> {
        self.get(plugin).await?;
        let found = self.store.approval(plugin).await?;
        found.ok_or_else(|| StoreError::ApprovalNotFound {
            plugin: plugin.clone(),
        })
    }

    /// What answers for a plugin now, and how well. `now_ns` is the clock's monotonic time.
    pub async fn status(&self, plugin: &PluginName, now_ns: u64) -> Result<Status, StoreError> {
        self.get(plugin).await?;
        let live = self.registry.live();
        let slot = live.slot(plugin);
        let of = |version: &LivePlugin| VersionStatus {
            deployment: version.deployment(),
            version: version.loaded.spec().version.clone(),
            lately: version.figures.sum(now_ns),
            calls_in_progress: version.loaded.calls_in_progress(),
        };
        let canary = slot.and_then(|slot| slot.canary());
        Ok(Status {
            stable: slot.map(|slot| of(&slot.stable)),
            canary: canary.map(|canary| (of(&canary.plugin), canary.weight)),
            approval: self.store.approval(plugin).await?,
        })
    }

    /// Takes back canaries that do worse than the stable version, until it is told to stop.
    pub async fn watch_canaries(&self, clock: Clock, stop: CancellationToken) {
        let mut tick = tokio::time::interval(JUDGE_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.config.rollout.rolls_back {
                self.judge_canaries(clock.monotonic_ns()).await;
            }
        }
    }

    async fn judge_canaries(&self, now_ns: u64) {
        let live = self.registry.live();
        for slot in live.slots() {
            // Who meets one with weight 0 has asked for it, and would have a say in whether it stays.
            let canary = slot.canary().filter(|canary| canary.weight.percent() > 0);
            let Some(canary) = canary else { continue };
            let (own, usual) = (&canary.plugin.figures, &slot.stable.figures);
            let reason = judge(&own.sum(now_ns), &usual.sum(now_ns), &self.config.rollout);
            let Some(reason) = reason else { continue };
            let name = slot.stable.name();
            tracing::warn!(
                plugin.name = %name, deployment.id = %canary.plugin.deployment(), reason = %reason,
                "The canary of `{name}` is taken back"
            );
            let change = Change::EndCanary {
                only: Some(canary.plugin.deployment()),
                reason: Some(reason),
            };
            match self.change(name, change, HOST).await {
                // Somebody was faster.
                Ok(_) | Err(ChangeError::Store(StoreError::RolloutNotFound { .. })) => {}
                Err(error) => {
                    tracing::error!(plugin.name = %name, error.cause = %error, "The canary of `{name}` cannot be taken back");
                }
            }
        }
    }

    async fn move_on(
        &self,
        plugin: &PluginName,
        change: Change,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        let changed = self.change(plugin, change, by).await?;
        let mount = self.get(plugin).await?.mount;
        deployed(changed, mount, Vec::new(), began)
    }
}
