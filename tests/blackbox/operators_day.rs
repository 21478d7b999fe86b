//! An operator's day with the built binary alone: from the first token to two hosts that start again.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{TestDatabase, eventually, github_signature, http, write};

const TRIGGER: &str = "name: finished\nref: backups.finished\ndescription: A backup has ended\ntype: webhook\n\
    payload_schema: {type: object, required: [job]}\n\
    webhook: {preset: github, secrets: [backups], on_invalid: quarantine}\n\
    mapping: {fields: {name: {from: $.job, required: true}}}\n";
const MANIFEST: &str = "ref: backups\nname: Backups\nversion: VERSION\n";

/// A host of that day, and what it said when it began.
struct Served {
    process: Child,
    said: String,
    url: String,
}

impl Served {
    fn start(folder: &Path, database: &str, data: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hookpack"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", database, "--data-dir", data])
            .current_dir(folder)
            .env("HOOKPACK_MASTER_KEY_FILE", "data/master-key")
            .env("HOOKPACK_WATCH_QUIET_MS", "50")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join(format!("{data}.log"))).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        for line in lines {
            said += &format!("{line}\n");
            if line.starts_with("Watch it") {
                break;
            }
        }
        let url = said
            .lines()
            .find_map(|line| line.split("listens on ").nth(1))
            .unwrap_or_else(|| panic!("{said}"));
        Self { process, url: url.to_owned(), said }
    }

    /// As a service manager stops it.
    fn stop(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct Day {
    folder: TempDir,
    url: String,
    token: String,
}

impl Day {
    /// Runs a command as the operator types it, with this on its standard input; what it printed.
    fn types(&self, args: &[&str], input: &str) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookpack"))
            .args(args)
            .current_dir(self.folder.path())
            .env("HOOKPACK_URL", &self.url)
            .env("HOOKPACK_TOKEN", &self.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn asks(&self, args: &[&str]) -> Value {
        let args = [args, &["--output", "json"]].concat();
        serde_json::from_str(&self.types(&args, "")).unwrap()
    }

    async fn sees_version(&self, version: &str, state: &str) {
        eventually("the version of the pack", async || {
            let packs = self.asks(&["packs"]);
            (packs["data"][0]["version"] == version && packs["data"][0]["state"] == state).then_some(())
        })
        .await;
    }

    /// Puts a version of the pack there, whole and at once.
    fn drops(&self, version: &str, trigger: &str) {
        let fresh = self.folder.path().join("fresh");
        write(&fresh.join("pack.yaml"), &MANIFEST.replace("VERSION", version));
        write(&fresh.join("triggers/finished.yaml"), trigger);
        let pack = self.folder.path().join("packs/backups");
        if pack.exists() {
            fs::rename(&pack, self.folder.path().join(format!("stale-{}", Uuid::now_v7()))).unwrap();
        }
        fs::rename(&fresh, &pack).unwrap();
    }
}

/// A delivery as the sender signs it, with an id of its own; status and id of the request.
async fn send(url: &str, secret: &str, body: &str) -> (u16, String) {
    static CLIENT: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
    let request = CLIENT.get_or_init(http).post(url).header("content-type", "application/json");
    let request = request.header("x-hub-signature-256", github_signature(body.as_bytes(), secret));
    let response = request.header("x-github-delivery", Uuid::now_v7().to_string()).body(body.to_owned());
    let response = response.send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    (response.status().as_u16(), id)
}

#[expect(clippy::too_many_lines, reason = "a day is told in one go")]
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_day() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("packs")).unwrap();

    // A fresh host shows its first token, once.
    let mut first = Served::start(folder.path(), &database.url, "data");
    let token = first.said.lines().find_map(|line| line.strip_prefix("admin token ")).unwrap();
    let token = token.rsplit_once(": ").unwrap().1.to_owned();
    let mut day = Day { folder, url: first.url.clone(), token };

    // A pack is dropped in, its webhook enabled, its secret set.
    day.drops("1.0.0", TRIGGER);
    day.sees_version("1.0.0", "live").await;
    let shown = day.types(&["trigger", "enable", "backups.finished"], "");
    let url =
        shown.lines().find(|line| line.starts_with("http")).unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert_eq!(send(&url, "x", "{}").await.0, 503);
    day.types(&["secret", "set", "backups"], "the first secret\n");
    assert_eq!(send(&url, "the first secret", r#"{"job": "first"}"#).await.0, 200);

    // The secret is rotated while deliveries come in; the sender follows in its own time.
    let (secret, done) =
        (Arc::new(Mutex::new("the first secret".to_owned())), Arc::new(AtomicBool::new(false)));
    let traffic = tokio::spawn({
        let (secret, done, url) = (secret.clone(), done.clone(), url.clone());
        async move {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                let now = secret.lock().unwrap().clone();
                let (status, id) = send(&url, &now, r#"{"job": "nightly"}"#).await;
                assert_eq!(status, 200, "request {id}");
                sent += 1;
            }
            sent
        }
    });
    let fresh = day.types(&["secret", "rotate", "backups", "--grace", "1h"], "").trim().to_owned();
    assert_eq!(fresh.len(), 64, "{fresh}");
    assert_eq!(send(&url, "the first secret", r#"{"job": "late"}"#).await.0, 200);
    secret.lock().unwrap().clone_from(&fresh);
    assert_eq!(send(&url, &fresh, r#"{"job": "early"}"#).await.0, 200);

    // The pack is broken, in two ways, while they still come: the last good version runs on; then one that is sound and
    // wrong keeps what it can't map.
    day.drops("1.1.0", "name: [\n");
    day.sees_version("1.0.0", "live_newer_refused").await;
    let packs = day.types(&["packs"], "");
    assert!(packs.contains("finished.yaml:"), "{packs}");
    done.store(true, Ordering::Relaxed);
    let sent: i64 = traffic.await.unwrap();
    day.drops("1.2.0", &TRIGGER.replace("$.job,", "$.jobs,"));
    day.sees_version("1.2.0", "live").await;
    for number in 0..5 {
        assert_eq!(send(&url, &fresh, &format!(r#"{{"job": "kept {number}"}}"#)).await.0, 202);
    }
    // It is mended, and what was kept is replayed: once, however often it is asked for.
    day.drops("1.3.0", TRIGGER);
    day.sees_version("1.3.0", "live").await;
    for _ in 0..2 {
        day.types(&["quarantine", "replay", "--trigger", "backups.finished"], "");
    }
    let stored: i64 =
        sqlx::query_scalar("select count(*) from hookpack.event").fetch_one(&database.pool).await.unwrap();
    assert_eq!(stored, sent + 3 + 5);
    let kept = day.asks(&["quarantine", "list"]);
    assert!(kept["data"].as_array().unwrap().iter().all(|kept| kept["state"] == "replayed"), "{kept}");

    // Why was a request refused?
    let (status, id) = send(&url, "not the secret", r#"{"job": "x"}"#).await;
    assert_eq!(status, 401);
    let request = eventually("the row of the refused request", async || {
        let rows = day.asks(&["requests", "--status", "401"]);
        rows["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["id"] == id)
            .then(|| day.types(&["requests", &id], ""))
    })
    .await;
    assert!(request.contains("bad_signature") && request.contains("backups.finished"), "{request}");

    // A second host, with the same packs and master key.
    let mut second = Served::start(day.folder.path(), &database.url, "data-of-two");
    let there = url.replace(&first.url, &second.url);
    assert_eq!(send(&there, &fresh, r#"{"job": "second host"}"#).await.0, 200);
    day.types(&["trigger", "pause", "backups.finished"], "");
    eventually("the pause on the second host", async || {
        (send(&there, &fresh, "{}").await.0 == 403).then_some(())
    })
    .await;
    day.types(&["trigger", "resume", "backups.finished"], "");
    eventually("its end there", async || {
        (send(&there, &fresh, r#"{"job": "on"}"#).await.0 == 200).then_some(())
    })
    .await;
    let before = day.asks(&["events", "--limit", "500"])["data"].as_array().unwrap().len();

    // Both start again: everything is as it was.
    first.stop();
    second.stop();
    let first = Served::start(day.folder.path(), &database.url, "data");
    let second = Served::start(day.folder.path(), &database.url, "data-of-two");
    assert!(!first.said.contains("admin token "), "{}", first.said);
    let key = url.rsplit_once('/').unwrap().1;
    for host in [&first, &second] {
        let url = format!("{}/api/v1/webhooks/{key}", host.url);
        assert_eq!(send(&url, &fresh, r#"{"job": "again"}"#).await.0, 200);
    }
    day.url.clone_from(&first.url);
    assert_eq!(
        day.asks(&["events", "--limit", "500"])["data"].as_array().unwrap().len(),
        (before + 2).min(500)
    );
    let audit = day.asks(&["audit"]);
    let actions: Vec<_> =
        audit["data"].as_array().unwrap().iter().rev().map(|row| row["action"].clone()).collect();
    let wanted = ["webhook.enable", "secret.set", "secret.rotate"].map(|action| json!(action));
    assert_eq!(actions[..3], wanted, "{audit}");
    assert!(!audit.to_string().contains(&fresh));
}
