//! The private Postgres: made at the first start, kept running while the host lives, stopped with
//! it.

mod account;
mod binaries;
mod child;
mod confine;
mod folder;
mod log;
mod postmaster;
mod readers;
mod roles;
mod socket;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{
    account::Account, binaries::Binaries, confine::Confinement, folder::Folder, log::Log, readers::Readers,
};

/// The host's role. It owns its database, and is no superuser: `roles.sql`.
const USER: &str = "hookpack";
const DATABASE: &str = "postgres";

/// How often files and children are looked at while somebody waits for them.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often a running Postgres is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// The pause before a Postgres that ended is started again; doubles with each try up to
/// `RESTART_PAUSE_MAX`.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A Postgres that ran for so long has recovered: its next end starts with the shortest pause
/// again.
const STEADY_AFTER: Duration = Duration::from_mins(1);

pub struct Options {
    /// `<data_dir>/postgres`; made when missing, and always set to 0700.
    pub folder: PathBuf,
    /// The setting `postgres_binaries`: use the binaries in this folder and look nowhere else.
    pub binaries: Option<PathBuf>,
    /// The setting `postgres_socket_group`: its members may read.
    pub readers: Option<String>,
    /// The value of `PATH`, the first place to look.
    pub path: Option<OsString>,
    /// How long the whole start may take, recovery after a crash included; then it is given up.
    pub start_wait: Duration,
}

/// Why the private Postgres did not start, and what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "no PostgreSQL 14 or newer was found (looked in {looked_in}): install it (Debian and \
         Ubuntu: `apt install postgresql`, Fedora: `dnf install postgresql-server`, macOS: \
         `brew install postgresql@17`), or use a server that runs already with `--database-url`"
    )]
    NoBinaries { looked_in: String },
    #[error(
        "`postgres_binaries` is {}, but {fault}: point it at the `bin` folder of a PostgreSQL 14 \
         or newer, or leave it out, or use a server that runs already with `--database-url`",
        .folder.display()
    )]
    UnusableBinaries { folder: PathBuf, fault: String },
    #[error(
        "the database in {} was made by PostgreSQL {major}, and its binaries were not found \
         (looked in {looked_in}; found {found}): install PostgreSQL {major} or point \
         `postgres_binaries` at its `bin` folder; to move to another version use that one's \
         `pg_upgrade`, or `pg_dump` and a new `data_dir`",
        .data.display()
    )]
    OtherMajor { data: PathBuf, major: String, looked_in: String, found: String },
    #[error(
        "{} is used by another hookpack host (process {pid}): stop that one, or give this one a \
         `data_dir` of its own",
        .folder.display()
    )]
    FolderInUse { folder: PathBuf, pid: String },
    #[error(
        "a PostgreSQL that this host did not start is running on {} (process {pid}): stop it with \
         `kill -INT {pid}`, then start again",
        .data.display()
    )]
    StillRunning { data: PathBuf, pid: i32 },
    #[error(
        "a PostgreSQL that has no process here, in another container perhaps, answers on {}/{}: stop it, or the \
         host that it belongs to, then start again; {} is its database",
        .sockets.display(), socket::NAME, .data.display()
    )]
    RunsElsewhere { data: PathBuf, sockets: PathBuf },
    #[error(
        "PostgreSQL refuses to run as root, and user {user} ({why}) cannot run it in {}: {fault}; \
         use a `data_dir` that this user can reach (/var/lib/hookpack, say), or start the host as \
         an ordinary user",
        .folder.display()
    )]
    NoAccount { user: String, why: &'static str, folder: PathBuf, fault: io::Error },
    #[error(
        "`postgres_socket_group` is {group}, and this machine has no such group: `groupadd {group}` makes one"
    )]
    NoGroup { group: String },
    #[error(
        "with `postgres_socket_group` readers connect in {}, whose path is too long for a socket, or has a comma or a \
         quote: use another `data_dir`",
        .folder.display()
    )]
    DeepReaders { folder: PathBuf },
    #[error("`{program}` {how} in {}; its last lines:\n{last_lines}", .folder.display())]
    Failed { program: &'static str, how: String, folder: PathBuf, last_lines: String },
    #[error("cannot {doing}: {error}")]
    Io { doing: String, error: io::Error },
}

impl StartError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io { doing, error }
    }
}

/// A running private Postgres; stops when dropped.
///
/// It listens on a Unix socket only, and lets in without a password whoever can enter the socket's
/// folder: 0700, for the host's user alone (and root). Readers have another socket: `readers`.
pub struct EmbeddedPostgres {
    sockets: PathBuf,
    password: Option<String>,
    stop: Option<SyncSender<()>>,
    supervisor: Option<JoinHandle<()>>,
}

impl EmbeddedPostgres {
    /// Blocks until the database accepts connections.
    ///
    /// # Errors
    /// Names the cause and what the operator can do; nothing is left running then.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let deadline = Instant::now() + options.start_wait;
        let folder = Folder::claim(&options.folder)?;
        let binaries = Binaries::find(options, &folder.data(), folder.major()?.as_deref())?;
        let account = Account::choose(&folder, &binaries)?;
        let sockets = folder.sockets(&account)?;
        postmaster::wait_for_orphan(&folder.data(), &sockets, deadline)?;
        let log = Log::open(&folder.log());
        let readers = match &options.readers {
            Some(group) => Some(Readers::open(group, &folder, &account)?),
            None => None,
        };
        let mut supervisor =
            Supervisor { folder, binaries, account, sockets, readers, log, is_confined: false };
        supervisor.choose_confinement();
        if supervisor.folder.major()?.is_none() {
            supervisor.initialise(deadline)?;
        } else if !roles::are_set_up(&supervisor.folder.data()) {
            tracing::info!("setting up the roles of the private database: the host's is no superuser");
            supervisor.set_up_roles(&supervisor.folder.data(), deadline)?;
        } else if supervisor.readers.is_some() {
            supervisor.set_up_roles(&supervisor.folder.data(), deadline)?;
        } else {
            supervisor.write_rules(&supervisor.folder.data())?;
        }
        supervisor.start(deadline)
    }

    /// The folder with the socket, for the `host` of a connection; the port is the usual 5432.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.sockets
    }

    #[must_use]
    pub fn user(&self) -> &'static str {
        USER
    }

    /// Of the host's role, where readers have a socket.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    #[must_use]
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// Ends all sessions and returns when Postgres is gone: at once as a rule, after
    /// `child::STOP_STEPS` at worst.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            tracing::error!("the supervisor of the private postgres panicked");
        }
    }
}

/// Owns the child from a thread of its own: Linux tells a child of its parent's death when the
/// *thread* that started it ends, so that thread must live as long as the host wants its Postgres.
struct Supervisor {
    folder: Folder,
    binaries: Binaries,
    account: Account,
    sockets: PathBuf,
    readers: Option<Readers>,
    log: Log,
    /// Whether Postgres is kept from everything outside of its folder.
    is_confined: bool,
}

impl Supervisor {
    /// Confines Postgres where the system can; says where it can't.
    fn choose_confinement(&mut self) {
        let confinement = self.confinement(&self.folder.data());
        match confinement.try_out(&self.binaries, &self.account) {
            Ok(()) => self.is_confined = true,
            Err(error) => {
                tracing::info!(%error, "the private postgres can't be kept to its folder here; only its role's rights keep it");
            }
        }
    }

    fn confinement(&self, data: &Path) -> Confinement {
        let readers = self.readers.iter().map(|readers| readers.folder.as_path());
        let sockets: Vec<&Path> = readers.chain([self.sockets.as_path()]).collect();
        Confinement::new(data, &sockets, &self.binaries)
    }

    /// Makes the database beside its place and moves it there when it is whole: one that was
    /// interrupted is never used.
    fn initialise(&self, deadline: Instant) -> Result<(), StartError> {
        let folder = &self.folder;
        tracing::info!(folder = %folder.path().display(), major = self.binaries.major, "making the private database");
        let unfinished = folder.clear_unfinished(deadline)?;
        // No collation but C: it is there on every machine, and its order never changes. With any
        // other, an update of the system's C library can change the order of strings under the indexes.
        // Trust: see `EmbeddedPostgres`; peer would not do, since the host's user has another number
        // inside a user namespace.
        let program = self.binaries.program("initdb");
        let mut command = child::command(&program, &self.account, child::EndsWithHost::AtOnce);
        command
            .args([
                "--username",
                roles::SUPERUSER,
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&unfinished)
            .current_dir(folder.path());
        self.run("initdb", command, "", deadline)?;
        self.set_up_roles(&unfinished, deadline)?;
        folder.accept_unfinished()
    }

    /// Has the host's role, and no other, work in the database.
    fn set_up_roles(&self, data: &Path, deadline: Instant) -> Result<(), StartError> {
        postmaster::forget_recycled_pid(data);
        // Not confined: it takes its user's name from the system, and runs nothing but `SETUP`.
        let program = self.binaries.program("postgres");
        let mut command = child::command(&program, &self.account, child::EndsWithHost::AtOnce);
        command
            .args(["--single", "-j", "-c", "exit_on_error=on", "-c", "search_path=pg_catalog", "-D"])
            .arg(data)
            .arg(DATABASE)
            .current_dir(self.folder.path());
        let password = self.readers.as_ref().map(|readers| roles::set_password(&readers.password));
        let statements = format!("{}{}", roles::SETUP, password.unwrap_or_default());
        self.run("postgres --single", command, &statements, deadline)?;
        self.write_rules(data)
    }

    fn write_rules(&self, data: &Path) -> Result<(), StartError> {
        let doing = format!("write {}/pg_hba.conf", data.display());
        roles::write_rules(data, &self.account, self.readers.is_some()).map_err(StartError::io(doing))
    }

    /// Runs a program to its end, with this on its standard input.
    fn run(
        &self,
        program: &'static str,
        mut command: Command,
        input: &str,
        deadline: Instant,
    ) -> Result<(), StartError> {
        let failed = |how: String| StartError::Failed {
            program,
            how,
            folder: self.folder.path().to_owned(),
            last_lines: self.log.last_lines(),
        };
        command.stdin(Stdio::piped());
        let mut child = self.log.spawn(command).map_err(StartError::io(format!("run `{program}`")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended by now says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let Some(status) = poll(deadline, || child.try_wait().transpose()) else {
            child::stop(&mut child);
            return Err(failed("did not finish in time".into()));
        };
        let status: ExitStatus = status.map_err(StartError::io(format!("wait for `{program}`")))?;
        if !status.success() {
            self.log.wait_for_end();
            return Err(failed(format!("failed ({status})")));
        }
        Ok(())
    }

    fn start(self, deadline: Instant) -> Result<EmbeddedPostgres, StartError> {
        let sockets = self.sockets.clone();
        let password = self.readers.as_ref().map(|readers| readers.password.clone());
        let (stop, stopped) = mpsc::sync_channel(0);
        let (ready, started) = mpsc::sync_channel(1);
        let supervisor = thread::Builder::new()
            .name("postgres-watch".into())
            .spawn(move || {
                // A caller that is gone does not receive; then `stopped` ends the watch.
                match self.start_first(deadline) {
                    Ok(child) => {
                        let _ = ready.send(Ok(()));
                        self.watch(child, &stopped);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
                self.folder.remove_sockets(&self.sockets);
            })
            .map_err(StartError::io("start the thread that watches Postgres"))?;
        let running = EmbeddedPostgres { sockets, password, stop: Some(stop), supervisor: Some(supervisor) };
        match started.recv() {
            Ok(answer) => answer.map(|()| running),
            Err(panicked) => Err(StartError::io("start Postgres")(io::Error::other(panicked))),
        }
    }

    /// Starts Postgres and waits until it accepts connections; starts it again while what it meets
    /// will pass.
    fn start_first(&self, deadline: Instant) -> Result<Child, StartError> {
        loop {
            let mut child = self.spawn().map_err(StartError::io("run `postgres`"))?;
            let seen = poll(deadline, || match child.try_wait() {
                Ok(None) if !postmaster::is_ready(&self.folder.data(), &self.sockets, &child) => None,
                ready_or_ended => Some(ready_or_ended),
            });
            let how = match seen {
                Some(Ok(None)) => return Ok(child),
                Some(Ok(Some(status))) => {
                    self.log.wait_for_end();
                    if postmaster::will_pass(&self.log.last_lines()) && Instant::now() < deadline {
                        thread::sleep(RESTART_PAUSE_MIN);
                        continue;
                    }
                    format!("ended ({status})")
                }
                Some(Err(error)) => format!("was lost ({error})"),
                None => {
                    child::stop(&mut child);
                    "did not accept connections in time (after a crash it may need longer: \
                     raise `postgres_start_seconds`)"
                        .into()
                }
            };
            return Err(StartError::Failed {
                program: "postgres",
                how,
                folder: self.folder.path().to_owned(),
                last_lines: self.log.last_lines(),
            });
        }
    }

    /// Starts Postgres again whenever it ends, until `stop` says otherwise (its sender is dropped).
    fn watch(&self, mut child: Child, stop: &Receiver<()>) {
        let mut pause = RESTART_PAUSE_MIN;
        let mut started = Instant::now();
        while !stopped_within(stop, WATCH_INTERVAL) {
            let status = match child.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => status.to_string(),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > STEADY_AFTER {
                pause = RESTART_PAUSE_MIN;
            }
            tracing::error!(
                status,
                ?pause,
                last_lines = self.log.last_lines(),
                "the private postgres ended, starting it again"
            );
            if stopped_within(stop, pause) {
                return;
            }
            pause = RESTART_PAUSE_MAX.min(pause * 2);
            started = Instant::now();
            match self.spawn() {
                Ok(new) => child = new,
                Err(error) => tracing::error!(%error, "cannot run `postgres`"),
            }
        }
        child::stop(&mut child);
    }

    fn spawn(&self) -> io::Result<Child> {
        let data = self.folder.data();
        postmaster::forget_recycled_pid(&data);
        let readers = self.readers.as_ref().map(|readers| readers.folder.as_path());
        for sockets in readers.into_iter().chain([self.sockets.as_path()]) {
            socket::remove_stale_lock(&data, sockets);
        }
        let mut command = self.postgres(&data)?;
        command.args(postmaster::arguments(&data, &self.sockets, readers));
        self.log.spawn(command)
    }

    /// The command of a `postgres` for the database in `data`, confined where that is possible.
    fn postgres(&self, data: &Path) -> io::Result<Command> {
        let program = self.binaries.program("postgres");
        let mut command = child::command(&program, &self.account, child::EndsWithHost::Orderly);
        if self.is_confined {
            self.confinement(data).apply(&mut command)?;
        }
        command.current_dir(self.folder.path());
        Ok(command)
    }
}

fn stopped_within(stop: &Receiver<()>, wait: Duration) -> bool {
    stop.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
}

/// The first answer of `ask`, which is asked until `deadline`.
fn poll<T>(deadline: Instant, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(POLL_INTERVAL);
    }
}
