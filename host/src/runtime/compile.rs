//! From WebAssembly to machine code, in a short-lived child process, and from the cache of machine code to a component.
//!
//! Compiling is apart because it may take any amount of time and memory for a hostile component, and because the
//! compiler keeps memory for the life of its process. The server only loads what the child made.

use std::{
    collections::BTreeSet,
    future::pending,
    io::{self, Write as _},
    ops::Range,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use rustix::mm::{Advice, madvise};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::{AcquireError, Semaphore},
};
use wasmtime::{Engine, Module, Precompiled, component::Component};

use crate::ids::Digest;
use crate::runtime::background::Background;
use crate::runtime::config::CompileConfig;
use crate::runtime::engine::{self, EngineKind};
use crate::runtime::lanes::{Lane, Lanes};

/// Why a component cannot be compiled or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The author's part: what the compiler says about the component.
    #[error("the component does not compile: {0}")]
    Invalid(String),
    #[error(
        "compiling the component took more than {0}; make it smaller or raise `runtime.compile`"
    )]
    LimitExceeded(&'static str),
    #[error("too many components are waiting to be compiled; deploy again in a moment")]
    Busy,
    #[error("the host failed while compiling the component")]
    Host(#[source] anyhow::Error),
}

/// What was compiled.
pub(super) enum Code {
    Component {
        component: Component,
        /// Whether an instance of it is as new after each call that returned.
        is_restored: bool,
    },
    /// Not a component: a plugin of Extism.
    Module(Module),
}

/// What the child writes before the machine code, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum CodeKind {
    /// As the author made it.
    AsIs = 0,
    /// With what puts an instance back after a call.
    Restored = 1,
}

impl CodeKind {
    pub(super) fn of(is_restored: bool) -> Self {
        match is_restored {
            true => Self::Restored,
            false => Self::AsIs,
        }
    }
}

/// Compiles components and core modules for one engine and keeps the results.
pub(super) struct Compiler {
    kind: EngineKind,
    config: CompileConfig,
    cache: Arc<Cache>,
    /// Where code is read, checked and loaded: much work that nobody waits for with a request in hand.
    background: Arc<Background>,
    lanes: Arc<Lanes>,
    /// Those who wait or have a place.
    queue: Arc<Semaphore>,
}

impl Compiler {
    pub(super) fn new(
        kind: EngineKind,
        engine: &Engine,
        config: CompileConfig,
        dir: PathBuf,
        key: [u8; 32],
        background: Arc<Background>,
    ) -> Self {
        let lanes = Arc::new(Lanes::new(config.concurrency_max));
        let queue = Arc::new(Semaphore::new(config.queue_max));
        let cache = Cache {
            engine_hash: hash_of(engine),
            dir,
            key,
        };
        Self {
            kind,
            config,
            cache: Arc::new(cache),
            background,
            lanes,
            queue,
        }
    }

    /// A compiler for another kind of engine, which shares the folder of the cache and the lines before the children.
    pub(super) fn beside(&self, kind: EngineKind, engine: &Engine) -> Self {
        let cache = Cache {
            engine_hash: hash_of(engine),
            dir: self.cache.dir.clone(),
            key: self.cache.key,
        };
        Self {
            kind,
            config: self.config.clone(),
            cache: Arc::new(cache),
            background: Arc::clone(&self.background),
            lanes: Arc::clone(&self.lanes),
            queue: Arc::clone(&self.queue),
        }
    }

    /// The code of an artifact for this engine, out of the cache or newly compiled, in turn with those of other callers.
    /// Once per deployment and process.
    pub(super) async fn load(
        &self,
        engine: &Engine,
        digest: Digest,
        wasm: Bytes,
        caller: &str,
    ) -> Result<Code, CompileError> {
        let host = |error: io::Error| CompileError::Host(error.into());
        let (cache, own) = (Arc::clone(&self.cache), engine.clone());
        let find = move || {
            let code = cache.get(digest).map_err(host)?;
            Ok(code.map(|code| deserialize(&own, &code, &cache.dir)))
        };
        match self.background.work(find).await? {
            Some(Ok(code)) => return Ok(code),
            Some(Err(error)) => tracing::warn!(
                artifact.digest = %digest, error.cause = %error,
                "Cached machine code does not load and is made anew"
            ),
            None => {}
        }
        let code = self.compile(wasm, caller).await?;
        let (cache, engine) = (Arc::clone(&self.cache), engine.clone());
        let keep = move || {
            cache.put(digest, &code).map_err(host)?;
            // Code that was made this very moment is refused only if it wants more than the pool of instances has.
            let loaded = deserialize(&engine, &code, &cache.dir);
            loaded.map_err(|error| CompileError::Invalid(format!("{error:#}")))
        };
        self.background.work(keep).await
    }

    /// Removes all files of the cache except the code that today's engines made of these artifacts, and files younger
    /// than `age_min`.
    pub(super) async fn remove_unreferenced(
        &self,
        keep: BTreeSet<Digest>,
        age_min: Duration,
    ) -> io::Result<()> {
        let dir = self.cache.dir.clone();
        let remove = move || {
            let mut paths = BTreeSet::new();
            for kind in EngineKind::ALL {
                // Not of the engine that runs: one of them may never have been needed, and its code is kept all the same.
                let engine = engine::for_compiling(kind).map_err(io::Error::other)?;
                let hash = hash_of(&engine);
                paths.extend(keep.iter().map(|digest| path_in(&dir, *digest, &hash)));
            }
            remove_others(&dir, &paths, age_min)
        };
        self.background.work(remove).await
    }

    async fn compile(&self, wasm: Bytes, caller: &str) -> Result<Vec<u8>, CompileError> {
        let host = |error: AcquireError| CompileError::Host(error.into());
        let _queued = self.queue.try_acquire().map_err(|_| CompileError::Busy)?;
        if wasm.len() < self.config.slow_bytes_min {
            let quick = self.lanes.take(Lane::Quick, caller).await.map_err(host)?;
            let cpu_s = self.config.quick_cpu_s.min(self.config.cpu_s);
            let result = self.run_child(wasm.clone(), cpu_s).await;
            drop(quick);
            match result {
                // Nobody knows before how long it takes, and whoever is behind it must not wait for all of it.
                Err(CompileError::LimitExceeded(_)) => {}
                result => return result,
            }
        }
        let _slow = self.lanes.take(Lane::Slow, caller).await.map_err(host)?;
        self.run_child(wasm, self.config.cpu_s).await
    }

    async fn run_child(&self, wasm: Bytes, cpu_s: u64) -> Result<Vec<u8>, CompileError> {
        let wall = Duration::from_secs(self.config.wall_s);
        let compiled = async {
            let code = self.feed_child(wasm.clone(), cpu_s, Turn::Idle).await?;
            match code {
                Some(code) => Ok(code),
                None => {
                    tracing::debug!(
                        "The machine is busy; compiling begins again beside the others"
                    );
                    let code = self.feed_child(wasm, cpu_s, Turn::Nice).await?;
                    code.ok_or_else(|| CompileError::Host(anyhow::anyhow!("a child was given up")))
                }
            }
        };
        match tokio::time::timeout(wall, compiled).await {
            Ok(result) => result,
            Err(_) => Err(CompileError::LimitExceeded("its wall time")),
        }
    }

    /// The machine code; nothing if the child got too little of the processors for its turn.
    async fn feed_child(
        &self,
        wasm: Bytes,
        cpu_s: u64,
        turn: Turn,
    ) -> Result<Option<Vec<u8>>, CompileError> {
        let host = |error: io::Error| CompileError::Host(error.into());
        let program = match &self.config.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(host)?,
        };
        let mut command = Command::new(&program);
        command.arg("compile");
        if self.kind == EngineKind::Concurrent {
            command.arg("--concurrent");
        }
        if turn == Turn::Idle {
            command.arg("--idle");
        }
        let mut child = command
            .args(["--cpu-s", &cpu_s.to_string()])
            .args([
                "--memory-bytes-max",
                &self.config.memory_bytes_max.to_string(),
            ])
            .env_clear()
            // The compiler's own pool of threads (rayon).
            .env("RAYON_NUM_THREADS", self.config.threads.max(1).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                CompileError::Host(
                    anyhow::Error::new(error)
                        .context(format!("cannot start {}", program.display())),
                )
            })?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(host(io::Error::other("the compile child has no pipes")));
        };
        let feed = async move {
            // A child that has given up closes its end; its exit says why.
            let _ = stdin.write_all(&wasm).await;
            drop(stdin);
        };
        let output_max = self.config.output_bytes_max;
        let (mut code, mut message) = (Vec::new(), Vec::new());
        let mut stdout = stdout.take(output_max + 1);
        let mut stderr = stderr.take(MESSAGE_BYTES_MAX);
        let read_code = async {
            stdout.read_to_end(&mut code).await.map_err(host)?;
            if code.len() as u64 > output_max {
                // At once: the child would wait for a reader until its wall time is over.
                return Err(CompileError::LimitExceeded("its bytes of machine code"));
            }
            Ok(())
        };
        let read_message = async {
            stderr.read_to_end(&mut message).await.map_err(host)?;
            let mut rest = stderr.into_inner();
            tokio::io::copy(&mut rest, &mut tokio::io::sink())
                .await
                .map_err(host)
        };
        let feed = async {
            feed.await;
            Ok(())
        };
        let starved = starved(child.id().filter(|_| turn == Turn::Idle));
        tokio::select! {
            done = async { tokio::try_join!(feed, read_code, read_message) } => { done?; }
            () = starved => return Ok(None),
        }
        let status = child.wait().await.map_err(host)?;
        match status.code() {
            Some(0) => Ok(Some(code)),
            Some(super::confine::EXIT_INVALID) => Err(CompileError::Invalid(
                String::from_utf8_lossy(&message).trim().to_owned(),
            )),
            Some(code) => Err(CompileError::Host(anyhow::anyhow!(
                "the compile child ended with status {code}: {}",
                String::from_utf8_lossy(&message).trim()
            ))),
            None => Err(CompileError::LimitExceeded("its processor time or memory")),
        }
    }
}

/// What part of the processors a child gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// What nobody else wants (`SCHED_IDLE`): it holds up nobody for a moment, but on a machine that is never idle it
    /// comes to no end.
    Idle,
    /// A tenth of the part of others.
    Nice,
}

/// How often it is looked whether a child gets on.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// It does with this part of a processor.
const STARVED_BELOW: u32 = 4;
/// `USER_HZ` is 100 wherever we run (`time(7)`).
const TICK_MS: u64 = 10;

/// Ends when a process has got too little of the processors for a while, or nobody can tell.
async fn starved(process: Option<u32>) {
    let Some(process) = process else {
        return pending().await;
    };
    let mut before = cpu_time(process).await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = cpu_time(process).await;
        match (before, now) {
            (Some(before), Some(now))
                if now.saturating_sub(before) >= LOOK_EVERY / STARVED_BELOW => {}
            _ => return,
        }
        before = now;
    }
}

/// Processor time that all threads of a process have had: fields 14 and 15 of `/proc/PID/stat` (`proc_pid_stat(5)`).
async fn cpu_time(process: u32) -> Option<Duration> {
    let stat = tokio::fs::read_to_string(format!("/proc/{process}/stat")).await;
    let stat = stat.ok()?;
    // The name of the program may have spaces in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * TICK_MS))
}

/// From now on this process uses only what nobody else wants of the processors (`SCHED_IDLE`, `sched(7)`). Only before any
/// thread is started. Never for the server or a thread of it: whoever holds a lock must get on.
pub fn use_idle_processors() -> io::Result<()> {
    // SAFETY: a structure of C without pointers, for which all zeros are a value.
    #[expect(unsafe_code, reason = "a structure of C")]
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    #[expect(unsafe_code, reason = "no library that we have offers it")]
    // SAFETY: the call reads `param`, which lives until it returns, and changes nothing but how this thread is scheduled.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) } != 0;
    match failed {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}

fn deserialize(engine: &Engine, code: &[u8], dir: &Path) -> wasmtime::Result<Code> {
    let Some((kind, code)) = code.split_first() else {
        return Err(wasmtime::format_err!("the machine code is empty"));
    };
    let is_restored = *kind == CodeKind::Restored as u8;
    let is_module = Engine::detect_precompiled(code) == Some(Precompiled::Module);
    #[expect(
        unsafe_code,
        reason = "the code comes from our own child, directly or out of a cache that is authenticated"
    )]
    // SAFETY: `deserialize` asks that the bytes come from `precompile_component` or `precompile_module` and were not
    // changed since. They come from the pipe of our own child, or from a file whose HMAC was verified over the very
    // bytes given here with a key that only this installation has. Which of the two it was is written in them. The
    // file has no name and is handed to nobody else, so what is in it stays what was written here.
    unsafe {
        let component = |component| Code::Component {
            component,
            is_restored,
        };
        // Not every file system lets code run or has room; memory does.
        if let Ok(file) = nameless_file(dir, code) {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let loaded = match is_module {
                true => Module::deserialize_file(engine, path).map(Code::Module),
                false => Component::deserialize_file(engine, path).map(component),
            };
            if let Ok(code) = loaded {
                let_go(match &code {
                    Code::Component { component, .. } => component.image_range(),
                    Code::Module(module) => module.image_range(),
                });
                return Ok(code);
            }
        }
        match is_module {
            true => Module::deserialize(engine, code).map(Code::Module),
            false => Component::deserialize(engine, code).map(component),
        }
    }
}

/// A file that nobody else can open. Code that is mapped from a file takes memory only where it runs, and the system can do
/// without it when memory is short; a file of the cache itself could be changed by others after it was verified.
fn nameless_file(dir: &Path, code: &[u8]) -> io::Result<std::fs::File> {
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(code)?;
    Ok(file)
}

/// Lets go of the memory of code that is mapped from a file, most of which loading has touched. It comes back where it runs.
fn let_go(image: Range<*const u8>) {
    let bytes = image.end.addr().saturating_sub(image.start.addr());
    #[expect(unsafe_code, reason = "the system is told about memory")]
    // SAFETY: what is let go of is read from the file again when it is needed. The mapping is private, and wasmtime never
    // writes to it: it refuses code with relocations and makes the rest read-only. Nobody else can change the file.
    let told = unsafe { madvise(image.start.cast_mut().cast(), bytes, Advice::LinuxDontNeed) };
    if let Err(error) = told {
        tracing::debug!(error.cause = %error, "Machine code stays in memory");
    }
}

/// Most bytes of what the child says about a failure.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// What the child does to a component before it compiles it, and what it writes before the code. Raise it with either.
const CODE_FORMAT: u32 = 2;

/// Which engines can load the code of this one.
fn hash_of(engine: &Engine) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    // What is around the code changes with us.
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    CODE_FORMAT.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Machine code in files, each with a tag in front that only this installation can make: whoever can write to the folder
/// but does not have the key cannot have code of theirs run.
struct Cache {
    dir: PathBuf,
    engine_hash: String,
    key: [u8; 32],
}

const TAG_BYTES: usize = 32;

impl Cache {
    fn path(&self, digest: Digest) -> PathBuf {
        path_in(&self.dir, digest, &self.engine_hash)
    }

    fn mac(&self, digest: Digest, code: &[u8]) -> Hmac<sha2::Sha256> {
        let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(&self.key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length (RFC 2104)"));
        mac.update(self.engine_hash.as_bytes());
        mac.update(digest.to_string().as_bytes());
        mac.update(code);
        mac
    }

    fn get(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        let mut bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_ours = bytes
            .split_at_checked(TAG_BYTES)
            .is_some_and(|(tag, code)| self.mac(digest, code).verify_slice(tag).is_ok());
        if !is_ours {
            tracing::warn!(path = %path.display(), "A file in the code cache is not ours and is ignored");
            return Ok(None);
        }
        Ok(Some(bytes.split_off(TAG_BYTES)))
    }

    fn put(&self, digest: Digest, code: &[u8]) -> io::Result<()> {
        let tag: [u8; TAG_BYTES] = self.mac(digest, code).finalize().into_bytes().into();
        let path = self.path(digest);
        let temporary = self.dir.join(format!(".{}.tmp", uuid::Uuid::now_v7()));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir)?;
        let written = write_private(&temporary, &tag, code);
        let renamed = written.and_then(|()| std::fs::rename(&temporary, &path));
        if renamed.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        renamed
    }
}

fn path_in(dir: &Path, digest: Digest, engine_hash: &str) -> PathBuf {
    dir.join(format!("{digest}-{engine_hash}.cwasm"))
}

fn remove_others(dir: &Path, keep: &BTreeSet<PathBuf>, age_min: Duration) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        // Nothing was ever compiled.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let age = SystemTime::now().duration_since(entry.metadata()?.modified()?);
        if !keep.contains(&entry.path()) && age.unwrap_or_default() >= age_min {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_private(path: &Path, tag: &[u8], code: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(tag)?;
    file.write_all(code)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> Cache {
        Cache {
            dir: dir.to_owned(),
            engine_hash: "e".to_owned(),
            key: [7; 32],
        }
    }

    #[test]
    fn what_was_put_comes_back_and_what_somebody_else_wrote_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, digest) = (cache(dir.path()), Digest::of(b"wasm"));
        assert_eq!(cache.get(digest).unwrap(), None);
        cache.put(digest, b"code").unwrap();
        assert_eq!(
            cache.get(digest).unwrap().as_deref(),
            Some(b"code".as_slice())
        );

        let mut bytes = std::fs::read(cache.path(digest)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(cache.path(digest), bytes).unwrap();
        assert_eq!(cache.get(digest).unwrap(), None, "an altered file");

        std::fs::write(cache.path(digest), b"short").unwrap();
        assert_eq!(cache.get(digest).unwrap(), None, "a truncated file");

        cache.put(digest, b"code").unwrap();
        let other = Cache {
            key: [8; 32],
            ..self::cache(dir.path())
        };
        assert_eq!(
            other.get(digest).unwrap(),
            None,
            "a file of another installation"
        );

        let moved = Digest::of(b"other wasm");
        std::fs::rename(cache.path(digest), cache.path(moved)).unwrap();
        assert_eq!(
            cache.get(moved).unwrap(),
            None,
            "the code of another component"
        );
    }
}
