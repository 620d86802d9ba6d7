//! How a plugin lies in a registry. A component alone lies there as the CNCF's layout for Wasm artifacts says, so that other
//! tools can fetch it and we can fetch theirs; a bundle is an artifact of a type of its own with one layer, the file.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Pulled;
use super::reference::Reference;
use super::registry::Registry;
use crate::ids::{Digest, PluginName};
use crate::plugins::bundle::Bundle;

/// What is pushed.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Kind {
    Bundle {
        name: PluginName,
        version: semver::Version,
    },
    /// What it imports and exports, so that a registry can show it without reading it.
    Component {
        imports: Vec<String>,
        exports: Vec<String>,
    },
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BUNDLE_ARTIFACT: &str = "application/vnd.gantry.bundle.v1";
const BUNDLE_LAYER: &str = "application/vnd.gantry.bundle.v1+zip";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYER: &str = "application/wasm";
/// What older tools call a layer with a component.
const WASM_LAYERS_OF_OLD: &[&str] = &[
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
const CREATED: &str = "org.opencontainers.image.created";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    annotations: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    /// `sha256:` and the digest.
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    annotations: Value,
}

/// Puts a plugin under a tag. Returns where it is, by its digest.
pub(super) async fn push(
    registry: &mut Registry,
    to: &Reference,
    kind: &Kind,
    bytes: Bytes,
) -> anyhow::Result<Reference> {
    if to.digest.is_some() {
        bail!(
            "the digest of what is pushed is not yours to choose; name a tag: oci://HOST/REPOSITORY:TAG"
        );
    }
    let layer_digest = Digest::of(&bytes);
    let (config_type, config) = match kind {
        Kind::Bundle { .. } => (EMPTY_CONFIG, Bytes::from_static(b"{}")),
        Kind::Component { imports, exports } => {
            let config = wasm_config(layer_digest, imports, exports);
            (WASM_CONFIG, Bytes::from(config.to_string()))
        }
    };
    let title = match kind {
        Kind::Bundle { name, version } => format!("{name}-{version}.gantry"),
        Kind::Component { .. } => "plugin.wasm".to_owned(),
    };
    let layer_type = match kind {
        Kind::Bundle { .. } => BUNDLE_LAYER,
        Kind::Component { .. } => WASM_LAYER,
    };
    let mut layer = describe(layer_type, &bytes);
    layer.annotations = json!({ TITLE: title });
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        artifact_type: match kind {
            Kind::Bundle { .. } => Some(BUNDLE_ARTIFACT.to_owned()),
            Kind::Component { .. } => None,
        },
        config: describe(config_type, &config),
        layers: vec![layer],
        annotations: match kind {
            Kind::Bundle { name, version } => {
                json!({ TITLE: name.as_str(), VERSION: version.to_string() })
            }
            Kind::Component { .. } => json!({ CREATED: now() }),
        },
    };
    let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
    let digest = Digest::of(&manifest);
    registry.put_blob(config).await?;
    registry.put_blob(bytes).await?;
    // Last: whoever sees the manifest finds everything that it names.
    registry
        .put_manifest(&to.version(), MANIFEST, manifest)
        .await?;
    Ok(to.pinned(digest))
}

/// Fetches a plugin, whoever put it there.
pub(super) async fn pull(registry: &mut Registry, from: &Reference) -> anyhow::Result<Pulled> {
    let (bytes, digest) = registry.manifest(from).await?;
    let value: Value = serde_json::from_slice(&bytes).context("the manifest is not JSON")?;
    if value["manifests"].is_array() {
        bail!("{from} is an index of several artifacts; name one of them by its digest");
    }
    let manifest: Manifest =
        serde_json::from_value(value).context("the manifest is not that of an artifact")?;
    let is_plugin = |layer: &&Descriptor| {
        let kind = layer.media_type.as_str();
        kind == BUNDLE_LAYER || is_wasm(kind)
    };
    let mut layers = manifest.layers.iter().filter(is_plugin);
    let layer = match (layers.next(), layers.next()) {
        (Some(layer), None) => layer,
        (None, _) => {
            bail!("{from} holds no plugin: none of its layers is {BUNDLE_LAYER} or {WASM_LAYER}")
        }
        (Some(_), Some(_)) => bail!("{from} holds several components; a plugin is one"),
    };
    let wanted = layer
        .digest
        .strip_prefix("sha256:")
        .and_then(|hex| hex.parse().ok())
        .context("the manifest names a layer by something else than SHA-256")?;
    let blob = registry.blob(wanted, layer.size).await?;
    if blob.len() as u64 != layer.size {
        bail!("the layer of {from} has another size than the manifest says");
    }
    if is_wasm(&layer.media_type) && !Bundle::is_component(&blob) {
        bail!("the layer of {from} is said to be WebAssembly and is not");
    }
    Ok(Pulled {
        bytes: blob,
        pinned: from.pinned(digest),
        title: layer.annotations[TITLE].as_str().map(str::to_owned),
    })
}

fn is_wasm(media_type: &str) -> bool {
    media_type == WASM_LAYER || WASM_LAYERS_OF_OLD.contains(&media_type)
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", Digest::of(bytes)),
        size: bytes.len() as u64,
        annotations: Value::Null,
    }
}

/// What the CNCF's layout wants to know of a component.
fn wasm_config(layer: Digest, imports: &[String], exports: &[String]) -> Value {
    json!({
        "created": now(),
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [format!("sha256:{layer}")],
        "component": { "imports": imports, "exports": exports, "target": null },
    })
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
