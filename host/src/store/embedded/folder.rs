//! The folder of the private Postgres: one host at a time, closed to others, with a place for
//! everything in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use nix::{fcntl::OFlag, unistd::geteuid};

use super::{StartError, account::Account, poll, socket};

/// What fits into a socket's address: 103 bytes on macOS, 107 on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 103;
/// Where a socket goes whose own folder is too deep: the first for root, the second for everyone.
/// `/run/user/<uid>` is no such place, it goes away when the user logs out.
const SHORT_PLACES: [&str; 2] = ["/run", "/tmp"];

/// `<data_dir>/postgres`, held by this host until dropped.
///
/// `data` is the database, `data.new` one that `initdb` has not finished, `lock` names the host,
/// `postgres.log` is what Postgres says.
pub(super) struct Folder {
    path: PathBuf,
    /// Locked while open. Rust opens files close-on-exec, so Postgres does not keep the lock of a
    /// host that was killed.
    lock: File,
}

/// Said in so many words: a child that another thread is just making holds the file open until it has become its
/// program, and closing ours alone would leave the lock to it.
impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of the private database's folder could not be given back");
        }
    }
}

impl Folder {
    pub(super) fn claim(path: &Path) -> Result<Self, StartError> {
        let named = path.display();
        make_private(path).map_err(StartError::io(format!(
            "make the private folder {named} (is `data_dir` this user's to write?)"
        )))?;
        let path = path.canonicalize().map_err(StartError::io(format!("find {named}")))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // The folder can be another user's than the host's: no link of theirs is followed.
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path.join("lock"))
            .map_err(StartError::io(format!("open {named}/lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = lock.read_to_string(&mut pid);
                let known = read.is_ok() && !pid.is_empty();
                let pid = if known { pid.trim().to_owned() } else { "unknown".into() };
                return Err(StartError::FolderInUse { folder: path, pid });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StartError::io(format!("lock {named}/lock"))(error));
            }
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", process::id()))
            .map_err(StartError::io(format!("write {named}/lock")))?;
        Ok(Self { path, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The version that made the database, as `PG_VERSION` has it (`17`, and `9.6` long ago);
    /// `None` before the first start.
    pub(super) fn major(&self) -> Result<Option<String>, StartError> {
        if !self.data().exists() {
            return Ok(None);
        }
        let file = self.data().join("PG_VERSION");
        let doing = format!("read {} (is this a database? if not, move it away)", file.display());
        let version = fs::read_to_string(file).map_err(StartError::io(doing))?;
        Ok(Some(version.trim().to_owned()))
    }

    /// Removes what an interrupted `initdb` left, and says where to make a new database.
    pub(super) fn clear_unfinished(&self, deadline: Instant) -> Result<PathBuf, StartError> {
        let unfinished = self.unfinished();
        // A process of that `initdb` may be writing its last file.
        let removed = poll(deadline, || match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Ok(())),
            other => Some(other),
        });
        let removed = removed.unwrap_or_else(|| Err(io::ErrorKind::DirectoryNotEmpty.into()));
        removed.map_err(StartError::io(format!("remove {}", unfinished.display())))?;
        Ok(unfinished)
    }

    /// `initdb` has synced its files; the new name must last as well.
    pub(super) fn accept_unfinished(&self) -> Result<(), StartError> {
        fs::rename(self.unfinished(), self.data())
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(StartError::io(format!("move the new database to {}", self.data().display())))
    }

    fn unfinished(&self) -> PathBuf {
        self.path.join("data.new")
    }

    /// Where the socket goes: in here, or when the path is too long for a socket, into a short
    /// folder of the same name at each start.
    pub(super) fn sockets(&self, account: &Account) -> Result<PathBuf, StartError> {
        if fits_a_socket(&self.path) {
            return Ok(self.path.clone());
        }
        let doing = "make a short private folder for the socket";
        let this = fs::metadata(&self.path).map_err(StartError::io(doing))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in SHORT_PLACES {
            let short = Path::new(place).join(format!("hookpack-{:x}-{:x}", this.dev(), this.ino()));
            match make_own_private(&short, account) {
                Ok(()) => return Ok(short),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", short.display()));
                }
            }
        }
        Err(StartError::io(doing)(last))
    }

    /// The counterpart of `sockets`, when Postgres is gone.
    pub(super) fn remove_sockets(&self, sockets: &Path) {
        if sockets != self.path
            && let Err(error) = fs::remove_dir_all(sockets)
        {
            let folder = sockets.display();
            tracing::warn!(%folder, %error, "cannot remove the socket's folder");
        }
    }
}

pub(super) fn fits_a_socket(folder: &Path) -> bool {
    // Clients and Postgres read a comma as the end of the path; a quote would end our quoting.
    folder.to_str().is_some_and(|path| {
        path.len() + 1 + socket::NAME.len() <= SOCKET_PATH_BYTES_MAX && !path.contains([',', '"'])
    })
}

fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Like `make_private`, in a place where a stranger can have made `path` before.
fn make_own_private(path: &Path, account: &Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(path)?;
            let ours = [geteuid(), account.uid()].contains(&there.uid().into());
            let closed = there.is_dir() && there.mode().trailing_zeros() >= 6;
            if ours && closed { Ok(()) } else { Err(error) }
        }
        other => other,
    }?;
    account.own(path)
}
