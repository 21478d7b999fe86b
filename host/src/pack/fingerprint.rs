//! Whether an entry of the packs folder is as it was, by what the file system says of it: nothing is read.

use std::{
    fs::{self, Metadata},
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    archive,
    folder::{self, Found},
};

/// What the loader would look at, at one moment.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    digest: [u8; 32],
    /// When something of it last changed, by the clock of the file system.
    pub changed_at: Option<OffsetDateTime>,
    /// The folders that were looked into, and every link that leads to the entry: what to watch.
    pub folders: Vec<PathBuf>,
    pub links: Vec<PathBuf>,
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Fingerprint {
    /// Of the entry at `path`; `None` when there is none.
    pub fn of(path: &Path, files_max: usize) -> Option<Self> {
        let mut taking = Taking::default();
        let mut links = links(path);
        // Behind a link a file is changed where it lies.
        links.extend((!links.is_empty()).then(|| path.canonicalize().ok()).flatten());
        if archive::is_archive(&path.to_string_lossy()) && !path.is_dir() {
            fs::symlink_metadata(path).ok()?;
            for ending in ["", archive::CHECKSUM, archive::SIGNATURE] {
                match fs::metadata(archive::beside(path, ending)) {
                    Ok(about) => taking.file(ending, &about),
                    Err(error) => taking.wrong(ending, &error.kind().to_string()),
                }
            }
        } else {
            fs::symlink_metadata(path).ok()?;
            folder::walk(path, files_max, &mut |found| {
                match found {
                    Found::Folder { real, about } => {
                        taking.changed(about);
                        taking.folders.push(real.to_owned());
                    }
                    Found::File { file, about, .. } => taking.file(file, about),
                    Found::Wrong { file, message, .. } | Found::Unreadable { file, message } => {
                        taking.wrong(file, &message);
                    }
                }
                ControlFlow::Continue(())
            });
        }
        let Taking { hash, newest, folders } = taking;
        Some(Self { digest: hash.finalize().into(), changed_at: newest, folders, links })
    }
}

#[derive(Default)]
struct Taking {
    hash: Sha256,
    newest: Option<OffsetDateTime>,
    folders: Vec<PathBuf>,
}

impl Taking {
    fn file(&mut self, file: &str, about: &Metadata) {
        self.word(file.as_bytes());
        for number in [about.dev(), about.ino(), about.len(), about.mode().into()] {
            self.hash.update(number.to_be_bytes());
        }
        for number in [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()] {
            self.hash.update(number.to_be_bytes());
        }
        self.changed(about);
    }

    fn wrong(&mut self, file: &str, message: &str) {
        self.word(file.as_bytes());
        self.word(message.as_bytes());
    }

    fn word(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    fn changed(&mut self, about: &Metadata) {
        let nanos = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
        self.newest = self.newest.max(OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    }
}

/// More links in a row are a circle.
const LINKS_MAX: usize = 40;

/// Every link that has to be followed from `path` to what it names.
pub fn links(path: &Path) -> Vec<PathBuf> {
    let mut links = Vec::new();
    let mut at = PathBuf::new();
    // Parts that are still to be walked, the next one last.
    let mut parts: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    while let Some(part) = parts.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(&part);
        let Ok(target) = fs::read_link(&at) else { continue };
        links.push(at.clone());
        if links.len() > LINKS_MAX {
            break;
        }
        at.pop();
        parts.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
    }
    links
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("releases/2/github")).unwrap();
        symlink("releases/2", base.join("current")).unwrap();
        symlink("../current/github", base.join("releases/github")).unwrap();
        let found = links(&base.join("releases/github"));
        assert_eq!(found, [base.join("releases/github"), base.join("current")]);
        assert_eq!(links(&base.join("releases/2")), [] as [PathBuf; 0]);

        symlink("loop", base.join("loop")).unwrap();
        assert_eq!(links(&base.join("loop")).len(), LINKS_MAX + 1);
    }
}
