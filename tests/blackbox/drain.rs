//! Stopping in order: nobody who was being served, or was about to be, is let down.

use std::{
    collections::HashSet,
    io::{BufRead as _, ErrorKind, Read as _},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::harness::{Process, Setup, TestDatabase, TestHost, eventually, http, write};

const TRIGGER: &str = "name: one\nref: t.one\ntype: webhook\npayload_schema: true
webhook: {enabled: true, verify: none, idempotency: {key: $.id}}\n";

/// A connection that a sender keeps open, with nothing that would send again by itself.
struct Line(BufReader<TcpStream>);

/// What came back, and whether the connection may be used again.
struct Heard {
    status: u16,
    body: String,
    goes_on: bool,
}

impl Line {
    async fn open(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn post(&mut self, path: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.write(&(head + body)).await;
    }

    async fn hear(&mut self) -> Heard {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).await.unwrap();
            assert!(read > 0, "the connection was closed instead of an answer");
            if line == "\r\n" {
                break;
            }
            head.push(line.trim().to_lowercase());
        }
        let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = vec![0; header("content-length:").unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let goes_on = header("connection:") != Some("close");
        Heard { status, body: String::from_utf8(body).unwrap(), goes_on }
    }

    /// Whether the other side has closed it.
    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]).await, Ok(0))
    }
}

async fn host(change: impl FnOnce(&mut Setup)) -> TestHost {
    let mut setup = Setup::new(&[("t/triggers/one.yaml", TRIGGER)]);
    change(&mut setup);
    setup.start().await
}

fn path(host: &TestHost) -> String {
    host.url("t.one").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_goes_first_and_requests_are_served_meanwhile() {
    let host = host(|setup| setup.config.drain_notice_seconds = 1).await;
    let (address, path) = (host.address.to_string(), path(&host));
    let mut line = Line::open(&address).await;
    line.post(&path, r#"{"id": 1}"#).await;
    assert!(line.hear().await.goes_on);
    let notice = host.running.as_ref().unwrap().notice();
    let meanwhile = async {
        let ready = eventually("a host that is not ready", async || {
            Some(host.api("/readyz").await).filter(|ready| ready.status == 503)
        })
        .await;
        assert_eq!(ready.json()["status"], "stopping");
        assert_eq!(host.api("/healthz").await.status, 200);
        line.post(&path, r#"{"id": 2}"#).await;
        let heard = line.hear().await;
        assert_eq!((heard.status, heard.goes_on), (200, false), "it is told to go elsewhere");
        assert!(line.is_closed().await);
        let mut fresh = Line::open(&address).await;
        fresh.post(&path, r#"{"id": 3}"#).await;
        assert_eq!(fresh.hear().await.status, 200);
    };
    tokio::join!(notice, meanwhile);
    assert_eq!(host.events().await.len(), 3);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_and_what_waits_to_be_accepted_is_answered() {
    let mut host = host(|setup| setup.config.connections_max = 2).await;
    let (address, path, pool) = (host.address.to_string(), path(&host), host.pool.clone());
    // Its head has come, its body has not.
    let mut in_flight = Line::open(&address).await;
    in_flight
        .write(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
        ))
        .await;
    let requests =
        || host.running.as_ref().unwrap().host.metrics.text(hookpack::metrics::Snapshot::default());
    eventually("a request in flight", async || {
        requests().unwrap().contains("hookpack_requests_in_flight 1").then_some(())
    })
    .await;
    // It has connected and is about to send.
    let mut silent = Line::open(&address).await;
    // No place is left for this one: it waits with the system.
    let mut waiting = Line::open(&address).await;
    waiting.post(&path, r#"{"id": 3}"#).await;

    let running = host.running.take().unwrap();
    let stopping = tokio::spawn(running.stop());
    let refused = async || TcpStream::connect(&address).await.is_err().then_some(());
    eventually("a closed port", refused).await;
    in_flight.write(r#"{"id": 2}"#).await;
    silent.post(&path, r#"{"id": 4}"#).await;
    for line in [&mut in_flight, &mut waiting, &mut silent] {
        let heard = line.hear().await;
        assert_eq!((heard.status, heard.goes_on), (200, false), "{}", heard.body);
    }
    stopping.await.unwrap();
    let stored = "select count(*) from hookpack.event";
    assert_eq!(sqlx::query_scalar::<_, i64>(stored).fetch_one(&pool).await.unwrap(), 3);
    let logged = "select count(*) from hookpack.request_log";
    assert_eq!(sqlx::query_scalar::<_, i64>(logged).fetch_one(&pool).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_at_once_when_the_host_stops() {
    let mut host = host(|_| {}).await;
    let (address, path) = (host.address.to_string(), path(&host));
    let mut idle = Line::open(&address).await;
    idle.post(&path, r#"{"id": 1}"#).await;
    assert_eq!(idle.hear().await.status, 200);
    let stopping = tokio::spawn(host.running.take().unwrap().stop());
    assert!(idle.is_closed().await);
    stopping.await.unwrap();
}

/// A folder with the pack and, for a host that shares a database, everything else of its own.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    write(&folder.path().join("packs/t/triggers/one.yaml"), TRIGGER);
    folder
}

fn start(folder: &TempDir, database: &TestDatabase, notice_seconds: u64) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command
        .env("HOOKPACK_DATABASE_URL", &database.url)
        .env("HOOKPACK_MASTER_KEY", "5a".repeat(32))
        .env("HOOKPACK_DRAIN_NOTICE_SECONDS", notice_seconds.to_string());
    Process::start_with(folder.path(), command)
}

async fn webhook(host: &Process) -> String {
    let answer = host.api("/api/v1/triggers/t.one/webhooks").await.json();
    format!("/api/v1/webhooks/{}", answer["data"]["webhook_key"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let (folder, database) = (folder(), TestDatabase::new().await);
    let host = start(&folder, &database, 600);
    let began = Instant::now();
    host.signal(Signal::SIGTERM);
    eventually("a host that is not ready", async || (host.api("/readyz").await.status == 503).then_some(()))
        .await;
    host.signal(Signal::SIGTERM);
    assert_eq!(host.ended().await.code(), Some(143));
    assert!(began.elapsed() < Duration::from_mins(1));
}

/// What reads the log has stopped reading: each thread that writes a line waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_host_whose_threads_are_all_stuck() {
    let (folder, database) = (folder(), TestDatabase::new().await);
    let mut host = Command::new(env!("CARGO_BIN_EXE_hookpack"))
        .args(["serve", "--listen", "127.0.0.1:0", "--packs", "packs", "--data-dir", "data"])
        .current_dir(folder.path())
        .env("HOOKPACK_DATABASE_URL", &database.url)
        .env("TOKIO_WORKER_THREADS", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Read until it listens, and no further; then a few lines fill it.
    let mut log = host.stderr.take().unwrap();
    fcntl(&log, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let reading = thread::spawn(move || {
        while stopped.try_recv().is_err() && log.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
        log
    });
    let mut lines = std::io::BufReader::new(host.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap().rsplit("http://").next().unwrap().to_owned();
    stop.send(()).unwrap();
    let pid = Pid::from_raw(i32::try_from(host.id()).unwrap());
    let http = http();
    eventually("a host that doesn't answer", async || {
        // Each makes it write two lines.
        kill(pid, Signal::SIGHUP).unwrap();
        let asked =
            http.get(format!("http://{address}/healthz")).timeout(Duration::from_secs(2)).send().await;
        asked.is_err().then_some(())
    })
    .await;
    kill(pid, Signal::SIGTERM).unwrap();
    let ended = eventually("the end", async || {
        kill(pid, Signal::SIGTERM).unwrap();
        host.try_wait().unwrap()
    })
    .await;
    assert_eq!(ended.code(), Some(143));
    drop(reading.join().unwrap());
}

/// A plain TCP balancer: in turn, who is ready; when a connection is refused, the next; nothing else.
struct Balancer {
    address: String,
    tasks: Vec<JoinHandle<()>>,
}

type Backends = Arc<RwLock<Vec<(SocketAddr, bool)>>>;

impl Balancer {
    async fn start(backends: Backends) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let looking = tokio::spawn(look(backends.clone()));
        let passing = tokio::spawn(async move {
            let next = AtomicUsize::new(0);
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, backends.clone(), next.fetch_add(1, Ordering::Relaxed)));
            }
        });
        Self { address, tasks: vec![looking, passing] }
    }
}

/// Asks `/readyz` of each, ten times a second.
async fn look(backends: Backends) {
    let http = http();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let all: Vec<_> = backends.read().unwrap().clone();
        for (index, (address, _)) in all.into_iter().enumerate() {
            let asked = http.get(format!("http://{address}/readyz")).send().await;
            let is_ready = asked.is_ok_and(|answer| answer.status() == 200);
            let mut backends = backends.write().unwrap();
            if backends[index].0 == address {
                backends[index].1 = is_ready;
            }
        }
    }
}

async fn pass(mut client: TcpStream, backends: Backends, turn: usize) {
    let ready: Vec<_> =
        backends.read().unwrap().iter().filter(|(_, ready)| *ready).map(|(a, _)| *a).collect();
    for offset in 0..ready.len() {
        match TcpStream::connect(ready[(turn + offset) % ready.len()]).await {
            Ok(mut backend) => {
                copy_bidirectional(&mut client, &mut backend).await.ok();
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
    }
}

/// Senders that keep their connections as long as they may; the event ids that they got.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: &str, path: &str) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let senders = (0..6).map(|sender| {
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            let (address, path) = (address.to_owned(), path.to_owned());
            tokio::spawn(async move {
                let mut line = None;
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut open = match line.take() {
                        Some(line) => line,
                        None => Line::open(&address).await,
                    };
                    open.post(&path, &format!("{{\"id\": \"{sender}-{number}\"}}")).await;
                    let heard = open.hear().await;
                    assert_eq!(heard.status, 200, "{}", heard.body);
                    let answer: Value = serde_json::from_str(&heard.body).unwrap();
                    let id = answer["data"]["event_id"].as_str().unwrap().to_owned();
                    acknowledged.lock().unwrap().push(id);
                    line = Some(open).filter(|_| heard.goes_on);
                }
            })
        });
        let senders = senders.collect();
        Self { stop, acknowledged, senders }
    }

    async fn until(&self, more: usize) {
        let count = || self.acknowledged.lock().unwrap().len();
        let goal = count() + more;
        eventually("acknowledged events", async || (count() >= goal).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_hosts_fails_no_request() {
    let database = TestDatabase::new().await;
    let folders = [folder(), folder(), folder()];
    let mut hosts: Vec<_> = folders.iter().map(|folder| Some(start(folder, &database, 1))).collect();
    let path = webhook(hosts[0].as_ref().unwrap()).await;
    let address = |host: &Process| host.address.parse::<SocketAddr>().unwrap();
    let backends: Vec<_> = hosts.iter().flatten().map(|host| (address(host), true)).collect();
    let backends = Arc::new(RwLock::new(backends));
    let balancer = Balancer::start(backends.clone()).await;
    let load = Load::start(&balancer.address, &path);
    for index in 0..3 {
        load.until(50).await;
        let host = hosts[index].take().unwrap();
        host.signal(Signal::SIGTERM);
        assert_eq!(host.ended().await.code(), Some(0));
        let host = start(&folders[index], &database, 1);
        backends.write().unwrap()[index] = (address(&host), false);
        hosts[index] = Some(host);
        eventually("a host that is ready", async || backends.read().unwrap()[index].1.then_some(())).await;
    }
    load.until(50).await;
    load.stop.store(true, Ordering::Relaxed);
    for sender in load.senders {
        sender.await.unwrap();
    }
    balancer.tasks.iter().for_each(JoinHandle::abort);

    let acknowledged = load.acknowledged.lock().unwrap().clone();
    let stored: Vec<String> =
        sqlx::query_scalar("select id::text from hookpack.event").fetch_all(&database.pool).await.unwrap();
    let unique: HashSet<_> = stored.iter().collect();
    assert_eq!((unique.len(), stored.len()), (acknowledged.len(), acknowledged.len()));
    assert!(acknowledged.iter().all(|id| unique.contains(id)));
}
