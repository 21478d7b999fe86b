//! The watched directory: each way in which operators and their tools change it, on events and on polling.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hookpack::config::WatchMode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::guests;
use crate::harness::{Answer, Setup, TestDatabase, TestHost, eventually, write};

/// Runs a test's story twice: told by the system, and looking again and again.
async fn on_both(story: impl AsyncFn(WatchMode)) {
    for mode in [WatchMode::Events, WatchMode::Polling] {
        println!("watch: {mode:?}");
        story(mode).await;
    }
}

/// A pack whose events say by which version they were mapped, with so many triggers.
fn pack(folder: &Path, reference: &str, version: &str, triggers: usize) {
    write(&folder.join("pack.yaml"), &manifest(reference, version));
    for number in 0..triggers {
        write(&folder.join(format!("triggers/t{number}.yaml")), &trigger(reference, version, number));
    }
}

fn manifest(reference: &str, version: &str) -> String {
    format!(
        "ref: {reference}\nname: Acme\nversion: {version}\nwebhook: {{verify: none}}\nendpoint: {{enabled: true}}\n"
    )
}

fn trigger(reference: &str, version: &str, number: usize) -> String {
    format!(
        "name: t{number}\nref: {reference}.t{number}\ntype: webhook\npayload_schema: true\n\
         webhook: {{enabled: true, verify: none}}\nmapping: {{fields: {{v: {{const: {version}}}}}}}\n"
    )
}

/// A host that watches one pack `acme`, version 1.0.0.
async fn host(mode: WatchMode) -> Watched {
    host_with(mode, |_| {}).await
}

async fn host_with(mode: WatchMode, change: impl FnOnce(&mut Setup)) -> Watched {
    let mut setup = Setup::new(&[]);
    pack(&setup.config.packs.join("acme"), "acme", "1.0.0", 1);
    setup.config.watch = mode;
    change(&mut setup);
    let host = setup.start().await;
    let url = host.url("acme.t0");
    Watched { host, url }
}

struct Watched {
    host: TestHost,
    /// Of `acme.t0`.
    url: String,
}

impl Watched {
    fn packs(&self) -> PathBuf {
        self.host.packs()
    }

    /// A folder on the same file system that nobody watches.
    fn aside(&self, name: &str) -> PathBuf {
        self.host.folder.path().join(name)
    }

    async fn send(&self) -> Answer {
        send(&self.host.http, &self.url).await
    }

    /// The version that maps a request now; `None` when its URL is closed.
    async fn version(&self) -> Option<String> {
        let answer = self.send().await;
        match answer.status {
            200 => Some(self.mapped(&answer).await["v"].as_str().unwrap().to_owned()),
            404 => None,
            status => panic!("{status} {}", answer.text),
        }
    }

    async fn mapped(&self, answer: &Answer) -> Value {
        let id = answer.json()["data"]["event_id"].as_str().unwrap().to_owned();
        let sql = "select payload::text from hookpack.event where id = $1::uuid";
        let text: String = sqlx::query_scalar(sql).bind(id).fetch_one(&self.host.pool).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn until(&self, version: impl Into<Option<&str>>) {
        let wanted = version.into();
        let what = format!("version {wanted:?}");
        eventually(&what, async || (self.version().await.as_deref() == wanted).then_some(())).await;
    }

    /// The pack as `GET /api/v1/packs/{ref}` has it, once `is` holds for it.
    async fn shown(&self, reference: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let answer = self.host.api(&format!("/api/v1/packs/{reference}")).await;
            let pack = if answer.status == 200 { answer.json()["data"].clone() } else { Value::Null };
            is(&pack).then_some(pack)
        })
        .await
    }

    async fn in_state(&self, reference: &str, state: &str) -> Value {
        self.shown(reference, state, |pack| pack["state"] == state && pack["changing"] != true).await
    }

    async fn ready(&self) -> Value {
        self.host.api("/readyz").await.json()
    }

    async fn metric(&self, line: &str) -> f64 {
        let text = self.host.api("/metrics").await.text;
        let found = text.lines().find_map(|text| text.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in {text}"))
    }
}

async fn send(http: &reqwest::Client, url: &str) -> Answer {
    let request = http.post(url).header("content-type", "application/json").body("{}");
    Answer::of(request.send().await.unwrap()).await
}

/// Runs a tool as a person would.
fn run(folder: &Path, program: &str, args: &[&str]) {
    let ran = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success())
}

/// Posts to a URL until it is dropped; every answer has to be one of these.
struct Sender {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Sender {
    fn start(watched: &Watched, url: String, allowed: &'static [u16]) -> Self {
        let (stop, http) = (Arc::new(AtomicBool::new(false)), watched.host.http.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = send(&http, &url).await;
                assert!(allowed.contains(&answer.status), "{} {}", answer.status, answer.text);
                sent += 1;
            }
            sent
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_copied_in_goes_live_with_a_url_of_its_own() {
    on_both(async |mode| {
        let watched = host(mode).await;
        pack(&watched.aside("shop"), "shop", "3.1.0", 2);
        run(watched.aside("").as_path(), "cp", &["-r", "shop", "packs/shop"]);
        let shown = watched.in_state("shop", "live").await;
        assert_eq!((&shown["version"], &shown["folder"]), (&"3.1.0".into(), &"shop".into()));
        let answer = send(&watched.host.http, &watched.host.url("shop.t1")).await;
        assert_eq!(watched.mapped(&answer).await["v"], "3.1.0");
    })
    .await;
}

/// The pack's own URL stores one event for each trigger, all of one request: a half of a pack would show.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_pack_is_never_live() {
    const TRIGGERS: usize = 25;
    on_both(async |mode| {
        let watched = host_with(mode, |setup| {
            pack(&setup.config.packs.join("shop"), "shop", "1.0.0", TRIGGERS);
            setup.config.watch_quiet_ms = 300;
        })
        .await;
        let url = watched.host.url("shop");
        let asker = |url: String, http: reqwest::Client, stop: Arc<AtomicBool>| async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let answer = send(&http, &url).await;
                let events = match answer.status {
                    404 => 0,
                    200 => answer.json()["data"]["events"].as_array().unwrap().len(),
                    status => panic!("{status} {}", answer.text),
                };
                if seen.last() != Some(&events) {
                    seen.push(events);
                }
            }
            seen
        };
        run(&watched.packs(), "rm", &["-r", "shop"]);
        watched.in_state("shop", "removed").await;
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(asker(url, watched.host.http.clone(), stop.clone()));

        // As a slow `cp -r` would: pack.yaml and one trigger are a whole pack already.
        let (from, to) = (watched.aside("shop"), watched.packs().join("shop"));
        pack(&from, "shop", "1.0.0", TRIGGERS);
        fs::create_dir_all(to.join("triggers")).unwrap();
        for file in ["pack.yaml".to_owned()]
            .into_iter()
            .chain((0..TRIGGERS).map(|number| format!("triggers/t{number}.yaml")))
        {
            let text = fs::read(from.join(&file)).unwrap();
            let (first, second) = text.split_at(text.len() / 2);
            fs::write(to.join(&file), first).unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
            fs::write(to.join(&file), [first, second].concat()).unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        watched.in_state("shop", "live").await;
        stop.store(true, Ordering::Relaxed);
        let mut seen = asking.await.unwrap();
        if seen.last() == Some(&0) {
            seen.push(TRIGGERS);
        }
        assert_eq!(seen, [0, TRIGGERS]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_moved_out_closes_its_urls_and_has_them_again_when_it_comes_back() {
    on_both(async |mode| {
        let watched = host(mode).await;
        watched.until("1.0.0").await;
        run(&watched.packs(), "mv", &["acme", "../acme"]);
        watched.until(None).await;
        let shown = watched.in_state("acme", "removed").await;
        assert_eq!(shown["version"], "1.0.0");
        assert!(shown["removed_at"].is_string(), "{shown}");
        assert!(watched.host.count("select count(*) from hookpack.event").await > 0);

        run(&watched.packs(), "mv", &["../acme", "acme"]);
        watched.until("1.0.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_removed_recursively_closes_its_urls() {
    on_both(async |mode| {
        let watched = host(mode).await;
        run(&watched.packs(), "rm", &["-r", "acme"]);
        watched.until(None).await;
        // The folder may be the same inode when it is made again: it is heard all the same.
        pack(&watched.packs().join("acme"), "acme", "2.0.0", 1);
        watched.until("2.0.0").await;
        write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "2.1.0", 0));
        watched.until("2.1.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_saving_a_file_is_noticed() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let file = watched.packs().join("acme/triggers/t0.yaml");

        // vim, and what it does with `backup`: the file is moved away and written anew.
        if is_here("vim") {
            let vim = ["-es", "-u", "NONE", "-c", "%s/1.0.0/1.1.0/", "-c", "wq", "acme/triggers/t0.yaml"];
            run(&watched.packs(), "vim", &vim);
            watched.until("1.1.0").await;
        }
        fs::rename(&file, file.with_extension("yaml~")).unwrap();
        write(&file, &trigger("acme", "1.2.0", 0));
        fs::remove_file(file.with_extension("yaml~")).unwrap();
        watched.until("1.2.0").await;

        // VS Code: in place, truncated first.
        fs::write(&file, trigger("acme", "1.3.0", 0)).unwrap();
        watched.until("1.3.0").await;

        // Many others: beside, and renamed over it.
        let beside = file.with_file_name(".t0.yaml.tmp");
        fs::write(&beside, trigger("acme", "1.4.0", 0)).unwrap();
        fs::rename(&beside, &file).unwrap();
        watched.until("1.4.0").await;

        // With the time and size of the old one.
        let about = fs::metadata(&file).unwrap();
        fs::write(&beside, trigger("acme", "1.5.0", 0)).unwrap();
        fs::File::open(&beside).unwrap().set_modified(about.modified().unwrap()).unwrap();
        run(&watched.packs(), "mv", &[beside.to_str().unwrap(), file.to_str().unwrap()]);
        watched.until("1.5.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_branch_is_checked_out_in_one_step() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let git = |args: &[&str]| {
            let who =
                ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
            run(&watched.packs(), "git", &[&who[..], args].concat());
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "one"]);
        git(&["checkout", "--quiet", "-b", "two"]);
        pack(&watched.packs().join("acme"), "acme", "2.0.0", 1);
        pack(&watched.packs().join("shop"), "shop", "2.0.0", 1);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "two"]);
        watched.until("2.0.0").await;
        watched.in_state("shop", "live").await;

        git(&["checkout", "--quiet", "main"]);
        watched.until("1.0.0").await;
        watched.in_state("shop", "removed").await;
        git(&["checkout", "--quiet", "two"]);
        watched.until("2.0.0").await;
        watched.in_state("shop", "live").await;
    })
    .await;
}

/// Kubernetes: `acme` -> `..data/acme`, `..data` -> `..2026`, and a rename of another link over `..data`.
#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_is_swapped_as_kubernetes_does() {
    on_both(async |mode| {
        let watched = host_with(mode, |setup| {
            let packs = &setup.config.packs;
            fs::rename(packs.join("acme"), packs.join("..v1")).unwrap();
            fs::create_dir(packs.join("..one")).unwrap();
            fs::rename(packs.join("..v1"), packs.join("..one/acme")).unwrap();
            symlink("..one", packs.join("..data")).unwrap();
            symlink("..data/acme", packs.join("acme")).unwrap();
        })
        .await;
        let sender = Sender::start(&watched, watched.url.clone(), &[200]);
        pack(&watched.packs().join("..two/acme"), "acme", "2.0.0", 1);
        symlink("..two", watched.packs().join("..data_tmp")).unwrap();
        fs::rename(watched.packs().join("..data_tmp"), watched.packs().join("..data")).unwrap();
        fs::remove_dir_all(watched.packs().join("..one")).unwrap();
        watched.until("2.0.0").await;

        pack(&watched.packs().join("..three/acme"), "acme", "3.0.0", 1);
        run(&watched.packs(), "ln", &["-sfn", "..three", "..data"]);
        watched.until("3.0.0").await;
        sender.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_the_way_to_a_pack_elsewhere_is_swapped() {
    on_both(async |mode| {
        let watched = host_with(mode, |setup| {
            let base = setup.folder.path();
            fs::create_dir(base.join("releases")).unwrap();
            fs::create_dir(base.join("releases/1")).unwrap();
            fs::rename(base.join("packs/acme"), base.join("releases/1/acme")).unwrap();
            symlink("releases/1", base.join("current")).unwrap();
            symlink("../current/acme", base.join("packs/acme")).unwrap();
        })
        .await;
        pack(&watched.aside("releases/2/acme"), "acme", "2.0.0", 1);
        run(&watched.aside(""), "ln", &["-sfn", "releases/2", "current"]);
        watched.until("2.0.0").await;
        write(&watched.aside("releases/2/acme/triggers/t0.yaml"), &trigger("acme", "2.1.0", 0));
        watched.until("2.1.0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_dropped_in_replaced_and_removed() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let tar = |version: &str, archive: &str| {
            pack(&watched.aside("shop"), "shop", version, 1);
            run(&watched.aside(""), "tar", &["-czf", archive, "shop"]);
        };
        tar("1.0.0", "packs/shop.tar.gz");
        let shown = watched.in_state("shop", "live").await;
        assert_eq!(shown["folder"], "shop.tar.gz");
        let url = watched.host.url("shop.t0");

        // Over the old one, byte by byte; and moved over it.
        tar("1.1.0", "packs/shop.tar.gz");
        watched.shown("shop", "1.1.0", |pack| pack["version"] == "1.1.0").await;
        tar("1.2.0", "shop-new");
        run(&watched.aside(""), "mv", &["shop-new", "packs/shop.tar.gz"]);
        watched.shown("shop", "1.2.0", |pack| pack["version"] == "1.2.0").await;
        assert_eq!(watched.mapped(&send(&watched.host.http, &url).await).await["v"], "1.2.0");

        run(&watched.packs(), "rm", &["shop.tar.gz"]);
        watched.in_state("shop", "removed").await;
        assert_eq!(send(&watched.host.http, &url).await.status, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_renamed_never_stops_receiving() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let since = watched.in_state("acme", "live").await["loaded_at"].clone();
        watched.host.clock.advance(Duration::from_mins(1));
        let sender = Sender::start(&watched, watched.url.clone(), &[200]);
        run(&watched.packs(), "mv", &["acme", "zebra"]);
        let shown = watched.shown("acme", "its new folder", |pack| pack["folder"] == "zebra").await;
        assert_eq!((&shown["state"], &shown["loaded_at"]), (&"live".into(), &since));
        sender.stop().await;
        // The new folder is listened to.
        write(&watched.packs().join("zebra/triggers/t0.yaml"), &trigger("acme", "1.1.0", 0));
        watched.until("1.1.0").await;
        assert_eq!(watched.metric("hookpack_pack_changes_total{change=\"refused\"}").await.to_string(), "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_directory_is_replaced_without_a_gap() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let sender = Sender::start(&watched, watched.url.clone(), &[200]);
        pack(&watched.aside("fresh/acme"), "acme", "2.0.0", 1);
        run(&watched.aside(""), "mv", &["packs", "stale"]);
        run(&watched.aside(""), "mv", &["fresh", "packs"]);
        watched.until("2.0.0").await;

        // By a link.
        run(&watched.aside(""), "mv", &["packs", "two"]);
        run(&watched.aside(""), "ln", &["-s", "two", "packs"]);
        write(&watched.aside("two/acme/triggers/t0.yaml"), &trigger("acme", "2.1.0", 0));
        watched.until("2.1.0").await;
        pack(&watched.aside("three/acme"), "acme", "3.0.0", 1);
        run(&watched.aside(""), "ln", &["-sfn", "three", "packs"]);
        watched.until("3.0.0").await;

        // While it is gone, what ran keeps running.
        run(&watched.aside(""), "rm", &["packs"]);
        eventually("the folder's fault", async || {
            let ready = watched.ready().await;
            (ready["status"] == "degraded" && ready["reasons"][0].as_str().unwrap().contains("packs"))
                .then_some(())
        })
        .await;
        pack(&watched.packs().join("acme"), "acme", "4.0.0", 1);
        watched.until("4.0.0").await;
        sender.stop().await;
        eventually("a ready host", async || (watched.ready().await["status"] == "ready").then_some(())).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_version_is_shown_and_the_last_good_one_runs_on() {
    on_both(async |mode| {
        let watched = host(mode).await;
        assert_eq!(watched.ready().await["status"], "ready");
        let file = watched.packs().join("acme/triggers/t0.yaml");
        write(&watched.packs().join("acme/pack.yaml"), &manifest("acme", "2.0.0"));
        fs::write(&file, trigger("acme", "2.0.0", 0).replace("payload_schema", "payload_shema")).unwrap();
        let shown = watched.in_state("acme", "live_newer_refused").await;
        assert_eq!((&shown["version"], &shown["refused"]["version"]), (&"1.0.0".into(), &"2.0.0".into()));
        let fault = &shown["faults"][0];
        assert_eq!((&fault["file"], &fault["line"]), (&"acme/triggers/t0.yaml".into(), &4.into()));
        assert_eq!(fault["help"], "did you mean `payload_schema`?");
        assert_eq!(watched.version().await.as_deref(), Some("1.0.0"));
        let ready = watched.ready().await;
        assert_eq!(ready["status"], "degraded");
        assert_eq!(
            ready["reasons"][0],
            "pack acme has a newer version that is refused: 1 fault; version 1.0.0 keeps running"
        );
        assert_eq!(watched.host.api("/readyz").await.status, 200);
        assert_eq!(watched.metric("hookpack_packs{state=\"live_newer_refused\"}").await.to_string(), "1");
        assert_eq!(watched.metric("hookpack_pack_faults").await.to_string(), "1");

        // Renamed while it is broken, it is still the pack that ran.
        run(&watched.packs(), "mv", &["acme", "moved"]);
        watched.shown("acme", "its new folder", |pack| pack["folder"] == "moved").await;
        assert_eq!(watched.version().await.as_deref(), Some("1.0.0"));

        let file = watched.packs().join("moved/triggers/t0.yaml");
        fs::write(&file, trigger("acme", "2.0.0", 0)).unwrap();
        watched.until("2.0.0").await;
        assert_eq!(watched.ready().await["status"], "ready");
    })
    .await;
}

/// At start there is no version that ran: who sends is told to come again, not that nobody lives here.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_broken_at_start_asks_its_senders_to_come_again() {
    for broken in [manifest("acme", "not a version"), "ref: [".to_owned()] {
        let database = TestDatabase::new().await;
        let setup = Setup::new(&[]);
        let (folder, config) = (setup.config.packs.join("acme"), setup.config.clone());
        pack(&folder, "acme", "1.0.0", 1);
        let host = setup.start_on(&database).await;
        let path = host.url("acme.t0").split_once("/api").unwrap().1.to_owned();
        write(&folder.join("pack.yaml"), &broken);
        let TestHost { running, folder: kept, http, .. } = host;
        running.unwrap().stop().await;

        let setup = Setup { config, folder: kept, ..Setup::new(&[]) };
        let host = setup.start_on(&database).await;
        let url = format!("http://{}/api{path}", host.address);
        let answer = send(&http, &url).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")), "{}", answer.text);
        assert_eq!(host.logged(&answer).await.0, "pack_refused");
        write(&folder.join("pack.yaml"), &manifest("acme", "2.0.0"));
        eventually("an open URL", async || (send(&http, &url).await.status == 200).then_some(())).await;
        // Broken again and gone, gone is gone; and nothing is left to complain of.
        write(&folder.join("pack.yaml"), &broken);
        eventually("a fault", async || {
            (host.api("/readyz").await.json()["status"] == "degraded").then_some(())
        })
        .await;
        run(&host.packs(), "rm", &["-r", "acme"]);
        eventually("a closed URL", async || (send(&http, &url).await.status == 404).then_some(())).await;
        assert_eq!(host.api("/readyz").await.json()["status"], "ready");
    }
}

/// A folder that is no pack at all has nothing to do with the URLs of one that went.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_ran_comes_and_goes_without_a_trace() {
    on_both(async |mode| {
        let watched = host(mode).await;
        write(&watched.packs().join("notes/todo.txt"), "buy milk");
        eventually("a fault", async || (watched.ready().await["status"] == "degraded").then_some(())).await;
        run(&watched.packs(), "mv", &["acme", "../acme"]);
        watched.until(None).await;
        run(&watched.packs(), "rm", &["-r", "notes"]);
        eventually("a ready host", async || (watched.ready().await["status"] == "ready").then_some(())).await;
        let all = watched.host.api("/api/v1/packs").await.json()["data"].clone();
        assert_eq!((all.as_array().unwrap().len(), &all[0]["state"]), (1, &"removed".into()));
    })
    .await;
}

/// `zeta` is edited to a broken pack that says it is `alpha`; then the real `alpha` goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_pack_inherits_nothing_while_its_own_last_version_runs() {
    on_both(async |mode| {
        let watched =
            host_with(mode, |setup| pack(&setup.config.packs.join("zeta"), "zeta", "1.0.0", 1)).await;
        write(&watched.packs().join("zeta/pack.yaml"), "ref: acme\nname: Z\nversion: nothing\n");
        watched.in_state("zeta", "live_newer_refused").await;
        run(&watched.packs(), "rm", &["-r", "acme"]);
        watched.until(None).await;
        assert_eq!(watched.in_state("zeta", "live_newer_refused").await["version"], "1.0.0");
        watched.in_state("acme", "removed").await;
    })
    .await;
}

/// Renamed while another pack never comes to rest: still the same pack, and nobody's twin.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_renamed_beside_one_that_goes_on_changing() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (restless, stopped) = (watched.packs().join("restless/pack.yaml"), stop.clone());
        // Whole at every moment: on a busy machine it can look as if it had come to rest, and is loaded then.
        let mut text = "ref: restless\nname: restless\nversion: 1.0.0\n".to_owned();
        write(&restless.with_file_name("triggers/t0.yaml"), &trigger("restless", "1.0.0", 0));
        write(&restless, &text);
        let written = watched.packs().with_file_name("written.yaml");
        let writer = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                text += "# more\n";
                fs::write(&written, &text).unwrap();
                fs::rename(&written, &restless).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        eventually("a restless pack", async || {
            let watch = watched.host.api("/api/v1/packs").await.json()["watch"].clone();
            watch["changing"].as_array().unwrap().contains(&"restless".into()).then_some(())
        })
        .await;
        let sender = Sender::start(&watched, watched.url.clone(), &[200]);
        run(&watched.packs(), "mv", &["acme", "zebra"]);
        write(&watched.packs().join("zebra/triggers/t0.yaml"), &trigger("acme", "1.1.0", 0));
        watched.until("1.1.0").await;
        assert_eq!(watched.metric("hookpack_pack_changes_total{change=\"refused\"}").await.to_string(), "0");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        sender.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_behind_a_link_is_changed_where_it_lies() {
    let watched = host(WatchMode::Events).await;
    let tar = |version: &str| {
        pack(&watched.aside("shop"), "shop", version, 1);
        run(&watched.aside(""), "tar", &["-czf", "elsewhere.tar.gz", "shop"]);
    };
    tar("1.0.0");
    run(&watched.packs(), "ln", &["-s", "../elsewhere.tar.gz", "shop.tar.gz"]);
    watched.in_state("shop", "live").await;
    tar("1.1.0");
    let asked = std::time::Instant::now();
    watched.shown("shop", "1.1.0", |pack| pack["version"] == "1.1.0").await;
    // Told, not found by the look that comes every 30 s.
    assert!(asked.elapsed() < Duration::from_secs(20));
}

/// A pipe is waited for by whoever opens it; not by us.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_an_archive_holds_nothing_up() {
    on_both(async |mode| {
        let watched = host(mode).await;
        for name in ["a.tar.gz", "b.tar.gz", "c.tar.gz", "shop.tar.gz.sha256"] {
            run(&watched.packs(), "mkfifo", &[name]);
        }
        pack(&watched.aside("shop"), "shop", "1.0.0", 1);
        run(&watched.aside(""), "tar", &["-czf", "packs/shop.tar.gz", "shop"]);
        watched.shown("shop", "a fault", Value::is_null).await;
        eventually("four faults", async || {
            let all = watched.host.api("/api/v1/packs").await.json()["data"].clone();
            let told = |pack: &&Value| {
                pack["faults"][0]["message"].as_str().is_some_and(|told| told.ends_with("it is not a file"))
            };
            (all.as_array().unwrap().iter().filter(told).count() == 4).then_some(())
        })
        .await;
        run(&watched.packs(), "rm", &["shop.tar.gz.sha256"]);
        watched.in_state("shop", "live").await;
    })
    .await;
}

/// A compiler that had no luck: by hand, it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_by_hand_tries_again_what_was_refused() {
    let watched = host_with(WatchMode::Events, |setup| {
        let compiler = setup.folder.path().join("compiler");
        let script = "#!/bin/sh\n[ -e \"$0-works\" ] || exit 1\nexec \"$(cat \"$0-real\")\" \"$@\"\n";
        write(&compiler, script);
        write(&setup.folder.path().join("compiler-real"), env!("CARGO_BIN_EXE_hookpack"));
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
        setup.config.mapper_compiler = Some(compiler);
    })
    .await;
    pack(&watched.packs().join("shop"), "shop", "1.0.0", 1);
    fs::create_dir(watched.packs().join("shop/mappers")).unwrap();
    fs::write(watched.packs().join("shop/mappers/m.wasm"), guests::echo()).unwrap();
    let text = trigger("shop", "1.0.0", 0);
    let text = format!("{}mapping: {{wasm: mappers/m.wasm}}\n", &text[..text.find("mapping").unwrap()]);
    write(&watched.packs().join("shop/triggers/t0.yaml"), &text);
    watched.in_state("shop", "refused").await;
    write(&watched.aside("compiler-works"), "");
    assert_eq!(watched.host.api_post("/api/v1/packs/reload").await.status, 200);
    watched.in_state("shop", "live").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_version_that_is_taken_back_leaves_no_trace() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let file = watched.packs().join("acme/pack.yaml");
        write(&file, "ref: [");
        watched.in_state("acme", "live_newer_refused").await;
        write(&file, &manifest("acme", "1.0.0"));
        let shown = watched.in_state("acme", "live").await;
        assert_eq!(shown["faults"], Value::Array(Vec::new()));
    })
    .await;
}

/// A folder and an archive, or two folders: the one that ran keeps running, and both are told.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_packs_with_one_ref_neither_silently_wins() {
    on_both(async |mode| {
        let watched = host(mode).await;
        pack(&watched.aside("twin"), "acme", "2.0.0", 1);
        run(&watched.aside(""), "tar", &["-czf", "packs/acme-2.0.0.tar.gz", "twin"]);
        let all = eventually("both faults", async || {
            let all = watched.host.api("/api/v1/packs").await.json()["data"].clone();
            let refused = |pack: &&Value| pack["faults"].as_array().is_some_and(|faults| !faults.is_empty());
            (all.as_array().unwrap().iter().filter(refused).count() == 2).then_some(all)
        })
        .await;
        assert_eq!((&all[0]["folder"], &all[0]["state"]), (&"acme".into(), &"live_newer_refused".into()));
        assert_eq!(all[0]["faults"][0]["message"], "the ref `acme` is also that of `acme-2.0.0.tar.gz`");
        assert_eq!((&all[1]["folder"], &all[1]["state"]), (&"acme-2.0.0.tar.gz".into(), &"refused".into()));
        assert_eq!(all[1]["faults"][0]["message"], "the ref `acme` is also that of `acme`");
        assert_eq!(all[1]["faults"][0]["file"], "acme-2.0.0.tar.gz/pack.yaml");
        assert_eq!(watched.version().await.as_deref(), Some("1.0.0"));

        // Not by being edited, either.
        write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "1.1.0", 0));
        write(&watched.packs().join("other/pack.yaml"), "ref: other\nname: O\nversion: 1.0.0\n");
        pack(&watched.packs().join("other"), "other", "1.0.0", 1);
        watched.in_state("other", "live").await;
        assert_eq!(watched.version().await.as_deref(), Some("1.0.0"));

        let sender = Sender::start(&watched, watched.url.clone(), &[200]);
        run(&watched.packs(), "rm", &["-r", "acme"]);
        watched.until("2.0.0").await;
        sender.stop().await;
        assert_eq!(watched.in_state("acme", "live").await["folder"], "acme-2.0.0.tar.gz");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_can_be_asked_for() {
    let watched = host_with(WatchMode::Polling, |setup| setup.config.watch_poll_ms = 3_600_000).await;
    write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "1.1.0", 0));
    pack(&watched.packs().join("shop"), "shop", "1.0.0", 1);
    let answer = watched.host.api_post("/api/v1/packs/reload").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // When it has answered, it is done.
    let listed: Vec<_> =
        answer.json()["data"].as_array().unwrap().iter().map(|pack| pack["state"].clone()).collect();
    assert_eq!(listed, ["live", "live"]);
    assert_eq!(watched.version().await.as_deref(), Some("1.1.0"));
    let url = format!("http://{}/api/v1/packs/reload", watched.host.address);
    assert_eq!(watched.host.http.post(url).send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_with_the_version_that_it_began_with() {
    on_both(async |mode| {
        let watched = host(mode).await;
        let path = watched.url.split_once(&watched.host.address.to_string()).unwrap().1;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
             Expect: 100-continue\r\nConnection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(watched.host.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // It is asked for its body when its endpoint was found.
        let mut told = [0; 12];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100");
        write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "2.0.0", 0));
        write(&watched.packs().join("acme/pack.yaml"), &manifest("acme", "2.0.0"));
        watched.until("2.0.0").await;
        stream.write_all(b"{}").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
        let id = body["data"]["event_id"].as_str().unwrap();
        let event = watched.host.api(&format!("/api/v1/events/{id}")).await.json()["data"].clone();
        assert_eq!((&event["payload"]["v"], &event["pack_version"]), (&"1.0.0".into(), &"1.0.0".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_names_the_pack_that_it_went_through() {
    let watched = host(WatchMode::Events).await;
    let hash = |pack: &Value| pack["content_hash"].as_str().unwrap().to_owned();
    let first = hash(&watched.in_state("acme", "live").await);
    watched.until("1.0.0").await;
    // Edited without a new version: the hash tells.
    write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "edited", 0));
    watched.until("edited").await;
    let second = hash(&watched.in_state("acme", "live").await);
    let sql = "select distinct payload->>'v', pack_version, encode(pack_hash, 'hex') from hookpack.event order by 1";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).fetch_all(&watched.host.pool).await.unwrap();
    let row = |v: &str, hash: &str| (v.to_owned(), "1.0.0".to_owned(), hash.to_owned());
    assert_eq!(rows, [row("1.0.0", &first), row("edited", &second)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_of_a_rate_limit_stays_spent_over_a_reload() {
    let watched = host_with(WatchMode::Events, |setup| {
        let manifest = "ref: acme\nname: Acme\nversion: 1.0.0\nwebhook: {verify: none, rate_limit: {requests: 3, window_seconds: 3600}}\n";
        write(&setup.config.packs.join("acme/pack.yaml"), manifest);
    })
    .await;
    for _ in 0..2 {
        assert_eq!(watched.send().await.status, 200);
    }
    write(&watched.packs().join("acme/triggers/t0.yaml"), &trigger("acme", "2.0.0", 0));
    watched.shown("acme", "a change", |pack| pack["changing"] == true).await;
    watched.in_state("acme", "live").await;
    assert_eq!(watched.mapped(&watched.send().await).await["v"], "2.0.0");
    assert_eq!(watched.send().await.status, 429);
}

/// Of 200 packs, one is touched: one is loaded.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_loaded() {
    on_both(async |mode| {
        let watched = host_with(mode, |setup| {
            for number in 0..200 {
                let reference = format!("p{number}");
                pack(&setup.config.packs.join(&reference), &reference, "1.0.0", 1);
            }
        })
        .await;
        let loads = "hookpack_pack_load_seconds_count";
        let before = watched.metric(loads).await;
        assert!((before - 201.0).abs() < 0.5, "{before}");
        write(&watched.packs().join("p77/triggers/t0.yaml"), &trigger("p77", "2.0.0", 0));
        write(&watched.packs().join("p77/pack.yaml"), &manifest("p77", "2.0.0"));
        watched.shown("p77", "2.0.0", |pack| pack["version"] == "2.0.0").await;
        let after = watched.metric(loads).await;
        assert!((after - before - 1.0).abs() < 0.5, "{before} {after}");
        // Touched and not changed: read, and left as it is.
        let since = watched.in_state("p78", "live").await["loaded_at"].clone();
        watched.host.clock.advance(Duration::from_mins(1));
        run(&watched.packs(), "touch", &["p78/pack.yaml"]);
        eventually("another load", async || (watched.metric(loads).await > after + 0.5).then_some(())).await;
        assert_eq!(watched.in_state("p78", "live").await["loaded_at"], since);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_delays_a_new_pack_and_nothing_else() {
    let watched = host(WatchMode::Events).await;
    sqlx::query("alter table hookpack.endpoint_key rename to away")
        .execute(&watched.host.pool)
        .await
        .unwrap();
    pack(&watched.packs().join("shop"), "shop", "1.0.0", 1);
    // What needs no new key waits for the same swap; what runs, runs.
    eventually("a look at the new pack", async || {
        (watched.metric("hookpack_pack_load_seconds_count").await > 1.5).then_some(())
    })
    .await;
    assert_eq!(watched.version().await.as_deref(), Some("1.0.0"));
    assert_eq!(watched.host.api("/api/v1/packs/shop").await.status, 404);
    sqlx::query("alter table hookpack.away rename to endpoint_key")
        .execute(&watched.host.pool)
        .await
        .unwrap();
    watched.in_state("shop", "live").await;
    assert_eq!(send(&watched.host.http, &watched.host.url("shop.t0")).await.status, 200);
}
