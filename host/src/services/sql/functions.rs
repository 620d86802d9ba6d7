//! SQL functions in place of SQLite's own, where those take time that grows with the product of two lengths. A function
//! cannot be interrupted, so two values of the largest size would keep a thread busy for minutes, past every deadline.

#![expect(
    unsafe_code,
    reason = "sqlx has no safe way to define a function on a connection"
)]

use std::{
    collections::HashSet,
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
};

use libsqlite3_sys as ffi;
use memchr::memmem;

type Context = *mut ffi::sqlite3_context;
type Arguments = *mut *mut ffi::sqlite3_value;
type Function = unsafe extern "C" fn(Context, c_int, Arguments);

const FUNCTIONS: &[(&CStr, c_int, Function)] = &[
    (c"instr", 2, instr),
    (c"replace", 3, replace),
    (c"trim", 2, trim),
    (c"ltrim", 2, trim_start),
    (c"rtrim", 2, trim_end),
    (c"unhex", 2, unhex),
];

/// Defines the functions on a connection.
///
/// # Safety
/// The connection must be open, and nobody else may use it meanwhile.
pub(super) unsafe fn define(connection: *mut ffi::sqlite3) {
    let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
    for (name, count, function) in FUNCTIONS {
        // SAFETY: the caller vouches for the connection; the functions keep nothing between calls.
        unsafe {
            ffi::sqlite3_create_function_v2(
                connection,
                name.as_ptr(),
                *count,
                flags,
                ptr::null_mut::<c_void>(),
                Some(*function),
                None,
                None,
                None,
            );
        }
    }
}

/// An argument as text, or its bytes if it is a blob and `is_blob` is wanted. Nothing if it is NULL or memory ran out.
///
/// # Safety
/// `arguments` must have an argument of this number, and it must not be used otherwise while the result lives.
unsafe fn bytes<'a>(arguments: Arguments, number: usize, as_blob: bool) -> Option<&'a [u8]> {
    // SAFETY: SQLite passes as many arguments as the function was defined with. What it returns for one stays until the
    // function returns, as long as no other form of it is asked for.
    unsafe {
        let value = *arguments.add(number);
        if ffi::sqlite3_value_type(value) == ffi::SQLITE_NULL {
            return None;
        }
        let start: *const u8 = if as_blob {
            ffi::sqlite3_value_blob(value).cast()
        } else {
            ffi::sqlite3_value_text(value)
        };
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        if start.is_null() {
            // An empty blob has no address.
            return as_blob.then_some(&[]);
        }
        Some(std::slice::from_raw_parts(start, length))
    }
}

unsafe fn is_blob(arguments: Arguments, number: usize) -> bool {
    // SAFETY: as in `bytes`.
    unsafe { ffi::sqlite3_value_type(*arguments.add(number)) == ffi::SQLITE_BLOB }
}

/// Text as the result. SQLite copies it, and refuses what is longer than a value may be.
unsafe fn answer(context: Context, text: &[u8]) {
    // SAFETY: the context is the one of the call under way; the text is copied before this returns.
    unsafe {
        ffi::sqlite3_result_text64(
            context,
            text.as_ptr().cast::<c_char>(),
            text.len() as u64,
            ffi::SQLITE_TRANSIENT(),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

/// Bytes that begin a character.
fn is_start(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

/// `instr(X, Y)`: where Y begins in X, from 1; 0 if nowhere. Counted in characters, for two blobs in bytes.
unsafe extern "C" fn instr(context: Context, _count: c_int, arguments: Arguments) {
    // SAFETY: the function was defined with two arguments.
    unsafe {
        let as_blob = is_blob(arguments, 0) && is_blob(arguments, 1);
        let (Some(text), Some(wanted)) =
            (bytes(arguments, 0, as_blob), bytes(arguments, 1, as_blob))
        else {
            return;
        };
        let found = memmem::find(text, wanted).map_or(0, |at| {
            let before = &text[..at];
            1 + if as_blob {
                at
            } else {
                before.iter().filter(|byte| is_start(**byte)).count()
            }
        });
        ffi::sqlite3_result_int64(context, i64::try_from(found).unwrap_or(i64::MAX));
    }
}

/// `replace(X, Y, Z)`: X with Z wherever it has Y.
unsafe extern "C" fn replace(context: Context, _count: c_int, arguments: Arguments) {
    // SAFETY: the function was defined with three arguments.
    unsafe {
        let (Some(text), Some(wanted), Some(other)) = (
            bytes(arguments, 0, false),
            bytes(arguments, 1, false),
            bytes(arguments, 2, false),
        ) else {
            return;
        };
        if wanted.is_empty() {
            ffi::sqlite3_result_value(context, *arguments);
            return;
        }
        let finder = memmem::Finder::new(wanted);
        let times = finder.find_iter(text).count();
        let length =
            (text.len() - times * wanted.len()).saturating_add(times.saturating_mul(other.len()));
        let connection = ffi::sqlite3_context_db_handle(context);
        let length_max = ffi::sqlite3_limit(connection, ffi::SQLITE_LIMIT_LENGTH, -1);
        // Known before anything is built: a short text can ask for a very long one.
        if length > usize::try_from(length_max).unwrap_or(0) {
            ffi::sqlite3_result_error_toobig(context);
            return;
        }
        let mut replaced = Vec::with_capacity(length);
        let mut from = 0;
        for at in finder.find_iter(text) {
            replaced.extend_from_slice(&text[from..at]);
            replaced.extend_from_slice(other);
            from = at + wanted.len();
        }
        replaced.extend_from_slice(&text[from..]);
        answer(context, &replaced);
    }
}

unsafe extern "C" fn trim(context: Context, _count: c_int, arguments: Arguments) {
    // SAFETY: the function was defined with two arguments.
    unsafe { trimmed(context, arguments, true, true) }
}

unsafe extern "C" fn trim_start(context: Context, _count: c_int, arguments: Arguments) {
    // SAFETY: the function was defined with two arguments.
    unsafe { trimmed(context, arguments, true, false) }
}

unsafe extern "C" fn trim_end(context: Context, _count: c_int, arguments: Arguments) {
    // SAFETY: the function was defined with two arguments.
    unsafe { trimmed(context, arguments, false, true) }
}

/// X without those characters at its ends that are in Y.
unsafe fn trimmed(context: Context, arguments: Arguments, at_start: bool, at_end: bool) {
    // SAFETY: all callers have two arguments.
    let (text, unwanted) = unsafe { (bytes(arguments, 0, false), bytes(arguments, 1, false)) };
    let (Some(mut text), Some(unwanted)) = (text, unwanted) else {
        return;
    };
    let unwanted = Set::of(unwanted);
    while at_start && let Some(first) = characters(text).next() {
        if !unwanted.has(first) {
            break;
        }
        text = &text[first.len()..];
    }
    while at_end && let Some(start) = text.iter().rposition(|byte| is_start(*byte)) {
        if !unwanted.has(&text[start..]) {
            break;
        }
        text = &text[..start];
    }
    // SAFETY: the context is the one of the call under way.
    unsafe { answer(context, text) }
}

/// Characters, to be asked for one in the same time however many there are.
struct Set<'a> {
    /// Those of one byte, which are most.
    single: [bool; 256],
    others: HashSet<&'a [u8]>,
}

impl<'a> Set<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut set = Self {
            single: [false; 256],
            others: HashSet::new(),
        };
        for character in characters(text) {
            match character {
                [byte] => set.single[usize::from(*byte)] = true,
                bytes => {
                    set.others.insert(bytes);
                }
            }
        }
        set
    }

    fn has(&self, character: &[u8]) -> bool {
        match character {
            [byte] => self.single[usize::from(*byte)],
            bytes => self.others.contains(bytes),
        }
    }
}

/// The characters of a text. What is not UTF-8 is divided somehow and never lost.
fn characters(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let rest = text.get(1..)?;
        let more = rest.iter().position(|byte| is_start(*byte));
        let (first, after) = text.split_at(1 + more.unwrap_or(rest.len()));
        text = after;
        Some(first)
    })
}

/// `unhex(X, Y)` looks through all of Y for each character of X; nobody needs it.
unsafe extern "C" fn unhex(context: Context, _count: c_int, _arguments: Arguments) {
    let message = c"unhex takes one argument here";
    // SAFETY: the context is the one of the call under way; the message is copied.
    unsafe { ffi::sqlite3_result_error(context, message.as_ptr(), -1) }
}
