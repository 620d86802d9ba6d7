use std::{
    ops::Deref,
    panic::Location,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry::{
    app::App,
    config::Config,
    gateway::access_log::Target,
    ids::PluginName,
    plugins::{DeployError, Deployed, GrantMode, Mount, Plugins, Upload, bundle},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{Client, PostgresDatabase, guests};

/// How long calls take to begin or to end, on a machine that is busy.
const CALLS_WAIT_MAX: Duration = Duration::from_secs(30);

/// A running host. Dereferences to a client without credentials.
pub struct TestHost {
    app: Option<App>,
    client: Client,
    // On the heap: tests hold hosts in futures.
    config: Box<Config>,
    // Last, so that the folder goes after everything that uses it.
    dir: Arc<TempDir>,
}

impl Deref for TestHost {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Settings of a host that is about to start.
pub struct TestHostBuilder {
    config: Box<Config>,
    dir: Arc<TempDir>,
}

impl TestHostBuilder {
    /// Changes settings.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the host. Its rows are on Postgres if the environment says so (`TESTS_DB=postgres`): the scenes are the same.
    pub async fn start(mut self) -> TestHost {
        let is_wanted = std::env::var_os("TESTS_DB").is_some_and(|name| name == "postgres");
        if is_wanted && !self.config.db.has_server() {
            let database = PostgresDatabase::create().await;
            database.expect("Postgres").serve(&mut self.config);
        }
        Box::pin(TestHost::open(self.config, self.dir)).await
    }

    /// Tries to start the host, where it should not.
    pub async fn try_start(self) -> anyhow::Result<TestHost> {
        Box::pin(TestHost::try_open(self.config, self.dir)).await
    }
}

impl TestHost {
    /// A host on a free port, with rows and files of its own.
    pub async fn start() -> Self {
        Self::build().start().await
    }

    /// A host with other settings.
    pub fn build() -> TestHostBuilder {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let mut config = Box::new(Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: dir.path().join("data"),
            access_log: Target::File(dir.path().join("access.log")),
            ..Config::default()
        });
        config.runtime.compile.program = Some(guests::gantry());
        config.auth.hash_program = Some(guests::gantry());
        // While all tests run the machine is never idle, and each login would wait for a process that gets nothing of it.
        config.auth.hash_apart = false;
        // The tests log in more often than people do.
        config.gateway.login_limit.limit = 10_000;
        config.gateway.provider_limit.limit = 10_000;
        config.gateway.request_limit.limit = 10_000;
        config.gateway.code_limit.limit = 10_000;
        TestHostBuilder { config, dir }
    }

    async fn open(config: Box<Config>, dir: Arc<TempDir>) -> Self {
        Self::try_open(config, dir).await.expect("the host starts")
    }

    async fn try_open(config: Box<Config>, dir: Arc<TempDir>) -> anyhow::Result<Self> {
        let app = Box::pin(App::start(Config::clone(&config))).await?;
        let client = Client::new(app.address);
        Ok(Self {
            app: Some(app),
            client,
            config,
            dir,
        })
    }

    /// Stops the host and starts another one on the same rows and files.
    pub async fn restart(self) -> Self {
        Box::pin(self.restart_with(|| ())).await
    }

    /// Like [`TestHost::restart`], and does something to the files in between.
    pub async fn restart_with(mut self, meanwhile: impl FnOnce()) -> Self {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
        meanwhile();
        Box::pin(Self::open(self.config.clone(), Arc::clone(&self.dir))).await
    }

    /// Like [`TestHost::restart`], with other settings.
    pub async fn restart_as(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self.restart().await
    }

    /// Stops the host as an operator would.
    pub async fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    /// The host's parts.
    pub fn app(&self) -> &App {
        self.app.as_ref().expect("the host runs")
    }

    /// Waits until so many calls of plugins are in progress, which is soon.
    #[track_caller]
    pub fn until_in_progress(&self, calls: u32) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let until = Instant::now() + CALLS_WAIT_MAX;
            while self.app().runtime.calls_in_progress() != calls {
                assert!(
                    Instant::now() < until,
                    "{caller}: {} calls are in progress, not {calls}",
                    self.app().runtime.calls_in_progress()
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// The control of plugins.
    pub fn plugins(&self) -> &Plugins {
        &self.app().plugins
    }

    /// Where its rows are.
    pub fn db(&self) -> gantry::db::Config {
        self.config.db.clone()
    }

    /// The folder with everything that the host keeps.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The access log so far.
    pub async fn access_log(&self) -> String {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default()
    }

    /// A client with the key of the first administrator.
    pub fn admin(&self) -> Client {
        let key =
            std::fs::read_to_string(self.data_dir().join("admin.key")).expect("a first start");
        self.client.with_token(key.trim())
    }

    /// A client of a new user with these roles.
    pub async fn user(&self, email: &str, roles: &[&str]) -> Client {
        let roles = roles
            .iter()
            .map(|role| role.parse().expect("a role name"))
            .collect();
        let password = "correct horse battery".to_owned();
        let new = gantry::auth::NewUser {
            email: email.to_owned(),
            password: password.clone(),
            roles,
        };
        self.app().auth.create_user(new).await.expect("a new user");
        let login = json!({ "email": email, "password": password });
        let answer = self
            .client
            .post("/api/auth/login", &login)
            .await
            .assert_status(200);
        let token = answer.json::<serde_json::Value>()["access_token"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.client.with_token(&token)
    }

    /// Deploys a component with this manifest, all capabilities granted, on `/name`.
    pub async fn deploy(&self, manifest: &str, component: Bytes) -> Deployed {
        let deployed = self
            .try_deploy(manifest, component, GrantMode::AllAsked)
            .await;
        deployed.unwrap_or_else(|error| fail(&error))
    }

    /// Like [`TestHost::deploy`], for deployments that must fail.
    pub async fn try_deploy(
        &self,
        manifest: &str,
        component: Bytes,
        grant: GrantMode,
    ) -> Result<Deployed, DeployError> {
        self.upload(pack(manifest, &component, &[]), grant, None)
            .await
    }

    /// Deploys a component with more files in its bundle.
    pub async fn deploy_with(
        &self,
        manifest: &str,
        component: Bytes,
        files: &[(&str, &[u8])],
    ) -> Deployed {
        let bundle = pack(manifest, &component, files);
        self.upload(bundle, GrantMode::AllAsked, None)
            .await
            .unwrap_or_else(|error| fail(&error))
    }

    /// Uploads a bundle as it is.
    pub async fn upload(
        &self,
        bytes: Bytes,
        grant: GrantMode,
        mount: Option<Mount>,
    ) -> Result<Deployed, DeployError> {
        let upload = Upload {
            bytes,
            name: None,
            mount,
            is_nested_accepted: true,
            canary: None,
            allows_breaking: true,
            grant,
            config: None,
            source: None,
            allows_downgrade: false,
            by: "test".to_owned(),
            note: None,
        };
        self.plugins().deploy(upload).await
    }

    /// Deploys a folder with a manifest, mounted at this path.
    pub async fn deploy_folder(&self, folder: &str, mount: &str) -> Deployed {
        let bundle = pack_folder(folder);
        let mount = Mount::new(None, mount).expect("a mount");
        let deployed = self.upload(bundle, GrantMode::AllAsked, Some(mount)).await;
        deployed.unwrap_or_else(|error| fail(&error))
    }

    /// Makes the deployment before the live one live again.
    pub async fn roll_back(&self, plugin: &str) -> Result<Deployed, DeployError> {
        let plugin: PluginName = plugin.parse().expect("a plugin name");
        self.plugins().roll_back(&plugin, None, "test", None).await
    }
}

/// A bundle of a plugin in this repository, with the component that was built beside this test.
fn pack_folder(folder: &str) -> Bytes {
    let (from, dir) = (
        guests::root().join(folder),
        tempfile::tempdir().expect("a temporary folder"),
    );
    // The manifest says where the component is, from its own folder.
    std::os::unix::fs::symlink(guests::target(), dir.path().join("target")).expect("a link");
    let to = dir.path().join(folder);
    std::fs::create_dir_all(to.join("migrations")).expect("a folder");
    std::fs::copy(from.join("plugin.toml"), to.join("plugin.toml")).expect("a manifest");
    // In other languages than Rust it is in the folder of the plugin.
    let component = "target/plugin.wasm";
    if from.join(component).is_file() {
        std::fs::create_dir(to.join("target")).expect("a folder");
        std::fs::copy(from.join(component), to.join(component)).expect("a component");
    }
    for migration in std::fs::read_dir(from.join("migrations"))
        .into_iter()
        .flatten()
    {
        let migration = migration.expect("a file");
        let to = to.join("migrations").join(migration.file_name());
        std::fs::copy(migration.path(), to).expect("a file");
    }
    bundle::pack(&to, &bundle::Config::default()).expect("a bundle")
}

/// A bundle of a manifest whose component is `plugin.wasm`.
pub fn pack(manifest: &str, component: &[u8], files: &[(&str, &[u8])]) -> Bytes {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    };
    write("plugin.toml", manifest.as_bytes());
    write("plugin.wasm", component);
    for (name, bytes) in files {
        write(name, bytes);
    }
    bundle::pack(dir.path(), &bundle::Config::default()).expect("a bundle")
}

#[track_caller]
fn fail(error: &DeployError) -> Deployed {
    if let DeployError::Mistakes(mistakes) = error {
        panic!(
            "{}",
            mistakes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    panic!("{error:#}: {error:?}")
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // The tasks of the host end with the test's runtime; its files go with the folder.
        drop(self.app.take());
    }
}
