//! Folds a push to GitHub into a summary of the change.

use std::{borrow::Cow, collections::BTreeSet};

use hookpack_sdk::{Delivery, Event, Result, mapper, skip};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    ignore_branches: Vec<String>,
}

// https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow)]
    r#ref: Cow<'a, str>,
    after: &'a str,
    deleted: bool,
    forced: bool,
    #[serde(borrow)]
    compare: Cow<'a, str>,
    #[serde(borrow)]
    repository: Repository<'a>,
    #[serde(borrow)]
    commits: Vec<Commit<'a>>,
}

#[derive(Deserialize)]
struct Repository<'a> {
    #[serde(borrow)]
    full_name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Commit<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    author: Author<'a>,
    #[serde(borrow, default)]
    added: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    removed: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    modified: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Author<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Serialize)]
struct Summary<'a> {
    repository: &'a str,
    branch: &'a str,
    commits: usize,
    /// Each once, in the order of their first commit.
    authors: Vec<&'a str>,
    files: Files,
    /// The first line of every commit's message, oldest first.
    headline: String,
    compare_url: &'a str,
    forced: bool,
}

/// How many files the push touched; one that several commits changed counts once.
#[derive(Serialize)]
struct Files {
    added: usize,
    removed: usize,
    modified: usize,
}

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    let settings: Settings = delivery.settings()?;
    let push: Push = delivery.json()?;
    let branch = push.branch()?;
    if push.deleted {
        return Err(skip(format_args!("the branch {branch} was deleted")));
    }
    if settings.ignore_branches.iter().any(|ignored| ignored == branch) {
        return Err(skip(format_args!("the branch {branch} is in ignore_branches")));
    }
    // A commit comes to one branch after another: each time is a change of its own.
    Ok(Event::json(&push.summary(branch))?.with_key(format!("{branch}@{}", push.after)))
}

impl Push<'_> {
    fn branch(&self) -> Result<&str> {
        self.r#ref
            .strip_prefix("refs/heads/")
            .ok_or_else(|| skip(format_args!("{} is not a branch", self.r#ref)))
    }

    fn summary<'a>(&'a self, branch: &'a str) -> Summary<'a> {
        Summary {
            repository: &self.repository.full_name,
            branch,
            commits: self.commits.len(),
            authors: distinct(self.commits.iter().map(|commit| &*commit.author.name)),
            files: Files {
                added: self.files(|commit| &commit.added),
                removed: self.files(|commit| &commit.removed),
                modified: self.files(|commit| &commit.modified),
            },
            headline: self.commits.iter().map(Commit::first_line).collect::<Vec<_>>().join("; "),
            compare_url: &self.compare,
            forced: self.forced,
        }
    }

    fn files<'a>(&'a self, of: fn(&'a Commit<'a>) -> &'a [Cow<'a, str>]) -> usize {
        self.commits.iter().flat_map(of).collect::<BTreeSet<_>>().len()
    }
}

impl Commit<'_> {
    fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use hookpack_sdk::{Error, Value, json, testing};

    use super::*;

    fn push() -> Value {
        json!({
            "ref": "refs/heads/feature/pears",
            "after": "a17c0de4925b6f38e1d07c4b9a2f8e6d5c3b1a09",
            "deleted": false,
            "forced": true,
            "compare": "https://github.com/acme/orchard/compare/3f0c1a9d5b7e...a17c0de4925b",
            "repository": {"id": 701_234_567, "full_name": "acme/orchard"},
            "commits": [
                {
                    "message": "Count apples before pears\n\nFixes #41",
                    "author": {"name": "Amara Okafor"},
                    "added": ["src/count.rs"], "removed": ["docs/old.md"], "modified": ["src/main.rs"],
                },
                {
                    "message": "Résumé of the harvest",
                    "author": {"name": "Jun Sato"},
                    "added": [], "removed": [], "modified": ["src/main.rs", "README.md"],
                },
                {
                    "message": "A \"quoted\" word",
                    "author": {"name": "Amara Okafor"},
                    "added": [], "removed": [], "modified": [],
                },
            ],
        })
    }

    fn transformed(push: &Value, settings: &Value) -> Result<Event> {
        transform(testing::delivery("change-summary.push").settings(settings).json(push).build())
    }

    #[test]
    fn a_push_is_folded_into_a_summary() {
        let event = transformed(&push(), &json!({})).unwrap();
        assert_eq!(
            event.value(),
            json!({
                "repository": "acme/orchard",
                "branch": "feature/pears",
                "commits": 3,
                "authors": ["Amara Okafor", "Jun Sato"],
                "files": {"added": 1, "removed": 1, "modified": 2},
                "headline": "Count apples before pears; Résumé of the harvest; A \"quoted\" word",
                "compare_url": "https://github.com/acme/orchard/compare/3f0c1a9d5b7e...a17c0de4925b",
                "forced": true,
            })
        );
    }

    #[test]
    fn the_key_names_the_branch_and_the_commit_that_it_now_has() {
        let event = transformed(&push(), &json!({})).unwrap();
        assert_eq!(event.key(), Some("feature/pears@a17c0de4925b6f38e1d07c4b9a2f8e6d5c3b1a09"));
    }

    #[test]
    fn deleted_branches_ignored_branches_and_tags_are_skipped() {
        let ignoring = json!({"ignore_branches": ["gh-pages", "feature/pears"]});
        let cases = [
            ("deleted", json!(true), json!({}), "the branch feature/pears was deleted"),
            ("deleted", json!(false), ignoring, "the branch feature/pears is in ignore_branches"),
            ("ref", json!("refs/tags/v1"), json!({}), "refs/tags/v1 is not a branch"),
        ];
        for (member, value, settings, reason) in cases {
            let mut push = push();
            push[member] = value;
            assert_eq!(transformed(&push, &settings), Err(skip(reason)));
        }
    }

    #[test]
    fn what_is_no_push_is_refused_with_what_is_missing() {
        let Err(Error::InvalidPayload(reason)) = transformed(&json!({"zen": "Keep it simple."}), &json!({}))
        else {
            panic!("a ping passed as a push");
        };
        assert!(reason.contains("missing field `ref`"), "{reason}");
    }

    #[test]
    fn a_setting_that_nobody_knows_is_the_packs_fault() {
        let settings = json!({"ignore_branch": "main"});
        assert!(matches!(transformed(&push(), &settings), Err(Error::Failed(_))));
    }
}
