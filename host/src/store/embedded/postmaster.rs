//! What the supervisor knows of Postgres's main process: its settings, its `postmaster.pid`, its
//! passing troubles.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{StartError, child, poll};

/// Follows from the port, which names the socket and nothing else here.
pub(super) const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// A postmaster that is starting fills its `postmaster.pid` right after it made it.
const EMPTY_WAIT: Duration = Duration::from_secs(1);

/// On the command line, where neither a file nor `ALTER SYSTEM` overrides them.
const SETTINGS: [&str; 16] = [
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    // What was acknowledged is on the disk.
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    // A neighbour of the host, not the machine's main job.
    "shared_buffers=128MB",
    "max_connections=100",
    "timezone=UTC",
    "log_timezone=UTC",
    // To stderr, which `log` bounds. Terse: the detail of an error quotes rows, and a row holds a
    // payload.
    "log_destination=stderr",
    "logging_collector=off",
    "log_error_verbosity=terse",
    // `will_pass` reads them.
    "lc_messages=C",
    "cluster_name=hookpack",
    "restart_after_crash=on",
];

pub(super) fn arguments(data: &Path, sockets: &Path) -> Vec<OsString> {
    // Quoted, or blanks at its ends would be lost; `folder` sees to it that it holds no quote.
    let mut socket_setting = OsString::from("unix_socket_directories=\"");
    socket_setting.push(sockets);
    socket_setting.push("\"");
    let mut arguments = vec!["-D".into(), data.into(), "-c".into(), socket_setting];
    arguments.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), setting.into()]));
    arguments
}

/// Whether a start failed only because sessions of a postmaster that was killed, or it itself, have
/// not ended yet.
pub(super) fn will_pass(last_lines: &str) -> bool {
    ["pre-existing shared memory block", "lock file \"postmaster.pid\" already exists"]
        .iter()
        .any(|message| last_lines.contains(message))
}

/// Whether `child` accepts connections.
pub(super) fn is_ready(data: &Path, child: &Child) -> bool {
    PidFile::read(data).is_some_and(|file| file.pid == child::pid(child) && file.ready)
}

/// Waits for the postmaster of a host that was killed, which may still be shutting down.
pub(super) fn wait_for_orphan(data: &Path, sockets: &Path, deadline: Instant) -> Result<(), StartError> {
    if path(data).exists() && poll(Instant::now() + EMPTY_WAIT, || PidFile::read(data)).is_none() {
        remove_pid_file(data, "it stayed empty: the machine went down while it was written");
    }
    let Some(orphan) = PidFile::read(data).filter(|file| file.is_running(data)) else {
        return Ok(());
    };
    let pid = orphan.pid.as_raw();
    tracing::info!(pid, "waiting for the postgres of an earlier host to stop");
    // It uses our socket: no operator started it. Linux has told it that its host died, other
    // systems have not.
    if orphan.sockets == sockets {
        let _ = kill(orphan.pid, Signal::SIGINT);
    }
    match poll(deadline, || (!orphan.is_running(data)).then_some(())) {
        Some(()) => Ok(()),
        None => Err(StartError::StillRunning { data: data.to_owned(), pid }),
    }
}

/// Removes a `postmaster.pid` whose number belongs to another process by now.
///
/// Postgres takes any living process for its predecessor and refuses to start, for ever in a
/// container, where the numbers are the same after each start. A number that nobody has is left to
/// Postgres: it then also looks for sessions without a postmaster.
pub(super) fn forget_recycled_pid(data: &Path) {
    let Some(file) = PidFile::read(data) else {
        return;
    };
    if file.is_alive() && !file.is_running(data) {
        remove_pid_file(data, "its number belongs to another process now");
    }
}

fn remove_pid_file(data: &Path, why: &str) {
    tracing::warn!(why, "removing a postmaster.pid");
    if let Err(error) = fs::remove_file(path(data)) {
        tracing::warn!(%error, "cannot remove postmaster.pid");
    }
}

/// What a postmaster says of itself in `postmaster.pid`. The order of its lines is Postgres's own
/// contract with `pg_ctl`:
/// <https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h>.
struct PidFile {
    pid: Pid,
    sockets: PathBuf,
    ready: bool,
}

impl PidFile {
    fn read(data: &Path) -> Option<Self> {
        let text = String::from_utf8_lossy(&fs::read(path(data)).ok()?).into_owned();
        let mut lines = text.lines();
        // Negative when somebody runs `postgres --single`.
        let pid: i32 = lines.next()?.trim().parse().ok()?;
        Some(Self {
            pid: Pid::from_raw(pid.checked_abs()?),
            sockets: lines.nth(3).unwrap_or_default().into(),
            ready: lines.nth(2).is_some_and(|status| status.trim() == "ready"),
        })
    }

    /// Whether any process has the number.
    fn is_alive(&self) -> bool {
        kill(self.pid, None) != Err(Errno::ESRCH)
    }

    /// Whether the process with the number is a postmaster of `data`, which is its working
    /// directory.
    #[cfg(target_os = "linux")]
    fn is_running(&self, data: &Path) -> bool {
        use std::{io::ErrorKind, os::unix::fs::MetadataExt};

        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        match identity(Path::new(&format!("/proc/{}/cwd", self.pid))) {
            Ok(found) => identity(data).is_ok_and(|data| data == found),
            // Gone, or a zombie.
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(_) => self.is_alive(),
        }
    }

    /// Whether the process with the number is a postmaster of `data`, which is on its command line.
    #[cfg(not(target_os = "linux"))]
    fn is_running(&self, data: &Path) -> bool {
        let ps = std::process::Command::new("/bin/ps")
            .args(["-o", "command=", "-p", &self.pid.to_string()])
            .output();
        match ps {
            Ok(ps) => String::from_utf8_lossy(&ps.stdout).contains(&*data.to_string_lossy()),
            Err(_) => self.is_alive(),
        }
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}
