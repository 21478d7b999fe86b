//! Hearing from the system that files have changed (notify).
//!
//! What is heard is a hint where to look, never what to believe: names arrive late, twice, or not at all.

mod tree;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::Notify;

pub use self::tree::Tree;

/// Names that were heard and not yet looked at; with more, everything is looked at.
const HINTS_MAX: usize = 10_000;

/// Where something has changed.
#[derive(Debug, Default)]
pub struct Hints {
    pub paths: BTreeSet<PathBuf>,
    /// More than was told: the system had more to say than it could hold.
    pub all: bool,
    /// Why nothing more will be heard.
    pub broken: Option<String>,
}

/// Folders that the system tells about, each by itself.
pub struct Watch {
    watcher: RecommendedWatcher,
    heard: Arc<Heard>,
    /// With device and inode: another folder of the same name has to be watched anew.
    folders: HashMap<PathBuf, (u64, u64)>,
}

#[derive(Default)]
struct Heard {
    hints: Mutex<Hints>,
    gone: Mutex<Gone>,
    news: Notify,
}

/// Names that went: what is there now may be another folder, even one of the same inode.
#[derive(Debug, Default)]
struct Gone {
    paths: BTreeSet<PathBuf>,
    /// More than could be kept.
    all: bool,
}

impl Gone {
    fn note(&mut self, paths: &[PathBuf]) {
        self.paths.extend(paths.iter().cloned());
        if self.paths.len() > HINTS_MAX {
            self.paths.clear();
            self.all = true;
        }
    }

    fn has(&self, folder: &Path) -> bool {
        self.all || folder.ancestors().any(|part| self.paths.contains(part))
    }
}

impl Watch {
    pub fn start() -> notify::Result<Self> {
        let heard = Arc::new(Heard::default());
        let ear = heard.clone();
        // Links are followed by whoever names the folders.
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(move |event| ear.hear(event), config)?;
        Ok(Self { watcher, heard, folders: HashMap::new() })
    }

    /// Watches just these folders from now on; the ones that were not watched before are returned.
    pub fn follow(&mut self, wanted: &BTreeSet<PathBuf>) -> notify::Result<Vec<PathBuf>> {
        let went = std::mem::take(&mut *self.heard.gone.lock().unwrap_or_else(PoisonError::into_inner));
        let found: HashMap<&PathBuf, _> = wanted
            .iter()
            .filter_map(|folder| {
                let about = fs::metadata(folder).ok()?;
                Some((folder, (about.dev(), about.ino())))
            })
            .collect();
        let stays = |(folder, id): &(&PathBuf, &_)| found.get(folder) == Some(id) && !went.has(folder);
        let gone = self.folders.iter().filter(|known| !stays(known));
        let gone: Vec<_> = gone.map(|(folder, _)| folder.clone()).collect();
        for folder in gone {
            let Some(id) = self.folders.remove(&folder) else { continue };
            // It may be gone, and its watch with it.
            self.watcher.unwatch(&folder).ok();
            // To the system two names of one folder are one watch.
            self.folders.retain(|_, other| *other != id);
        }
        let mut fresh = Vec::new();
        for (folder, id) in found {
            if self.folders.contains_key(folder) {
                continue;
            }
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder.clone(), id);
                    fresh.push(folder.clone());
                }
                // It went a moment ago: that was heard, or will be. Or it may be passed through and not be looked into,
                // as the way to the packs may be.
                Err(error) if is_out_of_reach(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(fresh)
    }

    /// Waits until something has changed.
    pub async fn hints(&self) -> Hints {
        loop {
            let news = self.heard.news.notified();
            let hints = std::mem::take(&mut *self.heard.hints.lock().unwrap_or_else(PoisonError::into_inner));
            if hints.all || hints.broken.is_some() || !hints.paths.is_empty() {
                return hints;
            }
            news.await;
        }
    }
}

fn is_out_of_reach(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => true,
        notify::ErrorKind::Io(error) => {
            use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
            matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
        }
        _ => false,
    }
}

impl Heard {
    fn hear(&self, event: notify::Result<Event>) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if event.need_rescan() => hints.all = true,
            Ok(event) if is_change(event.kind) => {
                if let EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) = event.kind {
                    self.gone.lock().unwrap_or_else(PoisonError::into_inner).note(&event.paths);
                }
                hints.paths.extend(event.paths);
            }
            Ok(_) => return,
            Err(error) => hints.broken = Some(told(&error)),
        }
        if hints.paths.len() > HINTS_MAX {
            hints.paths.clear();
            hints.all = true;
        }
        drop(hints);
        self.news.notify_one();
    }
}

/// That somebody looks (we do, all the time) is no change.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Why the system doesn't tell, and what an operator can do about it.
pub fn told(error: &notify::Error) -> String {
    let too_many_watchers = || matches!(&error.kind, notify::ErrorKind::Io(error) if error.raw_os_error() == Some(nix::libc::EMFILE));
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watched folders is reached (Linux: raise fs.inotify.max_user_watches)"
                .to_owned()
        }
        _ if too_many_watchers() => {
            "the system's limit of watchers is reached (Linux: raise fs.inotify.max_user_instances)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Whether changes that others make there can't be heard here.
pub fn is_remote(folder: &Path) -> bool {
    use nix::sys::statfs;
    #[cfg(target_os = "linux")]
    {
        // What the kernel's `include/uapi/linux/magic.h` calls NFS, SMB, CIFS, SMB2, 9P, CODA, AFS, CEPH and FUSE.
        const REMOTE: [i64; 9] = [
            0x6969,
            0x517B,
            0xFF53_4D42,
            0xFE53_4D42,
            0x0102_1997,
            0x7375_7245,
            0x5346_414F,
            0x00C3_6400,
            0x6573_5546,
        ];
        statfs::statfs(folder).is_ok_and(|about| REMOTE.contains(&about.filesystem_type().0))
    }
    #[cfg(not(target_os = "linux"))]
    {
        statfs::statfs(folder)
            .is_ok_and(|about| matches!(about.filesystem_type_name(), "nfs" | "smbfs" | "webdav"))
    }
}
