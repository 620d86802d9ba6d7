//! What roles carry. `*` is everything; `platform.deploy` and the like are rights on the host itself;
//! `shop:orders.write` is a right that the plugin `shop` defines, and `shop:*` all of them.

use std::{collections::HashMap, fmt, str::FromStr};

use crate::auth::Scope;
use crate::ids::{Permission, PluginName};

/// A text in a role that is no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a permission; write `*`, one of {} or `<plugin>:<permission>`",
    PlatformPermission::names()
)]
pub struct InvalidPermission {
    text: String,
}

/// A right on the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlatformPermission {
    /// All of the others. Not the permissions that plugins define.
    Admin,
    /// See plugins, deployments, routes, logs and figures.
    Read,
    /// Upload plugins, make deployments live, roll back, remove.
    Deploy,
    /// Decide what a plugin may use: grants, mounts, ceilings, settings.
    Grant,
    /// Set the secrets of plugins.
    Secrets,
    /// Manage users, roles and API keys. Nobody can give what they do not have themselves.
    Users,
    /// Decide whose plugins are taken: the keys that sign them, and older versions. Whoever may do that and deploy can run
    /// what they like.
    Trust,
    /// Read the audit trail.
    Audit,
    /// Ask whether tokens of others are good, and whose they are.
    Introspect,
}

impl PlatformPermission {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Admin,
        Self::Read,
        Self::Deploy,
        Self::Grant,
        Self::Secrets,
        Self::Users,
        Self::Trust,
        Self::Audit,
        Self::Introspect,
    ];

    /// As it stands in a role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "platform.admin",
            Self::Read => "platform.read",
            Self::Deploy => "platform.deploy",
            Self::Grant => "platform.grant",
            Self::Secrets => "platform.secrets",
            Self::Users => "platform.users",
            Self::Trust => "platform.trust",
            Self::Audit => "platform.audit",
            Self::Introspect => "platform.introspect",
        }
    }

    /// What it allows, in one line, for people who make roles.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Admin => "Everything below `platform`, but not what plugins define",
            Self::Read => "See plugins, deployments, routes, logs, settings and figures",
            Self::Deploy => "Upload plugins, make deployments live, roll back, remove",
            Self::Grant => "Decide what plugins may use: grants, mounts, settings",
            Self::Secrets => "Set the secrets of plugins",
            Self::Users => {
                "Manage users, roles and API keys; who may do that can give themselves everything"
            }
            Self::Trust => "Decide whose plugins are taken: keys that sign them, older versions",
            Self::Audit => "Read the audit trail: who did what, from where",
            Self::Introspect => "Ask whether tokens of others are good, and whose they are",
        }
    }

    pub(super) fn find(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
    }

    fn names() -> String {
        Self::ALL
            .map(|permission| format!("`{}`", permission.as_str()))
            .join(", ")
    }
}

/// One permission as a role carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolePermission {
    /// `*`
    Everything,
    /// `platform.deploy`
    Platform(PlatformPermission),
    /// `shop:orders.write`
    Plugin(PluginName, Permission),
    /// `shop:*`
    WholePlugin(PluginName),
}

impl FromStr for RolePermission {
    type Err = InvalidPermission;

    fn from_str(text: &str) -> Result<Self, InvalidPermission> {
        let found = match text.split_once(':') {
            None if text == "*" => Some(Self::Everything),
            None => PlatformPermission::find(text).map(Self::Platform),
            Some((plugin, "*")) => plugin.parse().ok().map(Self::WholePlugin),
            Some((plugin, name)) => match (plugin.parse(), name.parse()) {
                (Ok(plugin), Ok(name)) => Some(Self::Plugin(plugin, name)),
                _ => None,
            },
        };
        found.ok_or_else(|| InvalidPermission {
            text: text.chars().take(200).collect(),
        })
    }
}

impl fmt::Display for RolePermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Platform(permission) => f.write_str(permission.as_str()),
            Self::Plugin(plugin, permission) => write!(f, "{plugin}:{permission}"),
            Self::WholePlugin(plugin) => write!(f, "{plugin}:*"),
        }
    }
}

/// All permissions of a principal, ready to be asked on every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionSet {
    has_everything: bool,
    platform: Vec<PlatformPermission>,
    plugins: HashMap<PluginName, OfPlugin>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfPlugin {
    is_whole: bool,
    /// Sorted.
    names: Vec<Permission>,
}

impl PermissionSet {
    /// Whether this right on the host is among them.
    pub fn allows(&self, permission: PlatformPermission) -> bool {
        let has = |wanted| self.platform.contains(&wanted);
        self.has_everything || has(permission) || has(PlatformPermission::Admin)
    }

    /// Whether a permission is among them: of this plugin, by the name that the plugin gave it, or of the host.
    pub fn has(&self, plugin: Option<&PluginName>, permission: &str) -> bool {
        let Some(plugin) = plugin else {
            let known = PlatformPermission::find(permission);
            return known.is_some_and(|permission| self.allows(permission));
        };
        self.has_everything
            || self
                .plugins
                .get(plugin)
                .is_some_and(|own| own.is_whole || own.has(permission))
    }

    /// Whether everything is allowed, whatever plugins define.
    pub fn has_everything(&self) -> bool {
        self.has_everything
    }

    /// The first permission of the other set that is not among these.
    pub fn missing_of(&self, other: &Self) -> Option<RolePermission> {
        if self.has_everything {
            return None;
        }
        if other.has_everything {
            return Some(RolePermission::Everything);
        }
        let platform = other.platform.iter().copied();
        let platform = platform
            .filter(|permission| !self.allows(*permission))
            .map(RolePermission::Platform);
        let plugins = other.plugins.iter().flat_map(|(plugin, wanted)| {
            let own = self.plugins.get(plugin);
            let is_whole = own.is_some_and(|own| own.is_whole);
            let whole =
                (wanted.is_whole && !is_whole).then(|| RolePermission::WholePlugin(plugin.clone()));
            let names = wanted
                .names
                .iter()
                .filter(move |name| !is_whole && !own.is_some_and(|own| own.has(name.as_str())))
                .map(|name| RolePermission::Plugin(plugin.clone(), name.clone()));
            whole.into_iter().chain(names)
        });
        platform.chain(plugins).min()
    }

    /// Those of these permissions that are in the scopes, too. No scopes leave all of them; scopes that are no permissions leave
    /// none.
    pub fn narrowed_to(&self, scopes: &[Scope]) -> Self {
        if scopes.is_empty() {
            return self.clone();
        }
        let mut left = Vec::new();
        let named = scopes.iter().filter_map(|scope| match scope {
            Scope::Permission(permission) => Some(permission),
            Scope::Free(_) => None,
        });
        for scope in named {
            match scope {
                RolePermission::Everything => return self.clone(),
                RolePermission::Platform(PlatformPermission::Admin) => {
                    let all = PlatformPermission::ALL.into_iter();
                    let own = all.filter(|permission| self.allows(*permission));
                    left.extend(own.map(RolePermission::Platform));
                }
                RolePermission::Platform(permission) if self.allows(*permission) => {
                    left.push(scope.clone());
                }
                RolePermission::Plugin(plugin, name) if self.has(Some(plugin), name.as_str()) => {
                    left.push(scope.clone());
                }
                RolePermission::WholePlugin(plugin) => {
                    let own = self.plugins.get(plugin);
                    if self.has_everything || own.is_some_and(|own| own.is_whole) {
                        left.push(scope.clone());
                    } else {
                        let names = own.into_iter().flat_map(|own| &own.names);
                        let of_plugin = |name: &Permission| {
                            RolePermission::Plugin(plugin.clone(), name.clone())
                        };
                        left.extend(names.map(of_plugin));
                    }
                }
                RolePermission::Platform(_) | RolePermission::Plugin(..) => {}
            }
        }
        left.iter().collect()
    }

    /// All of them, as they stand in roles.
    pub fn texts(&self) -> Vec<String> {
        if self.has_everything {
            return vec![RolePermission::Everything.to_string()];
        }
        let platform = self
            .platform
            .iter()
            .map(|permission| permission.as_str().to_owned());
        let plugins = self.plugins.iter().flat_map(|(plugin, own)| {
            let whole = own.is_whole.then(|| format!("{plugin}:*"));
            let names = own.names.iter().filter(|_| !own.is_whole);
            whole
                .into_iter()
                .chain(names.map(move |name| format!("{plugin}:{name}")))
        });
        let mut texts: Vec<String> = platform.chain(plugins).collect();
        texts.sort();
        texts.dedup();
        texts
    }

    /// The permissions of this plugin, by the names that the plugin gave them. `*` stands for all of them.
    pub fn of_plugin(&self, plugin: &PluginName) -> Vec<&str> {
        let own = self.plugins.get(plugin);
        if self.has_everything || own.is_some_and(|own| own.is_whole) {
            return vec!["*"];
        }
        own.map(|own| own.names.iter().map(Permission::as_str).collect())
            .unwrap_or_default()
    }
}

impl OfPlugin {
    fn has(&self, permission: &str) -> bool {
        self.names
            .binary_search_by(|name| name.as_str().cmp(permission))
            .is_ok()
    }
}

impl<'a> FromIterator<&'a RolePermission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = &'a RolePermission>>(permissions: I) -> Self {
        let mut set = Self::default();
        for permission in permissions {
            match permission {
                RolePermission::Everything => set.has_everything = true,
                RolePermission::Platform(permission) => set.platform.push(*permission),
                RolePermission::WholePlugin(plugin) => {
                    set.plugins.entry(plugin.clone()).or_default().is_whole = true;
                }
                RolePermission::Plugin(plugin, name) => {
                    set.plugins
                        .entry(plugin.clone())
                        .or_default()
                        .names
                        .push(name.clone());
                }
            }
        }
        for own in set.plugins.values_mut() {
            own.names.sort();
            own.names.dedup();
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> PermissionSet {
        let parsed: Vec<RolePermission> = texts.iter().map(|text| text.parse().unwrap()).collect();
        parsed.iter().collect()
    }

    #[test]
    fn scopes_leave_what_both_have() {
        for (own, scopes, left) in [
            (&["*"][..], &[][..], &["*"][..]),
            (
                &["*"],
                &["shop:read", "platform.read"],
                &["platform.read", "shop:read"],
            ),
            (&["shop:*"], &["shop:read", "bar:read"], &["shop:read"]),
            (&["shop:a", "shop:b"], &["shop:*"], &["shop:a", "shop:b"]),
            (&["shop:*"], &["shop:*"], &["shop:*"]),
            (
                &["platform.read", "platform.deploy"],
                &["platform.admin"],
                &["platform.deploy", "platform.read"],
            ),
            (&["platform.admin"], &["platform.read"], &["platform.read"]),
            (&["platform.read"], &["platform.deploy", "shop:*"], &[]),
            (&["platform.read"], &["*"], &["platform.read"]),
            (&["*"], &["orders.read"], &[]),
            (&["*"], &["orders.read", "shop:read"], &["shop:read"]),
        ] {
            let scopes: Vec<Scope> = scopes.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(
                set(own).narrowed_to(&scopes).texts(),
                left,
                "{own:?} {scopes:?}"
            );
        }
    }

    #[test]
    fn a_permission_opens_its_own_door_only() {
        let shop = "shop".parse().unwrap();
        let bar = "bar".parse().unwrap();
        // (permissions, plugin, asked, answer)
        let cases: &[(&[&str], Option<&PluginName>, &str, bool)] = &[
            (&["*"], None, "platform.deploy", true),
            (&["*"], Some(&shop), "orders.write", true),
            (&["*"], None, "no.such.right", false),
            (&["platform.admin"], None, "platform.deploy", true),
            (&["platform.admin"], Some(&shop), "orders.write", false),
            (&["platform.read"], None, "platform.read", true),
            (&["platform.read"], None, "platform.deploy", false),
            (&["shop:orders.write"], Some(&shop), "orders.write", true),
            (&["shop:orders.write"], Some(&shop), "orders.read", false),
            (&["shop:orders.write"], Some(&shop), "orders", false),
            (&["shop:orders.write"], Some(&bar), "orders.write", false),
            (&["shop:orders.write"], None, "shop:orders.write", false),
            (&["shop:*"], Some(&shop), "orders.read", true),
            (&["shop:*"], Some(&bar), "orders.read", false),
            (&["shop:*"], None, "platform.read", false),
            // A plugin may name a permission as it likes: it opens nothing on the host.
            (&["shop:platform.deploy"], None, "platform.deploy", false),
            (&["platform.deploy"], Some(&shop), "platform.deploy", false),
            (&[], Some(&shop), "orders.read", false),
        ];
        for (permissions, plugin, asked, answer) in cases {
            assert_eq!(
                set(permissions).has(*plugin, asked),
                *answer,
                "{permissions:?} {asked}"
            );
        }
    }

    #[test]
    fn what_somebody_does_not_hold_is_named() {
        // (own, wanted, what is missing)
        let cases: &[(&[&str], &[&str], Option<&str>)] = &[
            (&["*"], &["*"], None),
            (&["*"], &["platform.admin", "shop:*"], None),
            (&["platform.users"], &["*"], Some("*")),
            (&["platform.users"], &["platform.users"], None),
            (
                &["platform.users"],
                &["platform.admin"],
                Some("platform.admin"),
            ),
            (
                &["platform.users"],
                &["platform.deploy"],
                Some("platform.deploy"),
            ),
            (&["platform.admin"], &["platform.deploy"], None),
            (&["platform.admin"], &["*"], Some("*")),
            (&["platform.admin"], &["shop:a"], Some("shop:a")),
            (&["shop:*"], &["shop:a", "shop:*"], None),
            (&["shop:a"], &["shop:*"], Some("shop:*")),
            (&["shop:a"], &["shop:a", "shop:b"], Some("shop:b")),
            (&["shop:*"], &["bar:a"], Some("bar:a")),
            (&[], &[], None),
        ];
        for (own, wanted, expected) in cases {
            let missing = set(own).missing_of(&set(wanted));
            let missing = missing.map(|permission| permission.to_string());
            assert_eq!(missing.as_deref(), *expected, "{own:?} {wanted:?}");
        }
    }

    #[test]
    fn a_plugin_sees_its_own_names_without_its_prefix() {
        let shop = "shop".parse().unwrap();
        let some = set(&["shop:b", "bar:c", "shop:a", "shop:b", "platform.read"]);
        assert_eq!(some.of_plugin(&shop), ["a", "b"]);
        assert_eq!(set(&["*"]).of_plugin(&shop), ["*"]);
        assert_eq!(set(&["bar:*"]).of_plugin(&shop), [""; 0]);
    }

    #[test]
    fn permissions_read_back_as_written_and_slips_are_refused() {
        for text in ["*", "platform.deploy", "shop:orders.write", "shop:*"] {
            assert_eq!(text.parse::<RolePermission>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "platform.dploy",
            "orders.write",
            "shop:",
            ":x",
            "*:*",
            "Shop:x",
            "a:b:c",
        ] {
            let error = text.parse::<RolePermission>().unwrap_err();
            assert!(error.to_string().contains("`platform.deploy`"), "{error}");
        }
    }
}
