//! Files that are their owner's alone.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

/// The text of a private file, and whether it was made now, because it wasn't there.
pub(super) fn read_or_make(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<(String, bool)> {
    let doing = || format!("private file {}", path.display());
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            bail!("{} is empty: remove it, and a new one is made", path.display())
        }
        Ok(text) => return Ok((text.trim().to_owned(), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(doing),
    }
    let text = make()?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    // Written beside and renamed without replacing: of two hosts that start at once, both end with one key.
    let fresh = written_beside(path, &format!("{text}\n")).with_context(doing)?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh).with_context(doing)?;
    match linked {
        Ok(()) => Ok((text, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((fs::read_to_string(path).with_context(doing)?.trim().to_owned(), false))
        }
        Err(error) => Err(error).with_context(doing),
    }
}

/// Another text for a private file, all of it or none.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let replaced = || {
        // Where the name is a link, what it leads to.
        let path = fs::canonicalize(path)?;
        let fresh = written_beside(&path, text)?;
        fs::rename(&fresh, &path).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    replaced().with_context(|| format!("private file {}", path.display()))
}

fn written_beside(path: &Path, text: &str) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("new-{}-{number}", std::process::id()));
    // What a process of that number left behind may be anybody's to read.
    fs::remove_file(&fresh).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(fresh)
}
