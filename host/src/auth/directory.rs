//! Everybody who may call, in memory, so that no request has to ask the database who is calling. Loaded at the start
//! and changed together with the rows.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::auth::permissions::{PermissionSet, RolePermission};
use crate::auth::store::{Account, StoredKey};
use crate::auth::{ApiKey, ApiKeyId, Principal, PrincipalKind, Rate, Role, ServiceAccount};
use crate::ids::{RoleName, ServiceAccountId, UserId};

/// Used keys are noted in the rows at most this often.
const TOUCH_EVERY_MS: i64 = 60_000;
const NEVER: i64 = i64::MIN / 2;

#[derive(Default)]
pub(super) struct Directory {
    roles: ArcSwap<RoleTable>,
    users: RwLock<HashMap<UserId, Arc<LiveUser>>>,
    keys: RwLock<HashMap<ApiKeyId, Arc<LiveKey>>>,
    service_accounts: RwLock<HashMap<ServiceAccountId, ServiceAccount>>,
}

#[derive(Default)]
struct RoleTable(HashMap<RoleName, LiveRole>);

#[derive(Clone)]
struct LiveRole {
    permissions: Vec<RolePermission>,
    /// Of this role alone, because most principals have one role.
    set: Arc<PermissionSet>,
}

/// A user as requests see it. Verified tokens hold on to it, so that a change reaches them.
pub(super) struct LiveUser {
    state: ArcSwapOption<UserState>,
}

struct UserState {
    generation: i64,
    is_disabled: bool,
    principal: Arc<Principal>,
}

/// An API key as requests see it.
pub(super) struct LiveKey {
    pub(super) state: ArcSwap<KeyState>,
    used_at_ms: AtomicI64,
    written_at_ms: AtomicI64,
    reminded_at_ms: AtomicI64,
}

pub(super) struct KeyState {
    pub(super) key: ApiKey,
    pub(super) token_sha256: [u8; 32],
    /// Of the secret before, which counts until the key says.
    pub(super) previous_sha256: Option<[u8; 32]>,
    /// Nobody, if the account that owns it is disabled or gone.
    pub(super) principal: Option<Arc<Principal>>,
}

impl LiveUser {
    /// The user as a principal, if tokens of this generation still count.
    pub(super) fn principal_of(&self, generation: i64) -> Option<Arc<Principal>> {
        let state = self.state.load();
        let state = state.as_ref()?;
        let is_good = state.generation == generation && !state.is_disabled;
        is_good.then(|| state.principal.clone())
    }
}

impl LiveUser {
    /// The user as a principal, unless it is disabled.
    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        let state = self.state.load();
        let state = state.as_ref().filter(|state| !state.is_disabled)?;
        Some(state.principal.clone())
    }
}

impl LiveKey {
    /// Notes that the key was used. True at most once a minute: then the rows should know.
    pub(super) fn touch(&self, now_ms: i64) -> bool {
        self.used_at_ms.fetch_max(now_ms, Ordering::Relaxed);
        let written_at_ms = self.written_at_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(written_at_ms) >= TOUCH_EVERY_MS;
        // If another thread was faster, it writes.
        is_due
            && self
                .written_at_ms
                .compare_exchange(written_at_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// True at most once in so many milliseconds: then people should be reminded.
    pub(super) fn remind(&self, now_ms: i64, every_ms: i64) -> bool {
        let before_ms = self.reminded_at_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(before_ms) >= every_ms;
        if is_due {
            self.reminded_at_ms.store(now_ms, Ordering::Relaxed);
        }
        is_due
    }

    /// The key as people see it, with its last use up to now.
    pub(super) fn view(&self) -> ApiKey {
        let mut key = self.state.load().key.clone();
        let used_at_ms = self.used_at_ms.load(Ordering::Relaxed);
        key.last_used_at_ms = (used_at_ms != NEVER).then_some(used_at_ms);
        key
    }
}

impl Directory {
    pub(super) fn user(&self, id: UserId) -> Option<Arc<LiveUser>> {
        read(&self.users).get(&id).cloned()
    }

    pub(super) fn key(&self, id: ApiKeyId) -> Option<Arc<LiveKey>> {
        read(&self.keys).get(&id).cloned()
    }

    pub(super) fn users_count(&self) -> usize {
        read(&self.users).len()
    }

    pub(super) fn roles_count(&self) -> usize {
        self.roles.load().0.len()
    }

    pub(super) fn keys(&self) -> Vec<Arc<LiveKey>> {
        read(&self.keys).values().cloned().collect()
    }

    pub(super) fn has_role(&self, name: &RoleName) -> bool {
        self.roles.load().0.contains_key(name)
    }

    /// Whether a user, or a key that still works, holds this role.
    pub(super) fn is_held(&self, role: &RoleName, now_ms: i64) -> bool {
        let is_holder = |principal: &Principal| principal.roles.contains(role);
        let holds = |user: &Arc<LiveUser>| {
            user.state
                .load()
                .as_ref()
                .is_some_and(|state| is_holder(&state.principal))
        };
        read(&self.users).values().any(holds)
            || self.has_active_key_with(role, now_ms)
            || read(&self.service_accounts)
                .values()
                .any(|account| account.roles.contains(role))
    }

    /// Whether a user who is not disabled holds this role.
    pub(super) fn has_active_user_with(&self, role: &RoleName) -> bool {
        read(&self.users).values().any(|user| {
            let state = user.state.load();
            let holds =
                |state: &Arc<UserState>| !state.is_disabled && state.principal.roles.contains(role);
            state.as_ref().is_some_and(holds)
        })
    }

    /// Whether a key that still works holds this role.
    pub(super) fn has_active_key_with(&self, role: &RoleName, now_ms: i64) -> bool {
        read(&self.keys).values().any(|key| {
            let state = key.state.load();
            state.key.is_alive(now_ms) && state.key.roles.contains(role)
        })
    }

    /// All permissions of these roles together. A role that does not exist carries none.
    pub(super) fn permissions_of(&self, roles: &[RoleName]) -> Arc<PermissionSet> {
        let table = self.roles.load();
        match roles {
            [role] => table
                .0
                .get(role)
                .map(|role| role.set.clone())
                .unwrap_or_default(),
            roles => {
                let known = roles.iter().filter_map(|role| table.0.get(role));
                Arc::new(known.flat_map(|role| &role.permissions).collect())
            }
        }
    }

    /// Makes or replaces a role, and with it what its holders may do.
    pub(super) fn put_role(&self, role: Role) {
        let set = Arc::new(role.permissions.iter().collect());
        let mut roles = self.roles.load().0.clone();
        roles.insert(
            role.name,
            LiveRole {
                permissions: role.permissions,
                set,
            },
        );
        self.replace_roles(roles);
    }

    /// Makes the roles these, and with them what their holders may do.
    pub(super) fn set_roles(&self, roles: Vec<Role>) {
        let live = roles.into_iter().map(|role| {
            let set = Arc::new(role.permissions.iter().collect());
            let permissions = role.permissions;
            (role.name, LiveRole { permissions, set })
        });
        self.replace_roles(live.collect());
    }

    /// Forgets a role; whoever holds it has less permissions.
    pub(super) fn remove_role(&self, name: &RoleName) {
        let mut roles = self.roles.load().0.clone();
        roles.remove(name);
        self.replace_roles(roles);
    }

    fn replace_roles(&self, roles: HashMap<RoleName, LiveRole>) {
        self.roles.store(Arc::new(RoleTable(roles)));
        let refreshed = |old: &Arc<Principal>| {
            let permissions = self.permissions_of(&old.roles);
            Arc::new(Principal {
                permissions,
                ..Principal::clone(old)
            })
        };
        for user in read(&self.users).values() {
            if let Some(old) = user.state.load_full() {
                let principal = refreshed(&old.principal);
                let state = UserState {
                    principal,
                    generation: old.generation,
                    is_disabled: old.is_disabled,
                };
                user.state.store(Some(Arc::new(state)));
            }
        }
        self.renew_keys(|_| true);
    }

    /// Makes the principals of these keys anew.
    fn renew_keys(&self, wanted: impl Fn(&ApiKey) -> bool) {
        for live in read(&self.keys).values() {
            let old = live.state.load_full();
            if wanted(&old.key) {
                let key = old.key.clone();
                live.state.store(Arc::new(KeyState {
                    token_sha256: old.token_sha256,
                    previous_sha256: old.previous_sha256,
                    principal: self.principal_of(&key),
                    key,
                }));
            }
        }
    }

    /// For whom a key stands, with what it may do; nobody if the account that owns it is disabled or gone.
    fn principal_of(&self, key: &ApiKey) -> Option<Arc<Principal>> {
        let accounts = read(&self.service_accounts);
        let (id, kind, name, roles) = match key.service_account {
            None => (
                key.id.to_string(),
                PrincipalKind::ApiKey,
                &key.name,
                &key.roles,
            ),
            Some(id) => {
                let account = accounts.get(&id).filter(|account| !account.is_disabled)?;
                let kind = PrincipalKind::ServiceAccount;
                (id.to_string(), kind, &account.name, &account.roles)
            }
        };
        let permissions = self.permissions_of(roles);
        let permissions = match key.scopes.is_empty() {
            true => permissions,
            false => Arc::new(permissions.narrowed_to(&key.scopes)),
        };
        Some(Arc::new(Principal {
            id,
            kind,
            name: name.clone(),
            roles: roles.as_slice().into(),
            permissions,
            scopes: (!key.scopes.is_empty()).then(|| {
                let texts = key.scopes.iter().map(|scope| scope.to_string().into());
                texts.collect()
            }),
            token_claims: None,
            rate: key.rate.map(|(limit, window_s)| Rate {
                key: key.id,
                limit,
                window_s,
            }),
        }))
    }

    pub(super) fn service_accounts(&self) -> Vec<ServiceAccount> {
        let mut accounts: Vec<_> = read(&self.service_accounts).values().cloned().collect();
        accounts.sort_by_key(|account| account.id);
        accounts
    }

    pub(super) fn service_account(&self, id: ServiceAccountId) -> Option<ServiceAccount> {
        read(&self.service_accounts).get(&id).cloned()
    }

    /// Makes or changes an account of a program, and with it what its keys may do.
    pub(super) fn put_service_account(&self, account: ServiceAccount) {
        let id = account.id;
        write(&self.service_accounts).insert(id, account);
        self.renew_keys(|key| key.service_account == Some(id));
    }

    pub(super) fn remove_service_account(&self, id: ServiceAccountId) {
        write(&self.service_accounts).remove(&id);
        self.renew_keys(|key| key.service_account == Some(id));
    }

    /// Makes the accounts of programs these.
    pub(super) fn set_service_accounts(&self, accounts: Vec<ServiceAccount>) {
        let accounts = accounts.into_iter().map(|account| (account.id, account));
        *write(&self.service_accounts) = accounts.collect();
        self.renew_keys(|key| key.service_account.is_some());
    }

    /// Makes the keys these.
    pub(super) fn set_keys(&self, stored: Vec<StoredKey>) {
        let ids: HashSet<ApiKeyId> = stored.iter().map(|stored| stored.key.id).collect();
        write(&self.keys).retain(|id, _| ids.contains(id));
        for stored in stored {
            self.put_key(stored);
        }
    }

    pub(super) fn put_user(&self, account: &Account) {
        let user = &account.user;
        let principal = Arc::new(Principal {
            id: user.id.to_string(),
            kind: PrincipalKind::User,
            name: user.email.clone(),
            roles: user.roles.as_slice().into(),
            permissions: self.permissions_of(&user.roles),
            scopes: None,
            token_claims: None,
            rate: None,
        });
        let (generation, is_disabled) = (account.generation, user.is_disabled);
        let state = Some(Arc::new(UserState {
            generation,
            is_disabled,
            principal,
        }));
        let mut users = write(&self.users);
        let live = users.entry(user.id).or_insert_with(|| {
            Arc::new(LiveUser {
                state: ArcSwapOption::empty(),
            })
        });
        live.state.store(state);
    }

    /// Makes the users these.
    pub(super) fn set_users(&self, accounts: &[Account]) {
        let ids: HashSet<UserId> = accounts.iter().map(|account| account.user.id).collect();
        let gone: Vec<UserId> = read(&self.users)
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        for id in gone {
            self.remove_user(id);
        }
        for account in accounts {
            self.put_user(account);
        }
    }

    pub(super) fn remove_user(&self, id: UserId) {
        if let Some(user) = write(&self.users).remove(&id) {
            // Tokens that were verified before still point here.
            user.state.store(None);
        }
    }

    pub(super) fn put_key(&self, stored: StoredKey) {
        let StoredKey {
            key,
            token_sha256,
            previous_sha256,
        } = stored;
        let principal = self.principal_of(&key);
        let last_used_ms = key.last_used_at_ms.unwrap_or(NEVER);
        let id = key.id;
        let state = KeyState {
            key,
            token_sha256,
            previous_sha256,
            principal,
        };
        let mut keys = write(&self.keys);
        match keys.get(&id) {
            Some(live) => {
                live.used_at_ms.fetch_max(last_used_ms, Ordering::Relaxed);
                live.state.store(Arc::new(state));
            }
            None => {
                let live = LiveKey {
                    state: ArcSwap::from_pointee(state),
                    used_at_ms: AtomicI64::new(last_used_ms),
                    written_at_ms: AtomicI64::new(last_used_ms),
                    reminded_at_ms: AtomicI64::new(NEVER),
                };
                keys.insert(id, Arc::new(live));
            }
        }
    }

    /// Takes over when this key was used elsewhere.
    pub(super) fn note_use(&self, stored: &ApiKey) {
        if let (Some(live), Some(used_at_ms)) = (self.key(stored.id), stored.last_used_at_ms) {
            live.used_at_ms.fetch_max(used_at_ms, Ordering::Relaxed);
        }
    }

    /// Forgets the keys that were revoked or have expired.
    pub(super) fn remove_dead_keys(&self, now_ms: i64) {
        write(&self.keys).retain(|_, live| live.state.load().key.is_alive(now_ms));
    }
}

/// The tables are changed by single insertions and removals, so a poisoned lock is still good.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
