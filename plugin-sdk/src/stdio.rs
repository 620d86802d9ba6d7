//! What the standard library asks the C library for, answered without WASI.
//!
//! The C library of `wasm32-wasip2` brings thirteen interfaces (terminals, streams, the environment) into every
//! component, because a panic may print and may read `RUST_BACKTRACE`. The host would link each of them anew for each
//! request. Here a line that is printed goes to the plugin's log directly, as the host would have written it, and there
//! is no environment, as there is none on the host. The linker takes these symbols before those of the C library.
#![expect(
    unsafe_code,
    reason = "symbols of the C library are unsafe to define and are called with raw memory"
)]

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use crate::host::logging;
use crate::log::Level;

/// What is printed without an end of line waits for it here; a longer line is cut into several.
const LINE_BYTES_MAX: usize = 1024;

const STDOUT: c_int = 1;
const STDERR: c_int = 2;
/// "Bad file descriptor" in WASI's numbers.
const EBADF: c_int = 8;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

static OUT: Line = Line::new(Level::Info, "stdout");
static ERR: Line = Line::new(Level::Warn, "stderr");

/// POSIX `write`: only standard output and error exist.
///
/// # Safety
///
/// `data` is valid for reads of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, data: *const c_void, length: usize) -> isize {
    let line = match file {
        STDOUT => &OUT,
        STDERR => &ERR,
        _ => {
            // SAFETY: the C library gives the address of a variable that is always there.
            unsafe { *__errno_location() = EBADF };
            return -1;
        }
    };
    if length > 0 {
        // SAFETY: the caller's promise.
        line.write(unsafe { std::slice::from_raw_parts(data.cast(), length) });
    }
    length.cast_signed()
}

/// POSIX `getenv`: a plugin has no environment; what it may know comes from `config` and `secrets`.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    ptr::null_mut()
}

/// Writes what was printed without an end of line. Whoever exports a handler calls it before answering.
pub(crate) fn flush() {
    OUT.end();
    ERR.end();
}

/// What was printed since the last end of line.
struct Line {
    level: Level,
    context: &'static str,
    pending: UnsafeCell<([u8; LINE_BYTES_MAX], usize)>,
}

// SAFETY: a component of this target has one thread.
unsafe impl Sync for Line {}

impl Line {
    const fn new(level: Level, context: &'static str) -> Self {
        Self {
            level,
            context,
            pending: UnsafeCell::new(([0; LINE_BYTES_MAX], 0)),
        }
    }

    fn write(&self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // A whole line needs no copy, and so no memory: a plugin that has none left can still say so.
            if self.is_empty() && piece.ends_with(b"\n") {
                self.log(piece);
                continue;
            }
            for part in piece.chunks(LINE_BYTES_MAX) {
                self.keep(part);
            }
            if piece.ends_with(b"\n") {
                self.end();
            }
        }
    }

    fn is_empty(&self) -> bool {
        // SAFETY: one thread, and no reference to the buffer outlives a statement that has it.
        unsafe { (*self.pending.get()).1 == 0 }
    }

    /// `part` is no longer than the buffer.
    fn keep(&self, part: &[u8]) {
        // SAFETY: as in `is_empty`; `end` ends its use before this one begins.
        if unsafe { (*self.pending.get()).1 } + part.len() > LINE_BYTES_MAX {
            self.end();
        }
        // SAFETY: as in `is_empty`.
        let (buffer, length) = unsafe { &mut *self.pending.get() };
        buffer[*length..*length + part.len()].copy_from_slice(part);
        *length += part.len();
    }

    fn end(&self) {
        // SAFETY: as in `is_empty`; writing to the log calls nothing of the plugin.
        let (buffer, length) = unsafe { &mut *self.pending.get() };
        self.log(&buffer[..*length]);
        *length = 0;
    }

    fn log(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.is_empty() {
            logging::log(self.level, self.context, line);
        }
    }
}
