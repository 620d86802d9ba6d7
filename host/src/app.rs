//! Assembles everything and runs it: the one place that knows all modules.

mod chores;
mod data;
mod others;
mod process;
mod rehearsal;

use std::{fs, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{Router, middleware::map_response};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::admin;
use crate::audit::Audit;
use crate::auth::{Auth, GuestTokens, Keys};
use crate::cache::{self, Cache};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::db::{self, Company, Db};
use crate::gateway::access_log::{AccessLog, Target};
use crate::gateway::{self, Gateway, health};
use crate::http::serve;
use crate::http::shares::Shares;
use crate::idempotency::Idempotency;
use crate::ledger::Ledger;
use crate::limits::Limiter;
use crate::mail::Mail;
use crate::plugins::{
    Kept, Plugins,
    artifact::Artifacts,
    filters,
    metrics::Metrics,
    registry::{Filters, Registry},
    store::Store,
    trust::Trust,
};
use crate::runtime::{Runtime, Services};
use crate::services::{
    blobs::{self, Blobs, StoreKind},
    cache::Values,
    kv::Kv,
    log::Logs,
    outbound::Outbound,
    secrets::Secrets,
    sql::Sql,
};

pub use rehearsal::{rehearse, serve as serve_tests};

use chores::do_chores;
use data::{DataDir, write_admin_key};
use others::{Follower, set_clock};
use process::register_process_metrics;

/// A running host.
pub struct App {
    /// Where it listens; with port 0 in the settings, the port that the system chose.
    pub address: SocketAddr,
    /// Where operators are served, if that is a place of its own.
    pub admin_address: Option<SocketAddr>,
    /// The key of the first administrator, if this start created it. It is kept nowhere else than in `admin.key` of the
    /// data directory.
    pub admin_key: Option<String>,
    pub audit: Audit,
    pub auth: Auth,
    pub mail: Mail,
    pub plugins: Arc<Plugins>,
    pub registry: Arc<Registry>,
    pub runtime: Arc<Runtime>,
    pub logs: Logs,
    stop: CancellationToken,
    tasks: TaskTracker,
    access_log: AccessLog,
    /// Written to by everybody else, so it ends after them.
    trail: (CancellationToken, TaskTracker),
    db: Db,
    services: Services,
    /// Answers and values that are kept.
    pub cache: Cache,
    /// Files of plugins.
    pub blobs: Blobs,
    idempotency: Idempotency,
    limiter: Arc<Limiter>,
    /// Last: nobody else may open the data directory before everything above is closed.
    _data: DataDir,
}

/// For what the host's keys give the key of the audit trail.
pub const AUDIT_KEY: &str = "audit";

/// Where the host answers whatever its settings are.
const OWN_PATHS: [&str; 5] = [
    "/_gantry",
    "/.well-known/jwks.json",
    "/livez",
    "/readyz",
    "/metrics",
];

/// Routes of whoever embeds the host, served beside its own surface and before plugins.
#[derive(Debug, Default)]
pub struct NativeRoutes {
    pub router: Router,
    /// Where they are. Requests below these paths never reach a plugin.
    pub prefixes: Vec<String>,
}

impl App {
    /// Starts a host: opens the data directory, brings the rows to this version's schema, makes live what was live, and
    /// takes requests.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, NativeRoutes::default()).await
    }

    /// Starts a host with native routes beside its own.
    pub async fn start_with(config: Config, native: NativeRoutes) -> anyhow::Result<Self> {
        // On the heap: putting a host together takes many steps, and callers hold this future on their stacks.
        Box::pin(Self::assemble(config, native, None)).await
    }

    async fn assemble(
        mut config: Config,
        native: NativeRoutes,
        rehearsal: Option<rehearsal::Setting>,
    ) -> anyhow::Result<Self> {
        // First, so that a start which cannot succeed leaves nothing behind. Who connects now waits until all is ready.
        let settings = Arc::new(serde_json::to_value(&config)?);
        config.plugins.is_for_several_hosts = config.db.shared;
        config.plugins.files_are_in_a_folder = config.blobs.store == StoreKind::Folder;
        let listen = |address| {
            serve::bind(address, &config.http)
                .with_context(|| format!("cannot listen on {address}; is another program there?"))
        };
        let listener = listen(config.listen)?;
        let admin_listener = config.admin.listen.map(listen).transpose()?;
        let data = DataDir::open(&config.data_dir).await?;
        let clock = rehearsal
            .as_ref()
            .map_or_else(Clock::system, |setting| setting.rehearsal.clock.clone());
        let keys = Keys::open(data.path())?;
        // What is rehearsed has rows of its own, which go with its folder.
        let rows = match &rehearsal {
            None => config.db.clone(),
            Some(_) => db::Config::default(),
        };
        let file = data.file("gantry.db");
        if !rows.has_server() {
            data.keep_private(&file)?;
        }
        let mut db = Db::open(&file, &rows).await?;
        let company = db.take_place(&rows).await?;
        let place = match rows.has_server() {
            true => rows.url.to_string(),
            false => file.display().to_string(),
        };
        db.recognize(&keys.fingerprint(), &place).await?;
        let seed = keys.derive(AUDIT_KEY);
        let bytes_max = config.audit.detail_bytes_max;
        let (ledger, notes) = Ledger::new(&seed, clock.clone(), bytes_max, config.audit.queue_max);
        if rehearsal.is_none() {
            db = db.with_ledger(ledger.clone());
        }
        // Before anything is read into memory: whatever others change from here on is taken over.
        let begun_at = ledger.end(db.reader()).await?;
        if db.is_shared() {
            set_clock(&db, &clock).await?;
        }
        let mail_key = keys.derive("mail");
        let mail = Mail::new(db.clone(), mail_key, clock.clone(), config.mail.clone())?;
        let metrics = prometheus::Registry::new();
        let audit = Audit::new(
            db.clone(),
            ledger.clone(),
            mail.clone(),
            clock.clone(),
            config.audit.clone(),
            data.path().to_owned(),
            &metrics,
        )?;
        if rehearsal.is_none() {
            let begun = audit.begin().await;
            begun.context("cannot look after the audit trail")?;
            let told = audit.tell_start(&config.chosen()).await;
            told.context("cannot write to the audit trail")?;
        }
        let mut auth_config = config.auth.clone();
        if auth_config.hash_program.is_none() {
            auth_config.hash_program = std::env::current_exe().ok();
        }
        let auth = Auth::open(db.clone(), &keys, clock.clone(), mail.clone(), auth_config).await?;
        auth.register_metrics(&metrics)?;
        let logs = Logs::new(db.clone(), config.services.log.clone());
        let cluster = Cluster::open(&config.cluster, &metrics).await?;
        // What is rehearsed is not for other hosts.
        let shared = cluster.clone().filter(|_| rehearsal.is_none());
        let kept = Cache::new(config.cache.clone(), clock.clone(), shared);
        let once = Idempotency::new(db.clone(), clock.clone(), config.idempotency.clone());
        let setting = blobs::Setting {
            db: db.clone(),
            clock: clock.clone(),
            key: keys.derive("blobs"),
            folder: &data.file("blobs"),
            metrics: &metrics,
        };
        let blobs = Blobs::start(config.blobs.clone(), setting);
        let blobs = blobs.context("cannot keep the files of plugins")?;
        let services = Services {
            values: Values::new(kept.clone()),
            blobs,
            kv: Kv::with_clock(db.clone(), config.services.kv.clone(), {
                let clock = clock.clone();
                Arc::new(move || clock.now_ms())
            }),
            sql: Sql::new(data.file("sql"), config.services.sql.clone()),
            secrets: Secrets::new(
                db.clone(),
                keys.derive("secrets"),
                config.services.secrets.clone(),
            ),
            logs: logs.clone(),
            outbound: match &rehearsal {
                None => Outbound::new(config.services.outbound.clone())?,
                Some(setting) => Outbound::rehearsed(
                    config.services.outbound.clone(),
                    Arc::clone(&setting.rehearsal),
                )?,
            },
            guest_tokens: GuestTokens::new(&keys, clock.clone()),
            rehearsal: rehearsal
                .as_ref()
                .map(|setting| Arc::clone(&setting.rehearsal)),
        };
        // A rehearsal takes what the host that serves has compiled just before.
        let cache = rehearsal
            .as_ref()
            .and_then(|setting| setting.cache.clone())
            .unwrap_or_else(|| rehearsal::Cache {
                stages: data.file(rehearsal::FOLDER),
                dir: data.file("compiled"),
                key: keys.derive("compiled code"),
            });
        let runtime = Runtime::new(
            config.runtime.clone(),
            services.clone(),
            cache.dir.clone(),
            cache.key,
        )?;
        let runtime = Arc::new(runtime);
        let plugin_metrics = Metrics::register(&metrics)?;
        register_process_metrics(&metrics, &runtime)?;
        cache::register(&metrics, &kept)?;
        let store = Store::new(db.clone(), config.plugins.history.clone());
        let artifacts = Artifacts::open(data.file("artifacts"))?.with_rows(&store);
        let trust = Trust::new(
            db.clone(),
            clock.clone(),
            config.plugins.signatures,
            config.plugins.trust.clone(),
        );
        let trust = Arc::new(trust.context("`plugins.trust.keys` cannot be used")?);
        let registry = Arc::new(Registry::new(
            store.clone(),
            artifacts.clone(),
            Arc::clone(&trust),
            Arc::clone(&runtime),
            Filters {
                around: filters::check(&config.plugins.filters)
                    .map_err(|mistakes| anyhow::anyhow!(mistakes.join("\n")))
                    .context("`plugins.filters` cannot be used")?,
                has_plugins: rehearsal.is_none(),
                metrics: plugin_metrics,
            },
            config.plugins.clone(),
        ));
        let plugins = Plugins::new(
            store,
            artifacts,
            trust,
            Arc::clone(&runtime),
            Arc::clone(&registry),
            Kept {
                sql: services.sql.clone(),
                kv: services.kv.clone(),
                blobs: services.blobs.clone(),
                secrets: services.secrets.clone(),
                logs: logs.clone(),
                cache: kept.clone(),
                idempotency: once.clone(),
            },
            config.plugins.clone(),
        );
        let auth_mount = config.gateway.auth_mount.trim_end_matches('/').to_owned();
        let mut own_mounts = vec![auth_mount];
        own_mounts.extend(config.docs.paths());
        own_mounts.retain(|mount| !mount.is_empty());
        let plugins = plugins.apart_from(own_mounts.clone());
        let plugins = Arc::new(match &rehearsal {
            None => plugins.rehearsed_by(rehearsal::stage(config.clone(), cache)),
            Some(_) => plugins,
        });
        if rehearsal.is_none() {
            match fs::remove_dir_all(data.file(rehearsal::FOLDER)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("cannot remove what is left of interrupted tests");
                }
                // What others are doing now is not left over.
                _ if company == Company::Others => {}
                _ => plugins.recover().await?,
            }
        }
        let admin_key = write_admin_key(&auth, &data).await?;
        db.settle().await?;
        if db.is_shared() && cluster.is_none() {
            tracing::warn!(
                "Several hosts use these rows, and nothing else is shared (`cluster.redis_url`): each counts requests for itself, \
                 and what is purged from one cache is in the others until it expires"
            );
        }
        registry
            .refresh()
            .await
            .context("cannot read which plugins are live")?;
        // Where nothing is deployed yet, everything that settings name is still to come.
        if rehearsal.is_none() && registry.live().slots().next().is_some() {
            for setting in registry.idle_settings() {
                tracing::warn!("{setting}");
            }
        }
        if rehearsal.is_none() {
            for setting in auth.missing_roles() {
                tracing::warn!("{setting}");
            }
        }
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let account_policies = gateway::AccountPolicies::new(&config.gateway)
            .map_err(|mistakes| anyhow::anyhow!(mistakes.join("\n")))?;
        let access_log =
            AccessLog::open(&config.access_log).with_context(|| match &config.access_log {
                Target::File(path) => format!("cannot open the access log {}", path.display()),
                _ => "cannot open the access log".to_owned(),
            })?;
        let limiter = Limiter::new(&config.limits, cluster.clone(), &metrics)?;
        let security = gateway::security::SecurityHeaders::new(&config.gateway.security_headers)
            .map_err(|mistake| anyhow::anyhow!(mistake))?;
        let state = gateway::State {
            security: Arc::new(security),
            registry: Arc::clone(&registry),
            runtime: Arc::clone(&runtime),
            auth: auth.clone(),
            limiter: Arc::clone(&limiter),
            clock: clock.clone(),
            ledger: db.ledger().cloned(),
            access_log: access_log.clone(),
            bodies: Shares::new(
                config.gateway.bodies_bytes_max,
                config.gateway.bodies_bytes_per_client_max,
            ),
            flows: Shares::new(
                config.gateway.flowing_bodies_max,
                config.gateway.flowing_bodies_per_client_max,
            ),
            answers: Shares::new(
                config.gateway.answers_bytes_max,
                config.gateway.answers_bytes_per_client_max,
            ),
            heavy: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
            cache: kept.clone(),
            idempotency: once.clone(),
            files: gateway::files::Served {
                blobs: services.blobs.clone(),
                renditions: Arc::new(gateway::files::Renditions::new(&config.gateway.files)),
            },
            pages_are_sandboxed: config.gateway.pages_are_sandboxed && admin_listener.is_none(),
            key_rates: Arc::default(),
            account_policies,
            config: Arc::new(config.gateway.clone()),
        };
        let health = health::State {
            auth: auth.clone(),
            db: db.clone(),
            cluster: cluster.clone(),
            registry: Arc::clone(&registry),
            metrics,
            config: config.metrics.clone(),
            clock: clock.clone(),
            is_for_operators: false,
            has_metrics: admin_listener.is_none(),
            stop: stop.clone(),
        };
        let own_paths = OWN_PATHS.iter().map(|path| (*path).to_owned());
        let own_paths = own_paths.chain(own_mounts).chain(native.prefixes);
        let own_paths: Arc<[String]> = own_paths.collect();
        let documented_accounts =
            gateway::docs::documented_accounts(&config.docs, &state.config.auth_mount);
        let admin = admin::State {
            audit: audit.clone(),
            auth: auth.clone(),
            plugins: Arc::clone(&plugins),
            registry: Arc::clone(&registry),
            runtime: Arc::clone(&runtime),
            cache: kept.clone(),
            secrets: services.secrets.clone(),
            clock: clock.clone(),
            logs: logs.clone(),
            settings,
            own_paths: Arc::clone(&own_paths),
            documented_accounts: documented_accounts.clone(),
            is_apart: admin_listener.is_some(),
            pages_are_sandboxed: state.pages_are_sandboxed,
            stop: stop.clone(),
        };
        let docs = gateway::docs::router(&config.docs, &state, documented_accounts);
        let links = gateway::files::router(&state);
        // The pages of errors stay on both listeners: every problem leads to one of them.
        let everywhere = Router::new()
            .merge(gateway::accounts(&state))
            .merge(gateway::errors::router());
        let mut own = everywhere.clone().merge(health::router(health.clone()));
        let for_operators = health::State {
            is_for_operators: true,
            has_metrics: true,
            ..health
        };
        let admin = admin::router(admin);
        let mut admin_address = None;
        if let Some(listener) = admin_listener {
            admin_address = Some(listener.local_addr()?);
            let surface = everywhere
                .merge(health::router(for_operators))
                .merge(admin)
                .layer(map_response(gateway::isolate));
            let gateway = Gateway::without_plugins(state.clone(), surface);
            tasks.spawn(take_requests(listener, &config, stop.clone(), gateway));
        } else {
            own = own.merge(admin);
        }
        let own = own
            .layer(map_response(gateway::isolate))
            .merge(docs)
            .merge(links)
            .merge(native.router);
        let gateway = Gateway::new(state, own, own_paths);
        let address = listener.local_addr()?;
        tasks.spawn(take_requests(listener, &config, stop.clone(), gateway));
        tasks.spawn(do_chores(
            services.kv.clone(),
            services.sql.clone(),
            auth.clone(),
            once.clone(),
            Arc::clone(&plugins),
            rehearsal.is_none().then(|| audit.clone()),
            stop.clone(),
        ));
        tasks.spawn(services.blobs.clone().run(stop.clone()));
        tasks.spawn(db.clone().keep_place(stop.clone()));
        if db.has_server() {
            let follower = Follower {
                db: db.clone(),
                ledger,
                after: begun_at,
                clock: clock.clone(),
                auth: auth.clone(),
                registry: Arc::clone(&registry),
                kept: kept.clone(),
                asked_at: None,
            };
            tasks.spawn(follower.follow(stop.clone()));
        }
        let (keeper, until) = (Arc::clone(&limiter), stop.clone());
        tasks.spawn(async move { keeper.run(until).await });
        if let Some(cluster) = cluster {
            let (kept, until) = (kept.clone(), stop.clone());
            tasks.spawn(async move { kept.follow(until).await });
            let (sharing, until) = (auth.clone(), stop.clone());
            tasks.spawn(sharing.share_revocations(cluster.clone(), until));
            tasks.spawn(cluster.run(stop.clone()));
        }
        let trail = (CancellationToken::new(), TaskTracker::new());
        if rehearsal.is_none() {
            trail.1.spawn(audit.clone().run(notes, trail.0.clone()));
        }
        trail.1.close();
        let (sender, until) = (mail.clone(), stop.clone());
        tasks.spawn(async move { sender.run(until).await });
        let (watcher, until) = (Arc::clone(&plugins), stop.clone());
        tasks.spawn(async move { watcher.watch_canaries(clock, until).await });
        tasks.close();
        Ok(Self {
            address,
            admin_address,
            admin_key,
            audit,
            auth,
            mail,
            plugins,
            registry,
            runtime,
            logs,
            stop,
            tasks,
            access_log,
            trail,
            db,
            blobs: services.blobs.clone(),
            services,
            cache: kept,
            idempotency: once,
            limiter,
            _data: data,
        })
    }

    /// The files of plugins.
    pub fn blobs(&self) -> &Blobs {
        &self.services.blobs
    }

    /// Stops taking requests, lets those in progress finish, and closes everything.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.cache.close().await;
        self.idempotency.close().await;
        self.logs.flush().await;
        self.access_log.close();
        self.trail.0.cancel();
        self.trail.1.wait().await;
        self.services.sql.close().await;
        self.services.blobs.close().await;
        self.db.close().await;
    }
}

/// Serves one listener until `stop` is cancelled.
fn take_requests(
    listener: TcpListener,
    config: &Config,
    stop: CancellationToken,
    gateway: Gateway,
) -> impl Future<Output = ()> + Send + use<> {
    let (http, proxies) = (config.http.clone(), config.gateway.trusted_proxies.clone());
    async move {
        let handle = move |peer, request| {
            let gateway = gateway.clone();
            async move { gateway.handle(peer, request).await }
        };
        serve::serve(listener, &http, &proxies, stop, handle).await;
    }
}
