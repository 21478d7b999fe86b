//! Children of the host: what they are given, how they end with it, how they are stopped.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::{Pid, getppid},
};

use super::{account::Account, poll};

/// Time for a fast shutdown (sessions end, one checkpoint), then for an immediate one (recovery at
/// the next start).
const STOP_STEPS: [(Signal, Duration); 2] =
    [(Signal::SIGINT, Duration::from_secs(10)), (Signal::SIGQUIT, Duration::from_secs(5))];

/// What happens to a child when the host is gone without stopping it. Linux only.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndsWithHost {
    /// For `postgres`: a fast shutdown, so that the next host finds a database at rest and need not
    /// recover it.
    Orderly,
    /// For `initdb`: its tidying up could remove what the next host is making in the same place.
    AtOnce,
}

impl EndsWithHost {
    #[cfg(target_os = "linux")]
    fn signal(self) -> Signal {
        match self {
            Self::Orderly => Signal::SIGINT,
            Self::AtOnce => Signal::SIGKILL,
        }
    }
}

/// A command without the host's environment (its secrets, `PGPORT`, a locale that changes the
/// messages), and in a process group of its own: the terminal's Ctrl-C is for the host, which still
/// needs its database to drain.
pub(super) fn command(program: &Path, account: &Account, ends: EndsWithHost) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
    if let Account::Other(uid, gid) = account {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    let namespace = (*account == Account::Namespace).then(|| format!("{} 0 1", Account::inside_namespace()));
    before_exec(&mut command, namespace, ends);
    command
}

#[allow(
    unsafe_code,
    reason = "only the child itself can enter a namespace and ask for a signal at its parent's end"
)]
fn before_exec(command: &mut Command, namespace: Option<String>, ends: EndsWithHost) {
    let host = Pid::this();
    let steps = move || {
        if let Some(map) = &namespace {
            enter_namespace(map)?;
        }
        // After every change of user, which clears it.
        end_with_host(ends)?;
        // The host may have died before it could be asked for.
        if getppid() == host { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec of a process with threads only async-signal-safe calls are
    // allowed. The steps are plain system calls on memory that is there: nothing allocates, locks, or touches
    // memory of other threads.
    unsafe {
        command.pre_exec(steps);
    }
}

/// Has the command restrict itself by a ruleset of Landlock, after everything else that it does before it becomes its
/// program.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "a process can only restrict itself; the system call has no safe wrapper that works here"
)]
pub(super) fn restrict(command: &mut Command, rules: std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd;

    use nix::{libc, sys::prctl::set_no_new_privs};

    let steps = move || {
        set_no_new_privs()?;
        // SAFETY: the call takes two numbers, and changes nothing but this process's rights.
        let restricted = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
        Ok(Errno::result(restricted).map(drop)?)
    };
    // SAFETY: as in `before_exec`.
    unsafe {
        command.pre_exec(steps);
    }
}

/// `map`: a number in the namespace, root's outside, and how many.
#[cfg(target_os = "linux")]
fn enter_namespace(map: &str) -> io::Result<()> {
    use nix::{
        fcntl::{OFlag, open},
        sched::{CloneFlags, unshare},
        sys::stat::Mode,
        unistd::write,
    };

    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Without the first an unprivileged process may not write the second (user_namespaces(7)).
    for (file, line) in
        [(c"/proc/self/setgroups", "deny"), (c"/proc/self/gid_map", map), (c"/proc/self/uid_map", map)]
    {
        let file = open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        write(&file, line.as_bytes())?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn enter_namespace(_: &str) -> io::Result<()> {
    Err(Errno::ENOSYS.into())
}

#[cfg(target_os = "linux")]
fn end_with_host(ends: EndsWithHost) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(ends.signal())?)
}

/// Elsewhere the next host stops it: `postmaster::wait_for_orphan`.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
fn end_with_host(_: EndsWithHost) -> io::Result<()> {
    Ok(())
}

/// Asks more and more firmly, and returns when the child is gone.
pub(super) fn stop(child: &mut Child) {
    for (signal, wait) in STOP_STEPS {
        // Once it is reaped, its number may be somebody else's.
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill(pid(child), signal);
        if poll(Instant::now() + wait, || child.try_wait().transpose()).is_some() {
            return;
        }
        tracing::warn!(%signal, ?wait, "the private postgres did not stop");
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::error!(%error, "cannot stop the private postgres");
    }
}

pub(super) fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
