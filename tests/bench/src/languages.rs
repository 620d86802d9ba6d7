//! What a plugin costs by the language it is written in: the plugin that `gantry plugin new` makes, the same in all.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use gantry::{
    app::App,
    ids::RequestId,
    plugins::{bundle, manifest::Manifest, registry::LivePlugin},
    runtime::{CallContext, HttpCall, Invocation, Trigger},
};
use http::{HeaderMap, Method};

use crate::{median, servers};

/// Each plugin as `LANGUAGE=FOLDER=SECONDS`: where it is, built already, and how long the build took.
pub(crate) fn measure(plugins: &[String]) -> anyhow::Result<()> {
    println!(
        "\n| language | component | bundle | machine code | build | compiling | a call |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    );
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for plugin in plugins {
        let [language, folder, build_s] = plugin.splitn(3, '=').collect::<Vec<_>>()[..] else {
            anyhow::bail!("`{plugin}` is not LANGUAGE=FOLDER=SECONDS");
        };
        let folder = Path::new(folder);
        let manifest = std::fs::read_to_string(folder.join("plugin.toml"))?;
        let manifest = Manifest::parse(&manifest).map_err(|_| anyhow::anyhow!("a mistake"))?;
        let component = std::fs::read(folder.join(&manifest.component.path))?;
        let bundle = bundle::pack(folder, &bundle::Config::default())?;
        let (compile, code) = compile(&component)?;
        let call = threads.block_on(call_time(&manifest, bundle.clone()))?;
        println!(
            "| {} | {} | {} | {} | {build_s} s | {:.2} s | {:.3} ms |",
            name(language),
            size(component.len()),
            size(bundle.len()),
            size(code),
            compile.as_secs_f64(),
            call * 1e3,
        );
    }
    Ok(())
}

/// As the guide calls it.
fn name(language: &str) -> &str {
    match language {
        "c" => "C",
        "js" => "JavaScript",
        "python" => "Python",
        "rust" => "Rust",
        other => other,
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// How long the child that compiles takes, and how much machine code it makes. The best of three.
fn compile(component: &[u8]) -> anyhow::Result<(Duration, usize)> {
    let program = std::env::current_exe()?.with_file_name("gantry");
    let mut best = (Duration::MAX, 0);
    for _ in 0..3 {
        let began = Instant::now();
        let mut child = Command::new(&program)
            .args([
                "compile",
                "--cpu-s",
                "60",
                "--memory-bytes-max",
                "4294967296",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut code = Vec::new();
        if let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) {
            stdin.write_all(component)?;
            drop(stdin);
            stdout.read_to_end(&mut code)?;
        }
        ensure!(child.wait()?.success(), "the component does not compile");
        best = best.min((began.elapsed(), code.len()));
    }
    Ok(best)
}

/// Seconds for one call with an instance of its own, in process; the median of ten batches.
async fn call_time(manifest: &Manifest, bundle: Bytes) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let app = App::start(servers::config(&dir)).await?;
    servers::upload(&app, bundle).await?;
    let live = app.registry.live();
    let plugin = live
        .get(&manifest.plugin.name)
        .context("the plugin is not live")?;
    let mut seconds = Vec::new();
    for _ in 0..11 {
        let began = Instant::now();
        for _ in 0..CALLS {
            call(&app, plugin).await?;
        }
        seconds.push(began.elapsed().as_secs_f64() / f64::from(CALLS));
    }
    app.stop().await;
    // The first batch warms up.
    Ok(median(seconds.split_off(1)))
}

const CALLS: u32 = 200;

async fn call(app: &App, plugin: &LivePlugin) -> anyhow::Result<()> {
    let invocation = Invocation {
        account: Arc::default(),
        context: CallContext {
            trigger: "http",
            request_id: RequestId::new(),
            route: Some("/hello/{name}".into()),
            path_params: vec![("name".into(), "Ann".into())],
            client_address: None,
            principal: None,
            headers: HeaderMap::new(),
            depth: 0,
            deadline: Instant::now() + Duration::from_secs(10),
        },
        trigger: Trigger::Http(HttpCall {
            method: Method::GET,
            uri: "/hello/hello/Ann".parse()?,
            mount_length: "/hello".len(),
            body: Bytes::new().into(),
            stream: None,
            target: None,
        }),
    };
    let response = app
        .runtime
        .invoke(&plugin.loaded, invocation)
        .await
        .result?;
    ensure!(response.status() == 200, "{}", response.status());
    Ok(())
}
