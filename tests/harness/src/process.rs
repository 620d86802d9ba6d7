//! The real executable in a process of its own, for what cannot be seen from inside of it: what it takes of the machine,
//! and what is left when it is killed.

use std::{
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::{Client, guests};

/// `gantry serve` with rows and files of its own. Dereferences to a client with the key of the first administrator.
pub struct Process {
    child: Child,
    address: SocketAddr,
    client: Client,
    log: Arc<Mutex<String>>,
    /// Changes with each line of the log.
    lines: watch::Receiver<()>,
    environment: Vec<(String, String)>,
    dir: TempDir,
}

impl Deref for Process {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Process {
    /// A server on a free port, with these settings beside those that every test needs.
    pub async fn start(settings: &str) -> Self {
        Self::open(new_dir(settings), &[]).await
    }

    /// The same with these variables in its environment.
    pub async fn start_with(settings: &str, environment: &[(&str, &str)]) -> Self {
        Self::open(new_dir(settings), environment).await
    }

    /// A server whose first start is cut off with `SIGKILL` after this time, and that is then started again.
    pub async fn start_killed_once(after: Duration) -> Self {
        let dir = new_dir("");
        let mut child = spawn(&dir, &[]);
        tokio::time::sleep(after).await;
        child.kill().await.expect("a process that runs");
        Self::open(dir, &[]).await
    }

    async fn open(dir: TempDir, environment: &[(&str, &str)]) -> Self {
        let mut child = spawn(&dir, environment);
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&log);
        let (told, told_lines) = watch::channel(());
        let mut next = async move || {
            let line = lines.next_line().await.ok()??;
            let mut log = keep.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
            drop(log);
            told.send_replace(());
            Some(line)
        };
        let address = loop {
            let Some(line) = next().await else {
                panic!("the server does not start:\n{}", text_of(&log));
            };
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the pipe")]
        tokio::spawn(async move { while next().await.is_some() {} });
        let key = fs::read_to_string(dir.path().join("data/admin.key")).expect("a first start");
        let client = Client::new(address).with_token(key.trim());
        Self {
            child,
            address,
            client,
            log,
            lines: told_lines,
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            dir,
        }
    }

    /// Waits until the server tells something with these words, from now on: from this call, not from the first poll.
    pub fn tells<'a>(&'a self, words: &'a str) -> impl Future<Output = ()> + use<'a> {
        let told = self.log().len();
        let mut lines = self.lines.clone();
        async move {
            while !self.log()[told..].contains(words) {
                lines.changed().await.expect("a server that runs");
            }
        }
    }

    /// Ends it with `SIGKILL`, as a power cut would, and starts it again on what is left and with what it was started with.
    pub async fn kill_and_restart(mut self) -> Self {
        self.child.kill().await.expect("a process that runs");
        let environment = self.environment.iter();
        let environment: Vec<(&str, &str)> = environment
            .map(|(name, value)| (&**name, &**value))
            .collect();
        Self::open(self.dir, &environment).await
    }

    /// Bytes of memory that are in use.
    pub fn memory_bytes(&self) -> u64 {
        let statm = fs::read_to_string(self.proc("statm")).expect("a process that runs");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("the second number is the resident set") * 4096
    }

    /// Bytes of memory in use that nothing may touch now: pools of instances keep them for the next ones.
    pub fn reserved_bytes(&self) -> u64 {
        self.resident_bytes(|mapping| mapping.contains(" ---"))
    }

    /// Bytes of memory in which machine code of plugins lies now: those parts of its files that were read.
    pub fn code_bytes(&self) -> u64 {
        self.resident_bytes(|mapping| mapping.contains("/compiled/"))
    }

    /// What is in memory of the mappings whose line, with addresses, what is allowed, and file, is one that counts.
    fn resident_bytes(&self, does_count: impl Fn(&str) -> bool) -> u64 {
        let smaps = fs::read_to_string(self.proc("smaps")).expect("a process that runs");
        let mut counts = false;
        let mut kib = 0;
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Rss:"), Some(number)) if counts => {
                    kib += number.parse::<u64>().unwrap_or_default();
                }
                (Some(range), Some(_)) if range.contains('-') => counts = does_count(line),
                _ => {}
            }
        }
        kib * 1024
    }

    /// Processor time of all its threads so far, in user code and in the system, in ticks of the kernel: 100 a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).expect("a process that runs");
        // The name of the program comes second, in brackets, and may hold anything.
        let (_, numbers) = stat.rsplit_once(") ").expect("a name in brackets");
        let of = |number: usize| {
            let field = numbers.split(' ').nth(number);
            field.and_then(|field| field.parse::<u64>().ok())
        };
        of(11).expect("utime") + of(12).expect("stime")
    }

    /// Files, sockets and pipes that are open.
    pub fn handles(&self) -> usize {
        fs::read_dir(self.proc("fd"))
            .expect("a process that runs")
            .count()
    }

    /// How many threads it has.
    pub fn all_threads(&self) -> usize {
        let tasks = fs::read_dir(self.proc("task"));
        tasks.expect("a process that runs").count()
    }

    /// The ids of the processes that it has started and that still run.
    pub fn children(&self) -> Vec<u32> {
        let tasks = fs::read_dir(self.proc("task")).expect("a process that runs");
        let lists =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let ids = |list: String| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        };
        lists.flat_map(ids).collect()
    }

    /// How many of its threads have this name.
    pub fn threads(&self, name: &str) -> usize {
        let tasks = fs::read_dir(self.proc("task")).expect("a process that runs");
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|other| other.trim() == name).count()
    }

    fn proc(&self, name: &str) -> PathBuf {
        let id = self.child.id().expect("a process that runs");
        Path::new("/proc").join(id.to_string()).join(name)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder with everything that the server keeps.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the server has told on standard error so far.
    pub fn log(&self) -> String {
        text_of(&self.log)
    }

    /// The access log so far, once its buffer is written.
    pub async fn access_log(&self) -> String {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default()
    }
}

fn new_dir(settings: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = format!(
        "listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\naccess_log = {{ file = \"{}\" }}\n{settings}\n",
        path("data"),
        path("access.log"),
    );
    fs::write(dir.path().join("gantry.toml"), file).expect("a file");
    dir
}

fn spawn(dir: &TempDir, environment: &[(&str, &str)]) -> Child {
    Command::new(guests::gantry())
        .args(["serve", "--config"])
        .arg(dir.path().join("gantry.toml"))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the server is an executable")
}

fn text_of(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split([',', ' ']).next()?.parse().ok()
}
