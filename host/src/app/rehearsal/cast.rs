//! Those who call in tests: real accounts and API keys of the host on which they run.

use std::collections::HashMap;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue, header};

use crate::auth::{Auth, NewApiKey, NewUser, PrincipalKind};
use crate::ids::{PluginName, RoleName, UserId};
use crate::plugins::manifest::As;

/// Everybody who was needed so far.
#[derive(Default)]
pub(super) struct Cast {
    /// By the permissions that they carry.
    roles: HashMap<Vec<String>, RoleName>,
    /// By name, with the role that they hold now.
    users: HashMap<String, (UserId, RoleName)>,
    keys: HashMap<As, String>,
}

impl Cast {
    /// The header by which the host knows this caller.
    pub(super) async fn credentials(
        &mut self,
        auth: &Auth,
        plugin: &PluginName,
        caller: &As,
    ) -> anyhow::Result<(HeaderName, HeaderValue)> {
        let role = self.role(auth, plugin, caller).await?;
        let (name, value) = match caller.kind {
            PrincipalKind::User => {
                let token = self.token(auth, caller, role).await?;
                (header::AUTHORIZATION, format!("Bearer {token}"))
            }
            PrincipalKind::ApiKey | PrincipalKind::ServiceAccount => {
                let key = self.key(auth, caller, role).await?;
                (HeaderName::from_static("x-api-key"), key)
            }
        };
        Ok((name, HeaderValue::try_from(value)?))
    }

    async fn role(
        &mut self,
        auth: &Auth,
        plugin: &PluginName,
        caller: &As,
    ) -> anyhow::Result<RoleName> {
        let mut permissions: Vec<String> = caller
            .permissions
            .iter()
            .map(|permission| format!("{plugin}:{permission}"))
            .collect();
        permissions.sort();
        if let Some(role) = self.roles.get(&permissions) {
            return Ok(role.clone());
        }
        let role: RoleName = format!("tester-{}", self.roles.len() + 1).parse()?;
        let texts: Vec<&str> = permissions.iter().map(String::as_str).collect();
        auth.create_role(role.clone(), &texts).await?;
        self.roles.insert(permissions, role.clone());
        Ok(role)
    }

    async fn token(&mut self, auth: &Auth, caller: &As, role: RoleName) -> anyhow::Result<String> {
        let id = match self.users.get(&caller.name) {
            Some((id, held)) if *held == role => *id,
            Some((id, _)) => {
                let id = *id;
                auth.set_user_roles(id, vec![role.clone()]).await?;
                self.users.insert(caller.name.clone(), (id, role));
                id
            }
            None => {
                let email = match caller.name.contains('@') {
                    true => caller.name.clone(),
                    false => format!("{}@example.com", caller.name),
                };
                let user = NewUser {
                    email,
                    // Nobody logs in with it.
                    password: uuid::Uuid::new_v4().to_string(),
                    roles: vec![role.clone()],
                };
                let user = auth.create_user(user).await.with_context(|| {
                    format!("`{}` cannot be the name of a caller in a test", caller.name)
                })?;
                self.users.insert(caller.name.clone(), (user.id, role));
                user.id
            }
        };
        Ok(auth.access_token(id).await?)
    }

    async fn key(&mut self, auth: &Auth, caller: &As, role: RoleName) -> anyhow::Result<String> {
        if let Some(key) = self.keys.get(caller) {
            return Ok(key.clone());
        }
        let key = NewApiKey {
            name: caller.name.clone(),
            roles: vec![role],
            ..NewApiKey::default()
        };
        let key = auth.create_api_key(key).await?.token.clone();
        self.keys.insert(caller.clone(), key.clone());
        Ok(key)
    }
}
