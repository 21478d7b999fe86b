//! A pack in a folder: what is looked at there, and reading it within limits; nothing outside is ever opened.

use std::{
    fs::{self, Metadata},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    diagnostics::Report,
    files::{self, Budget, Files},
};
use crate::config::Config;

/// Folders within folders; a pack needs two.
const DEPTH_MAX: usize = 8;

/// One thing in a pack's folder.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A folder that is looked into, the pack's own first.
    Folder {
        real: &'a Path,
        about: &'a Metadata,
    },
    File {
        file: &'a str,
        real: &'a Path,
        about: &'a Metadata,
    },
    Wrong {
        file: &'a str,
        message: String,
        help: Option<String>,
    },
    /// The system fails to read it, and may not the next time.
    Unreadable {
        file: &'a str,
        message: String,
    },
}

/// Shows `visit` everything in a pack's folder that counts, in the order of names, until it has enough. Links are
/// followed while they stay inside: what they name is looked at, not the link.
pub(super) fn walk(path: &Path, files_max: usize, visit: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) {
    let root = match fs::canonicalize(path).and_then(|root| Ok((fs::metadata(&root)?, root))) {
        Ok((about, root)) if about.is_dir() => root,
        Ok(_) => {
            let help = Some("a pack is a folder with a `pack.yaml`, or a `.tar.gz` of one".to_owned());
            visit(Found::Wrong { file: "", message: "this is not a folder".to_owned(), help }).is_break();
            return;
        }
        Err(error) => {
            let message = format!("this folder can't be read: {error}");
            visit(Found::Unreadable { file: "", message }).is_break();
            return;
        }
    };
    let mut walk = Walk { root: &root, left: files_max, files_max, visit };
    walk.folder(&root, "", 0).is_break();
}

struct Walk<'a> {
    root: &'a Path,
    /// Folders count too: links could make a few of them look like many.
    left: usize,
    files_max: usize,
    visit: &'a mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
}

impl Walk<'_> {
    fn folder(&mut self, real: &Path, inside: &str, depth: usize) -> ControlFlow<()> {
        if depth > DEPTH_MAX {
            return self.wrong(inside, format!("folders are nested more than {DEPTH_MAX} deep"), None);
        }
        let listed = fs::metadata(real).and_then(|about| Ok((about, names(real)?)));
        let (about, names) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let message = format!("this folder can't be read: {error}");
                return (self.visit)(Found::Unreadable { file: inside, message });
            }
        };
        (self.visit)(Found::Folder { real, about: &about })?;
        for name in names {
            let Some(name) = name.to_str() else {
                let told = name.to_string_lossy();
                self.wrong(inside, format!("the file name `{told}` is not UTF-8"), None)?;
                continue;
            };
            if files::is_hidden(name) {
                continue;
            }
            let file = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return self.wrong("", files::too_many_files(self.files_max), None);
            }
            self.entry(&real.join(name), &file, depth)?;
        }
        ControlFlow::Continue(())
    }

    fn entry(&mut self, path: &Path, file: &str, depth: usize) -> ControlFlow<()> {
        let (real, about) = match self.behind(path) {
            Ok(behind) => behind,
            Err(Unfit::Unreadable(error)) => {
                let message = format!("this file can't be read: {error}");
                return (self.visit)(Found::Unreadable { file, message });
            }
            Err(Unfit::Outside) => {
                let help = "copy what it names into the pack".to_owned();
                return self.wrong(file, "this link leads out of the pack".to_owned(), Some(help));
            }
            Err(Unfit::Circle) => {
                let message = "this link leads back to a folder that it lies in".to_owned();
                return self.wrong(file, message, Some("remove it".to_owned()));
            }
        };
        if about.is_dir() {
            if files::is_source_folder(file) {
                return ControlFlow::Continue(());
            }
            return self.folder(&real, file, depth + 1);
        }
        if about.is_file() {
            return (self.visit)(Found::File { file, real: &real, about: &about });
        }
        self.wrong(file, "this is neither a file nor a folder".to_owned(), Some("remove it".to_owned()))
    }

    /// What a name stands for, and where that lies.
    fn behind(&self, path: &Path) -> Result<(PathBuf, Metadata), Unfit> {
        let about = fs::symlink_metadata(path)?;
        if !about.is_symlink() {
            return Ok((path.to_owned(), about));
        }
        let real = fs::canonicalize(path)?;
        if !real.starts_with(self.root) {
            return Err(Unfit::Outside);
        }
        if path.starts_with(&real) {
            return Err(Unfit::Circle);
        }
        let about = fs::metadata(&real)?;
        Ok((real, about))
    }

    fn wrong(&mut self, file: &str, message: String, help: Option<String>) -> ControlFlow<()> {
        (self.visit)(Found::Wrong { file, message, help })
    }
}

/// Why a name in a folder can't be used.
enum Unfit {
    Unreadable(io::Error),
    Outside,
    Circle,
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Reads everything that counts; what can't or mustn't be read is a fault. Whether the system could read all of it.
pub(super) fn read(into: &mut Files, limits: &Config, report: &mut Report) -> bool {
    let mut budget = Budget::new(limits);
    let mut all_read = true;
    let path = into.path.clone();
    walk(&path, limits.pack_files_max, &mut |found| {
        match found {
            Found::Folder { .. } => {}
            Found::File { file, real, .. } => match read_file(real, file, &mut budget) {
                Ok(bytes) => {
                    into.all.insert(file.to_owned(), bytes);
                }
                Err(Unread::TooLarge(message)) => report.fault(&into.place(file), message, None),
                Err(Unread::Unreadable(error)) => {
                    all_read = false;
                    report.fault(&into.place(file), format!("this file can't be read: {error}"), None);
                }
            },
            Found::Wrong { file, message, help } => report.fault(&into.place(file), message, help),
            Found::Unreadable { file, message } => {
                all_read = false;
                report.fault(&into.place(file), message, None);
            }
        }
        if let Some(message) = budget.exhausted() {
            report.fault(&into.place(""), message, None);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    all_read
}

enum Unread {
    TooLarge(String),
    Unreadable(io::Error),
}

fn read_file(real: &Path, file: &str, budget: &mut Budget<'_>) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    // A link that took the file's place meanwhile is not followed.
    let opened = files::open(real, OFlag::O_NOFOLLOW).map_err(Unread::Unreadable)?;
    // One byte more than allowed, so that a file that is too large, or grows meanwhile, is noticed.
    opened.take(budget.most(file) + 1).read_to_end(&mut bytes).map_err(Unread::Unreadable)?;
    budget.spend(file, bytes.len() as u64).map_err(Unread::TooLarge)?;
    Ok(bytes)
}
