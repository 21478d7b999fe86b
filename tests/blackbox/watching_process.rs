//! The watched directory of a host that is a process: signals, limits of the system, permissions, log, command line,
//! and of several hosts on one database.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hookpack::config::WatchMode;
use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::Value;

use crate::harness::{Process, Setup, TestDatabase, eventually, http, write};

const TRIGGER: &str =
    "name: t\nref: acme.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";

fn pack(folder: &Path, version: &str) {
    write(&folder.join("pack.yaml"), &format!("ref: acme\nname: Acme\nversion: {version}\n"));
    write(&folder.join("triggers/t.yaml"), TRIGGER);
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pack(&folder.path().join("packs/acme"), "1.0.0");
    folder
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hookpack"))
}

async fn until(host: &Process, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let pack = host.api("/api/v1/packs/acme").await.json()["data"].clone();
        is(&pack).then_some(pack)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_has_the_folder_looked_at() {
    let folder = folder();
    let mut command = binary();
    command.env("HOOKPACK_WATCH", "polling").env("HOOKPACK_WATCH_POLL_MS", "3600000");
    let host = Process::start_with(folder.path(), command);
    pack(&folder.path().join("packs/acme"), "1.1.0");
    host.signal(Signal::SIGHUP);
    until(&host, "1.1.0", |pack| pack["version"] == "1.1.0").await;
    eventually("a line in the log", async || {
        host.log().contains("looked at the whole packs folder").then_some(())
    })
    .await;
}

/// In a user namespace of its own, the limits of inotify are the test's to set.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_can_t_be_told_says_so_and_looks_instead() {
    let limits = [
        ("max_inotify_instances", "0", "the system's limit of watchers is reached"),
        ("max_inotify_watches", "1", "the system's limit of watched folders is reached"),
    ];
    for (limit, most, expected) in limits {
        let folder = folder();
        let mut command = Command::new("unshare");
        let script = format!("echo {most} > /proc/sys/user/{limit} && exec \"$0\" \"$@\"");
        command.args(["--user", "--map-root-user", "sh", "-c", &script, env!("CARGO_BIN_EXE_hookpack")]);
        command.env("HOOKPACK_WATCH_POLL_MS", "50");
        let host = Process::start_with(folder.path(), command);
        pack(&folder.path().join("packs/acme"), "1.1.0");
        until(&host, "1.1.0", |pack| pack["version"] == "1.1.0").await;
        let watch = host.api("/api/v1/packs").await.json()["watch"].clone();
        assert_eq!(watch["mode"], "polling");
        assert!(watch["fault"].as_str().unwrap().contains(expected), "{watch}");
        assert!(host.log().contains(expected), "{}", host.log());
        let ready = host.api("/readyz").await;
        assert_eq!((ready.status, &ready.json()["status"]), (200, &"degraded".into()));
        assert!(host.api("/metrics").await.text.contains("hookpack_packs_watched 0"));
    }
}

/// The default: `--packs packs`, told in absolute paths.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_folder_that_was_named_by_a_relative_path_is_watched() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::rename(at("packs/acme"), at("one")).unwrap();
    symlink("../one", at("packs/acme")).unwrap();
    let host = Process::start(folder.path());
    pack(&at("two"), "2.0.0");
    let began = Instant::now();
    symlink("../two", at("packs/.new")).unwrap();
    fs::rename(at("packs/.new"), at("packs/acme")).unwrap();
    until(&host, "2.0.0", |pack| pack["version"] == "2.0.0").await;
    pack(&at("two"), "2.1.0");
    until(&host, "2.1.0", |pack| pack["version"] == "2.1.0").await;
    // The last link goes; the folder is still listened to.
    fs::remove_file(at("packs/acme")).unwrap();
    until(&host, "removed", |pack| pack["state"] == "removed").await;
    pack(&at("packs/acme"), "3.0.0");
    until(&host, "3.0.0", |pack| pack["version"] == "3.0.0").await;
    // Told, not found by the look that comes every 30 s.
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// The folder is a disk of its own, in a namespace of the test's.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_unmounted_takes_no_pack_with_it() {
    let folder = folder();
    fs::rename(folder.path().join("packs"), folder.path().join("seed")).unwrap();
    fs::create_dir(folder.path().join("packs")).unwrap();
    let script = "mount -t tmpfs none packs && cp -r seed/acme packs/ || exit 1
        (until [ -e unmount ]; do sleep 0.02; done; umount -l packs; until [ -e mount ]; do sleep 0.02; done
         mount -t tmpfs none packs && cp -r seed/acme packs/) &
        exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        env!("CARGO_BIN_EXE_hookpack"),
    ]);
    // Of an unmount nobody tells: it is found by looking.
    command.env("HOOKPACK_WATCH", "polling").env("HOOKPACK_WATCH_POLL_MS", "50");
    let host = Process::start_with(folder.path(), command);
    until(&host, "1.0.0", |pack| pack["state"] == "live").await;
    write(&folder.path().join("unmount"), "");
    eventually("the folder's fault", async || {
        let watch = host.api("/api/v1/packs").await.json()["watch"].clone();
        watch["folder_fault"].as_str()?.contains("has it been unmounted?").then_some(())
    })
    .await;
    until(&host, "it runs", |pack| pack["state"] == "live").await;
    pack(&folder.path().join("seed/acme"), "1.1.0");
    write(&folder.path().join("mount"), "");
    until(&host, "1.1.0", |pack| pack["version"] == "1.1.0").await;
}

/// Root may read everything, so the host is somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn files_made_unreadable_leave_what_runs_running() {
    for polling in [false, true] {
        // One each: the database of a host that was killed goes on clearing up in its folder for a moment.
        let folder = folder();
        let mut command = binary();
        if geteuid().is_root() {
            own(folder.path(), 65534);
            command.uid(65534).gid(65534);
        }
        command.env("HOOKPACK_WATCH", if polling { "polling" } else { "events" });
        command.env("HOOKPACK_WATCH_POLL_MS", "50");
        let host = Process::start_with(folder.path(), command);
        let packs = folder.path().join("packs");
        for (path, mode) in [("acme/triggers/t.yaml", 0o644), ("acme/triggers", 0o755), ("acme", 0o755)] {
            let set = |mode| fs::set_permissions(packs.join(path), fs::Permissions::from_mode(mode)).unwrap();
            set(0o0);
            let pack = until(&host, path, |pack| pack["state"] == "live_newer_refused").await;
            let message = pack["faults"][0]["message"].as_str().unwrap();
            assert!(message.contains("can't be read: Permission denied"), "{pack}");
            set(mode);
            until(&host, path, |pack| pack["state"] == "live" && pack["faults"] == Value::Array(Vec::new()))
                .await;
        }
        // The folder itself: nothing is taken for gone.
        fs::set_permissions(&packs, fs::Permissions::from_mode(0o0)).unwrap();
        eventually("the folder's fault", async || {
            let watch = host.api("/api/v1/packs").await.json()["watch"].clone();
            watch["folder_fault"].as_str()?.contains("Permission denied").then_some(())
        })
        .await;
        assert_eq!(until(&host, "it runs", |pack| pack["state"] == "live").await["version"], "1.0.0");
        fs::set_permissions(&packs, fs::Permissions::from_mode(0o755)).unwrap();
        pack(&packs.join("acme"), "1.1.0");
        until(&host, "1.1.0", |pack| pack["version"] == "1.1.0").await;
        host.kill();
    }
}

/// Gives a folder and everything in it to somebody.
fn own(path: &Path, id: u32) {
    chown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_each_change() {
    let folder = folder();
    let host = Process::start(folder.path());
    let url = format!("http://{}", host.address);
    let asking = |args: &[&str]| {
        let mut command = binary();
        command.args(["packs", "--url", &url, "--token", &host.token()]).args(args);
        command
    };
    let mut following = asking(&["--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut line = |wanted: &str| {
        loop {
            let line = lines.next().unwrap().unwrap();
            if line.contains(wanted) {
                return line;
            }
        }
    };
    line(" acme ");
    let packs = folder.path().join("packs");
    pack(&packs.join("acme"), "1.1.0");
    assert!(line("acme  1.1.0  live").contains("1  acme"));
    write(&packs.join("acme/pack.yaml"), "ref: acme\nname: Acme\nversion: 1.2.0\nverison: 2\n");
    line("acme  1.1.0  live, 1.2.0 refused");
    line("acme/pack.yaml:4:1: unknown key `verison`");
    let output = asking(&[]).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("live, 1.2.0 refused") && table.contains("did you mean `version`?"), "{table}");
    let output = asking(&["--output", "json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["data"][0]["refused"]["version"], "1.2.0");
    fs::remove_dir_all(packs.join("acme")).unwrap();
    line("acme  1.1.0  removed");
    following.kill().unwrap();
    following.wait().unwrap();

    // A line for each, with the time it took.
    let log = host.log();
    let told = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told(&["pack loaded", "pack=\"acme\"", "version=\"1.0.0\"", "took="]), "{log}");
    assert!(told(&["pack changed", "version=\"1.1.0\"", "from=\"1.0.0\"", "took="]), "{log}");
    assert!(told(&["WARN", "pack refused", "faults=1", "runs=\"1.1.0\"", "took="]), "{log}");
    assert!(told(&["WARN", "acme/pack.yaml:4:1: unknown key `verison`"]), "{log}");
    assert!(told(&["pack removed", "pack=\"acme\"", "version=\"1.1.0\""]), "{log}");
}

/// Two hosts that watch copies of a folder, and see them change at different moments.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_never_disagree_about_the_owner_of_a_key() {
    let database = TestDatabase::new().await;
    let start = async |mode: WatchMode| {
        let mut setup = Setup::new(&[]);
        pack(&setup.config.packs.join("acme"), "1.0.0");
        setup.config.watch = mode;
        // Hosts that share a database share the master key.
        let key = setup.config.master_key_file();
        write(&key, &"0123456789abcdef".repeat(4));
        setup.start_on(&database).await
    };
    // Both start at once, and both would give `acme.t` its first key.
    let (one, two) = tokio::join!(start(WatchMode::Events), start(WatchMode::Polling));
    let key = |url: String| url.rsplit_once('/').unwrap().1.to_owned();
    assert_eq!(key(one.url("acme.t")), key(two.url("acme.t")));

    // A trigger comes to one host first; then to both at once, again and again.
    for round in 0..20 {
        let name = format!("n{round}");
        let text =
            TRIGGER.replace("name: t", &format!("name: {name}")).replace("acme.t", &format!("acme.{name}"));
        for host in [&one, &two] {
            write(&host.packs().join(format!("acme/triggers/{name}.yaml")), &text);
            if round == 0 {
                wait_for(host, "acme.n0").await;
            }
        }
        let reference = format!("acme.{name}");
        wait_for(&one, &reference).await;
        wait_for(&two, &reference).await;
        let key = key(one.url(&reference));
        for host in [&one, &two] {
            let url = format!("http://{}/api/v1/webhooks/{key}", host.address);
            let answer =
                http().post(url).header("content-type", "application/json").body("{}").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(answer["data"]["trigger_ref"], reference.as_str());
        }
    }
    // One host loses the pack, the other keeps it: the key is still its owner's, here and there.
    let url = one.url("acme.t");
    fs::rename(one.packs().join("acme"), one.folder.path().join("acme")).unwrap();
    let status = async |url: &str| {
        http()
            .post(url)
            .header("content-type", "application/json")
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    eventually("a closed URL", async || (status(&url).await == 404).then_some(())).await;
    assert_eq!(status(&two.url("acme.t")).await, 200);
    fs::rename(one.folder.path().join("acme"), one.packs().join("acme")).unwrap();
    eventually("an open URL", async || (status(&url).await == 200).then_some(())).await;
    assert_eq!(one.count("select count(*) from hookpack.endpoint_key").await, 21);
}

async fn wait_for(host: &crate::harness::TestHost, reference: &str) {
    let path = format!("/api/v1/triggers/{reference}");
    eventually(reference, async || (host.api(&path).await.status == 200).then_some(())).await;
}
