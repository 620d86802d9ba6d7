//! The servers that are compared, each in a process of its own: `native`, `gateway` and `gantry`.

use std::{io::Write as _, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    response::IntoResponse,
    routing::{get, post},
    serve::ListenerExt,
};
use bytes::Bytes;
use gantry::{
    app::{App, NativeRoutes},
    config::Config,
    gateway::access_log::Target,
    limits::{Caller, Check, Limiter, Policy, PolicyConfig},
    plugins::{GrantMode, Upload, bundle},
};
use prometheus::{Histogram, HistogramOpts, IntCounter};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::limits;

/// Runs one of the servers until it is killed. Prints its address first.
pub(crate) fn serve(server: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match server {
            "native" => native().await,
            "gateway" => gateway().await,
            "gantry" => gantry().await,
            "limited" => limited(None).await,
            other if other.starts_with("limited=") => limited(other.strip_prefix("limited=")).await,
            other => anyhow::bail!("there is no server `{other}`"),
        }
    })
}

fn announce(address: std::net::SocketAddr) -> anyhow::Result<()> {
    println!("{address}");
    Ok(std::io::stdout().flush()?)
}

#[derive(Deserialize)]
struct Greet {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    message: String,
    len: usize,
}

async fn greet(Json(greet): Json<Greet>) -> Json<Greeting> {
    let message = format!("Hello, {}!", greet.name);
    Json(Greeting {
        len: message.len(),
        message,
    })
}

#[derive(Deserialize)]
struct Calls {
    count: u64,
}

/// What the plugin answers that is kept.
async fn calls(Query(calls): Query<Calls>) -> Json<u64> {
    Json(calls.count)
}

/// The handler in bare axum: no limit, no metrics, no log.
async fn native() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new()
        .route("/bench/greet", post(greet))
        .route("/cached/calls", get(calls))
        .route("/bench/echo", post(async |body: Bytes| body));
    axum::serve(listener, router).await?;
    Ok(())
}

/// What stands between the listener and a plugin, for a handler that is no plugin.
#[derive(Clone)]
struct Layers {
    limiter: Arc<Limiter>,
    policy: Arc<Policy>,
    requests: IntCounter,
    duration: Histogram,
    clock: gantry::clock::Clock,
}

/// The same handler in the host, behind the gateway's layers, with one limit, metrics and the access log.
async fn gateway() -> anyhow::Result<()> {
    let policy = PolicyConfig {
        name: "bench".to_owned(),
        limit: 1_000_000_000,
        window_ms: 60_000,
        burst: None,
        key: gantry::limits::KeyKind::Ip,
        algorithm: gantry::limits::Algorithm::TokenBucket,
        shadow: false,
        fail: None,
    };
    let metrics = prometheus::Registry::new();
    let layers = Layers {
        limiter: Limiter::new(&gantry::limits::Config::default(), None, &metrics)?,
        policy: Arc::new(Policy::new("bench", "bench", &policy)?),
        requests: IntCounter::new("requests", "requests")?,
        duration: Histogram::with_opts(HistogramOpts::new("duration", "duration"))?,
        clock: gantry::clock::Clock::system(),
    };
    let limited = |State(layers): State<Layers>, greeting: Json<Greet>| async move {
        let began = std::time::Instant::now();
        let caller = Caller {
            address: Some([127, 0, 0, 1].into()),
            user: None,
            api_key: None,
        };
        let policy = &*layers.policy;
        let checks = [Check {
            policy,
            key: policy.key_of(&caller, layers.limiter.naming()),
            cost: 1,
        }];
        let now_ns = layers.clock.monotonic_ns();
        let Ok(admission) = layers.limiter.check(&checks, now_ns).await else {
            return http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let decision = admission.decision;
        let headers = [
            ("ratelimit-policy", decision.policy_header()),
            ("ratelimit", decision.limit_header()),
        ];
        let answer = (headers, greet(greeting).await).into_response();
        layers.requests.inc();
        layers.duration.observe(began.elapsed().as_secs_f64());
        answer
    };
    let router = Router::new()
        .route("/bench/greet", post(limited))
        .with_state(layers);
    let native = NativeRoutes {
        router,
        prefixes: vec!["/bench".to_owned()],
    };
    let dir = tempfile::tempdir()?;
    let app = App::start_with(config(&dir), native).await?;
    announce(app.address)?;
    std::future::pending().await
}

/// The same handler as a plugin, and as a component of `wasi:http`.
async fn gantry() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let app = start(&dir).await?;
    deploy(&app, cached(), component("examples/bench")?).await?;
    announce(app.address)?;
    std::future::pending().await
}

/// The plugin behind an access token, a permission and two limits, counted on a server if there is its address.
async fn limited(redis_url: Option<&str>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let app = limits::start(&dir, redis_url).await?;
    announce(app.address)?;
    std::future::pending().await
}

pub(crate) fn config(dir: &TempDir) -> Config {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: dir.path().join("data"),
        access_log: Target::File(dir.path().join("access.log")),
        ..Config::default()
    };
    config.runtime.compile.program = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join("gantry")));
    config.auth.hash_program = config.runtime.compile.program.clone();
    config
}

/// A host with the plugin of the benchmarks on `/bench` and the examples of `wasi:http` on `/wasi` and `/wasi03`.
pub(crate) async fn start(dir: &TempDir) -> anyhow::Result<App> {
    start_with(dir, |_| ()).await
}

pub(crate) async fn start_with(
    dir: &TempDir,
    change: impl FnOnce(&mut Config),
) -> anyhow::Result<App> {
    let mut config = config(dir);
    change(&mut config);
    let app = App::start(config).await?;
    deploy(
        &app,
        manifest("bench", "1.0.0"),
        component("examples/bench")?,
    )
    .await?;
    for (file, name) in [("wasi_http", "wasi"), ("wasi_http_03", "wasi03")] {
        let upload = Upload {
            bytes: component(file)?,
            name: Some(name.parse()?),
            mount: None,
            is_nested_accepted: false,
            canary: None,
            grant: GrantMode::AllAsked,
            config: None,
            source: None,
            allows_downgrade: false,
            allows_breaking: true,
            by: "bench".to_owned(),
            note: None,
        };
        app.plugins.deploy(upload).await?;
    }
    Ok(app)
}

/// The plugin's manifest: one limit, which is never reached.
pub(crate) fn manifest(name: &str, version: &str) -> String {
    format!(
        r#"
schema = 1
[plugin]
name = "{name}"
version = "{version}"
[component]
path = "plugin.wasm"
[[route]]
method = "POST"
path = "/greet"
auth = "public"
limits = [{{ name = "bench", limit = 1000000000, window = "1m", key = "ip" }}]
[[route]]
method = "POST"
path = "/echo"
auth = "public"
[[route]]
method = "GET"
path = "/calls"
auth = "public"
"#
    )
}

/// The manifest of the same plugin with one limit and one route, whose answers are kept.
fn cached() -> String {
    r#"
schema = 1
[plugin]
name = "cached"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/calls"
auth = "public"
limits = [{ name = "bench", limit = 1000000000, window = "1m", key = "ip" }]
cache = { ttl = "1h" }
"#
    .to_owned()
}

/// The manifest of a filter that sets one header.
pub(crate) fn filter() -> String {
    "schema = 1\n[plugin]\nname = \"mark\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
     [config.properties.mark]\ntype = \"string\"\ndefault = \"bench\"\n"
        .to_owned()
}

/// Deploys a component as an operator would.
pub(crate) async fn deploy(
    app: &App,
    manifest: String,
    component: Bytes,
) -> anyhow::Result<gantry::plugins::Deployed> {
    upload(app, pack(&manifest, &component)?).await
}

/// A bundle of nothing but a manifest and a component.
pub(crate) fn pack(manifest: &str, component: &[u8]) -> anyhow::Result<Bytes> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("plugin.toml"), manifest)?;
    std::fs::write(dir.path().join("plugin.wasm"), component)?;
    Ok(bundle::pack(dir.path(), &bundle::Config::default())?)
}

/// Deploys a bundle as an operator would.
pub(crate) async fn upload(app: &App, bytes: Bytes) -> anyhow::Result<gantry::plugins::Deployed> {
    let upload = Upload {
        bytes,
        name: None,
        mount: None,
        is_nested_accepted: false,
        canary: None,
        grant: GrantMode::AllAsked,
        config: None,
        source: None,
        allows_downgrade: false,
        allows_breaking: true,
        by: "bench".to_owned(),
        note: None,
    };
    Ok(app.plugins.deploy(upload).await?)
}

/// A guest that `cargo xtask guests` has built.
pub(crate) fn component(name: &str) -> anyhow::Result<Bytes> {
    Ok(std::fs::read(component_path(name)?)?.into())
}

/// Where a guest is that `cargo xtask guests` has built.
pub(crate) fn component_path(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .unwrap_or(std::path::Path::new("target"));
    let path = target
        .join("wasm32-wasip2/guest")
        .join(format!("{name}.wasm"));
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; run `cargo xtask guests`",
        path.display()
    );
    Ok(path)
}

/// The same code with a section of its own at the end that only says a number.
pub(crate) fn own_component(component: &[u8], number: usize) -> anyhow::Result<Bytes> {
    let text = format!("{number:08}");
    let name = "number";
    let mut bytes = component.to_vec();
    // A custom section: its id, its length, and a name with its length. All are below 128 and so one byte each.
    bytes.push(0);
    bytes.push(u8::try_from(1 + name.len() + text.len())?);
    bytes.push(u8::try_from(name.len())?);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes.into())
}
