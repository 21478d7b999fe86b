//! The job: read a push as GitHub sends it, pick thirteen scalars and a list of commits, write them as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Result, Value, json};

// https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
#[derive(Deserialize)]
pub struct Push<'a> {
    #[serde(borrow)]
    r#ref: Cow<'a, str>,
    #[serde(borrow)]
    before: Cow<'a, str>,
    #[serde(borrow)]
    after: Cow<'a, str>,
    #[serde(borrow)]
    compare: Cow<'a, str>,
    forced: bool,
    #[serde(borrow)]
    repository: Repository<'a>,
    #[serde(borrow)]
    pusher: Person<'a>,
    #[serde(borrow)]
    sender: Sender<'a>,
    #[serde(borrow)]
    head_commit: Head<'a>,
    #[serde(borrow)]
    commits: Vec<Commit<'a>>,
}

#[derive(Deserialize)]
struct Repository<'a> {
    id: u64,
    #[serde(borrow)]
    full_name: Cow<'a, str>,
    #[serde(borrow)]
    default_branch: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Person<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Sender<'a> {
    #[serde(borrow)]
    login: Cow<'a, str>,
    id: u64,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Commit<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    author: Person<'a>,
}

#[derive(Serialize)]
pub struct Picked<'a> {
    r#ref: &'a str,
    before: &'a str,
    after: &'a str,
    compare: &'a str,
    forced: bool,
    repository_id: u64,
    repository: &'a str,
    default_branch: &'a str,
    pusher: &'a str,
    sender: &'a str,
    sender_id: u64,
    head: &'a str,
    head_at: &'a str,
    commits: Vec<PickedCommit<'a>>,
}

#[derive(Serialize)]
struct PickedCommit<'a> {
    id: &'a str,
    message: &'a str,
    author: &'a str,
}

/// The job with a type for what is wanted: everything else is skipped while it is read.
pub fn typed(payload: &str) -> Result<String> {
    let push: Push = serde_json::from_str(payload)?;
    serde_json::to_string(&push.pick())
}

impl Push<'_> {
    pub fn pick(&self) -> Picked<'_> {
        Picked {
            r#ref: &self.r#ref,
            before: &self.before,
            after: &self.after,
            compare: &self.compare,
            forced: self.forced,
            repository_id: self.repository.id,
            repository: &self.repository.full_name,
            default_branch: &self.repository.default_branch,
            pusher: &self.pusher.name,
            sender: &self.sender.login,
            sender_id: self.sender.id,
            head: &self.head_commit.id,
            head_at: &self.head_commit.timestamp,
            commits: self.commits.iter().map(Commit::pick).collect(),
        }
    }
}

impl Commit<'_> {
    fn pick(&self) -> PickedCommit<'_> {
        PickedCommit { id: &self.id, message: &self.message, author: &self.author.name }
    }
}

/// The job by way of a tree of the whole payload.
pub fn value(payload: &str) -> Result<String> {
    let push: Value = serde_json::from_str(payload)?;
    serde_json::to_string(&pick(&push))
}

pub fn pick(push: &Value) -> Value {
    let commits = push["commits"].as_array().into_iter().flatten();
    let commits = commits.map(|commit| {
        json!({"id": commit["id"], "message": commit["message"], "author": commit["author"]["name"]})
    });
    json!({
        "ref": push["ref"],
        "before": push["before"],
        "after": push["after"],
        "compare": push["compare"],
        "forced": push["forced"],
        "repository_id": push["repository"]["id"],
        "repository": push["repository"]["full_name"],
        "default_branch": push["repository"]["default_branch"],
        "pusher": push["pusher"]["name"],
        "sender": push["sender"]["login"],
        "sender_id": push["sender"]["id"],
        "head": push["head_commit"]["id"],
        "head_at": push["head_commit"]["timestamp"],
        "commits": commits.collect::<Vec<_>>(),
    })
}
