//! SQLite's temporary files: sorts, temporary tables and the like, as far as they do not fit into its memory. They lie in
//! a folder of ours, are gone with the process, and count against a quota.
//!
//! SQLite bounds only databases. So its file system gets one function of ours, which opens files that have no name.

#![expect(
    unsafe_code,
    reason = "SQLite asks for files through a table of functions"
)]

use std::{
    cell::RefCell,
    ffi::{CStr, c_int, c_void},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    ptr, slice,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use libsqlite3_sys as ffi;

use crate::services::{Held, Quota};

/// Below the folder of the databases. No plugin has such a name.
pub(super) const FOLDER: &str = ".temp";
const NAME: &CStr = c"gantry-temp";

/// Where one connection's temporary files lie, and what they may take.
#[derive(Debug)]
pub(super) struct Spill {
    folder: PathBuf,
    quota: Quota,
    has_refused: AtomicBool,
}

impl Spill {
    pub(super) fn new(folder: PathBuf, quota: Quota) -> Self {
        Self {
            folder,
            quota,
            has_refused: AtomicBool::new(false),
        }
    }

    /// Whether the statement under way was refused room.
    pub(super) fn was_refused(&self) -> bool {
        self.has_refused.load(Ordering::Relaxed)
    }

    pub(super) fn forget_refusal(&self) {
        self.has_refused.store(false, Ordering::Relaxed);
    }
}

thread_local! {
    /// That of the connection which has this thread for itself.
    static SPILL: RefCell<Option<Arc<Spill>>> = const { RefCell::new(None) };
}

/// From now on temporary files that this thread asks for belong there.
pub(super) fn attach(spill: Arc<Spill>) {
    SPILL.set(Some(spill));
}

/// The name of the file system to open databases with.
pub(super) fn files() -> &'static str {
    static USUAL: OnceLock<()> = OnceLock::new();
    USUAL.get_or_init(|| {
        // SAFETY: the usual file system is there, and stays. Ours is a copy of it, which stays too; its functions get
        // their own table back whichever of the two is passed to them.
        unsafe {
            let usual = ffi::sqlite3_vfs_find(ptr::null());
            let mut ours = *usual;
            ours.zName = NAME.as_ptr();
            ours.pNext = ptr::null_mut();
            ours.szOsFile = ours.szOsFile.max(size_of::<Handle>() as c_int);
            ours.xOpen = Some(open);
            ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 0);
        }
    });
    NAME.to_str().unwrap_or_default()
}

/// What SQLite makes room for, for each file.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    /// From a `Box`, until the file is closed.
    temp: *mut Temp,
}

struct Temp {
    file: File,
    bytes: u64,
    /// The most bytes it has ever had: what stays counted until it is closed.
    bytes_held: u64,
    held: Held,
    spill: Arc<Spill>,
}

impl Temp {
    /// A file that nobody else can find, and that is gone when it is closed, however the process ends.
    fn create(spill: Arc<Spill>) -> io::Result<Self> {
        let held = spill.quota.hold(0).map_err(io::Error::other)?;
        let path = spill.folder.join(uuid::Uuid::now_v7().simple().to_string());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self {
            file,
            bytes: 0,
            bytes_held: 0,
            held,
            spill,
        })
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> c_int {
        let end = at.saturating_add(bytes.len() as u64);
        let more = usize::try_from(end.saturating_sub(self.bytes_held)).unwrap_or(usize::MAX);
        if self.held.grow(more).is_err() {
            self.spill.has_refused.store(true, Ordering::Relaxed);
            return ffi::SQLITE_FULL;
        }
        self.bytes_held = self.bytes_held.max(end);
        self.bytes = self.bytes.max(end);
        match self.file.write_all_at(bytes, at) {
            Ok(()) => ffi::SQLITE_OK,
            Err(_) => ffi::SQLITE_IOERR_WRITE,
        }
    }

    /// Fills the rest with zeros where the file ends before.
    fn read(&self, into: &mut [u8], at: u64) -> c_int {
        let there = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let (data, rest) = into.split_at_mut(there.min(into.len()));
        rest.fill(0);
        match self.file.read_exact_at(data, at) {
            Ok(()) if rest.is_empty() => ffi::SQLITE_OK,
            Ok(()) => ffi::SQLITE_IOERR_SHORT_READ,
            Err(_) => ffi::SQLITE_IOERR_READ,
        }
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(nothing_special),
    xDeviceCharacteristics: Some(nothing_special),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

type RawFile = *mut ffi::sqlite3_file;

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: RawFile,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let spill = name.is_null().then(|| SPILL.with_borrow(Option::clone));
    let Some(spill) = spill.flatten() else {
        // SAFETY: what came from SQLite goes on to where it would have gone.
        return unsafe {
            let usual = ffi::sqlite3_vfs_find(ptr::null());
            match (*usual).xOpen {
                Some(open) => open(vfs, name, file, flags, flags_out),
                None => ffi::SQLITE_CANTOPEN,
            }
        };
    };
    // SAFETY: SQLite gives as much room as `szOsFile` says; without methods it does not close the file.
    unsafe {
        let handle = file.cast::<Handle>();
        (*handle).base.pMethods = ptr::null();
        let Ok(temp) = Temp::create(spill) else {
            return ffi::SQLITE_CANTOPEN;
        };
        (*handle).temp = Box::into_raw(Box::new(temp));
        (*handle).base.pMethods = &raw const METHODS;
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

/// # Safety
/// The file must have been opened by `open` and not yet closed.
unsafe fn temp<'a>(file: RawFile) -> &'a mut Temp {
    // SAFETY: `open` put it there; a temporary file is used by one connection, and that by one thread at a time.
    unsafe { &mut *(*file.cast::<Handle>()).temp }
}

unsafe extern "C" fn close(file: RawFile) -> c_int {
    // SAFETY: SQLite closes a file once, and does not use it any more.
    unsafe {
        drop(Box::from_raw((*file.cast::<Handle>()).temp));
        (*file).pMethods = ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: RawFile, into: *mut c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: SQLite has room for as many bytes as it asks for.
    unsafe {
        let into =
            slice::from_raw_parts_mut(into.cast::<u8>(), usize::try_from(count).unwrap_or(0));
        temp(file).read(into, u64::try_from(at).unwrap_or(0))
    }
}

unsafe extern "C" fn write(file: RawFile, from: *const c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: SQLite has as many bytes as it says.
    unsafe {
        let from = slice::from_raw_parts(from.cast::<u8>(), usize::try_from(count).unwrap_or(0));
        temp(file).write(from, u64::try_from(at).unwrap_or(0))
    }
}

unsafe extern "C" fn truncate(file: RawFile, size: i64) -> c_int {
    // SAFETY: the file is open.
    let temp = unsafe { temp(file) };
    let size = u64::try_from(size).unwrap_or(0);
    if size > temp.bytes || temp.file.set_len(size).is_err() {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    temp.bytes = size;
    ffi::SQLITE_OK
}

/// Nobody reads it after a crash.
unsafe extern "C" fn sync(_file: RawFile, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: RawFile, size: *mut i64) -> c_int {
    // SAFETY: the file is open, and SQLite has room for one number.
    unsafe { *size = i64::try_from(temp(file).bytes).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}

/// Nobody else can open it.
unsafe extern "C" fn lock(_file: RawFile, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_lock(_file: RawFile, is_locked: *mut c_int) -> c_int {
    // SAFETY: SQLite has room for one number.
    unsafe { *is_locked = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_file: RawFile, _operation: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn nothing_special(_file: RawFile) -> c_int {
    0
}
