//! What it costs a plugin's route to know who is calling, whether they may, and how often they did: an access token, a
//! permission, two limits, metrics and the access log, against the same handler in bare axum. Counted in the process, and on a
//! shared server.

use std::time::Duration;

use anyhow::Context as _;
use gantry::{
    app::App,
    auth::NewUser,
    limits::{Fail, Store},
};
use gantry_harness::RedisServer;

use crate::load::{Server, script, wrk_run};
use crate::{Figures, accounts, median, servers};

const EMAIL: &str = "ann@example.com";

pub(crate) fn measure(rounds: usize, round: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let redis = runtime.block_on(RedisServer::start());
    let redis = redis.context("there is no `redis-server`: `cargo xtask test` fetches it")?;
    let native = Server::start("native")?;
    let limited = Server::start("limited")?;
    let shared = Server::start(&format!("limited={}", redis.url()))?;
    let mut lanes = Vec::new();
    for (name, server) in [
        ("limits in the process", limited),
        ("limits shared", shared),
    ] {
        let address = server.address.parse()?;
        let token = runtime.block_on(accounts::access_token(address, EMAIL))?;
        let body = format!(
            "wrk.body = '{{\"name\":\"gantry\"}}'\nwrk.headers[\"authorization\"] = \"Bearer {token}\""
        );
        lanes.push((name, server, script(&body, "application/json")?, Vec::new()));
    }
    let plain = crate::load::greet_script()?;
    let url = |server: &Server| format!("http://{}/bench/greet", server.address);
    let (mut per_s, mut errors) = (Vec::new(), 0.0);
    // A first round warms everything up and is not counted.
    for index in 0..=rounds {
        let bare = wrk_run(&url(&native), round, Some(plain.path()))?;
        errors += bare.errors;
        for (_, server, script, ratios) in &mut lanes {
            let run = wrk_run(&url(server), round, Some(script.path()))?;
            errors += run.errors;
            if index > 0 {
                ratios.push(run.per_s / bare.per_s);
                per_s.push(run.per_s);
            }
        }
    }
    println!("requests/s of both, round by round: {per_s:.0?}");
    let names = [
        "http.auth_limited.ratio_to_native",
        "http.auth_limited_redis.ratio_to_native",
    ];
    for (figure, (name, _, _, ratios)) in names.into_iter().zip(lanes) {
        let ratio = median(ratios);
        println!("{name:<32} {ratio:>10.3} of native");
        figures.insert(figure.to_owned(), ratio);
    }
    figures.insert("limits.errors".to_owned(), errors);
    runtime.block_on(async move { drop(redis) });
    Ok(())
}

/// A host on whose `/bench/greet` everything is asked; with an address, limits are counted there.
pub(crate) async fn start(dir: &tempfile::TempDir, redis_url: Option<&str>) -> anyhow::Result<App> {
    let mut config = servers::config(dir);
    if let Some(url) = redis_url {
        config.cluster.redis_url = url.to_owned().into();
        config.limits.store = Store::Shared;
        // What is not counted there would make the figure look good.
        config.limits.fail = Fail::Closed;
    }
    let app = App::start(config).await?;
    let manifest = "schema = 1\n[plugin]\nname = \"bench\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [[permission]]\nname = \"greet.use\"\ndescription = \"Be greeted\"\n\
                    [[route]]\nmethod = \"POST\"\npath = \"/greet\"\npermissions = [\"greet.use\"]\n\
                    limits = [{ limit = 1000000000, window = \"1m\", key = \"user\" }, \
                    { limit = 1000000000, window = \"1m\", key = \"ip\" }]\n";
    let component = servers::component("examples/bench")?;
    servers::deploy(&app, manifest.to_owned(), component).await?;
    let role = "greeted".parse()?;
    app.auth.create_role(role, &["bench:greet.use"]).await?;
    let new = NewUser {
        email: EMAIL.to_owned(),
        password: accounts::PASSWORD.to_owned(),
        roles: vec!["greeted".parse()?],
    };
    app.auth.create_user(new).await?;
    Ok(app)
}
