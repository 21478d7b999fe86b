//! The socket of the private Postgres: whether a server answers on it, and what a dead one left beside it.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Pid;

use super::{DATABASE, USER, postmaster};

/// Follows from the port, which names the socket and nothing else here.
pub(super) const NAME: &str = ".s.PGSQL.5432";

/// A server that takes longer to answer the first message is not ready.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Version 3.0 of the protocol: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const PROTOCOL: u32 = 196_608;
/// `AuthenticationOk` and the questions for a password begin with it; a refusal begins with `E`.
const AUTHENTICATION: u8 = b'R';

/// Whether a server listens, in whichever process namespace it runs.
pub(super) fn is_listening(sockets: &Path) -> bool {
    UnixStream::connect(sockets.join(NAME)).is_ok()
}

/// Whether the server takes sessions of the host's role. One that starts up, recovers or stops refuses them.
pub(super) fn accepts_sessions(sockets: &Path) -> bool {
    first_answer(sockets).is_ok_and(|first| first == AUTHENTICATION)
}

fn first_answer(sockets: &Path) -> io::Result<u8> {
    let mut stream = UnixStream::connect(sockets.join(NAME))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(&startup_message())?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    Ok(first[0])
}

fn startup_message() -> Vec<u8> {
    let parameters = format!("user\0{USER}\0database\0{DATABASE}\0\0");
    let length = u32::try_from(parameters.len() + 8).unwrap_or_default();
    [&length.to_be_bytes(), &PROTOCOL.to_be_bytes(), parameters.as_bytes()].concat()
}

/// Removes the socket's lock file when the process that it names is no server of this folder.
///
/// Postgres refuses to start while any process has that number: a zombie, or, in a container, a process of the host.
/// The folder is this host's alone, so a lock without a server can only be left over.
pub(super) fn remove_stale_lock(data: &Path, sockets: &Path) {
    let lock = lock(sockets);
    let Ok(text) = fs::read_to_string(&lock) else { return };
    let holder = text.lines().next().and_then(|pid| pid.trim().parse().ok()).map(Pid::from_raw);
    if holder.is_some_and(|pid| postmaster::runs_on(pid, data)) || is_listening(sockets) {
        return;
    }
    tracing::info!(file = %lock.display(), "removing the lock of a socket that no server listens on");
    if let Err(error) = fs::remove_file(&lock) {
        tracing::warn!(%error, file = %lock.display(), "cannot remove the lock of the socket");
    }
}

fn lock(sockets: &Path) -> PathBuf {
    sockets.join(format!("{NAME}.lock"))
}
