//! Every interface a plugin may import, in one list. Once per engine.
//!
//! Each service is handed a function that lends it its part of an instance's data, so that no service sees more. What is
//! lent is given back when the call of the service is over, and so that is timed here for all of them.

use wasmtime::{Engine, component::Linker};

use crate::bindings::gantry::{blobs, cache, context, http, kv, secrets, sql, tokens};
use crate::bindings::wasi;
use crate::runtime::context as call;
use crate::runtime::state::PluginState;
use crate::runtime::wasi_http::head;
use crate::runtime::{CallContext, Config, EngineKind, PluginSpec, Services};
use crate::services::blobs::host as blobs_host;
use crate::services::cache::host as cache_host;
use crate::services::kv::host as kv_host;
use crate::services::secrets::host as secrets_host;
use crate::services::sql::host as sql_host;
use crate::services::tokens::host as tokens_host;
use crate::services::{Refusals, Service};

pub(super) fn link(
    kind: EngineKind,
    engine: &Engine,
    config: &Config,
) -> wasmtime::Result<Linker<PluginState>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    context::invocation::add_to_linker::<_, call::HasView>(l, lend_call)?;
    context::identity::add_to_linker::<_, call::HasView>(l, lend_call)?;
    http::request_headers::add_to_linker::<_, call::HasView>(l, lend_call)?;
    kv::store::add_to_linker::<_, kv_host::HasView>(l, lend_kv)?;
    wasi::keyvalue::store::add_to_linker::<_, kv_host::HasView>(l, lend_keyvalue)?;
    wasi::keyvalue::atomics::add_to_linker::<_, kv_host::HasView>(l, lend_keyvalue)?;
    wasi::keyvalue::batch::add_to_linker::<_, kv_host::HasView>(l, lend_keyvalue)?;
    cache::store::add_to_linker::<_, cache_host::HasView>(l, lend_cache)?;
    cache::purge::add_to_linker::<_, cache_host::HasView>(l, lend_cache)?;
    blobs::store::add_to_linker::<_, blobs_host::HasView>(l, lend_blobs)?;
    sql::client::add_to_linker::<_, sql_host::HasView>(l, lend_sql)?;
    secrets::store::add_to_linker::<_, secrets_host::HasView>(l, lend_secrets)?;
    secrets::reveal::add_to_linker::<_, secrets_host::HasView>(l, lend_secrets)?;
    tokens::tokens::add_to_linker::<_, tokens_host::HasView>(l, lend_tokens)?;
    wasi::config::store::add_to_linker::<_, call::HasView>(l, lend_config)?;
    wasi::logging::logging::add_to_linker::<_, call::HasView>(l, lend_log)?;
    // Clocks, random numbers and streams. Files and sockets are linked because standard libraries import them, and
    // there is nothing behind them.
    wasmtime_wasi::p2::add_to_linker_async(l)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    if kind == EngineKind::Concurrent {
        // The standard library of such a guest still imports 0.2.
        wasmtime_wasi::p3::add_to_linker(l)?;
        wasmtime_wasi_http::p3::add_to_linker(l)?;
    }
    head::bound(kind, l, config.header_bytes_max)?;
    Ok(linker)
}

/// Where it is told what the guest may not have.
fn refusals<'a>(
    services: &'a Services,
    plugin: &'a PluginSpec,
    call: &CallContext,
) -> Refusals<'a> {
    Refusals {
        ledger: services.logs.ledger(),
        plugin: &plugin.name,
        request_id: call.request_id,
    }
}

/// What the host knows of the call costs less to tell than to time.
fn lend_call(state: &mut PluginState) -> call::View<'_> {
    call::View {
        plugin: &state.plugin,
        call: &state.call,
        log: &state.log,
        table: &mut state.table,
        timed: None,
    }
}

fn lend_config(state: &mut PluginState) -> call::View<'_> {
    lend_call_timed(state, Service::Config)
}

fn lend_log(state: &mut PluginState) -> call::View<'_> {
    lend_call_timed(state, Service::Log)
}

fn lend_call_timed(state: &mut PluginState, service: Service) -> call::View<'_> {
    call::View {
        plugin: &state.plugin,
        call: &state.call,
        log: &state.log,
        table: &mut state.table,
        timed: Some(state.allowance.time(service)),
    }
}

fn lend_kv(state: &mut PluginState) -> kv_host::View<'_> {
    lend_kv_as(state, Service::Kv)
}

fn lend_keyvalue(state: &mut PluginState) -> kv_host::View<'_> {
    lend_kv_as(state, Service::Keyvalue)
}

fn lend_kv_as(state: &mut PluginState, service: Service) -> kv_host::View<'_> {
    kv_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        kv: state.services.kv.charged_to(&state.allowance),
        plugin: &state.plugin.name,
        granted: &state.plugin.granted.kv,
        refusals: refusals(&state.services, &state.plugin, &state.call),
        allowance: &state.allowance,
        table: &mut state.table,
        timed: state.allowance.time(service),
    }
}

fn lend_cache(state: &mut PluginState) -> cache_host::View<'_> {
    cache_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        values: &state.services.values,
        plugin: &state.plugin.name,
        granted: &state.plugin.granted.cache,
        refusals: refusals(&state.services, &state.plugin, &state.call),
        allowance: &state.allowance,
        table: &mut state.table,
        timed: state.allowance.time(Service::Cache),
    }
}

fn lend_blobs(state: &mut PluginState) -> blobs_host::View<'_> {
    blobs_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        blobs: state.services.blobs.charged_to(&state.allowance),
        plugin: &state.plugin.name,
        granted: &state.plugin.granted.blobs,
        refusals: refusals(&state.services, &state.plugin, &state.call),
        allowance: &state.allowance,
        table: &mut state.table,
        timed: state.allowance.time(Service::Blobs),
    }
}

fn lend_sql(state: &mut PluginState) -> sql_host::View<'_> {
    sql_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        sql: &state.services.sql,
        plugin: &state.plugin.name,
        granted: &state.plugin.granted.sql,
        refusals: refusals(&state.services, &state.plugin, &state.call),
        allowance: &state.allowance,
        table: &mut state.table,
        timed: state.allowance.time(Service::Sql),
    }
}

fn lend_secrets(state: &mut PluginState) -> secrets_host::View<'_> {
    secrets_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        secrets: &state.services.secrets,
        plugin: &state.plugin.name,
        granted: &state.plugin.granted.secrets,
        refusals: refusals(&state.services, &state.plugin, &state.call),
        table: &mut state.table,
        timed: state.allowance.time(Service::Secrets),
    }
}

fn lend_tokens(state: &mut PluginState) -> tokens_host::View<'_> {
    tokens_host::View {
        rehearsal: state.services.rehearsal.as_deref(),
        tokens: &state.services.guest_tokens,
        plugin: &state.plugin.name,
        timed: state.allowance.time(Service::Tokens),
    }
}
