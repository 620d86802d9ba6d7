//! Where passwords are hashed: apart from the host, as long as that comes to an end.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixDatagram, process::CommandExt as _},
    },
    process::{Command, Stdio},
    time::Duration,
};

use gantry_harness::{TestHost, guests::gantry};

use crate::accounts::{PASSWORD, log_in};

/// `SCHED_IDLE` (`sched(7)`).
const IDLE: &str = "5";

/// The processes that hash with this much memory for a password, and the policy by which each is scheduled.
fn processes(memory_kib: u32) -> Vec<(u32, String)> {
    let parts = ["hash", "--memory-kib", &memory_kib.to_string()].map(str::to_owned);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(id) = name.to_string_lossy().parse() else {
            continue;
        };
        let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        // One that has ended and waits to be forgotten has no line.
        if line.split('\0').skip(1).take(3).eq(parts.iter()) {
            // The fields after the name begin with the third; the policy is the 41st (`proc_pid_stat(5)`).
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let policy = fields.split_ascii_whitespace().nth(38);
            found.push((id, policy.unwrap_or_default().to_owned()));
        }
    }
    found
}

fn signal(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.unwrap().success());
}

async fn host(memory_kib: u32) -> TestHost {
    let host = TestHost::build().with(|config| {
        config.auth.hash_apart = true;
        config.auth.argon2_memory_kib = memory_kib;
        config.auth.hash_concurrency_max = 1;
    });
    let host = host.start().await;
    host.user("ann@example.com", &[]).await;
    host
}

/// Logs in until there is a process for it that takes what nobody else wants: on a busy machine the first logins may be over
/// before it has begun.
async fn process_of_logins(host: &TestHost, memory_kib: u32) -> u32 {
    for _ in 0..200 {
        log_in(host, "ann@example.com", PASSWORD).await;
        if let Some((process, policy)) = processes(memory_kib).pop()
            && policy == IDLE
        {
            return process;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no process hashes: {:?}", processes(memory_kib));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_hashed_in_a_process_that_takes_what_nobody_else_wants() {
    let host = host(1001).await;
    let process = process_of_logins(&host, 1001).await;
    // The same one answers again, also if it was stopped meanwhile, and none is left behind by a host that has stopped.
    signal(process, "-STOP");
    signal(process, "-CONT");
    log_in(&host, "ann@example.com", PASSWORD).await;
    let now: BTreeSet<_> = processes(1001).into_iter().map(|(id, _)| id).collect();
    assert_eq!(now, BTreeSet::from([process]));
    host.stop().await;
    for _ in 0..100 {
        if processes(1001).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a process is left: {:?}", processes(1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_go_on_when_that_process_is_killed_and_when_it_gets_nothing_of_the_processors() {
    let host = host(1002).await;
    let killed = process_of_logins(&host, 1002).await;
    signal(killed, "-KILL");
    let stopped = process_of_logins(&host, 1002).await;
    assert_ne!(stopped, killed);
    signal(stopped, "-STOP");
    for _ in 0..3 {
        log_in(&host, "ann@example.com", PASSWORD).await;
    }
    // It is as bounded as the turns: no further one was started beside it.
    assert_eq!(processes(1002).len(), 1);
    // What is wrong stays wrong, whoever says so.
    let login = serde_json::json!({ "email": "ann@example.com", "password": "another password" });
    let answer = host.post("/api/auth/login", &login).await;
    answer.assert_problem(401, "auth.credentials_wrong");
    signal(stopped, "-CONT");
    log_in(&host, "ann@example.com", PASSWORD).await;
    host.stop().await;
}

#[test]
fn nobody_looks_into_a_process_that_hashes() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut command = Command::new(gantry());
    command
        .args(["hash", "--memory-kib", "1003"])
        .args(["--iterations", "1", "--parallelism", "1"])
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // What belongs to root belongs to root in any case.
        command.uid(65534).gid(65534);
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    ours.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    ours.send(br#"{"password":"correct horse","stored":null}"#)
        .unwrap();
    let mut answer = [0; 1000];
    let count = ours.recv(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..count]).contains("$argon2id$"));
    // The system gives what tells of a process that cannot be dumped to root (`proc(5)`).
    let told = fs::metadata(format!("/proc/{}/environ", child.id())).unwrap();
    assert_eq!(told.uid(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}
