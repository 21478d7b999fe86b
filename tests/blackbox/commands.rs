//! The binary as people and scripts use it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{repository, write};

fn hookpack(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.current_dir(folder).env_remove("DATABASE_URL").env("HOOKPACK_DATA_DIR", folder.join("data"));
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_demo_sends_every_shipped_case_and_all_go_as_expected() {
    let output = hookpack(&repository()).args(["demo", "--exit"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" 0 surprises"), "{text}");
}

#[test]
fn the_shipped_packs_pass_check_and_test() {
    for command in ["check", "test"] {
        let output = hookpack(&repository()).args(["pack", command, "packs"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// A host on its private store, with what it said.
struct Served {
    process: Child,
    said: Vec<String>,
    address: String,
}

fn serve(folder: &Path, envs: &[(&str, &str)]) -> Served {
    let mut process = hookpack(folder)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .envs(envs.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.map_while(Result::ok) {
        said.push(line.clone());
        if line.contains("--follow") {
            break;
        }
    }
    let address = said[0].rsplit("http://").next().unwrap().to_owned();
    Served { process, said, address }
}

impl Served {
    fn stop(mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn what_serve_prints_is_what_one_needs_next() {
    let folder = tempfile::tempdir().unwrap();
    let packs = folder.path().join("packs");
    fs::create_dir(&packs).unwrap();
    for pack in ["github", "myapp"] {
        let copied =
            Command::new("cp").arg("-r").arg(repository().join("packs").join(pack)).arg(&packs).status();
        assert!(copied.unwrap().success());
    }
    write(&packs.join("broken/pack.yaml"), "ref: broken\nname: broken\nversoin: 1.0.0\n");
    let host = serve(folder.path(), &[]);
    let said = host.said.join("\n");
    for part in [
        "pack github 1.0.0: 11 triggers",
        "pack myapp 1.0.0: 1 trigger",
        "is refused:",
        "broken/pack.yaml:3:1: unknown key `versoin` in `pack.yaml`",
        "secret missing: github_webhook (`hookpack secret set github_webhook`, HOOKPACK_SECRET_GITHUB_WEBHOOK",
        "admin token (shown this once",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }

    // The curl line works as it is printed.
    let curl = host.said.iter().find(|line| line.starts_with("curl ")).unwrap();
    let answer = Command::new("sh").args(["-c", &format!("{curl} --silent --fail")]).output().unwrap();
    assert!(answer.status.success(), "{curl}: {}", text(&answer));
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();

    // And so does every command that asks the host, in words and in JSON.
    let url = format!("http://{}", host.address);
    let ask = |arguments: &[&str]| {
        let output = hookpack(folder.path()).args(arguments).args(["--url", &url]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let events: Value = serde_json::from_str(&ask(&["events", "--output", "json"])).unwrap();
    assert_eq!(events["data"][0]["id"], answer["data"]["event_id"]);
    assert!(ask(&["events", "--trigger", "myapp.deployment_complete"]).contains("myapp.deployment_complete"));
    assert!(ask(&["requests", "--outcome", "accepted"]).contains("accepted"));
    assert!(ask(&["triggers"]).contains("/api/v1/webhooks/wh_"));
    let packs = ask(&["packs"]);
    assert!(packs.contains("refused") && packs.contains("broken/pack.yaml:3:1"), "{packs}");

    // Without its secret, github is closed; `send` says so with its exit code.
    let sent = hookpack(folder.path()).args(["send", "github.push", "--url", &url]).output().unwrap();
    assert_eq!(sent.status.code(), Some(1), "{}", text(&sent));
    host.stop();

    let secret = [("HOOKPACK_SECRET_GITHUB_WEBHOOK", "It's a Secret to Everybody")];
    let host = serve(folder.path(), &secret);
    let url = format!("http://{}", host.address);
    let sent =
        hookpack(folder.path()).args(["send", "github.push", "--url", &url]).envs(secret).output().unwrap();
    assert!(sent.status.success(), "{}", text(&sent));
    host.stop();
}

#[test]
fn migrate_brings_a_fresh_store_up_to_date_twice() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = hookpack(folder.path()).arg("migrate").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn what_went_wrong_is_one_line_and_the_exit_code_says_whose_fault_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("packs")).unwrap();
    for (arguments, code, told) in [
        (&["events"][..], 1, "no token"),
        (&["serve", "--packs", "nowhere"], 1, "there is no packs folder nowhere"),
        (&["serve", "--listen", "nonsense"], 1, "configuration"),
        (&["pack", "check", "nowhere"], 1, "no such folder"),
        (
            &["serve", "--database-url", "postgres://u:hunter2@127.0.0.1:1/x"],
            1,
            "can't connect to the database at 127.0.0.1:1",
        ),
        (&["presets", "clerk"], 1, "`clerk` signs as `svix` does"),
        (&["events", "--url", "http://127.0.0.1:1", "--token", "t"], 1, "no host answers"),
        (&["serve", "--nonsense"], 2, "unexpected argument"),
        (&[], 2, "Usage"),
    ] {
        let output = hookpack(folder.path()).args(arguments).output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(told), "{arguments:?}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("panicked"), "{text}");
    }
}
