//! What is mapped: a push as GitHub sends it, short and long.

use bytes::Bytes;
use serde_json::{Value, json};

/// A payload of some size.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub body: Bytes,
}

impl Case {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("JSON is UTF-8")
    }
}

/// The two sizes of the goals.
pub fn cases() -> Vec<Case> {
    let case = |name, bytes| Case { name, body: push(bytes) };
    vec![case("1.3 kB", 1_300), case("20 kB", 20_000)]
}

/// A push of about so many bytes: short ones with the members that the job wants and some more, longer ones with the
/// repository's many URLs and as many commits as it takes.
fn push(bytes: usize) -> Bytes {
    let long = bytes > 5_000;
    let mut push = json!({
        "ref": "refs/heads/main",
        "before": sha(1),
        "after": sha(2),
        "repository": repository(long),
        "pusher": {"name": "amara-okafor", "email": "amara@example.com"},
        "sender": {"login": "amara-okafor", "id": 21_031_067, "type": "User"},
        "created": false,
        "deleted": false,
        "forced": false,
        "base_ref": null,
        "compare": "https://github.com/acme/orchard/compare/3f0c1a9d5b7e...a17c0de4925b",
        "commits": [],
        "head_commit": commit(2, long),
    });
    for number in 2.. {
        let next = commit(number, long);
        let size = push.to_string().len() + next.to_string().len() / 2;
        let commits = push["commits"].as_array_mut().expect("it is a list");
        if !commits.is_empty() && size > bytes {
            break;
        }
        commits.push(next);
    }
    push.to_string().into()
}

fn repository(whole: bool) -> Value {
    let mut repository = json!({
        "id": 186_853_002,
        "name": "orchard",
        "full_name": "acme/orchard",
        "private": false,
        "html_url": "https://github.com/acme/orchard",
        "created_at": 1_557_933_565,
        "default_branch": "main",
    });
    let urls = ["forks", "keys{/key_id}", "collaborators{/collaborator}", "teams", "hooks", "events", "tags"];
    let more =
        ["git/refs{/sha}", "git/trees{/sha}", "statuses/{sha}", "languages", "stargazers", "contributors"];
    for url in urls.into_iter().chain(more).filter(|_| whole) {
        let name = url.split(['{', '/']).collect::<String>() + "_url";
        repository[name] = json!(format!("https://api.github.com/repos/acme/orchard/{url}"));
    }
    repository
}

fn commit(number: u64, whole: bool) -> Value {
    let person = json!({"name": "Amara Okafor", "email": "amara@example.com"});
    let mut commit = json!({
        "id": sha(number),
        "message": format!("Résumé {number} of the harvest\n\nFixes #{number}"),
        "timestamp": "2026-11-22T10:59:57+01:00",
        "author": person,
        "added": [format!("src/count_{number}.rs")],
        "removed": [],
        "modified": ["src/main.rs"],
    });
    if whole {
        commit["tree_id"] = json!(sha(number + 1_000));
        commit["distinct"] = json!(true);
        commit["url"] = json!(format!("https://github.com/acme/orchard/commit/{}", sha(number)));
        commit["committer"] = person;
    }
    commit
}

fn sha(number: u64) -> String {
    format!("{:040x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c_c060)
}
