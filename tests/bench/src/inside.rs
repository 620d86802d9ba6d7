//! Figures inside one process, without HTTP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry::{
    app::App,
    ids::RequestId,
    plugins::{filters::Native, registry::LivePlugin},
    runtime::{CallContext, HttpCall, Invocation, Message, Runtime, Trigger},
};
use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::{Figures, median, servers};

pub(crate) fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let app = threads.block_on(servers::start(&dir))?;
    let live = app.registry.live();
    let plugin = live
        .get(&"bench".parse()?)
        .ok_or_else(|| anyhow::anyhow!("the plugin is not live"))?;

    let restored = per_call(&app, plugin, "/bench/greet", 20_000)?;
    figures.insert("invoke.restored.us".to_owned(), restored * 1e6);
    figures.insert("invoke.fresh.us".to_owned(), fresh(&threads)? * 1e6);
    let (few, many) = (0, 1000);
    let few_s = per_call(&app, plugin, &format!("/bench/calls?count={few}"), 2000)?;
    let many_s = per_call(&app, plugin, &format!("/bench/calls?count={many}"), 2000)?;
    figures.insert(
        "host_call.us".to_owned(),
        (many_s - few_s) * 1e6 / f64::from(many - few),
    );
    let (one, two) = (calls_per_s(&app, plugin, 1)?, calls_per_s(&app, plugin, 2)?);
    figures.insert("invoke.two_threads_ratio".to_owned(), two / one);
    println!("{one:.0} calls/s with one thread, {two:.0} with two");

    threads.block_on(servers::deploy(
        &app,
        servers::filter(),
        servers::component("examples/filter_mark")?,
    ))?;
    let live = app.registry.live();
    let filter = live
        .get(&"mark".parse()?)
        .ok_or_else(|| anyhow::anyhow!("the filter is not live"))?;
    let (native, plugin) = per_filter(&app, filter)?;
    figures.insert("filter.native.us".to_owned(), native * 1e6);
    figures.insert("filter.plugin.us".to_owned(), plugin * 1e6);

    threads.block_on(swaps(&app, figures))?;
    threads.block_on(app.stop());
    Ok(())
}

/// The same call with every instance made anew.
fn fresh(threads: &tokio::runtime::Runtime) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let app = threads.block_on(servers::start_with(&dir, |config| {
        config.runtime.kept_instances_max = 0;
    }))?;
    let live = app.registry.live();
    let plugin = live
        .get(&"bench".parse()?)
        .ok_or_else(|| anyhow::anyhow!("the plugin is not live"))?;
    let seconds = per_call(&app, plugin, "/bench/greet", 20_000)?;
    threads.block_on(app.stop());
    Ok(seconds)
}

/// How long deploying another version and going back take, from the upload to live, commit included. The component is
/// compiled already: compiling depends on the component and happens before anything is swapped.
async fn swaps(app: &App, figures: &mut Figures) -> anyhow::Result<()> {
    let component = servers::component("examples/bench")?;
    let (mut swap, mut rollback) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let manifest = servers::manifest("bench", &format!("1.0.{number}"));
        let began = Instant::now();
        servers::deploy(app, manifest, component.clone()).await?;
        swap.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        app.plugins
            .roll_back(&"bench".parse()?, None, "bench", None)
            .await?;
        rollback.push(began.elapsed().as_secs_f64() * 1e3);
    }
    figures.insert("swap.ms.p50".to_owned(), median(swap));
    figures.insert("rollback.ms.p50".to_owned(), median(rollback));
    Ok(())
}

fn invocation(target: &str) -> anyhow::Result<Invocation> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("host", HeaderValue::from_static("127.0.0.1"));
    let uri: Uri = target.parse()?;
    let is_calls = uri.path().ends_with("calls");
    let context = CallContext {
        trigger: "http",
        request_id: RequestId::new(),
        route: None,
        path_params: Vec::new(),
        client_address: None,
        principal: None,
        headers,
        depth: 0,
        deadline: Instant::now() + Duration::from_secs(10),
    };
    let call = HttpCall {
        method: if is_calls { Method::GET } else { Method::POST },
        uri,
        mount_length: "/bench".len(),
        body: Bytes::from_static(br#"{"name":"gantry"}"#).into(),
        stream: None,
        target: None,
    };
    Ok(Invocation {
        context,
        trigger: Trigger::Http(call),
        account: std::sync::Arc::default(),
    })
}

async fn call(runtime: &Runtime, plugin: &LivePlugin, target: &str) -> anyhow::Result<()> {
    let outcome = runtime.invoke(&plugin.loaded, invocation(target)?).await;
    let response = outcome.result?;
    anyhow::ensure!(
        response.status() == 200,
        "{}: {:?}",
        response.status(),
        response.body()
    );
    Ok(())
}

/// Seconds per call, one after the other on one thread; the median of ten batches.
fn per_call(app: &App, plugin: &LivePlugin, target: &str, calls: u32) -> anyhow::Result<f64> {
    let thread = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let batch = calls / 10;
    let mut seconds = Vec::new();
    for _ in 0..11 {
        let began = Instant::now();
        thread.block_on(async {
            for _ in 0..batch {
                call(&app.runtime, plugin, target).await?;
            }
            anyhow::Ok(())
        })?;
        seconds.push(began.elapsed().as_secs_f64() / f64::from(batch));
    }
    // The first batch warms up.
    Ok(median(seconds.split_off(1)))
}

/// Seconds that a filter takes with an answer: one of the host's own that adds five headers, and a plugin that sets one,
/// in turns on one thread; the medians of ten batches.
fn per_filter(app: &App, filter: &LivePlugin) -> anyhow::Result<(f64, f64)> {
    let thread = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut answer = HeaderMap::new();
    answer.insert("content-type", HeaderValue::from_static("application/json"));
    answer.insert("cache-control", HeaderValue::from_static("no-store"));
    let account = Arc::default();
    let (mut natives, mut plugins) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let batch = 2000;
        let began = Instant::now();
        for _ in 0..batch {
            let mut headers = answer.clone();
            Native::SecurityHeaders.after(&mut headers);
            std::hint::black_box(headers);
        }
        natives.push(began.elapsed().as_secs_f64() / f64::from(batch));
        let began = Instant::now();
        thread.block_on(async {
            for _ in 0..batch {
                let context = invocation("/bench/greet")?.context;
                let message = Message::Response {
                    status: 200,
                    headers: answer.clone(),
                    body: Bytes::new(),
                };
                let filtered = app
                    .runtime
                    .filter(&filter.loaded, context, message, &account);
                std::hint::black_box(filtered.await.result?);
            }
            anyhow::Ok(())
        })?;
        plugins.push(began.elapsed().as_secs_f64() / f64::from(batch));
    }
    // The first batch warms up.
    Ok((median(natives.split_off(1)), median(plugins.split_off(1))))
}

/// Calls per second of so many threads together; the median of five runs.
fn calls_per_s(app: &App, plugin: &Arc<LivePlugin>, threads: usize) -> anyhow::Result<f64> {
    let run = Duration::from_secs(1);
    let mut rates = Vec::new();
    for _ in 0..5 {
        let counts: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
            let worker = || -> anyhow::Result<u64> {
                let thread = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                thread.block_on(async {
                    let (began, mut count) = (Instant::now(), 0);
                    while began.elapsed() < run {
                        for _ in 0..50 {
                            call(&app.runtime, plugin, "/bench/greet").await?;
                            count += 1;
                        }
                    }
                    Ok(count)
                })
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, anyhow::Result<u64>>| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
            };
            workers.into_iter().map(join).collect()
        });
        let total = counts.into_iter().sum::<anyhow::Result<u64>>()?;
        rates.push(total as f64 / run.as_secs_f64());
    }
    Ok(median(rates))
}
