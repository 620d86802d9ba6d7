//! Everything about an upload that can be known before anything is stored or run.

use std::sync::Arc;

use crate::ids::{DeploymentId, Digest, PluginName};
use crate::plugins::bundle::Bundle;
use crate::plugins::change::Approved;
use crate::plugins::manifest::{Auth, Manifest};
use crate::plugins::store::{LiveRow, StoreError};
use crate::plugins::trust::{Admitted, Presented};
use crate::plugins::validate::{
    Grant, Grants, ValidPlugin, blocking_filters, missing_filters, validate,
};
use crate::plugins::{DeployError, GrantMode, InvalidMount, Mount, Plugins, Upload, is_within};

/// An upload that was checked.
pub(super) struct Checked {
    pub(super) wanted: LiveRow,
    pub(super) plugin: ValidPlugin,
    /// What its signature says.
    pub(super) admitted: Admitted,
    /// The revision of the plugin that all of it was checked against.
    pub(super) began_from: Option<i64>,
    /// What it asks for and was not granted. All else is in order.
    pub(super) missing: Vec<Grant>,
}

impl Plugins {
    /// Everything that can be known before anything is stored or run.
    pub(super) async fn check(
        &self,
        upload: &Upload,
        approved: Option<&Approved>,
    ) -> Result<Checked, DeployError> {
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
        let approved = approved.map(|approved| approved.grants.clone());
        let is_upgrade = row.as_ref().is_some_and(|row| row.live.is_some());
        let (manifest, registry) = (bundle.manifest.clone(), Arc::clone(&self.registry));
        let check = move || {
            let more = approved.into_iter().flatten();
            let given: Grants = granted.iter().cloned().chain(more).collect();
            let asked = Manifest::parse(&bundle.manifest).map(|manifest| Grants::all_of(&manifest));
            let asked = asked.unwrap_or_default();
            let all: Grants = given.iter().chain(asked.iter()).cloned().collect();
            if is_all {
                return validate(bundle, &all, &ceilings).map(|plugin| (plugin, all, Vec::new()));
            }
            match validate(bundle.clone(), &given, &ceilings) {
                Ok(plugin) => Ok((plugin, given, Vec::new())),
                // Only grants are missing: somebody may agree.
                Err(mistakes) if is_upgrade => match validate(bundle, &all, &ceilings) {
                    Ok(plugin) => {
                        // Nothing of it is granted before all of it is.
                        let missing = asked.iter().filter(|grant| !granted.covers(grant));
                        let missing = missing.cloned().collect();
                        Ok((plugin, given, missing))
                    }
                    Err(_) => Err(mistakes),
                },
                Err(mistakes) => Err(mistakes),
            }
        };
        let check = move || {
            let mut mistakes: Vec<_> = match Manifest::parse(&manifest) {
                Ok(manifest) => {
                    let missing = missing_filters(&manifest, |name| registry.is_filter(name));
                    let blocking = blocking_filters(&manifest, |name| registry.reads_bodies(name));
                    missing.into_iter().chain(blocking).collect()
                }
                Err(_) => Vec::new(),
            };
            match check() {
                Ok(checked) if mistakes.is_empty() => Ok(checked),
                Ok(_) => Err(mistakes),
                Err(more) => {
                    mistakes.extend(more);
                    mistakes.sort_by_key(|mistake| (mistake.location.is_none(), mistake.location));
                    Err(mistakes)
                }
            }
        };
        let checked = self.runtime.in_background(check).await;
        let (plugin, grants, missing) = checked.map_err(DeployError::Mistakes)?;
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
        if self
            .own_mounts
            .iter()
            .any(|own| is_within(&mount.path, own))
        {
            return Err(InvalidMount::Reserved(mount.path).into());
        }
        // It is decided when the deployment is recorded. Asking now spares the compiler, and above all the migrations.
        self.store
            .refuse_mount(&name, &mount, upload.is_nested_accepted)
            .await?;
        let began_from = row.as_ref().map(|row| row.revision);
        let is_moved = row.as_ref().is_some_and(|row| row.mount != mount);
        if is_upgrade && is_moved && upload.canary.is_some() {
            return Err(DeployError::CanaryMoves);
        }
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
        Ok(Checked {
            wanted,
            plugin,
            admitted,
            began_from,
            missing,
        })
    }

    async fn unpack(&self, upload: &Upload) -> Result<Bundle, DeployError> {
        let (bytes, config) = (upload.bytes.clone(), self.config.bundle.clone());
        if !Bundle::is_component(&bytes) {
            let read = self
                .runtime
                .in_background(move || Bundle::read(&bytes, &config));
            return Ok(read.await?);
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
}

fn name_of(bundle: &Bundle) -> Option<PluginName> {
    let manifest = Manifest::parse(&bundle.manifest).ok()?;
    Some(manifest.plugin.name)
}
