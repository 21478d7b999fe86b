//! How the host learns that the packs folder has changed: the system tells, or somebody looks.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::spawn_blocking;

use crate::{
    config::{Config, WatchMode},
    pack::{self, Fingerprint},
    watch::{self, Hints, Watch},
};

/// What the system forgot to tell is found all the same.
const NET: Duration = Duration::from_secs(30);
/// How long after a failure the system is asked again.
pub(super) const RETRY: Duration = Duration::from_mins(1);

pub(super) struct Ears {
    watch: Option<Watch>,
    /// Why it is not there, though it was wanted.
    pub(super) fault: Option<String>,
    packs: PathBuf,
    poll: Duration,
    map: Map,
}

/// Which entry is meant by a name that was heard.
#[derive(Debug, Default)]
struct Map {
    /// The packs folder itself, behind its links.
    root: PathBuf,
    /// Names that lead to the packs folder.
    root_names: BTreeSet<PathBuf>,
    /// Anything in these.
    folders: HashMap<PathBuf, BTreeSet<String>>,
    /// Just these: links.
    links: HashMap<PathBuf, BTreeSet<String>>,
}

/// Where to look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Where {
    pub(super) names: BTreeSet<String>,
    pub(super) everywhere: bool,
}

impl Ears {
    pub(super) fn new(config: &Config) -> Self {
        let packs = config.packs.clone();
        let poll = Duration::from_millis(config.watch_poll_ms.max(1));
        let mut ears = Self { watch: None, fault: None, packs, poll, map: Map::default() };
        match config.watch {
            WatchMode::Polling => {}
            WatchMode::Auto if watch::is_remote(&ears.packs) => {
                tracing::info!(
                    "the packs folder is on a network file system: it is looked at, again and again"
                );
            }
            WatchMode::Auto | WatchMode::Events => ears.start(),
        }
        ears
    }

    /// Asks the system to tell. That it can't is said once, and no reason not to work.
    pub(super) fn start(&mut self) {
        match Watch::start() {
            Ok(watch) => {
                self.watch = Some(watch);
                self.fault = None;
            }
            Err(error) => self.deafen(watch::told(&error)),
        }
    }

    pub(super) fn deafen(&mut self, reason: String) {
        self.watch = None;
        if self.fault.as_ref() != Some(&reason) {
            let poll_ms = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                reason,
                poll_ms,
                "changes in the packs folder are not told by the system: it is looked at instead"
            );
        }
        self.fault = Some(reason);
    }

    pub(super) fn hear(&self) -> bool {
        self.watch.is_some()
    }

    /// How long until everything is looked at again.
    pub(super) fn interval(&self) -> Duration {
        if self.hear() { NET } else { self.poll }
    }

    /// Waits for what the system tells; for ever, when it doesn't.
    pub(super) async fn listen(&mut self) -> Where {
        loop {
            let Some(watch) = &self.watch else { return std::future::pending().await };
            let hints = watch.hints().await;
            if let Some(reason) = hints.broken {
                self.deafen(reason);
                return Where { everywhere: true, ..Where::default() };
            }
            let found = self.map.locate(&hints);
            if found != Where::default() {
                return found;
            }
        }
    }

    /// Listens to these entries from now on, as they were just seen. What nobody listened to so far is returned: it may
    /// have changed since.
    pub(super) async fn turn_to(&mut self, entries: Vec<(String, Fingerprint)>) -> Where {
        let Some(mut watch) = self.watch.take() else { return Where::default() };
        let packs = self.packs.clone();
        // Every folder is asked for: that may wait for a disk.
        let turned = spawn_blocking(move || {
            let map = Map::of(&packs, &entries);
            let fresh = watch.follow(&map.wanted());
            (watch, map, fresh)
        });
        let Ok((watch, map, fresh)) = turned.await else { return Where::default() };
        (self.watch, self.map) = (Some(watch), map);
        match fresh {
            Ok(fresh) => self.map.behind(&fresh),
            Err(error) => {
                self.deafen(watch::told(&error));
                Where::default()
            }
        }
    }
}

impl Map {
    /// All names in it are free of links but in their last part, as those that are heard are.
    fn of(packs: &Path, entries: &[(String, Fingerprint)]) -> Self {
        let mut map = Self {
            root: canonical(packs),
            root_names: pack::links(packs).into_iter().chain([canonical(packs)]).collect(),
            ..Self::default()
        };
        for (name, fingerprint) in entries {
            for folder in &fingerprint.folders {
                map.folders.entry(folder.clone()).or_default().insert(name.clone());
            }
            for link in &fingerprint.links {
                map.links.entry(link.clone()).or_default().insert(name.clone());
            }
        }
        map
    }

    fn wanted(&self) -> BTreeSet<PathBuf> {
        let parents = self.root_names.iter().chain(self.links.keys()).filter_map(|path| path.parent());
        let folders = self.folders.keys().map(PathBuf::as_path);
        parents.chain(folders).chain([self.root.as_path()]).map(Path::to_owned).collect()
    }

    fn locate(&self, hints: &Hints) -> Where {
        let mut found = Where { everywhere: hints.all, ..Where::default() };
        for path in &hints.paths {
            if self.root_names.contains(path) {
                found.everywhere = true;
            }
            if path.parent() == Some(&self.root) {
                found.names.extend(path.file_name().and_then(|name| name.to_str()).and_then(pack::entry_of));
            }
            found.names.extend(self.links.get(path).into_iter().flatten().cloned());
            found.names.extend(self.inside(path).cloned());
            found.names.extend(path.parent().into_iter().flat_map(|folder| self.inside(folder)).cloned());
        }
        found
    }

    fn inside(&self, folder: &Path) -> impl Iterator<Item = &String> {
        self.folders.get(folder).into_iter().flatten()
    }

    /// What lies in these folders, which nobody listened to.
    fn behind(&self, folders: &[PathBuf]) -> Where {
        Where {
            names: folders.iter().flat_map(|folder| self.inside(folder)).cloned().collect(),
            everywhere: folders.iter().any(|folder| !self.folders.contains_key(folder)),
        }
    }
}

/// A path without links, as far as it leads.
fn canonical(path: &Path) -> PathBuf {
    let parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(parent).unwrap_or_else(|| path.to_owned())
}
