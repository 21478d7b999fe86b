//! The user that Postgres runs as, which must not be root.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
    process::Stdio,
};

use nix::unistd::{Gid, Uid, User, geteuid};

use super::{
    StartError,
    binaries::Binaries,
    child::{self, EndsWithHost},
    folder::Folder,
};

/// Users that a host started as root gives Postgres to when it may not make a user namespace; the
/// first that exists.
const FALLBACK_USERS: [&str; 2] = ["postgres", "nobody"];
/// Where not even `nobody` has a name: the number that the kernel gives to users whom it does not
/// know.
const NOBODY: Account = Account::Other(Uid::from_raw(65534), Gid::from_raw(65534));

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// The host's own user, who is not root.
    Host,
    /// An ordinary user of a user namespace. Outside of it that is root without capabilities: files stay
    /// root's, and a 0700 home is no obstacle.
    Namespace,
    Other(Uid, Gid),
}

impl Account {
    /// Whoever owns the data goes on with it; a new database is made in a user namespace if that is
    /// allowed.
    pub(super) fn choose(folder: &Folder, binaries: &Binaries) -> Result<Self, StartError> {
        if !geteuid().is_root() {
            return Ok(Self::Host);
        }
        if let Some(owner) = Self::owner_of(&folder.data()) {
            owner.check(folder, binaries, "the owner of the data")?;
            return Ok(owner);
        }
        let Err(refusal) = Self::Namespace.try_out(folder, binaries) else {
            return Ok(Self::Namespace);
        };
        let other = Self::fallback();
        let user = other.name();
        tracing::info!(user, %refusal, "no user namespaces here, postgres gets another user");
        other.check(folder, binaries, "user namespaces are not allowed here")?;
        let doing = format!("give {} to user {}", folder.path().display(), other.name());
        other.own_tree(folder.path()).map_err(StartError::io(doing))?;
        Ok(other)
    }

    fn owner_of(data: &Path) -> Option<Self> {
        let data = fs::metadata(data).ok().filter(|data| data.uid() != 0)?;
        Some(Self::Other(data.uid().into(), data.gid().into()))
    }

    fn fallback() -> Self {
        let user = FALLBACK_USERS.iter().find_map(|name| User::from_name(name).ok().flatten());
        user.map_or(NOBODY, |user| Self::Other(user.uid, user.gid))
    }

    /// The number that root has in the user namespace. One that has a name, or `initdb` refuses: in a container there
    /// is often no user 1000.
    pub(super) fn inside_namespace() -> Uid {
        Self::fallback().uid()
    }

    pub(super) fn uid(&self) -> Uid {
        match self {
            Self::Host | Self::Namespace => geteuid(),
            Self::Other(uid, _) => *uid,
        }
    }

    fn name(&self) -> String {
        let user = User::from_uid(self.uid()).ok().flatten();
        user.map_or_else(|| self.uid().to_string(), |user| user.name)
    }

    /// Makes `path` belong to the user that Postgres runs as.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Host | Self::Namespace => Ok(()),
            Self::Other(uid, gid) => lchown(path, Some(uid.as_raw()), Some(gid.as_raw())),
        }
    }

    fn own_tree(&self, path: &Path) -> io::Result<()> {
        self.own(path)?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.own_tree(&entry?.path())?;
            }
        }
        Ok(())
    }

    fn check(&self, folder: &Folder, binaries: &Binaries, why: &'static str) -> Result<(), StartError> {
        self.try_out(folder, binaries).map_err(|fault| StartError::NoAccount {
            user: self.name(),
            why,
            folder: folder.path().to_owned(),
            fault,
        })
    }

    /// Runs `postgres --version` as this user, from the folder around `folder`: that shows that it
    /// can get there.
    fn try_out(&self, folder: &Folder, binaries: &Binaries) -> io::Result<()> {
        let status = child::command(&binaries.program("postgres"), self, EndsWithHost::AtOnce)
            .arg("--version")
            .current_dir(folder.path().parent().unwrap_or(folder.path()))
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }
}
