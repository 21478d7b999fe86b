//! A way in for other users of the machine: members of a group read events, as a role that can do nothing else.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::Group};

use super::{StartError, USER, account::Account, folder::Folder};

/// A socket in a folder of its own, which members of the group may enter.
///
/// `pg_hba.conf` can't tell sockets apart. So the role of the readers needs no password: the folder keeps others out.
/// The host's role needs one then, which is made at each start.
pub(super) struct Readers {
    pub(super) folder: PathBuf,
    /// Of the host's role.
    pub(super) password: String,
}

impl Readers {
    /// Makes the folder `<data_dir>/readers`, and `<data_dir>/postgres/pgpass` for the operator's own tools.
    pub(super) fn open(group: &str, own: &Folder, account: &Account) -> Result<Self, StartError> {
        let known = Group::from_name(group).ok().flatten();
        let known = known.ok_or_else(|| StartError::NoGroup { group: group.to_owned() })?;
        let folder = own.path().with_file_name("readers");
        if !super::folder::fits_a_socket(&folder) {
            return Err(StartError::DeepReaders { folder });
        }
        let doing = format!("make {} for the group {group}", folder.display());
        make(&folder, account.uid().as_raw(), known.gid.as_raw()).map_err(StartError::io(doing))?;
        let random = crate::secret::random::<24>().map_err(|error| io::Error::other(format!("{error:#}")));
        let password = hex::encode(random.map_err(StartError::io("make a password"))?);
        let file = own.path().join("pgpass");
        let doing = format!("write {}", file.display());
        write_private(&file, &format!("*:*:*:{USER}:{password}\n")).map_err(StartError::io(doing))?;
        Ok(Self { folder, password })
    }
}

fn make(folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() && !folder.is_symlink() => {}
        other => other?,
    }
    chown(folder, Some(uid), Some(gid))?;
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    file.write_all(text.as_bytes())
}
