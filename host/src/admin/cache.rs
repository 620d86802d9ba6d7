//! Answers and values that are kept: how many, and throwing them away.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, may};
use crate::admin::{ApiError, Shared};
use crate::cache::{Figures, Purge, Tag};
use crate::ids::PluginName;
use crate::ledger::Event;
use crate::plugins::rollout::Slot;

/// What is kept.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CacheBody {
    /// Most bytes in memory, over all plugins.
    pub bytes_max: u64,
    /// By name.
    pub plugins: Vec<PluginCacheBody>,
}

/// What is kept of one plugin.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PluginCacheBody {
    pub plugin: String,
    /// Answers and values.
    pub entries: u64,
    pub bytes: u64,
    /// Entries that went because there was no more room.
    pub evictions: u64,
}

impl From<Figures> for PluginCacheBody {
    fn from(figures: Figures) -> Self {
        Self {
            plugin: figures.plugin.to_string(),
            entries: figures.entries,
            bytes: figures.bytes,
            evictions: figures.evictions,
        }
    }
}

/// What is to be thrown away: of one plugin everything, or what has this tag, or the answers of this route or path.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    pub plugin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The pattern of a route as the manifest has it, below the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// A path as clients ask for it, the mount included, without a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurgedBody {
    /// Entries that were thrown away.
    pub entries: u64,
}

/// Show what is kept
#[utoipa::path(get, path = "/cache", tag = "cache", responses((status = 200, body = CacheBody)))]
pub(super) async fn show_cache(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
) -> axum::Json<CacheBody> {
    let figures = shared.cache.figures().into_iter();
    axum::Json(CacheBody {
        bytes_max: shared.cache.config().bytes_max as u64,
        plugins: figures.map(PluginCacheBody::from).collect(),
    })
}

/// Why nothing is ever kept of a route, if so: a mistake is not an empty cache.
fn not_kept(slot: &Slot, pattern: &str) -> Option<String> {
    let routes = || slot.versions().flat_map(|version| version.routes.iter());
    let named = || routes().filter(|route| *route.pattern == *pattern);
    if named().any(|route| route.cache.is_some()) {
        return None;
    }
    let what = match named().next() {
        None => "has no route",
        Some(_) => "keeps no answers of",
    };
    let kept = routes().filter(|route| route.cache.is_some());
    let kept: BTreeSet<&str> = kept
        .map(|route| &*route.pattern)
        .take(ROUTES_TOLD_MAX)
        .collect();
    let kept: Vec<&str> = kept.into_iter().collect();
    let name = slot.stable.name();
    let rest = match &kept[..] {
        [] => "it keeps none at all".to_owned(),
        kept => format!("those that are kept are of `{}`", kept.join("`, `")),
    };
    let pattern: String = pattern.chars().take(256).collect();
    Some(format!("`{name}` {what} `{pattern}`; {rest}"))
}

/// Most routes that a sentence names.
const ROUTES_TOLD_MAX: usize = 20;

/// Throw away what is kept
///
/// What is being made at this moment is not kept either.
#[utoipa::path(post, path = "/cache/purge", tag = "cache", request_body = PurgeRequest, responses((status = 200, body = PurgedBody)))]
pub(super) async fn purge(
    State(shared): State<Shared>,
    _: Caller<may::Deploy>,
    Json(request): Json<PurgeRequest>,
) -> Result<axum::Json<PurgedBody>, ApiError> {
    let invalid = |detail: String| {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "cache.purge_invalid",
            detail,
        )
    };
    let plugin = request.plugin.parse::<PluginName>();
    let plugin = plugin.map_err(|error| invalid(error.to_string()))?;
    shared.plugins.get(&plugin).await?;
    let purge = match (request.tag, request.route, request.path) {
        (None, None, None) => Purge::Everything,
        (Some(tag), None, None) => {
            let tag = tag.parse::<Tag>();
            Purge::Tag(tag.map_err(|error| invalid(error.to_string()))?)
        }
        (None, Some(route), None) => {
            let live = shared.registry.live();
            if let Some(slot) = live.slot(&plugin)
                && let Some(detail) = not_kept(slot, &route)
            {
                return Err(invalid(detail));
            }
            Purge::Route(route.into())
        }
        (None, None, Some(path)) => Purge::Path(path.into()),
        _ => {
            return Err(invalid(
                "give one of `tag`, `route` and `path`, or none".to_owned(),
            ));
        }
    };
    let entries = shared
        .cache
        .purge(&shared.cache.part(&plugin), &purge)
        .await;
    let event = Event::new("cache.purged", &plugin)
        .with("what", purge.to_string())
        .with("entries", entries);
    shared.audit.note(event);
    Ok(axum::Json(PurgedBody { entries }))
}
