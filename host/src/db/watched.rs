//! Lets the system find out that a server is gone without a word: a network that swallows everything ends no connection by
//! itself, and whoever waits for an answer would wait for ever. Neither sqlx nor the server can ask for that on our side.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, RawFd},
    sync::Once,
    time::Duration,
};

use rustix::{
    net::{getpeername, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

/// So long nothing may come before the system asks whether the server is there.
const QUIET: Duration = Duration::from_secs(10);
/// How often it asks.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// So often without an answer, and the connection is over.
const ASKED_MAX: u32 = 3;
/// So long may something that was sent be without a sign that it has arrived.
const SENT_MAX: Duration = Duration::from_secs(20);

/// Has all connections to this port watched. Call it when there is a new one.
pub(super) async fn watch(port: u16) {
    // As many calls of the system as there are open files.
    let watched = tokio::task::spawn_blocking(move || each(port, set));
    if let Ok(Err(error)) = watched.await {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                error.cause = %error,
                "Connections to the server of the rows are not watched: a network that swallows everything ends none of them"
            );
        });
    }
}

fn set(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(socket, QUIET)?;
    sockopt::set_tcp_keepintvl(socket, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, ASKED_MAX)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(
        socket,
        u32::try_from(SENT_MAX.as_millis()).unwrap_or(u32::MAX),
    )?;
    sockopt::set_socket_keepalive(socket, true)
}

/// Does something with each socket of this process whose other end has this port. How many. sqlx does not tell which socket
/// a connection has, so all are looked at; the system gives each a second number, which nobody closes meanwhile.
fn each(
    port: u16,
    mut with: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> io::Result<usize> {
    let mut count = 0;
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/dev/fd")? {
        let number = entry?.file_name();
        let Some(number) = number.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        let file = match pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) {
            // Closed since the folder was read.
            Err(rustix::io::Errno::BADF) => continue,
            file => file?,
        };
        let file = file.as_fd();
        let peer = getpeername(file).ok().flatten();
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        if peer.is_some_and(|peer| peer.port() == port) && with(file).is_ok() {
            count += 1;
        }
    }
    Ok(count)
}

/// How many connections to this port are watched, and how many there are.
#[cfg(test)]
pub(super) fn count(port: u16) -> (usize, usize) {
    let mut watched = 0;
    let all = each(port, |socket| {
        watched += usize::from(sockopt::socket_keepalive(socket)?);
        Ok(())
    });
    (watched, all.unwrap())
}
