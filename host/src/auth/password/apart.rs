//! Hashing in processes of our own, which get only what nobody else wants of the processors (`SCHED_IDLE`, `sched(7)`): a
//! request of microseconds never waits behind a login. Not on threads of the server: one that is served last may hold a
//! lock that others wait for, that of the memory map above all. On a machine that is never idle these processes come to no
//! end, so whoever asks waits for a bounded time, and then hashes by itself.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixDatagram as Socket,
    },
    path::PathBuf,
    process::{ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use argon2::{Argon2, Params};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
};
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::auth::password::hashing::{Answer, Question};

/// Longest question, in bytes: the longest password with each byte written as six, and a hash.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// A process that is asked nothing ends.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// One that has not answered by then never will.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Time for a process to start.
const START: Duration = Duration::from_millis(100);
/// Times what a password takes on a quiet machine.
const PATIENCE: u32 = 4;

/// The processes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Apart(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    args: Vec<OsString>,
    /// How long an answer may take.
    patience: Duration,
    /// One for each process that there may be.
    places: Arc<Semaphore>,
    /// Those that nobody is asking.
    waiting: Mutex<Vec<Process>>,
}

/// A process that answers one question after the other. It ends when this is dropped.
#[derive(Debug)]
struct Process {
    socket: UnixDatagram,
    _child: Child,
    _place: OwnedSemaphorePermit,
}

impl Apart {
    /// At most `count` processes of a program; `takes` is how long this machine needs for one password.
    pub(super) fn new(program: PathBuf, params: &Params, count: usize, takes: Duration) -> Self {
        let costs = [
            ("--memory-kib", params.m_cost()),
            ("--iterations", params.t_cost()),
            ("--parallelism", params.p_cost()),
        ];
        let args = costs
            .into_iter()
            .flat_map(|(name, cost)| [OsString::from(name), cost.to_string().into()]);
        Self(Arc::new(Inner {
            program,
            args: args.collect(),
            patience: START + takes * PATIENCE,
            places: Arc::new(Semaphore::new(count)),
            waiting: Mutex::default(),
        }))
    }

    /// The answer; nothing if there is none in time. Starts a process on one of `threads` if none is waiting.
    pub(super) async fn ask(&self, question: &Question, threads: &Handle) -> Option<Answer> {
        let message = Zeroizing::new(serde_json::to_vec(question).ok()?);
        loop {
            let kept = self.lock().pop();
            let is_kept = kept.is_some();
            let process = match kept {
                Some(process) => process,
                None => self.start(threads).await?,
            };
            match timeout(self.0.patience, process.ask(&message)).await {
                Ok(Ok(answer)) => {
                    self.lock().push(process);
                    return Some(answer);
                }
                // It had nothing to do for so long that it ended.
                Ok(Err(_)) if is_kept => {}
                Ok(Err(error)) => {
                    tracing::warn!(error.cause = %error, "A process that hashes passwords failed");
                    return None;
                }
                Err(_) => {
                    self.await_answer(process);
                    return None;
                }
            }
        }
    }

    /// Takes a process back when it has answered, which nobody waits for any more.
    fn await_answer(&self, process: Process) {
        let apart = self.clone();
        let answered = async move {
            let answer = timeout(ANSWER_MAX, process.answer()).await;
            if let Ok(Ok(_)) = answer {
                apart.lock().push(process);
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the process, which has a bound"
        )]
        tokio::spawn(answered);
    }

    /// A new process; nothing if there are as many as there may be, or it cannot be started.
    async fn start(&self, threads: &Handle) -> Option<Process> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        let (inner, here) = (Arc::clone(&self.0), Handle::current());
        // The system stops the thread until the program has begun.
        let started = threads.spawn_blocking(move || {
            let _here = here.enter();
            inner.spawn(place)
        });
        match started.await {
            Ok(Ok(process)) => Some(process),
            Ok(Err(error)) => {
                let program = self.0.program.display();
                tracing::warn!(
                    error.cause = %error,
                    "Cannot start {program} to hash passwords; logins compete with other requests"
                );
                None
            }
            Err(_) => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn spawn(&self, place: OwnedSemaphorePermit) -> io::Result<Process> {
        // Messages with bounds, and an end that both sides see.
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let child = Command::new(&self.program)
            .arg("hash")
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // What stops a server at a terminal must not stop the logins that it still finishes.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let socket = Socket::from(ours);
        socket.set_nonblocking(true)?;
        Ok(Process {
            socket: UnixDatagram::from_std(socket)?,
            _child: child,
            _place: place,
        })
    }
}

impl Process {
    async fn ask(&self, message: &[u8]) -> io::Result<Answer> {
        self.socket.send(message).await?;
        self.answer().await
    }

    async fn answer(&self) -> io::Result<Answer> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let count = self.socket.recv(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&buffer[..count])?)
    }
}

/// What passwords are hashed with in a process apart.
#[derive(Debug, Clone, Copy)]
pub struct HashCosts {
    /// Memory for one password.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes of that memory.
    pub parallelism: u32,
}

/// The whole life of a process that hashes passwords: answers what comes on standard input, a socket, until the other end is
/// closed or nothing was asked for a minute.
pub fn hash_child(costs: HashCosts) -> ExitCode {
    match answer_all(costs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hashing passwords: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all(costs: HashCosts) -> anyhow::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Nothing of a password ever gets into a file. A program that takes core dumps of the system (`core(5)`) gets them whatever
    // the limit is, and another process of the same user could look at this one's memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, none)?;
    setrlimit(Resource::Fsize, none)?;
    let params = Params::new(costs.memory_kib, costs.iterations, costs.parallelism, None);
    let argon2 = Argon2::from(params.map_err(|error| anyhow::anyhow!("{error}"))?);
    let own: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = Socket::from(own);
    socket.set_read_timeout(Some(IDLE_MAX))?;
    let mut message = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
    loop {
        let count = match socket.recv(&mut message) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Somebody has stopped it, and let it go on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let question: Question = serde_json::from_slice(&message[..count])?;
        let answer = question.answer(&argon2);
        let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?;
        socket.send(&serde_json::to_vec(&answer)?)?;
    }
}
