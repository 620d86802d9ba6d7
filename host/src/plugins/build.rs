//! From a row to what the runtime and the gateway need: manifest and grants, checked already when they were stored, become
//! limits, capabilities and routes.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::ids::Label;
use crate::plugins::access::Demands;
use crate::plugins::breaker::Breaker;
use crate::plugins::cached::Cached;
use crate::plugins::checks::Checks;
use crate::plugins::cors::CorsPolicy;
use crate::plugins::describe::mock_of;
use crate::plugins::limits::RouteLimits;
use crate::plugins::manifest::{self, ExportKind, HostPattern, Manifest, SecretUse};
use crate::plugins::metrics::Metrics;
use crate::plugins::routes::{Filed, MockRoute, Route, RouteTable};
use crate::plugins::store::LiveRow;
use crate::plugins::versions::{Versioned, Versioning};
use crate::plugins::{Config, LoadFailure, Mistake};
use crate::runtime::{ExtismConvention, ExtismTarget, Granted, InjectedSecret, Limits, PluginSpec};
use crate::services::config;
use crate::services::outbound::{EgressPolicy, EgressRule};
use crate::services::secrets::host::Granted as GrantedSecret;

/// The manifest of a row. It was valid when it was stored.
pub(super) fn manifest(row: &LiveRow) -> Result<Manifest, LoadFailure> {
    Manifest::parse(&row.manifest).map_err(LoadFailure::Manifest)
}

/// What the runtime is told. `values` are the settings, without the author's defaults.
pub(super) fn spec(
    row: &LiveRow,
    manifest: &Manifest,
    values: &Map<String, Value>,
    config: &Config,
) -> Result<PluginSpec, LoadFailure> {
    for (is_asked, is_refused, mistake) in [
        (
            !manifest.capabilities.sql.is_empty(),
            config.is_for_several_hosts,
            "`capabilities.sql`: each host would have a database of its own, and several hosts use these rows (`db.shared`); \
             keep the data in `kv`, or run the plugin on a host with rows of its own",
        ),
        (
            !manifest.capabilities.blobs.is_empty(),
            config.is_for_several_hosts && config.files_are_in_a_folder,
            "`capabilities.blobs`: each host would have files of its own, and several hosts use these rows (`db.shared`); \
             keep files on a server that all of them reach (`blobs.store = \"s3\"`)",
        ),
    ] {
        if is_asked && is_refused {
            return Err(LoadFailure::Manifest(vec![Mistake::new(mistake)]));
        }
    }
    Ok(PluginSpec {
        name: row.plugin.clone(),
        deployment: row.deployment,
        version: manifest.plugin.version.clone(),
        digest: row.component,
        entry: row.entry,
        granted: granted(row, manifest),
        config: config::resolve(schema(manifest), values).map_err(LoadFailure::Config)?,
        limits: limits(manifest, config),
    })
}

/// The settings of a row that was recorded earlier, as far as this manifest knows them.
pub(super) fn known_values(row: &LiveRow, manifest: &Manifest) -> Map<String, Value> {
    config::without_unknown(schema(manifest), &row.config)
}

fn schema(manifest: &Manifest) -> Option<&Value> {
    manifest.config.as_ref().map(|schema| schema.as_json())
}

fn granted(row: &LiveRow, manifest: &Manifest) -> Granted {
    let asked = &manifest.capabilities;
    let grants = &row.grants;
    let mut granted = Granted {
        kv: asked
            .kv
            .iter()
            .filter(|label| grants.has_kv(label))
            .cloned()
            .collect(),
        cache: asked
            .cache
            .iter()
            .filter(|label| grants.has_cache(label))
            .cloned()
            .collect(),
        blobs: asked
            .blobs
            .iter()
            .filter(|label| grants.has_blobs(label))
            .cloned()
            .collect(),
        sql: asked
            .sql
            .iter()
            .map(|sql| &sql.label)
            .filter(|label| grants.has_sql(label))
            .cloned()
            .collect(),
        ..Granted::default()
    };
    for secret in asked
        .secrets
        .iter()
        .filter(|secret| grants.has_secret(secret))
    {
        let label = secret.label.clone();
        granted.secrets.push(GrantedSecret {
            label: label.clone(),
            is_revealed: matches!(secret.usage, SecretUse::Reveal),
        });
        if let SecretUse::Inject(injection) = &secret.usage {
            granted.injected.push(InjectedSecret {
                label,
                host: injection.host.to_string(),
                header: injection.header.clone(),
                prefix: injection.prefix.clone(),
            });
        }
    }
    let hosts = asked.http.iter().filter(|http| grants.has_http(&http.host));
    granted.outbound =
        EgressPolicy::new(hosts.map(|http| rule(&http.host, &http.methods)).collect());
    granted
}

fn rule(host: &HostPattern, methods: &[http::Method]) -> EgressRule {
    EgressRule {
        host: host.to_string(),
        methods: methods.to_vec(),
    }
}

fn limits(manifest: &Manifest, config: &Config) -> Limits {
    let (asked, default) = (&manifest.limits, &config.defaults);
    let bytes = |asked: Option<u64>, default: u64| {
        usize::try_from(asked.unwrap_or(default)).unwrap_or(usize::MAX)
    };
    Limits {
        memory_bytes_max: bytes(asked.memory_bytes_max, default.memory_bytes_max),
        cpu: asked
            .cpu_max
            .unwrap_or(Duration::from_millis(default.cpu_ms)),
        wall: asked
            .wall_max
            .unwrap_or(Duration::from_millis(default.wall_ms)),
        concurrency_max: asked.concurrency_max.unwrap_or(default.concurrency_max),
        queue_max: default.queue_max,
        log_bytes_max: bytes(asked.log_bytes_max, default.log_bytes_max),
    }
}

/// Which export of an Extism module answers on this route.
fn target(manifest: &Manifest, route: &manifest::Route) -> Option<Arc<ExtismTarget>> {
    let export = route.export.as_ref().or(manifest.extism.as_ref())?;
    let convention = match &export.kind {
        ExportKind::Handler => ExtismConvention::Handler,
        ExportKind::Transform { output_type } => ExtismConvention::Transform {
            output_type: output_type.clone(),
        },
    };
    Some(Arc::new(ExtismTarget {
        export: export.name.clone(),
        convention,
    }))
}

/// The routes, ready to be looked up.
pub(super) fn routes(
    row: &LiveRow,
    manifest: &Manifest,
    config: &Config,
    metrics: &Metrics,
) -> Result<RouteTable, LoadFailure> {
    let mut routes = Vec::new();
    let files: Vec<_> = manifest.files.iter().cloned().map(Arc::new).collect();
    for (index, route) in manifest.routes.iter().enumerate() {
        let limits = RouteLimits::new(&row.plugin, route, &config.limits);
        let body_bytes_max = route
            .body_bytes_max
            .unwrap_or(config.defaults.body_bytes_max);
        let checks = Checks::new(&route.contract, &manifest.schemas).map_err(LoadFailure::Route)?;
        let mut built = Route::new(
            &route.path,
            route.methods.clone(),
            route.auth,
            route.permissions.clone(),
            limits.map_err(LoadFailure::Route)?,
            target(manifest, route),
            route.timeout,
            route.stream,
            usize::try_from(body_bytes_max).unwrap_or(usize::MAX),
            metrics.of_route(&row.plugin, &route.path),
            Breaker::new(config.breaker.clone()),
        );
        built.cache = route.cache.as_ref().map(|rule| {
            let metrics = metrics.of_cache(&row.plugin, &route.path);
            Arc::new(Cached::new(row, route, rule, metrics))
        });
        built.idempotency = route.idempotency;
        built.checks = checks;
        if let Some(route) = route.files {
            let of = files.get(route.entry).map(Arc::clone);
            let files = of.ok_or_else(|| LoadFailure::Route("a route of no files".to_owned()))?;
            // What it says of itself is for documents; the host knows what it takes and gives.
            built.checks = None;
            built.files = Some(Filed {
                is_granted: row.grants.has_blobs(&files.bucket),
                files,
                action: route.action,
            });
        }
        let policy = &route.policy;
        built.demands = Demands::new(&policy.roles, &policy.scopes, policy.condition.as_deref())
            .map_err(LoadFailure::Route)?;
        let cors = route.cors.as_ref().or(manifest.cors.as_ref());
        let cors = CorsPolicy::of(&row.plugin, cors, &config.cors).map_err(LoadFailure::Route)?;
        let cors = match built.files {
            Some(_) => cors.map(CorsPolicy::with_files),
            None => cors,
        };
        built.cors = cors.map(Box::new);
        built.may_compress = route.may_compress.unwrap_or(manifest.may_compress);
        let (plugin, callers) = (&row.plugin, metrics.callers());
        let versioned = Versioned::of(plugin, manifest, route, &config.versions, callers);
        let built = built.in_version(route.version.clone(), versioned);
        let is_always = route.docs.is_mock;
        // Where it must answer it can: that was checked before it was recorded.
        let mock = (is_always || config.mocks_by_header)
            .then(|| mock_of(manifest, index).ok())
            .flatten();
        let mock = mock.map(|answer| MockRoute { answer, is_always });
        routes.push(built.mocked(mock));
    }
    let table = RouteTable::new(routes).map_err(LoadFailure::Route)?;
    let links = links(row, manifest, config).map_err(LoadFailure::Route)?;
    Ok(table
        .with_versioning(Versioning::of(manifest))
        .with_links(links))
}

/// Pages of which other origins may use signed links: of a bucket of `[[files]]`, those that may call its routes.
fn links(
    row: &LiveRow,
    manifest: &Manifest,
    config: &Config,
) -> Result<Vec<(Label, CorsPolicy)>, String> {
    let mut links = Vec::new();
    for label in &manifest.capabilities.blobs {
        let entry = manifest.files.iter().position(|of| of.bucket == *label);
        let mut routes = manifest.routes.iter();
        let route = routes.find(|route| {
            let of = route.files.map(|of| of.entry);
            of.is_some() && of == entry
        });
        let cors = route.and_then(|route| route.cors.as_ref());
        let cors = cors.or(manifest.cors.as_ref());
        if let Some(policy) = CorsPolicy::of(&row.plugin, cors, &config.cors)? {
            links.push((label.clone(), policy.with_files()));
        }
    }
    Ok(links)
}
