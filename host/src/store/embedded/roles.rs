//! Who may work in the private database: the host's role, which is no superuser, and readers. The superuser has no way
//! in.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::account::Account;

/// The role that `initdb` makes. It owns the catalogs and nothing else, and `RULES` has no line for it.
pub(super) const SUPERUSER: &str = "hookpack_superuser";

/// Statements for single-user mode; it ends each at a semicolon before an empty line.
pub(super) const SETUP: &str = include_str!("roles.sql");

/// The first line of `pg_hba.conf`; its number is that of `SETUP`.
const MARK: &str = "# Written by hookpack (2) at each start; changes are lost. The superuser has no line.";
/// Who is let in by a socket whose folder is closed to other users.
const ALONE: &str = "local all hookpack trust";
/// Who is let in where readers have a socket, too: their folder is open to them, and they must not be the host.
const WITH_READERS: &str = "local all hookpack scram-sha-256\nlocal postgres hookpack_reader trust";

/// The statement that gives the host's role a password; of hexadecimal digits.
pub(super) fn set_password(password: &str) -> String {
    format!("alter role hookpack password '{password}';\n\n")
}

/// Whether this host, or one like it, has set the database up. Otherwise `SETUP` has not run.
pub(super) fn are_set_up(data: &Path) -> bool {
    fs::read_to_string(file(data)).is_ok_and(|rules| rules.starts_with(MARK))
}

/// Writes the rules, after `SETUP`: they say that it has run.
pub(super) fn write_rules(data: &Path, account: &Account, has_readers: bool) -> io::Result<()> {
    let (file, new) = (file(data), data.join("pg_hba.conf.new"));
    let mut written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&new)?;
    let rules = if has_readers { WITH_READERS } else { ALONE };
    written.write_all(format!("{MARK}\n{rules}\n").as_bytes())?;
    written.sync_all()?;
    account.own(&new)?;
    fs::rename(new, file)
}

fn file(data: &Path) -> PathBuf {
    data.join("pg_hba.conf")
}
