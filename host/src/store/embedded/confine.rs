//! Closes the rest of the machine to Postgres: its processes reach their own folder and the system's libraries only.
//!
//! A superuser of a database can read and write files and run programs as the user of the server, and started as root
//! that user's files are root's. The host's role is no superuser; this holds even if a session becomes one.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    account::Account,
    binaries::Binaries,
    child::{self, EndsWithHost},
};

/// What Postgres may reach.
pub(super) struct Confinement {
    /// Read and written, and never executed.
    own: Vec<PathBuf>,
    /// The folder of its programs; libraries and data of the same installation are beside it.
    programs: PathBuf,
}

/// Where the system keeps programs' data; read.
#[cfg(target_os = "linux")]
const READ: [&str; 10] = [
    "/usr",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/dev/urandom",
    "/dev/random",
];
/// Where the loader and the libraries are. `/bin` and `/usr/bin` are not among them: there is no shell.
#[cfg(target_os = "linux")]
const LIBRARIES: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store", "/gnu/store"];
#[cfg(target_os = "linux")]
const DEVICES: [&str; 1] = ["/dev/null"];

impl Confinement {
    /// For the database in `data`, wherever links from it lead: the log of changes and tablespaces may be on other disks.
    pub(super) fn new(data: &Path, sockets: &[&Path], binaries: &Binaries) -> Self {
        let mut own = vec![data.to_owned()];
        own.extend(sockets.iter().map(|&folder| folder.to_owned()));
        own.extend(linked_from(data));
        Self { own, programs: binaries.folder().to_owned() }
    }

    /// Why Postgres can't run under it here. Tried with `postgres --version`, which loads every library.
    pub(super) fn try_out(&self, binaries: &Binaries, account: &Account) -> io::Result<()> {
        let mut command = child::command(&binaries.program("postgres"), account, EndsWithHost::AtOnce);
        self.apply(&mut command)?;
        let status =
            command.arg("--version").current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }

    /// Has the command confine itself before it becomes its program.
    ///
    /// # Errors
    /// The kernel has no Landlock (Linux 5.13), or does not let this process use it.
    #[cfg(target_os = "linux")]
    pub(super) fn apply(&self, command: &mut Command) -> io::Result<()> {
        let rules = self.rules().map_err(io::Error::other)?;
        let rules = rules.ok_or_else(|| io::Error::other("this kernel has no Landlock"))?;
        child::restrict(command, rules);
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn apply(&self, _: &mut Command) -> io::Result<()> {
        Err(io::Error::other("there is no Landlock on this system"))
    }

    /// `None`: the kernel has no Landlock. An older one enforces what it knows of.
    #[cfg(target_os = "linux")]
    fn rules(&self) -> Result<Option<std::os::fd::OwnedFd>, landlock::RulesetError> {
        use landlock::{
            ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
            path_beneath_rules,
        };

        // Of the kernels to come nothing is asked: what they add was not tried out.
        let abi = ABI::V6;
        let all = AccessFs::from_all(abi);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let run = read | AccessFs::Execute;
        let beside = |name: &str| self.programs.with_file_name(name);
        let installation = [self.programs.clone(), beside("lib"), beside("lib64"), beside("share")];
        let rules = Ruleset::default()
            .handle_access(all)?
            // No connection to other machines, and no signal to other processes.
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::Signal | Scope::AbstractUnixSocket)?
            .create()?
            .add_rules(path_beneath_rules(&self.own, all & !AccessFs::Execute))?
            .add_rules(path_beneath_rules([self.programs.join("postgres")], run))?
            .add_rules(path_beneath_rules(installation, read))?
            .add_rules(path_beneath_rules(LIBRARIES, run))?
            .add_rules(path_beneath_rules(READ, read))?
            .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))?;
        Ok(rules.into())
    }
}

/// Folders outside of `data` that belong to it.
fn linked_from(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    found.extend(data.join("pg_wal").read_link().ok().map(|target| data.join(target)));
    for entry in data.join("pg_tblspc").read_dir().into_iter().flatten().flatten() {
        found.extend(entry.path().read_link().ok());
    }
    found
}
