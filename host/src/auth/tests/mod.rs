//! A host's accounts on a real database, and what people try with them.

mod accounts;
mod codes;
mod credentials;
mod identities;
mod keys;
mod logins;
mod sessions;
mod token_keys;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use serde_json::json;

use crate::auth::{
    ADMIN, Auth, Client, Config, Error, Keys, Login, NewApiKey, NewUser, PlatformPermission,
    Principal, PrincipalKind, Rejection, User,
};
use crate::clock::Clock;
use crate::db::{self, Db};
use crate::ids::{PluginName, RoleName, UserId};
use crate::mail::Mail;

const PASSWORD: &str = "correct horse";
const START_MS: i64 = 1_700_000_000_000;

/// A host's accounts in a folder of their own, and the means to start anew on the same rows.
struct Host {
    auth: Auth,
    db: Db,
    clock: Clock,
    config: Config,
    folder: tempfile::TempDir,
}

impl<T: AsRef<str> + ?Sized> From<&T> for Client {
    fn from(network: &T) -> Self {
        Self {
            network: network.as_ref().to_owned(),
            agent: String::new(),
        }
    }
}

impl Auth {
    /// A login of somebody without a second factor.
    async fn log_in(
        &self,
        email: &str,
        password: &str,
        client: impl Into<Client>,
    ) -> Result<Login, Error> {
        self.login(email, password, None, &client.into()).await
    }
}

impl Host {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        // Cheap hashes: these tests are not about what argon2 costs.
        let mut config = Config {
            argon2_memory_kib: 16,
            argon2_iterations: 1,
            ..Config::default()
        };
        change(&mut config);
        let folder = tempfile::tempdir().unwrap();
        let db = db::testing::open(folder.path()).await;
        let clock = Clock::manual(START_MS);
        let keys = Keys::open(folder.path()).unwrap();
        let mail = mail(&db, &clock);
        let auth = Auth::open(db.clone(), &keys, clock.clone(), mail, config.clone())
            .await
            .unwrap();
        Self {
            auth,
            db,
            clock,
            config,
            folder,
        }
    }

    async fn restart(&mut self) {
        let keys = Keys::open(self.folder.path()).unwrap();
        let config = self.config.clone();
        let (db, clock) = (self.db.clone(), self.clock.clone());
        let mail = mail(&db, &clock);
        let opened = Auth::open(db, &keys, clock, mail, config).await;
        self.auth = opened.unwrap();
    }

    async fn add_user(&self, email: &str, roles: &[&str]) -> User {
        let new = NewUser {
            email: email.into(),
            password: PASSWORD.into(),
            roles: names(roles),
        };
        self.auth.create_user(new).await.unwrap()
    }

    async fn token_of(&self, email: &str) -> String {
        self.auth
            .log_in(email, PASSWORD, "192.0.2.1")
            .await
            .unwrap()
            .tokens
            .access_token
    }

    fn see(&self, token: &str) -> Result<Arc<Principal>, Rejection> {
        let header = format!("Bearer {token}");
        self.auth
            .authenticate(Some(&header), None, Some([192, 0, 2, 1].into()))
            .map(|principal| principal.unwrap())
    }
}

/// An outbox without a mail server.
fn mail(db: &Db, clock: &Clock) -> Mail {
    Mail::new(db.clone(), [0; 32], clock.clone(), Default::default()).unwrap()
}

fn names(roles: &[&str]) -> Vec<RoleName> {
    roles.iter().map(|role| role.parse().unwrap()).collect()
}

fn name(role: &str) -> RoleName {
    role.parse().unwrap()
}
