//! The files of one pack, in memory, whether they come from a folder or an archive.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use super::{
    archive,
    diagnostics::{Place, Report, Source},
    folder,
};
use crate::{config::Config, signing::PublicKey};

/// Every file of a pack by its path inside the pack, with `/` between the parts.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The folder or the archive.
    pub path: PathBuf,
    /// How people know it: what the file names in a report begin with.
    pub name: String,
    pub all: BTreeMap<String, Vec<u8>>,
}

/// Why there are none to work with; what is wrong is told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFiles {
    /// The next time will be no different.
    Unfit,
    /// The system failed to read them: it may not the next time, without any of them having changed.
    Unreadable,
}

/// What file systems, network storage and desktops make by themselves.
const OF_THE_SYSTEM: [&str; 10] = [
    "lost+found",
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@Recently-Snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "__MACOSX",
    "Thumbs.db",
    "desktop.ini",
];

/// Where components lie: `mappers/*.wasm`. Folders in there hold their sources.
const MAPPERS: &str = "mappers/";

/// Whether a file of a pack is a mapper's component.
pub(super) fn is_mapper(file: &str) -> bool {
    let name = file.strip_prefix(MAPPERS);
    name.is_some_and(|name| {
        !name.contains('/') && Path::new(name).extension().is_some_and(|extension| extension == "wasm")
    })
}

/// Whether a folder of a pack holds sources, and what compilers leave beside them: what runs is the component.
pub(super) fn is_source_folder(file: &str) -> bool {
    file.starts_with(MAPPERS)
}

/// Whether a name is not a pack author's: editors, git, Kubernetes and disks keep their own things in any folder.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || OF_THE_SYSTEM.contains(&name)
}

impl Files {
    /// Reads the folder or archive at `path`; what can't or mustn't be read is a fault.
    pub(super) fn read(path: &Path, name: &str, limits: &Config, report: &mut Report) -> Option<Self> {
        Self::signed(path, name, &[], limits, report).ok()
    }

    /// The same, of an archive that one of `keys` has signed; with no keys, of anything.
    pub(super) fn signed(
        path: &Path,
        name: &str,
        keys: &[PublicKey],
        limits: &Config,
        report: &mut Report,
    ) -> Result<Self, NoFiles> {
        let mut files = Self { path: path.to_owned(), name: name.to_owned(), all: BTreeMap::new() };
        let before = report.faults.len();
        let all_read = if archive::is_archive(name_of(path)) && !path.is_dir() {
            archive::read(&mut files, keys, limits, report)
        } else if keys.is_empty() {
            folder::read(&mut files, limits, report)
        } else {
            let message = "a folder is not signed, and this host wants it (require_signed_packs)";
            let help = "bundle it with `hookpack pack bundle --sign`".to_owned();
            report.fault(&files.place(""), message, help);
            true
        };
        match (report.faults.len() == before, all_read) {
            (true, _) => Ok(files),
            (false, true) => Err(NoFiles::Unfit),
            (false, false) => Err(NoFiles::Unreadable),
        }
    }

    /// A text file of the pack, with its name as people know it.
    pub(super) fn source(&self, file: &str, report: &mut Report) -> Option<Arc<Source>> {
        let bytes = self.all.get(file)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(Source::new(self.display(file), text.strip_prefix('\u{feff}').unwrap_or(text))),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let line = u32::try_from(good.lines().count().max(1)).unwrap_or(u32::MAX);
                let mut place = self.place(file);
                place.line = line;
                report.fault(&place, "this file is not UTF-8", "save it as UTF-8".to_owned());
                None
            }
        }
    }

    /// The start of a file, which need not exist.
    pub(super) fn place(&self, file: &str) -> Place {
        Source::new(self.display(file), "").start()
    }

    pub(super) fn display(&self, file: &str) -> String {
        match (self.name.is_empty(), file.is_empty()) {
            (true, _) => file.to_owned(),
            (false, true) => self.name.clone(),
            (false, false) => format!("{}/{file}", self.name),
        }
    }

    /// The same bytes under the same names give the same hash, wherever the pack lies.
    pub(super) fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (name, bytes) in &self.all {
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }
}

/// Opens a file that may have been another thing a moment ago, or still be one: a pipe is not waited for.
pub(super) fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NONBLOCK;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(opened)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What may still be read of a pack.
pub(super) struct Budget<'a> {
    bytes: u64,
    limits: &'a Config,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limits: &'a Config) -> Self {
        Self { bytes: limits.pack_bytes_max, limits }
    }

    /// How large a file may be.
    pub(super) fn most(&self, file: &str) -> u64 {
        if is_mapper(file) { self.limits.mapper_bytes_max } else { self.limits.pack_file_bytes_max }
    }

    /// Takes a file's bytes off the budget; an error names the limit that was reached.
    pub(super) fn spend(&mut self, file: &str, bytes: u64) -> Result<(), String> {
        if bytes > self.most(file) {
            let limit = if is_mapper(file) { "mapper_bytes_max" } else { "pack_file_bytes_max" };
            return Err(format!("this file is larger than {} bytes ({limit})", self.most(file)));
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Whether the pack as a whole is too large, in words.
    pub(super) fn exhausted(&self) -> Option<String> {
        let most = self.limits.pack_bytes_max;
        (self.bytes == 0).then(|| format!("this pack is {most} bytes or larger (pack_bytes_max)"))
    }
}

pub(super) fn too_many_files(most: usize) -> String {
    format!("this pack has {most} files and folders or more (pack_files_max)")
}
