//! The shipped packs take the largest payloads that their senders document, with the default limits.

use std::fs;

use hookpack::config::Config;
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, github_signature, repository};

/// Every YAML file of a shipped pack, as a path under `packs/` and its text.
fn files_of(pack: &str) -> Vec<(String, String)> {
    let mut waiting = vec![repository().join("packs").join(pack)];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            let name = path.strip_prefix(repository().join("packs")).unwrap().display().to_string();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    files
}

/// A push of so many commits, 1.2 kB each, as GitHub builds them.
fn push(commits: usize) -> String {
    let person = json!({"name": "Jun Sato", "email": "jun@example.com", "username": "jun-sato"});
    let sha = |number: usize| format!("{number:040x}");
    let commit = |number: usize| {
        json!({
            "id": sha(number), "tree_id": sha(number + 1), "distinct": true, "message": "m".repeat(600),
            "timestamp": "2026-11-22T10:00:00Z", "url": format!("https://github.com/acme/orchard/commit/{}", sha(number)),
            "author": person, "committer": person,
            "added": [format!("path/to/file-{number}")], "removed": [], "modified": [],
        })
    };
    let commits: Vec<_> = (0..commits).map(commit).collect();
    json!({
        "ref": "refs/heads/main", "before": sha(0), "after": sha(1), "created": false, "deleted": false, "forced": false,
        "compare": "https://github.com/acme/orchard/compare", "head_commit": commits.last(), "commits": commits,
        "repository": {"id": 1, "name": "orchard", "full_name": "acme/orchard", "private": false},
        "pusher": person, "sender": {"login": "jun-sato", "id": 2},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_twelve_megabytes_is_stored_mapped_and_whole() {
    let mut files = files_of("github");
    let whole = "name: whole\nref: t.whole\ntype: webhook\npayload_schema: true\n\
                 webhook: {enabled: true, verify: none, payload_size_limit_kb: 25600}\n";
    files.push(("t/triggers/whole.yaml".to_owned(), whole.to_owned()));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    // With the limits that a host has unless told otherwise, those of time included.
    let host = Setup::new(&files).start().await;
    let (commits, body) = (11_500, push(11_500));
    assert!((12_000_000..14_000_000).contains(&body.len()), "{}", body.len());
    let request = host
        .post("github")
        .header("x-github-event", "push")
        .header("x-github-delivery", "af4f8b00-405d-11f0-8f01-2c6e0d7b9f10")
        .header("x-hub-signature-256", github_signature(body.as_bytes(), SECRET));
    let answer = Answer::of(request.body(body.clone()).send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(host.send("t.whole", &body).await.status, 200);
    let stored = host.events().await;
    let mapped: Value = serde_json::from_str(&stored[0].1).unwrap();
    assert_eq!(mapped["messages"].as_array().unwrap().len(), commits);
    assert_eq!(stored[1], ("t.whole".to_owned(), body));
    host.stop().await;
}

#[test]
fn what_a_shipped_pack_takes_fits_into_an_event() {
    let packs = fs::read_dir(repository().join("packs")).unwrap().map(|entry| entry.unwrap().file_name());
    for pack in packs {
        for (file, text) in files_of(pack.to_str().unwrap()) {
            let limits = text.lines().filter_map(|line| line.trim().strip_prefix("payload_size_limit_kb: "));
            for limit in limits {
                let number = limit.split_whitespace().next().unwrap();
                let bytes = number.parse::<usize>().unwrap() * 1024;
                assert!(bytes <= Config::default().event_bytes_max, "{file}: {number} kB");
            }
        }
    }
}
