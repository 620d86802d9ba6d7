//! What SQLite itself enforces on a plugin's connection: which actions a statement may take, how long it runs, and how
//! large a value may grow. The text of a statement is checked before (`statement.rs`); this holds where that errs.

#![expect(
    unsafe_code,
    reason = "sqlx has no safe way to set an authorizer or a size limit on a connection"
)]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;
use tokio::time::Instant;

use super::{
    Config, functions, store,
    temp::{self, Spill},
};
use crate::db::{THREAD_CLOCK, ThreadClock};
use crate::services::{Allowance, Error};

/// After how many steps of SQLite's virtual machine the deadline is looked at: some ten microseconds.
const STEPS_PER_CHECK: i32 = 2000;
/// A longer pattern could keep `LIKE` busy without a step of the virtual machine.
const LIKE_PATTERN_BYTES_MAX: c_int = 128;
const EXPRESSION_DEPTH_MAX: c_int = 200;
const COMPOUND_SELECT_MAX: c_int = 100;
const TRIGGER_DEPTH_MAX: c_int = 20;
const PROGRAM_STEPS_MAX: c_int = 100_000;
/// Each column of a row may hold a value of the largest size.
const COLUMNS_MAX: c_int = 200;
const ARGUMENTS_MAX: c_int = 100;

/// Reading these tells of the schema and nothing else. `data_version` is what full-text search asks for.
const PRAGMAS: &[&str] = &[
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "data_version",
];
/// `ALTER TABLE … ADD COLUMN` uses it by itself.
const MIGRATION_PRAGMAS: &[&str] = &["quick_check"];
/// Modules of virtual tables that keep their rows in the plugin's own database.
const MODULES: &[&str] = &["fts5", "rtree"];
const FUNCTIONS_REFUSED: &[&str] = &[
    "load_extension",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
    THREAD_CLOCK,
    // These take the product of two lengths, and nothing interrupts a function.
    "json_patch",
    "jsonb_patch",
    "snippet",
];
/// Virtual tables that are always there and read every page of the database.
const TABLES_REFUSED: &[&str] = &["dbstat", "sqlite_stmt", "bytecode", "tables_used"];
/// Tables of the host in the plugin's database.
const HOST_TABLES: &str = "_gantry_";

/// Whose statement runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Host = 0,
    Guest = 1,
    Migration = 2,
}

/// What the statement under way on one connection may do, and until when. Shared with SQLite's callbacks.
#[derive(Debug)]
pub(super) struct Guard {
    rights: AtomicU8,
    /// Milliseconds since `START`.
    deadline_ms: AtomicU64,
    /// The clock that counts the processor time of the thread on which SQLite works for this connection. Zero until the
    /// thread was met.
    thread_clock: AtomicI32,
    /// What that clock may show at most.
    thread_ns_max: AtomicU64,
    spill: Arc<Spill>,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Guard {
    pub(super) fn new(spill: Spill) -> Arc<Self> {
        LazyLock::force(&START);
        Arc::new(Self {
            rights: AtomicU8::new(Rights::Host as u8),
            deadline_ms: AtomicU64::new(u64::MAX),
            thread_clock: AtomicI32::new(0),
            thread_ns_max: AtomicU64::new(u64::MAX),
            spill: Arc::new(spill),
        })
    }

    /// For a statement of the plugin. It stops at the deadline, or when it has used so much processor time.
    pub(super) fn restrict(&self, rights: Rights, deadline: Instant, cpu_max: Option<Duration>) {
        let deadline_ms = deadline.saturating_duration_since(*START).as_millis();
        self.rights.store(rights as u8, Ordering::Relaxed);
        self.deadline_ms.store(
            deadline_ms.try_into().unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        let cpu_ns_max = cpu_max.map_or(u64::MAX, |cpu| {
            u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX)
        });
        let thread_ns_max = self.thread_ns().saturating_add(cpu_ns_max);
        self.thread_ns_max.store(thread_ns_max, Ordering::Relaxed);
        self.spill.forget_refusal();
    }

    /// For a statement of ours.
    pub(super) fn release(&self) {
        self.rights.store(Rights::Host as u8, Ordering::Relaxed);
        self.deadline_ms.store(u64::MAX, Ordering::Relaxed);
        self.thread_ns_max.store(u64::MAX, Ordering::Relaxed);
    }

    /// Stops the statement under way.
    pub(super) fn interrupt(&self) {
        self.deadline_ms.store(0, Ordering::Relaxed);
    }

    fn has_time(&self) -> bool {
        let deadline_ms = self.deadline_ms.load(Ordering::Relaxed);
        let thread_ns_max = self.thread_ns_max.load(Ordering::Relaxed);
        (deadline_ms == u64::MAX || START.elapsed().as_millis() < u128::from(deadline_ms))
            && (thread_ns_max == u64::MAX || self.thread_ns() < thread_ns_max)
    }

    /// What the guest is told of an error of the statement that ran under this guard.
    pub(super) fn explain(&self, error: &sqlx::Error) -> Error {
        if self.spill.was_refused() {
            let message =
                "the statement needs more room for sorting or for temporary rows than it may have";
            return Error::limit("sql.temp_full", message);
        }
        store::explain(error)
    }

    fn thread_clock(&self) -> ThreadClock {
        ThreadClock::of_id(self.thread_clock.load(Ordering::Relaxed))
    }

    /// Processor time of the connection's thread so far.
    fn thread_ns(&self) -> u64 {
        self.thread_clock().ns()
    }

    /// To be called on the thread on which SQLite works.
    fn meet_thread(&self) {
        if self.thread_clock() == ThreadClock::default() {
            let clock = ThreadClock::own().id();
            self.thread_clock.store(clock, Ordering::Relaxed);
            temp::attach(self.spill.clone());
        }
    }
}

/// Charges the processor time of a connection's thread to a call, from `begin` until it is dropped.
pub(super) struct Charge {
    guard: Arc<Guard>,
    allowance: Allowance,
    began_ns: u64,
}

impl Charge {
    pub(super) fn begin(guard: Arc<Guard>, allowance: Allowance) -> Self {
        let began_ns = guard.thread_ns();
        Self {
            guard,
            allowance,
            began_ns,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let used_ns = self.guard.thread_ns().saturating_sub(self.began_ns);
        self.allowance.charge(Duration::from_nanos(used_ns));
    }
}

/// Puts a connection under the rule of its guard. Once per connection.
pub(super) fn install(handle: &mut LockedSqliteHandle<'_>, guard: &Arc<Guard>, config: &Config) {
    // sqlx keeps this closure, and with it the guard, until just before it closes the connection, after all
    // statements are gone. So the pointer handed to the authorizer below is valid whenever SQLite can call it.
    let kept = guard.clone();
    handle.set_progress_handler(STEPS_PER_CHECK, move || kept.has_time());
    let connection = handle.as_raw_handle().as_ptr();
    let size = |size: usize| c_int::try_from(size).unwrap_or(c_int::MAX);
    let limits = [
        (ffi::SQLITE_LIMIT_LENGTH, size(config.value_bytes_max)),
        // Our own statements need a few.
        (
            ffi::SQLITE_LIMIT_VARIABLE_NUMBER,
            size(config.params_max.max(8)),
        ),
        (
            ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
            LIKE_PATTERN_BYTES_MAX,
        ),
        (ffi::SQLITE_LIMIT_EXPR_DEPTH, EXPRESSION_DEPTH_MAX),
        (ffi::SQLITE_LIMIT_COMPOUND_SELECT, COMPOUND_SELECT_MAX),
        (ffi::SQLITE_LIMIT_TRIGGER_DEPTH, TRIGGER_DEPTH_MAX),
        (ffi::SQLITE_LIMIT_VDBE_OP, PROGRAM_STEPS_MAX),
        (ffi::SQLITE_LIMIT_COLUMN, COLUMNS_MAX),
        (ffi::SQLITE_LIMIT_FUNCTION_ARG, ARGUMENTS_MAX),
        (ffi::SQLITE_LIMIT_ATTACHED, 0),
        (ffi::SQLITE_LIMIT_WORKER_THREADS, 0),
    ];
    let guard = Arc::as_ptr(guard).cast_mut().cast();
    // SAFETY: the connection is open and locked, so nobody else uses it; the guard outlives it, see above.
    unsafe {
        for (limit, value) in limits {
            ffi::sqlite3_limit(connection, limit, value);
        }
        functions::define(connection);
        // The tables inside a full-text index are written by the index only.
        let (on, was): (c_int, *mut c_int) = (1, std::ptr::null_mut());
        ffi::sqlite3_db_config(connection, ffi::SQLITE_DBCONFIG_DEFENSIVE, on, was);
        ffi::sqlite3_set_authorizer(connection, Some(authorize), guard);
    }
}

/// Bounds the memory of SQLite in this process: a row of many large values is made before anybody sees it, so counting
/// rows and bytes of a result comes too late.
pub(super) fn limit_memory(bytes_max: u64) {
    let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
    // SAFETY: both take any number and may be called at any time.
    unsafe {
        ffi::sqlite3_hard_heap_limit64(bytes_max);
        ffi::sqlite3_soft_heap_limit64(bytes_max / 4);
    }
}

/// Whether a transaction is open on this connection.
pub(super) fn is_in_transaction(handle: &mut LockedSqliteHandle<'_>) -> bool {
    // SAFETY: the connection is open and locked, so nobody else uses it.
    unsafe { ffi::sqlite3_get_autocommit(handle.as_raw_handle().as_ptr()) == 0 }
}

/// SQLite asks this about every action while it compiles a statement.
unsafe extern "C" fn authorize(
    guard: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _source: *const c_char,
) -> c_int {
    // SAFETY: `install` made this pointer from a guard that outlives the connection.
    let guard = unsafe { &*guard.cast::<Guard>() };
    guard.meet_thread();
    // SAFETY: SQLite passes null or text that ends with NUL and lives during this call.
    let [first, second] = [first, second].map(|text| unsafe {
        if text.is_null() {
            ""
        } else {
            CStr::from_ptr(text).to_str().unwrap_or("\u{fffd}")
        }
    });
    let is_allowed = match guard.rights.load(Ordering::Relaxed) {
        0 => true,
        1 => guest_may(action, first, second),
        _ => guest_may(action, first, second) || migration_may(action, first, second),
    };
    if is_allowed {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_DENY
    }
}

fn guest_may(action: c_int, first: &str, second: &str) -> bool {
    match action {
        ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE => true,
        ffi::SQLITE_READ | ffi::SQLITE_INSERT | ffi::SQLITE_UPDATE | ffi::SQLITE_DELETE => {
            !is_host_table(first) && !contains(TABLES_REFUSED, first)
        }
        ffi::SQLITE_FUNCTION => !contains(FUNCTIONS_REFUSED, second),
        ffi::SQLITE_PRAGMA => contains(PRAGMAS, first),
        _ => false,
    }
}

fn migration_may(action: c_int, first: &str, second: &str) -> bool {
    match action {
        ffi::SQLITE_CREATE_TABLE
        | ffi::SQLITE_CREATE_INDEX
        | ffi::SQLITE_CREATE_TRIGGER
        | ffi::SQLITE_CREATE_VIEW
        | ffi::SQLITE_DROP_TABLE
        | ffi::SQLITE_DROP_INDEX
        | ffi::SQLITE_DROP_TRIGGER
        | ffi::SQLITE_DROP_VIEW => !is_host_table(first) && !is_host_table(second),
        // Its first argument is the database, the second the table.
        ffi::SQLITE_ALTER_TABLE => !is_host_table(second),
        ffi::SQLITE_CREATE_VTABLE | ffi::SQLITE_DROP_VTABLE => contains(MODULES, second),
        ffi::SQLITE_REINDEX | ffi::SQLITE_ANALYZE => true,
        ffi::SQLITE_PRAGMA => contains(MIGRATION_PRAGMAS, first),
        _ => false,
    }
}

fn is_host_table(name: &str) -> bool {
    name.get(..HOST_TABLES.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(HOST_TABLES))
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}
