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

use super::{StartError, child, poll, socket};

/// A postmaster that is starting fills its `postmaster.pid` right after it made it.
const EMPTY_WAIT: Duration = Duration::from_secs(1);

/// On the command line, where neither a file nor `ALTER SYSTEM` overrides them.
const SETTINGS: &[&str] = &[
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
    // Memory that sessions share without files outside of the data: `confine` closes /dev/shm. Elsewhere the system
    // allows too little of it.
    #[cfg(target_os = "linux")]
    "dynamic_shared_memory_type=sysv",
];

/// `readers`: the folder of another socket. It keeps others out by itself, so the socket need not.
pub(super) fn arguments(data: &Path, sockets: &Path, readers: Option<&Path>) -> Vec<OsString> {
    // Quoted, or blanks at its ends would be lost; `folder` sees to it that it holds no quote.
    let mut socket_setting = OsString::from("unix_socket_directories=\"");
    socket_setting.push(sockets);
    if let Some(readers) = readers {
        socket_setting.push("\",\"");
        socket_setting.push(readers);
    }
    socket_setting.push("\"");
    let mut arguments = vec!["-D".into(), data.into(), "-c".into(), socket_setting];
    arguments.extend(SETTINGS.iter().flat_map(|&setting| ["-c".into(), setting.into()]));
    if readers.is_some() {
        arguments.extend(["-c".into(), "unix_socket_permissions=0777".into()]);
    }
    arguments
}

/// Whether a start failed only because sessions of a postmaster that was killed, or it itself, have
/// not ended yet.
pub(super) fn will_pass(last_lines: &str) -> bool {
    let lock_of_socket = format!("{}.lock\" already exists", socket::NAME);
    ["pre-existing shared memory block", "lock file \"postmaster.pid\" already exists", &lock_of_socket]
        .iter()
        .any(|message| last_lines.contains(message))
}

/// Whether `child` accepts sessions.
///
/// The pid file alone proves nothing: in a container the numbers are the same after each start, and until `child`
/// has written its own file there is that of its predecessor, which was killed while it was ready.
pub(super) fn is_ready(data: &Path, sockets: &Path, child: &Child) -> bool {
    PidFile::read(data).is_some_and(|file| file.pid == child::pid(child) && file.ready)
        && socket::accepts_sessions(sockets)
}

/// Waits for the postmaster of a host that was killed, which may still be shutting down.
pub(super) fn wait_for_orphan(data: &Path, sockets: &Path, deadline: Instant) -> Result<(), StartError> {
    if path(data).exists() && poll(Instant::now() + EMPTY_WAIT, || PidFile::read(data)).is_none() {
        remove_pid_file(data, "it stayed empty: the machine went down while it was written");
    }
    let Some(orphan) = PidFile::read(data).filter(|file| runs_on(file.pid, data)) else {
        return wait_for_silence(data, sockets, deadline);
    };
    let pid = orphan.pid.as_raw();
    tracing::info!(pid, "waiting for the postgres of an earlier host to stop");
    // It uses our socket: no operator started it. Linux has told it that its host died, other
    // systems have not.
    if orphan.sockets == sockets {
        let _ = kill(orphan.pid, Signal::SIGINT);
    }
    match poll(deadline, || (!runs_on(orphan.pid, data)).then_some(())) {
        Some(()) => Ok(()),
        None => Err(StartError::StillRunning { data: data.to_owned(), pid }),
    }
}

/// Waits until no server listens on the socket. One that has no number here runs in another container.
fn wait_for_silence(data: &Path, sockets: &Path, deadline: Instant) -> Result<(), StartError> {
    let silent = poll(deadline, || (!socket::is_listening(sockets)).then_some(()));
    silent.ok_or_else(|| StartError::RunsElsewhere { data: data.to_owned(), sockets: sockets.to_owned() })
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
    if is_alive(file.pid) && !runs_on(file.pid, data) {
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
}

/// Whether any process has the number, be it a zombie.
fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

/// Whether the process is a postmaster of `data`, which is its working directory.
#[cfg(target_os = "linux")]
pub(super) fn runs_on(pid: Pid, data: &Path) -> bool {
    use std::{io::ErrorKind, os::unix::fs::MetadataExt};

    if !Path::new("/proc/self").exists() {
        return is_alive(pid);
    }
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let owner = |path: &Path| fs::metadata(path).map(|found| found.uid()).ok();
    let process = Path::new("/proc").join(pid.to_string());
    match identity(&process.join("cwd")) {
        Ok(found) => identity(data).is_ok_and(|data| data == found),
        // Gone, or a zombie.
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        // Closed to this user: Postgres runs as the owner of its data and as no other user, and under its own name.
        Err(_) => {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            is_alive(pid) && owner(&process) == owner(data) && name.starts_with("post")
        }
    }
}

/// Whether the process is a postmaster of `data`, which is on its command line.
#[cfg(not(target_os = "linux"))]
pub(super) fn runs_on(pid: Pid, data: &Path) -> bool {
    let ps = std::process::Command::new("/bin/ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    match ps {
        Ok(ps) => String::from_utf8_lossy(&ps.stdout).contains(&*data.to_string_lossy()),
        Err(_) => is_alive(pid),
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}
