//! Killed in the middle of a load: every event id that got a 200 is in the table, once.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use crate::harness::{Answer, Process, eventually, http, write};

/// How often each is killed; 20 by hand: `HOOKPACK_KILLS=20 cargo test killed`.
fn kills() -> usize {
    std::env::var("HOOKPACK_KILLS").map_or(2, |text| text.parse().unwrap())
}

const ONE: &str = "name: one\nref: t.one\ntype: webhook\npayload_schema: true
webhook: {enabled: true, verify: none, idempotency: {key: $.id}}\n";

/// The path of the webhook's URL; the same after every start.
async fn webhook(host: &Process, folder: &Path) -> String {
    let token = fs::read_to_string(folder.join("data/admin-token")).unwrap();
    let url = format!("http://{}/api/v1/triggers/t.one/webhooks", host.address);
    let answer = Answer::of(http().get(url).bearer_auth(token.trim()).send().await.unwrap()).await;
    format!("/api/v1/webhooks/{}", answer.json()["data"]["webhook_key"].as_str().unwrap())
}

/// Senders that post until they are told to stop; the event ids that they got a 200 for.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(host: &Process, path: &str, round: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let url = format!("http://{}{path}", host.address);
        let senders = (0..16).map(|sender| {
            let (stop, acknowledged, url, http) = (stop.clone(), acknowledged.clone(), url.clone(), http());
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let body = format!("{{\"id\": \"{round}-{sender}-{number}\"}}");
                    let request = http.post(&url).header("content-type", "application/json").body(body);
                    // Cut off in the middle is no answer: only what was heard counts.
                    let Ok(response) = request.send().await else { continue };
                    let status = response.status().as_u16();
                    let Ok(text) = response.text().await else { continue };
                    assert!(status == 200 || status == 503, "{status} {text}");
                    if status == 200 {
                        let answer: Value = serde_json::from_str(&text).unwrap();
                        acknowledged
                            .lock()
                            .unwrap()
                            .push(answer["data"]["event_id"].as_str().unwrap().to_owned());
                    }
                }
            })
        });
        let senders = senders.collect();
        Self { stop, acknowledged, senders }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn until(&self, more: usize) {
        let goal = self.count() + more;
        eventually("acknowledged events", async || (self.count() >= goal).then_some(())).await;
    }

    async fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        Arc::into_inner(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

async fn stored(folder: &Path) -> Vec<String> {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(folder.join("data/postgres"))
        .username("hookpack")
        .database("postgres");
    let mut db = eventually("a database", async || options.clone().connect().await.ok()).await;
    sqlx::query_scalar("select id::text from hookpack.event").fetch_all(&mut db).await.unwrap()
}

async fn assert_all_stored_once(folder: &Path, acknowledged: &[String]) {
    let rows = stored(folder).await;
    let unique: HashSet<&String> = rows.iter().collect();
    assert_eq!(unique.len(), rows.len(), "no event twice");
    let lost = acknowledged.iter().filter(|id| !unique.contains(id)).count();
    assert_eq!(lost, 0, "of {} acknowledged events", acknowledged.len());
    println!("{} acknowledged, {} stored", acknowledged.len(), rows.len());
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    write(&folder.path().join("packs/t/triggers/one.yaml"), ONE);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_loses_no_acknowledged_event() {
    let folder = folder();
    let mut acknowledged = Vec::new();
    for round in 0..kills() {
        let host = Process::start(folder.path());
        let path = webhook(&host, folder.path()).await;
        let load = Load::start(&host, &path, round);
        load.until(500).await;
        host.kill();
        acknowledged.extend(load.finish().await);
    }
    let host = Process::start(folder.path());
    assert_all_stored_once(folder.path(), &acknowledged).await;
    host.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_loses_no_acknowledged_event() {
    let folder = folder();
    let host = Process::start(folder.path());
    let path = webhook(&host, folder.path()).await;
    let load = Load::start(&host, &path, 0);
    for _ in 0..kills() {
        load.until(500).await;
        let pid_file = folder.path().join("data/postgres/data/postmaster.pid");
        let pid = fs::read_to_string(pid_file).unwrap();
        let pid: i32 = pid.lines().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    // It comes back by itself, and so does the writer.
    load.until(500).await;
    let acknowledged = load.finish().await;
    assert_all_stored_once(folder.path(), &acknowledged).await;
    host.kill();
}
