//! Who may work in the private database: the host's role, which is no superuser. The superuser has no way in.

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

/// `pg_hba.conf`: who is let in by the socket, whose folder is closed to other users.
const RULES: &str = "# Written by hookpack at each start; changes are lost. The superuser has no line: see \
                     \"The private Postgres\" in README.md.\n\
                     local all hookpack trust\n";

/// Whether this host, or one like it, has set the database up. Otherwise `SETUP` has not run.
pub(super) fn are_set_up(data: &Path) -> bool {
    fs::read_to_string(file(data)).is_ok_and(|rules| rules.starts_with("# Written by hookpack"))
}

/// Writes the rules, after `SETUP`: they say that it has run.
pub(super) fn write_rules(data: &Path, account: &Account) -> io::Result<()> {
    let (file, new) = (file(data), data.join("pg_hba.conf.new"));
    let mut written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&new)?;
    written.write_all(RULES.as_bytes())?;
    written.sync_all()?;
    account.own(&new)?;
    fs::rename(new, file)
}

fn file(data: &Path) -> PathBuf {
    data.join("pg_hba.conf")
}
