//! The files of one pack, read into memory within limits; nothing outside its folder is ever opened.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::diagnostics::{Report, Source};
use crate::config::Config;

/// Every file of a pack by its path inside the pack, with `/` between the parts.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// How people know the folder: what the file names in a report begin with.
    pub name: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Where components lie: `mappers/*.wasm`. Folders in there hold their sources.
const MAPPERS: &str = "mappers";

/// Whether a file of a pack is a mapper's component.
pub(super) fn is_mapper(file: &str) -> bool {
    let name = file.strip_prefix(MAPPERS).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| {
        !name.contains('/') && Path::new(name).extension().is_some_and(|extension| extension == "wasm")
    })
}

/// Folders within folders; a pack needs two.
const DEPTH_MAX: usize = 8;

impl Folder {
    /// Reads the folder at `path`; what can't or mustn't be read is a fault.
    pub(super) fn read(path: &Path, name: &str, limits: &Config, report: &mut Report) -> Option<Self> {
        let mut folder = Self { path: path.to_owned(), name: name.to_owned(), files: BTreeMap::new() };
        let root = match fs::canonicalize(path) {
            Ok(root) if root.is_dir() => root,
            Ok(_) => {
                report.fault(
                    &folder.place(""),
                    "this is not a folder",
                    "a pack is a folder with a `pack.yaml`".to_owned(),
                );
                return None;
            }
            Err(error) => {
                report.fault(&folder.place(""), format!("this folder can't be read: {error}"), None);
                return None;
            }
        };
        let mut budget = Budget { files: limits.pack_files_max, bytes: limits.pack_bytes_max, limits };
        let before = report.faults.len();
        folder.walk(&root, path, "", 0, &mut budget, report);
        (report.faults.len() == before).then_some(folder)
    }

    /// A text file of the pack, with its name as people know it.
    pub(super) fn source(&self, file: &str, report: &mut Report) -> Option<Arc<Source>> {
        let bytes = self.files.get(file)?;
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
    pub(super) fn place(&self, file: &str) -> super::diagnostics::Place {
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
        for (name, bytes) in &self.files {
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    fn walk(
        &mut self,
        root: &Path,
        at: &Path,
        inside: &str,
        depth: usize,
        budget: &mut Budget<'_>,
        report: &mut Report,
    ) {
        if depth > DEPTH_MAX {
            report.fault(&self.place(inside), format!("folders are nested more than {DEPTH_MAX} deep"), None);
            return;
        }
        let entries = match fs::read_dir(at).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => {
                report.fault(&self.place(inside), format!("this folder can't be read: {error}"), None);
                return;
            }
        };
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        names.sort();
        for name in names {
            let Some(name) = name.to_str() else {
                let told = name.to_string_lossy();
                report.fault(&self.place(inside), format!("the file name `{told}` is not UTF-8"), None);
                continue;
            };
            // Editors, git and Kubernetes keep their own things under names that begin with a dot.
            if name.starts_with('.') {
                continue;
            }
            let file = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
            self.entry(root, &at.join(name), &file, depth, budget, report);
            if budget.exhausted(&self.place(""), report) {
                return;
            }
        }
    }

    fn entry(
        &mut self,
        root: &Path,
        path: &Path,
        file: &str,
        depth: usize,
        budget: &mut Budget<'_>,
        report: &mut Report,
    ) {
        let place = self.place(file);
        let Some(at) = path.parent() else { return };
        budget.files = budget.files.saturating_sub(1);
        // A link is followed only while it stays inside: what it names is looked at, not the link.
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return report.fault(&place, format!("this file can't be read: {error}"), None),
        };
        if !real.starts_with(root) {
            let help = "copy what it names into the pack".to_owned();
            return report.fault(&place, "this link leads out of the pack", help);
        }
        if fs::canonicalize(at).is_ok_and(|at| at.starts_with(&real)) {
            let help = "remove it".to_owned();
            return report.fault(&place, "this link leads back to a folder that it lies in", help);
        }
        match fs::metadata(&real) {
            // Sources and what compilers leave beside them; what runs is the component.
            Ok(about) if about.is_dir() && file.starts_with("mappers/") => {}
            Ok(about) if about.is_dir() => self.walk(root, path, file, depth + 1, budget, report),
            Ok(about) if about.is_file() => match budget.read(&real, about.len(), is_mapper(file)) {
                Ok(bytes) => {
                    self.files.insert(file.to_owned(), bytes);
                }
                Err(message) => report.fault(&place, message, None),
            },
            Ok(_) => report.fault(&place, "this is neither a file nor a folder", "remove it".to_owned()),
            Err(error) => report.fault(&place, format!("this file can't be read: {error}"), None),
        }
    }
}

/// What may still be read.
struct Budget<'a> {
    /// Folders count too: links could make a few of them look like many.
    files: usize,
    bytes: u64,
    limits: &'a Config,
}

impl Budget<'_> {
    fn read(&mut self, path: &Path, length: u64, is_mapper: bool) -> Result<Vec<u8>, String> {
        let (most, limit) = if is_mapper {
            (self.limits.mapper_bytes_max, "mapper_bytes_max")
        } else {
            (self.limits.pack_file_bytes_max, "pack_file_bytes_max")
        };
        let too_large = || format!("this file is larger than {most} bytes ({limit})");
        if length > most {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let opened = fs::File::open(path).map_err(|error| format!("this file can't be read: {error}"))?;
        // One byte more than allowed, so that a file that grows meanwhile is noticed.
        opened
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("this file can't be read: {error}"))?;
        if bytes.len() as u64 > most {
            return Err(too_large());
        }
        self.bytes = self.bytes.saturating_sub(bytes.len() as u64);
        Ok(bytes)
    }

    fn exhausted(&self, at: &super::diagnostics::Place, report: &mut Report) -> bool {
        if self.files == 0 {
            report.fault(
                at,
                format!(
                    "this pack has {} files and folders or more (pack_files_max)",
                    self.limits.pack_files_max
                ),
                None,
            );
        } else if self.bytes == 0 {
            report.fault(
                at,
                format!("this pack is {} bytes or larger (pack_bytes_max)", self.limits.pack_bytes_max),
                None,
            );
        }
        self.files == 0 || self.bytes == 0
    }
}
