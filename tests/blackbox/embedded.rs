//! The private Postgres, against the binaries of this machine.
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hookpack::store::embedded::{EmbeddedPostgres, Options, StartError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

pub const BINARIES: &str = "/usr/lib/postgresql/15/bin";

pub fn options(folder: &Path) -> Options {
    Options {
        folder: folder.join("postgres"),
        binaries: None,
        readers: None,
        path: Some("/usr/local/bin:/usr/bin".into()),
        start_wait: Duration::from_secs(30),
    }
}

fn start(folder: &TempDir) -> EmbeddedPostgres {
    EmbeddedPostgres::start(&options(folder.path())).unwrap()
}

fn refusal(options: &Options) -> StartError {
    match EmbeddedPostgres::start(options) {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

pub fn psql(sockets: &Path, sql: &str) -> Result<String, String> {
    let output = Command::new(format!("{BINARIES}/psql"))
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "hookpack", "-d", "postgres", "-c", sql, "-h"])
        .arg(sockets)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub fn within<T>(wait: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + wait;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} within {wait:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn postmaster(folder: &Path) -> Option<Pid> {
    let text = fs::read_to_string(folder.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok().map(Pid::from_raw)
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A host in a process of its own.
struct Host {
    process: Child,
    sockets: PathBuf,
}

impl Host {
    fn start(folder: &Path) -> Self {
        Self::start_by(folder, Command::new(env!("CARGO_BIN_EXE_hookpack")))
    }

    fn start_by(folder: &Path, mut command: Command) -> Self {
        let packs = folder.join("packs");
        fs::create_dir_all(&packs).unwrap();
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--packs"])
            .arg(packs)
            .arg("--data-dir")
            .arg(folder)
            .env_remove("DATABASE_URL")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listens on"), "{line}{}", fs::read_to_string(folder.join("stderr")).unwrap());
        // The fifth line of Postgres's own pid file is the folder of its socket.
        let pid_file = fs::read_to_string(folder.join("postgres/data/postmaster.pid")).unwrap();
        Self { process, sockets: pid_file.lines().nth(4).unwrap().into() }
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn what_was_stored_is_there_after_a_second_start() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = start(&folder);
    assert_eq!((postgres.user(), postgres.database()), ("hookpack", "postgres"));
    psql(postgres.socket_folder(), "create table t (n int); insert into t values (1), (2)").unwrap();
    let pid = postmaster(folder.path()).unwrap();
    postgres.stop();
    assert!(!is_alive(pid), "stopped means gone");
    assert_eq!(postmaster(folder.path()), None);

    let again = Instant::now();
    let postgres = start(&folder);
    assert!(again.elapsed() < Duration::from_secs(3));
    assert_eq!(psql(postgres.socket_folder(), "select sum(n) from t").unwrap(), "3");
}

#[test]
fn it_is_durable_private_and_an_ordinary_user() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("postgres")).unwrap();
    fs::set_permissions(folder.path().join("postgres"), fs::Permissions::from_mode(0o755)).unwrap();
    let postgres = start(&folder);
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("shared_buffers", "128MB"),
        ("max_connections", "100"),
        ("TimeZone", "UTC"),
        ("log_timezone", "UTC"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
    ] {
        assert_eq!(psql(postgres.socket_folder(), &format!("show {setting}")).unwrap(), value, "{setting}");
    }
    let path = folder.path().join("postgres");
    for (name, mode) in [
        ("", 0o40700),
        ("data", 0o40700),
        (".s.PGSQL.5432", 0o140_700),
        ("lock", 0o100_600),
        ("postgres.log", 0o100_600),
    ] {
        let found = fs::metadata(path.join(name)).unwrap();
        assert_eq!((found.mode(), found.uid()), (mode, geteuid().as_raw()), "{name}");
    }
    let pid = postmaster(folder.path()).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environment.contains("CARGO"), "the host's environment stays with the host: {environment}");
    let tcp = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let leaked = tcp.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target.ends_with("lock"));
    assert!(!leaked, "the lock is not open in postgres");
}

#[test]
fn the_second_host_on_a_folder_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let _first = start(&folder);
    let link = tempfile::tempdir().unwrap();
    symlink(folder.path().join("postgres"), link.path().join("postgres")).unwrap();
    for second in [options(folder.path()), options(link.path())] {
        let error = refusal(&second);
        assert!(matches!(error, StartError::FolderInUse { .. }), "{error}");
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
    }
}

#[test]
fn a_killed_postgres_comes_back_with_every_committed_row() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = start(&folder);
    let sockets = postgres.socket_folder();
    psql(sockets, "create table t (n int)").unwrap();
    for (round, everyone) in [(1, false), (2, true), (3, false)] {
        psql(sockets, &format!("insert into t values ({round})")).unwrap();
        // A session in the middle of something: it keeps the old shared memory for a moment.
        let session = thread::spawn({
            let sockets = sockets.to_owned();
            move || psql(&sockets, "select pg_sleep(60)")
        });
        within(Duration::from_secs(5), "the session runs", || {
            (psql(sockets, "select count(*) from pg_stat_activity where query ~ '^select pg_sleep'").unwrap()
                == "1")
                .then_some(())
        });
        let pid = postmaster(folder.path()).unwrap();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        if everyone {
            for child in children.split_whitespace() {
                let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
            }
        }
        let before = Instant::now();
        let rows =
            within(Duration::from_secs(20), "it is back", || psql(sockets, "select count(*) from t").ok());
        println!("back after {:?}", before.elapsed());
        assert_eq!(rows, round.to_string());
        assert_ne!(postmaster(folder.path()), Some(pid));
        assert!(session.join().unwrap().is_err());
    }
}

#[test]
fn the_host_after_a_killed_one_finds_every_committed_row() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path());
    psql(&host.sockets, "create table t (n int)").unwrap();
    host.stop();
    for round in 1..=4 {
        let host = Host::start(folder.path());
        psql(&host.sockets, &format!("insert into t values ({round})")).unwrap();
        let pid = postmaster(folder.path()).unwrap();
        host.kill();
        if round > 2 {
            // In two rounds the next host meets the old Postgres, in two it comes later.
            within(Duration::from_secs(10), "postgres ends with its host", || (!is_alive(pid)).then_some(()));
        }
    }
    let postgres = start(&folder);
    assert_eq!(psql(postgres.socket_folder(), "select count(*) from t").unwrap(), "4");
}

#[test]
fn a_stale_pid_file_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop();
    let data = folder.path().join("postgres/data");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let mut zombie = Command::new("true").spawn().unwrap();
    within(Duration::from_secs(5), "a zombie", || {
        (!is_alive(Pid::from_raw(zombie.id().cast_signed()))).then_some(())
    });
    let [own, other_pid, zombie_pid] =
        [std::process::id(), other.id(), zombie.id()].map(|pid| pid.to_string());
    // A number that no process has, this test's, another process's, a zombie's, one that this user may not look at, and
    // rubbish.
    for pid in ["4194303", &own, &other_pid, &zombie_pid, "1", "", "x"] {
        let sockets = folder.path().join("postgres");
        let lines =
            format!("{pid}\n{}\n1\n5432\n{}\n\n  1234  5678\nready   \n", data.display(), sockets.display());
        let lines = if pid.is_empty() { String::new() } else { lines };
        fs::write(data.join("postmaster.pid"), &lines).unwrap();
        fs::write(sockets.join(".s.PGSQL.5432.lock"), &lines).unwrap();
        let postgres = start(&folder);
        assert_eq!(psql(postgres.socket_folder(), "select 1").unwrap(), "1");
    }
    assert!(other.try_wait().unwrap().is_none(), "the other process was left alone");
    other.kill().unwrap();
    other.wait().unwrap();
    zombie.wait().unwrap();
}

/// A command that runs what follows in a process namespace of its own, as a container does; `None`: not here.
fn container() -> Option<Command> {
    let arguments = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
    let tried = Command::new("unshare").args(arguments).arg("true").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("skipped: `unshare --pid` is not allowed here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(arguments).arg(env!("CARGO_BIN_EXE_hookpack"));
    Some(command)
}

/// In a container Postgres often gets the number that it had before, and finds it in its own stale files.
#[test]
fn a_host_that_was_killed_in_a_container_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let Some(command) = container() else { return };
        let host = Host::start_by(folder.path(), command);
        assert_eq!(psql(&host.sockets, "select 1").unwrap(), "1", "round {round}");
        host.kill();
        // The end of the namespace ends its processes; a container is only started again after that.
        let lock = fs::File::open(folder.path().join("postgres/lock")).unwrap();
        within(Duration::from_secs(10), "the container is gone", || lock.try_lock().ok());
    }
}

/// Another container on the same folder: its Postgres has no number here.
#[test]
fn a_postgres_of_another_container_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop();
    let listener =
        std::os::unix::net::UnixListener::bind(folder.path().join("postgres/.s.PGSQL.5432")).unwrap();
    let error = refusal(&Options { start_wait: Duration::from_millis(300), ..options(folder.path()) });
    assert!(error.to_string().contains("in another container perhaps, answers on"), "{error}");
    drop(listener);
    assert_eq!(psql(start(&folder).socket_folder(), "select 1").unwrap(), "1");
}

#[test]
fn a_postgres_that_somebody_else_started_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop();
    let data = folder.path().join("postgres/data");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = if geteuid().is_root() { Command::new("unshare") } else { Command::new("env") };
    if geteuid().is_root() {
        command.args(["--user", "--map-user=1000"]);
    }
    let mut foreign = command
        .arg(format!("{BINARIES}/postgres"))
        .args(["-c", "listen_addresses=", "-k"])
        .arg(elsewhere.path())
        .arg("-D")
        .arg(&data)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = within(Duration::from_secs(5), "the other runs", || {
        psql(elsewhere.path(), "select 1").ok().and(postmaster(folder.path()))
    });
    let error = refusal(&Options { start_wait: Duration::from_secs(1), ..options(folder.path()) });
    assert!(error.to_string().contains(&format!("kill -INT {pid}")), "{error}");
    assert!(is_alive(pid));
    println!("{error}");

    let next = thread::spawn({
        let options = options(folder.path());
        move || EmbeddedPostgres::start(&options).map(drop)
    });
    thread::sleep(Duration::from_millis(500));
    assert!(!next.is_finished(), "the next host waits");
    kill(pid, Signal::SIGINT).unwrap();
    foreign.wait().unwrap();
    next.join().unwrap().unwrap();
}

#[test]
fn data_of_another_version_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    start(&folder).stop();
    let version = folder.path().join("postgres/data/PG_VERSION");
    fs::write(&version, "12\n").unwrap();
    let error = refusal(&options(folder.path()));
    println!("{error}");
    for part in
        ["PostgreSQL 12", "/usr/lib/postgresql/*/bin", "found 15", "`postgres_binaries`", "pg_upgrade"]
    {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let named = Options { binaries: Some(BINARIES.into()), ..options(folder.path()) };
    assert!(refusal(&named).to_string().contains(&format!("looked in {BINARIES}; found 15)")));

    fs::remove_file(&version).unwrap();
    let error = refusal(&options(folder.path()));
    assert!(error.to_string().contains("is this a database?"), "{error}");
    assert!(!version.exists());
}

#[test]
fn binaries_that_were_named_are_used_or_their_fault_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let fake = |name: &str, script: Option<&str>| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        for program in script.map(|_| ["postgres", "initdb"]).into_iter().flatten() {
            fs::write(place.join(program), script.unwrap()).unwrap();
            fs::set_permissions(place.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    };
    let old = fake("old", Some("#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n"));
    for (binaries, fault) in [
        (fake("empty", None), "it holds no `postgres`"),
        (folder.path().join("missing"), "it holds no `postgres`"),
        (old.clone(), "its version is 13"),
        (fake("strange", Some("#!/bin/sh\necho hello\n")), "its `postgres --version` says \"hello\""),
    ] {
        let error = refusal(&Options { binaries: Some(binaries.clone()), ..options(folder.path()) });
        assert!(error.to_string().contains(&format!("{}, but {fault}", binaries.display())), "{error}");
        assert!(error.to_string().contains("--database-url"), "{error}");
    }
    // In PATH an old one is passed over.
    let path = env::join_paths([old, BINARIES.into()]).unwrap();
    drop(EmbeddedPostgres::start(&Options { path: Some(path), ..options(folder.path()) }).unwrap());
    let named = Options { binaries: Some(BINARIES.into()), path: None, ..options(folder.path()) };
    drop(EmbeddedPostgres::start(&named).unwrap());
}

#[test]
fn a_folder_too_deep_for_a_socket_gets_a_short_one_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    for name in [&"deep/".repeat(30), "comma,", "quote\"", "blank "] {
        let options = options(&folder.path().join(name));
        for round in 0..2 {
            let postgres = EmbeddedPostgres::start(&options).unwrap();
            let sockets = postgres.socket_folder().to_owned();
            assert_eq!(psql(&sockets, "select 1").unwrap(), "1", "{name}");
            if name == "blank " {
                assert_eq!(sockets, options.folder);
                continue;
            }
            let found = fs::metadata(&sockets).unwrap();
            assert_eq!((found.mode(), found.uid()), (0o40700, geteuid().as_raw()));
            postgres.stop();
            assert!(!sockets.exists(), "{}", sockets.display());
            if round == 0 {
                // As a killed host leaves it.
                fs::create_dir(&sockets).unwrap();
                fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
    }
    let host = Host::start(&folder.path().join("deep/".repeat(30)));
    let (left, pid) = (host.sockets.clone(), postmaster(&folder.path().join("deep/".repeat(30))).unwrap());
    host.kill();
    within(Duration::from_secs(10), "postgres ends", || (!is_alive(pid)).then_some(()));
    assert!(left.exists());
    let postgres = EmbeddedPostgres::start(&options(&folder.path().join("deep/".repeat(30)))).unwrap();
    assert_eq!(postgres.socket_folder(), left);
    drop(postgres);
    assert!(!left.exists());
}

#[test]
fn a_stranger_s_folder_is_not_used_for_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("deep/".repeat(30));
    let sockets = EmbeddedPostgres::start(&options(&deep)).unwrap().socket_folder().to_owned();
    fs::create_dir(&sockets).unwrap();
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o755)).unwrap();
    let postgres = EmbeddedPostgres::start(&options(&deep));
    match &postgres {
        Ok(postgres) => assert_ne!(postgres.socket_folder(), sockets),
        Err(error) => assert!(error.to_string().contains(&*sockets.to_string_lossy()), "{error}"),
    }
    drop(postgres);
    fs::remove_dir(&sockets).unwrap();
}

#[test]
fn a_half_made_database_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("postgres/data.new");
    fs::create_dir_all(left.join("base")).unwrap();
    fs::write(left.join("PG_VERSION"), "15\n").unwrap();
    fs::write(left.join("half"), "").unwrap();
    let postgres = start(&folder);
    assert_eq!(psql(postgres.socket_folder(), "select 1").unwrap(), "1");
    assert!(!left.exists() && !folder.path().join("postgres/data/half").exists());
}

#[test]
fn a_host_killed_while_it_makes_the_database_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    for millis in [50, 150, 300, 500, 700] {
        let mut host = Command::new(env!("CARGO_BIN_EXE_hookpack"))
            .args(["serve", "--listen", "127.0.0.1:0", "--packs"])
            .arg(folder.path())
            .arg("--data-dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        println!("data.new {}", folder.path().join("postgres/data.new").exists());
        host.kill().unwrap();
        host.wait().unwrap();
    }
    let postgres = start(&folder);
    assert_eq!(psql(postgres.socket_folder(), "select 1").unwrap(), "1");
}

#[test]
fn a_full_disk_is_said_with_postgres_s_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs"])
        .arg(folder.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a small tmpfs cannot be mounted here");
        return;
    }
    let at_initdb = refusal(&options(folder.path()));
    Command::new("mount").args(["-o", "remount,size=128m"]).arg(folder.path()).status().unwrap();
    start(&folder).stop();
    let filled = fs::write(folder.path().join("filler"), vec![0; 128 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let at_start = EmbeddedPostgres::start(&options(folder.path())).map(drop);
    Command::new("umount").arg(folder.path()).status().unwrap();
    println!("{at_initdb}\n---\n{at_start:?}");
    assert!(at_initdb.to_string().contains("`initdb` failed"), "{at_initdb}");
    assert!(at_initdb.to_string().contains("No space left on device"), "{at_initdb}");
    assert!(at_start.unwrap_err().to_string().contains("No space left on device"));
}
