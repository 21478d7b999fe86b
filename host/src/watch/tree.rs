//! A folder and everything in it: waiting for an author to save something.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Editors write a file in several steps; a build writes several files.
const QUIET: Duration = Duration::from_millis(60);

/// Looks at a folder and everything in it.
pub struct Tree {
    _watcher: RecommendedWatcher,
    folder: PathBuf,
    events: Receiver<notify::Result<Event>>,
}

impl Tree {
    pub fn start(folder: &Path) -> Result<Self> {
        let doing = || format!("watching {}", folder.display());
        let folder = folder.canonicalize().with_context(doing)?;
        let (send, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(send).with_context(doing)?;
        watcher.watch(&folder, RecursiveMode::Recursive).with_context(doing)?;
        Ok(Self { _watcher: watcher, folder, events })
    }

    /// Blocks until something that counts was changed, and then until it is quiet again.
    pub fn changed(&self) -> Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        // Only the author's own files count: a compiler that works beside them is never quiet.
        let mut due = None;
        loop {
            let event = match due {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => {
                    self.events.recv_timeout(Instant::saturating_duration_since(&due, Instant::now()))
                }
            };
            match event {
                Ok(Ok(event)) => {
                    let saved = self.saved(event);
                    if !saved.is_empty() {
                        due = Some(Instant::now() + QUIET);
                    }
                    changed.extend(saved);
                }
                Ok(Err(error)) => return Err(error).context("watching"),
                Err(RecvTimeoutError::Timeout) => return Ok(changed),
                Err(RecvTimeoutError::Disconnected) => bail!("the watcher ended"),
            }
        }
    }

    /// Forgets what has gathered.
    pub fn so_far(&self) {
        self.events.try_iter().for_each(drop);
    }

    /// The files of an event that an author could have saved.
    fn saved(&self, event: Event) -> Vec<PathBuf> {
        let hidden = |part: &OsStr| {
            part.to_str()
                .is_some_and(|part| part.starts_with('.') || part == "target" || part == "node_modules")
        };
        let is_own = |path: &PathBuf| !path.strip_prefix(&self.folder).unwrap_or(path).iter().any(hidden);
        let only_read = matches!(event.kind, EventKind::Access(_));
        if only_read { Vec::new() } else { event.paths.into_iter().filter(is_own).collect() }
    }
}
