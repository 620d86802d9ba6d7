//! The processor time of the threads on which SQLite works, read by those who wait for them.

#![expect(
    unsafe_code,
    reason = "neither sqlx nor the standard library tells which thread works for a connection"
)]

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::Once,
};

use libsqlite3_sys as ffi;

/// An SQL function without arguments: the id of the clock of the thread that runs it.
pub const THREAD_CLOCK: &str = "gantry_thread_clock";

/// The clock that counts the processor time of one thread. The default one stands at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadClock(i32);

impl ThreadClock {
    /// The one of the calling thread, which other threads can read.
    #[cfg(target_os = "linux")]
    pub fn own() -> Self {
        let mut clock = 0;
        // SAFETY: asks about the calling thread, which is there, and writes one number.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        Self(if failed == 0 {
            clock
        } else {
            libc::CLOCK_MONOTONIC
        })
    }

    /// Where a thread's clock cannot be read by others, time counts as processor time.
    #[cfg(not(target_os = "linux"))]
    pub fn own() -> Self {
        Self(libc::CLOCK_MONOTONIC as i32)
    }

    /// By its number.
    pub fn of_id(id: i32) -> Self {
        Self(id)
    }

    /// Its number.
    pub fn id(self) -> i32 {
        self.0
    }

    /// Nanoseconds; zero for a clock that is not there (any more).
    pub fn ns(self) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: takes any number for a clock, and writes one time.
        let failed = unsafe { libc::clock_gettime(self.0 as libc::clockid_t, &raw mut time) };
        if failed != 0 {
            return 0;
        }
        let (s, ns) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
        s.unwrap_or(0) * 1_000_000_000 + ns.unwrap_or(0)
    }
}

/// Lets every connection that SQLite opens from now on in this process know [`THREAD_CLOCK`].
pub(super) fn introduce() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: may be called at any time; the function lives as long as the process.
        unsafe { ffi::sqlite3_auto_extension(Some(define)) };
    });
}

unsafe extern "C" fn define(
    connection: *mut ffi::sqlite3,
    _message: *mut *mut c_char,
    _api: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite calls this with a connection that it has just opened and that nobody else has yet.
    unsafe {
        ffi::sqlite3_create_function_v2(
            connection,
            c"gantry_thread_clock".as_ptr(),
            0,
            ffi::SQLITE_UTF8 | ffi::SQLITE_DIRECTONLY,
            ptr::null_mut::<c_void>(),
            Some(tell),
            None,
            None,
            None,
        )
    }
}

unsafe extern "C" fn tell(
    context: *mut ffi::sqlite3_context,
    _count: c_int,
    _arguments: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: SQLite passes a context that is good for one result.
    unsafe { ffi::sqlite3_result_int64(context, ThreadClock::own().id().into()) };
}
