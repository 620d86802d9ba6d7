//! The compile child: takes a component or a core module on standard input, gives machine code on standard output, and can do nothing
//! else. It is the same executable as the server, started as `gantry compile`.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::runtime::EngineKind;
use crate::runtime::compile::{CodeKind, use_idle_processors};
use crate::runtime::{engine, restore};

/// The component is at fault; standard error says how.
pub(super) const EXIT_INVALID: i32 = 65;
/// The child could not do its work.
const EXIT_FAILED: u8 = 70;

/// What the child may use, and what it makes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Address space, in bytes.
    pub memory_bytes_max: u64,
    /// Whether it gets only what nobody else wants of the processors.
    pub is_idle: bool,
    /// Which engine the machine code is for.
    pub engine: EngineKind,
}

/// The whole life of the compile child. Call it before any thread is started.
pub fn compile_child(bounds: Bounds) -> ExitCode {
    match run(bounds) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(bounds: Bounds) -> anyhow::Result<ExitCode> {
    limit(bounds)?;
    let mut wasm = Vec::new();
    std::io::stdin().lock().read_to_end(&mut wasm)?;
    forbid_system_calls()?;
    let engine = engine::for_compiling(bounds.engine)?;
    let restored = match bounds.engine {
        EngineKind::Plain => restore::add(&wasm, engine::SMALL_MEMORY_PAGES),
        EngineKind::Concurrent => None,
    };
    let kind = CodeKind::of(restored.is_some());
    let compiled = if wasmparser::Parser::is_core_wasm(&wasm) {
        engine.precompile_module(&wasm)
    } else {
        engine.precompile_component(restored.as_deref().unwrap_or(&wasm))
    };
    let code = match compiled {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(ExitCode::from(EXIT_INVALID.unsigned_abs() as u8));
        }
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&[kind as u8])?;
    stdout.write_all(&code)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn limit(bounds: Bounds) -> anyhow::Result<()> {
    let set = |resource, value| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
    };
    set(Resource::Cpu, bounds.cpu_s)?;
    set(Resource::As, bounds.memory_bytes_max)?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    set(Resource::Nofile, 16)?;
    // Requests come first: compiling takes what they leave.
    match bounds.is_idle {
        true => use_idle_processors()?,
        false => {
            nice(10)?;
        }
    }
    Ok(())
}

/// System calls that reach outside of the process. They fail with EPERM, which the compiler's libraries take in their
/// stride (they look for the number of processors in a file, for instance). Threads and memory stay allowed.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_inotify_init1,
    libc::SYS_mknodat,
    libc::SYS_utimensat,
    libc::SYS_fsopen,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_chdir,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
];

fn forbid_system_calls() -> anyhow::Result<()> {
    let mut rules: BTreeMap<_, _> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    // Its own limits it may ask for, those of other processes, the server's for instance, it may not change.
    let is_other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is_other])?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}
