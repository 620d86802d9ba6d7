//! Who may call a route, as a list of rules: the gateway asks each of them for a request, and the admin API tells operators
//! which one decides. All must be met; a rule that has no answer is not.

use serde_json::Value;

use crate::auth::Principal;
use crate::condition::{Expression, Facts, Failed};
use crate::ids::{Permission, PluginName, RoleName};
use crate::plugins::manifest::Auth;
use crate::plugins::routes::Route;

/// What a route asks of a caller beside a login and permissions.
#[derive(Debug, PartialEq, Eq)]
pub struct Demands {
    /// One of them must be the caller's. Empty means that none is asked for.
    pub roles: Vec<RoleName>,
    /// All of them must be the credential's.
    pub scopes: Vec<String>,
    pub condition: Option<Expression>,
}

/// One thing that must hold before a route answers.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'r> {
    /// Somebody must be logged in.
    Login,
    Permission(&'r Permission),
    /// One of them.
    Roles(&'r [RoleName]),
    Scope(&'r str),
    Condition(&'r Expression),
}

impl Demands {
    /// The demands of a manifest; nothing if there are none. The error is a sentence for the author.
    pub(super) fn new(
        roles: &[RoleName],
        scopes: &[String],
        condition: Option<&str>,
    ) -> Result<Option<Box<Self>>, String> {
        if roles.is_empty() && scopes.is_empty() && condition.is_none() {
            return Ok(None);
        }
        let condition = condition.map(Expression::compile).transpose();
        Ok(Some(Box::new(Self {
            roles: roles.to_vec(),
            scopes: scopes.to_vec(),
            condition: condition.map_err(|error| format!("`condition`: {error}"))?,
        })))
    }
}

/// Everything that must hold, in the order in which it is asked.
pub fn rules(route: &Route) -> impl Iterator<Item = Rule<'_>> {
    let demands = route.demands.as_deref();
    let roles = demands.map_or(&[] as &[RoleName], |demands| &demands.roles);
    let scopes = demands.map_or(&[] as &[String], |demands| &demands.scopes);
    let condition = demands.and_then(|demands| demands.condition.as_ref());
    rules_of_callers(route.auth, &route.permissions, roles, scopes)
        .chain(condition.map(Rule::Condition))
}

/// What must hold of callers, whatever they ask for, in the order in which it is asked.
pub fn rules_of_callers<'r>(
    auth: Auth,
    permissions: &'r [Permission],
    roles: &'r [RoleName],
    scopes: &'r [String],
) -> impl Iterator<Item = Rule<'r>> {
    let login = (auth == Auth::Required).then_some(Rule::Login);
    let roles = (!roles.is_empty()).then_some(Rule::Roles(roles));
    login
        .into_iter()
        .chain(permissions.iter().map(Rule::Permission))
        .chain(roles)
        .chain(scopes.iter().map(|scope| Rule::Scope(scope)))
}

impl Rule<'_> {
    /// Whether it holds for this caller and this request.
    pub fn is_met(
        self,
        plugin: &PluginName,
        caller: Option<&Principal>,
        facts: &Facts<'_>,
    ) -> Result<bool, Failed> {
        match self {
            Self::Condition(condition) => condition.holds(facts),
            rule => Ok(rule.allows(plugin, caller)),
        }
    }

    /// Whether it keeps nothing from this caller, whatever they ask for. A condition does not: it is about requests.
    pub fn allows(self, plugin: &PluginName, caller: Option<&Principal>) -> bool {
        match (self, caller) {
            (Self::Condition(_), _) => true,
            (Self::Login, caller) => caller.is_some(),
            (_, None) => false,
            (Self::Permission(permission), Some(caller)) => {
                caller.has(Some(plugin), permission.as_str())
            }
            (Self::Roles(roles), Some(caller)) => {
                // Who may do everything needs no role for it.
                caller.permissions.has_everything()
                    || roles.iter().any(|role| caller.roles.contains(role))
            }
            (Self::Scope(scope), Some(caller)) => caller.has_scope(scope),
        }
    }

    /// What a caller lacks who does not meet it, as operators read it.
    pub fn need(self, plugin: &PluginName) -> String {
        match self {
            Self::Login => "a login".to_owned(),
            Self::Permission(permission) => format!("the permission `{plugin}:{permission}`"),
            Self::Roles([role]) => format!("the role `{role}`"),
            Self::Roles(roles) => format!("one of the roles `{}`", list(roles)),
            Self::Scope(scope) => format!("the scope `{scope}`"),
            Self::Condition(condition) => format!("the condition `{}`", condition.text()),
        }
    }

    /// The stable code that a caller is told who does not meet it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Login => "auth.required",
            Self::Permission(_) => "auth.permission_missing",
            Self::Roles(_) => "auth.role_missing",
            Self::Scope(_) => "auth.scope_missing",
            Self::Condition(_) => "auth.condition_unmet",
        }
    }

    /// Its kind in one word.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Permission(_) => "permission",
            Self::Roles(_) => "role",
            Self::Scope(_) => "scope",
            Self::Condition(_) => "condition",
        }
    }
}

/// Roles as messages name them.
pub fn list(roles: &[RoleName]) -> String {
    let names: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
    names.join("`, `")
}

/// What conditions see of a caller; an empty object if there is none.
pub fn claims(caller: Option<&Principal>) -> Value {
    caller.map_or_else(|| Value::Object(serde_json::Map::new()), Principal::claims)
}
