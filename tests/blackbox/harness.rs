//! One line sets up a host: a database of its own, packs from text, a clock that stands still.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use hookpack::{
    clock::Clock,
    config::{Config, Environment},
    serve::Running,
    store::{
        self,
        embedded::{EmbeddedPostgres, Options},
    },
};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, PgPool, postgres::PgConnectOptions};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};

pub const NOW: OffsetDateTime = datetime!(2026-11-22 10:00 UTC);
/// Every secret's value, unless a test says otherwise.
pub const SECRET: &str = "It's a Secret to Everybody";
/// Names of secrets that packs of tests may use, whatever their refs: a test of who may use what has other names.
pub const GRANTED: [&str; 7] =
    ["secret", "own", "github_webhook", "stripe_webhook", "shared", "late", "nobody_has_it"];

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One Postgres for all tests of this process, with a migrated template that each test's database is copied from.
struct Cluster {
    postgres: EmbeddedPostgres,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        // Starting blocks, and the template is made with a runtime: both want a thread of their own.
        std::thread::spawn(|| {
            let folder = cluster_folder();
            let options = Options {
                folder,
                binaries: None,
                readers: None,
                path: std::env::var_os("PATH"),
                start_wait: Duration::from_mins(2),
            };
            let cluster = Cluster { postgres: EmbeddedPostgres::start(&options).unwrap() };
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(make_template(&cluster));
            cluster
        })
        .join()
        .unwrap()
    })
}

/// `target/test-postgres/<pid>`; folders of test processes that are gone are removed.
fn cluster_folder() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("test-postgres");
    fs::create_dir_all(&all).unwrap();
    for entry in fs::read_dir(&all).unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !Path::new("/proc").join(&pid).exists() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    all.join(std::process::id().to_string())
}

fn connect_options(cluster: &Cluster, database: &str) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass();
    options.socket(cluster.postgres.socket_folder()).username(cluster.postgres.user()).database(database)
}

async fn make_template(cluster: &Cluster) {
    let mut admin = connect_options(cluster, "postgres").connect().await.unwrap();
    sqlx::query("create database template_hookpack").execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let pool = PgPool::connect_with(connect_options(cluster, "template_hookpack")).await.unwrap();
    store::migrate(&pool).await.unwrap();
    pool.close().await;
}

/// A database of the test's own, as a URL for a host and as a pool for the test.
pub struct TestDatabase {
    pub url: String,
    pub pool: PgPool,
}

impl TestDatabase {
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let cluster = tokio::task::spawn_blocking(cluster).await.unwrap();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = connect_options(cluster, "postgres").connect().await.unwrap();
        let create = format!("create database {name} template template_hookpack");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        let socket = cluster.postgres.socket_folder().to_str().unwrap().replace('/', "%2F");
        let url = format!("postgres://{}@{socket}/{name}", cluster.postgres.user());
        let pool = PgPool::connect_with(connect_options(cluster, &name)).await.unwrap();
        Self { url, pool }
    }

    /// A database without the host's schema.
    pub async fn empty() -> Self {
        let database = Self::new().await;
        sqlx::raw_sql("drop schema hookpack cascade").execute(&database.pool).await.unwrap();
        database
    }

    /// A database of another server.
    pub async fn at(url: &str) -> Self {
        Self { url: url.to_owned(), pool: PgPool::connect(url).await.unwrap() }
    }
}

/// A host under test.
pub struct TestHost {
    pub running: Option<Running>,
    pub address: SocketAddr,
    pub pool: PgPool,
    pub clock: Clock,
    pub http: reqwest::Client,
    pub folder: TempDir,
    token: String,
}

/// What a test may want otherwise.
pub struct Setup {
    pub config: Config,
    pub environment: Environment,
    pub folder: TempDir,
    pub clock: Clock,
}

impl Setup {
    /// Packs from their files' paths and texts; a trigger's `pack.yaml` is made up when it isn't given.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let packs = folder.path().join("packs");
        fs::create_dir(&packs).unwrap();
        for (file, text) in files {
            write(&packs.join(file), text);
        }
        for pack in fs::read_dir(&packs).unwrap().flatten() {
            let manifest = pack.path().join("pack.yaml");
            if !manifest.exists() {
                let name = pack.file_name().to_string_lossy().into_owned();
                write(&manifest, &format!("ref: {name}\nname: {name}\nversion: 1.0.0\n"));
            }
        }
        Self::with_packs(packs, folder)
    }

    fn with_packs(packs: PathBuf, folder: TempDir) -> Self {
        let config = Config {
            packs,
            data_dir: folder.path().join("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            source_rate_limit: None,
            // What a test writes it has written when the host starts.
            watch_quiet_ms: 50,
            watch_poll_ms: 50,
            mapper_compiler: Some(env!("CARGO_BIN_EXE_hookpack").into()),
            ..Config::default()
        };
        let environment = ["GITHUB_WEBHOOK", "STRIPE_WEBHOOK", "SECRET"]
            .iter()
            .fold(Environment::default(), |all, name| all.with(&format!("HOOKPACK_SECRET_{name}"), SECRET));
        Self { config, environment, folder, clock: Clock::held(NOW) }.granted()
    }

    /// With [`GRANTED`] for every pack that is there now.
    fn granted(mut self) -> Self {
        let packs = fs::read_dir(&self.config.packs).unwrap().flatten();
        let refs: Vec<_> = packs.map(|pack| pack.file_name().to_string_lossy().into_owned()).collect();
        for name in GRANTED {
            self.config.secret_grants.insert(name.to_owned(), refs.clone());
        }
        self
    }

    /// The same with one more file, or another text of one.
    pub fn with_file(self, file: &str, bytes: &[u8]) -> Self {
        let path = self.config.packs.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Starts a host on a database of its own.
    pub async fn start(self) -> TestHost {
        let database = TestDatabase::new().await;
        self.start_on(&database).await
    }

    pub async fn start_on(mut self, database: &TestDatabase) -> TestHost {
        self.config.database_url = Some(database.url.clone());
        let running =
            Running::start(self.config.clone(), &self.environment, self.clock.clone()).await.unwrap();
        let token = fs::read_to_string(self.config.admin_token_file()).unwrap().trim().to_owned();
        TestHost {
            address: running.address,
            running: Some(running),
            pool: database.pool.clone(),
            clock: self.clock,
            http: http(),
            folder: self.folder,
            token,
        }
    }
}

pub fn http() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl TestHost {
    /// The webhook URL of a trigger or pack.
    pub fn url(&self, reference: &str) -> String {
        let registry = self.running.as_ref().unwrap().host.registry.load();
        let endpoints = registry.endpoints_of(reference);
        let key = endpoints.first().unwrap_or_else(|| panic!("{reference} has no key")).key.clone().unwrap();
        format!("http://{}/api/v1/webhooks/{key}", self.address)
    }

    pub fn post(&self, reference: &str) -> RequestBuilder {
        self.http.post(self.url(reference)).header("content-type", "application/json")
    }

    /// Posts a JSON text, unsigned.
    pub async fn send(&self, reference: &str, body: &str) -> Answer {
        Answer::of(self.post(reference).body(body.to_owned()).send().await.unwrap()).await
    }

    pub fn admin_token(&self) -> &str {
        &self.token
    }

    /// Asks the management API.
    pub async fn api(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.address);
        Answer::of(self.http.get(url).bearer_auth(&self.token).send().await.unwrap()).await
    }

    /// The folder that the host watches.
    pub fn packs(&self) -> PathBuf {
        self.folder.path().join("packs")
    }

    /// Posts to the management API, without a body.
    pub async fn api_post(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.address);
        Answer::of(self.http.post(url).bearer_auth(&self.token).send().await.unwrap()).await
    }

    /// Any call of the management API with the admin's token; `Null` sends no body.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask_as(&self.token, method, path, body).await
    }

    /// The same with another token.
    pub async fn ask_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        Answer::of(request.send().await.unwrap()).await
    }

    /// A token of this scope, bound to these packs where there are any.
    pub async fn token(&self, scope: &str, packs: Option<&[&str]>) -> String {
        let body = json!({"label": format!("a {scope} token"), "scope": scope, "packs": packs});
        let made = self.ask("POST", "/api/v1/tokens", body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["data"]["token"].as_str().unwrap().to_owned()
    }

    /// Every stored event, in order of receipt: trigger and payload as text.
    pub async fn events(&self) -> Vec<(String, String)> {
        let sql = "select trigger_ref, payload::text from hookpack.event order by id";
        sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Outcome and detail of a request's row in the log, once it is there.
    pub async fn logged(&self, answer: &Answer) -> (String, String) {
        let sql = "select outcome, coalesce(detail, '') from hookpack.request_log where id = $1::uuid";
        let id = answer.header("x-request-id").unwrap().to_owned();
        eventually("a row in the request log", async || {
            sqlx::query_as(sql).bind(&id).fetch_optional(&self.pool).await.unwrap()
        })
        .await
    }

    pub async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }
}

/// The real binary, on its private Postgres in `data/`, with the packs in `packs/`.
pub struct Process {
    child: Child,
    pub address: String,
    folder: PathBuf,
}

impl Process {
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, Command::new(env!("CARGO_BIN_EXE_hookpack")))
    }

    /// By a command that starts it with whatever arguments come after.
    pub fn start_with(folder: &Path, mut command: Command) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--packs", "packs", "--data-dir", "data"])
            .current_dir(folder)
            .env_remove("DATABASE_URL")
            .env("HOOKPACK_SOURCE_RATE_LIMIT", "null")
            .env("HOOKPACK_WATCH_QUIET_MS", "50")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let folder = folder.to_owned();
        assert!(line.contains("listens on"), "{line}{}", fs::read_to_string(folder.join("stderr")).unwrap());
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        Self { child, address, folder }
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.folder.join("data/admin-token")).unwrap().trim().to_owned()
    }

    /// Asks its management API.
    pub async fn api(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.address);
        Answer::of(http().get(url).bearer_auth(self.token()).send().await.unwrap()).await
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    /// A test that failed leaves nothing running.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A response, read whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Waits for the thing, not for a time: asks until there is an answer, and fails when it takes too long.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// GitHub's signature, by the independent means of the test.
pub fn github_signature(body: &[u8], secret: &str) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
