//! What Postgres says on stderr: kept in a file of bounded size, and the last lines in memory for
//! errors.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;

use super::{child, poll};

/// At this size the log becomes `postgres.log.1`, whose former content goes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A longer line is cut in two.
const LINE_BYTES_MAX: u64 = 8 << 10;
const LAST_LINES_MAX: usize = 12;
/// How long to wait for the last words of a child that has ended; processes that it left can hold
/// its stderr open.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// Clones write to the same file.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<State>>);

struct State {
    path: PathBuf,
    /// `None` when it could not be opened (a full disk, say); that must not keep Postgres from
    /// running.
    file: Option<File>,
    bytes: u64,
    /// Of the child that was started last.
    last_lines: VecDeque<String>,
    speaking: u32,
}

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        let mut state =
            State { path: path.to_owned(), file: None, bytes: 0, last_lines: VecDeque::new(), speaking: 0 };
        state.open_file();
        Self(Arc::new(Mutex::new(state)))
    }

    /// Starts the command with its stderr going to this log.
    ///
    /// Through a pipe and not straight to the file: the file may be on a disk that is full, and
    /// then the last lines would be missing where they are needed.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.state().last_lines.clear();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(stderr) = child.stderr.take()
            && let Err(error) = self.listen(stderr)
        {
            child::stop(&mut child);
            return Err(error);
        }
        Ok(child)
    }

    fn listen(&self, stderr: ChildStderr) -> io::Result<()> {
        self.state().speaking += 1;
        let log = self.clone();
        thread::Builder::new().name("postgres-log".into()).spawn(move || {
            log.follow(stderr);
            log.state().speaking -= 1;
        })?;
        Ok(())
    }

    /// Returns when a child that has ended has been heard to the end.
    pub(super) fn wait_for_end(&self) {
        poll(Instant::now() + LAST_WORDS_WAIT, || (self.state().speaking == 0).then_some(()));
    }

    pub(super) fn last_lines(&self) -> String {
        let lines: Vec<String> = self.state().last_lines.iter().cloned().collect();
        lines.join("\n")
    }

    fn follow(&self, stderr: ChildStderr) {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while let Ok(1..) = stderr.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            self.state().add(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, line: &str) {
        if self.last_lines.len() == LAST_LINES_MAX {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.trim_end().to_owned());
        if self.bytes >= FILE_BYTES_MAX {
            // If the old file cannot be moved, it is emptied instead: the bound holds.
            let moved = fs::rename(&self.path, self.path.with_extension("log.1"));
            if let (Err(_), Some(file)) = (moved, &self.file) {
                let _ = file.set_len(0);
            }
            self.open_file();
        }
        if let Some(file) = &mut self.file
            && file.write_all(line.as_bytes()).is_ok()
        {
            self.bytes += line.len() as u64;
        }
    }

    fn open_file(&mut self) {
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&self.path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((bytes, file)) => (self.bytes, self.file) = (bytes, Some(file)),
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "cannot open postgres's log");
                self.file = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_small_and_keeps_what_came_last() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("postgres.log"));
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..3 * (FILE_BYTES_MAX >> 10) {
            log.state().add(&line);
        }
        log.state().add("the end\n");
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("postgres.log") <= FILE_BYTES_MAX && size("postgres.log.1") <= FILE_BYTES_MAX);
        assert!(log.last_lines().ends_with("x\nthe end"));
        assert_eq!(log.last_lines().lines().count(), LAST_LINES_MAX);
    }
}
