//! A Postgres that is not the host's: with a superuser, with settings of the test's, killed and started again at will.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

use crate::embedded::{BINARIES, within};

/// A program that must not run as root: it runs as a user of a namespace, to whom root's files belong.
pub fn program(path: &str) -> Command {
    if !geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", path]);
    command
}

pub fn postgres_program(name: &str) -> Command {
    program(&format!("{BINARIES}/{name}"))
}

/// A server with the superuser `owner`, who needs no password.
pub struct Server {
    folder: TempDir,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = postgres_program("initdb")
            .args(["--username=owner", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { folder, settings, process: None };
        server.start_again();
        server
    }

    pub fn start_again(&mut self) {
        let mut command = postgres_program("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.sockets());
        for setting in ["listen_addresses=", "max_connections=60"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        within(Duration::from_secs(20), "the server runs", || self.psql("postgres", "select 1").ok());
    }

    /// Ends at once, as with the power cut: nothing is written any more. The system's caches stay.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGQUIT);
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
            process.wait().unwrap();
        }
    }

    pub fn sockets(&self) -> &Path {
        self.folder.path()
    }

    /// Over TCP; the socket stays open.
    pub fn require_passwords(&self) {
        let rules = "local all all trust\nhost all all all scram-sha-256\n";
        fs::write(self.folder.path().join("data/pg_hba.conf"), rules).unwrap();
        self.psql("postgres", "select pg_reload_conf()").unwrap();
    }

    fn port(&self) -> String {
        let named = self.settings.iter().find_map(|setting| setting.strip_prefix("port="));
        named.unwrap_or("5432").to_owned()
    }

    pub fn url(&self, role: &str, database: &str) -> String {
        url(self.sockets(), role, database)
    }

    /// Runs statements as the superuser.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(format!("{BINARIES}/psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-d", database, "-f", "-", "-h"])
            .arg(self.sockets())
            .args(["-p", &self.port()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = psql.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::SIGQUIT);
    }
}

/// A URL for a server with its socket in this folder.
pub fn url(sockets: &Path, role: &str, database: &str) -> String {
    let sockets = sockets.to_str().unwrap().replace('/', "%2F");
    format!("postgres://{role}@{sockets}/{database}")
}

/// `PgBouncer` before a server; ends when dropped.
pub struct Pooler {
    folder: TempDir,
    process: Child,
}

impl Pooler {
    /// `None`: it is not installed.
    pub fn start(server: &Server, settings: &str) -> Option<Self> {
        let binary =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let Some(binary) = binary else {
            println!("skipped: there is no pgbouncer here (`apt install pgbouncer`)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let ini = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nauth_type = any\nlisten_addr =\nunix_socket_dir = {}\nlisten_port = 5432\n\
             max_client_conn = 200\nlogfile = {}\npidfile = {}\n{settings}\n",
            server.sockets().display(),
            folder.path().display(),
            at("log").display(),
            at("pid").display(),
        );
        // With `auth_type = any` every client is this user of the server.
        let ini = ini.replace("* = host=", "* = user=owner host=");
        fs::write(at("pgbouncer.ini"), ini).unwrap();
        let process = program(binary)
            .arg(at("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Self { folder, process };
        within(Duration::from_secs(10), "the pooler listens", || {
            std::os::unix::net::UnixStream::connect(pooler.sockets().join(".s.PGSQL.5432")).ok()
        });
        Some(pooler)
    }

    pub fn sockets(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
