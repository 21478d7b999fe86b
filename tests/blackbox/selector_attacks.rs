//! Paths and payloads that would take for ever: the request ends with the limit's name, and the host goes on.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Setup, TestHost};

/// Each node of a body as one more walk over all of it.
const SQUARE: &str = "$..[?count($..*)>999999999]";

fn trigger(name: &str, rest: &str) -> (String, String) {
    let text = format!("name: {name}\nref: t.{name}\ntype: webhook\npayload_schema: true\n{rest}\n");
    (format!("t/triggers/{name}.yaml"), text)
}

fn setup(triggers: &[(String, String)]) -> Setup {
    let files: Vec<_> = triggers.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let mut setup = Setup::new(&files);
    setup.config.evaluation_steps_max = 300_000;
    setup.config.evaluation_bytes_max = 100_000;
    setup.config.evaluation_ms = 600_000;
    setup
}

fn numbers(count: usize) -> String {
    serde_json::to_string(&(0..count).collect::<Vec<_>>()).unwrap()
}

async fn detail(host: &TestHost, name: &str, body: &str) -> (u16, String, String) {
    let answer = host.send(name, body).await;
    let (outcome, detail) = host.logged(&answer).await;
    assert!(answer.status != 401 || !answer.text.contains("evaluation"), "{}", answer.text);
    (answer.status, outcome, detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_ends_by_its_budget_and_others_are_heard() {
    let verify = |each: &str| {
        format!(
            "webhook: {{enabled: true, secrets: [secret], verify: {{token: {{json: $.t}}, each: \"{each}\"}}}}"
        )
    };
    let stars = "*,".repeat(30) + "*";
    let host = setup(&[
        trigger("square", &verify(SQUARE)),
        trigger("unions", &verify(&format!("$[{stars}][{stars}][{stars}]"))),
        trigger("descents", &verify("$..*..*..*")),
        trigger("polite", "webhook: {enabled: true, verify: none}"),
    ])
    .start()
    .await;
    let nested = format!("[{0},{0},{0}]", format!("[{0},{0},{0}]", numbers(40)));
    let deep = "[".repeat(100) + &numbers(300) + &"]".repeat(100);
    let flat = numbers(4000);
    let attacks =
        [("t.square", &flat, "steps"), ("t.unions", &nested, "bytes"), ("t.descents", &deep, "bytes")];
    let attacking = async {
        let posts = attacks.iter().flat_map(|attack| std::iter::repeat_n(attack, 4));
        join_all(posts.map(|(name, body, limit)| {
            let host = &host;
            async move {
                let (status, outcome, detail) = detail(host, name, body).await;
                assert_eq!((status, outcome.as_str()), (401, "bad_signature"), "{name}: {detail}");
                assert!(detail.starts_with(&format!("evaluation_{limit}_max (")), "{name}: {detail}");
            }
        }))
        .await
    };
    let polite = async {
        let began = Instant::now();
        for _ in 0..5 {
            assert_eq!(host.send("t.polite", "{}").await.status, 200);
        }
        began.elapsed()
    };
    let (_, took) = tokio::join!(attacking, polite);
    assert!(took < Duration::from_secs(20), "{took:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_believed_request_fails_or_is_kept_or_may_come_again() {
    let open = "webhook: {enabled: true, verify: none}";
    let kept = "webhook: {enabled: true, verify: none, on_invalid: quarantine}";
    let triggers = [
        trigger("matched", &format!("match: {{\"{SQUARE}\": 1}}\n{open}")),
        trigger("split", &format!("split: \"{SQUARE}\"\n{open}")),
        trigger("mapped", &format!("mapping: {{fields: {{all: \"{SQUARE}\"}}}}\n{open}")),
        trigger("kept", &format!("mapping: {{fields: {{all: \"{SQUARE}\"}}}}\n{kept}")),
        trigger("matched_and_kept", &format!("match: {{\"{SQUARE}\": 1}}\n{kept}")),
        trigger("large", &format!("mapping: {{fields: {{all: \"$..*\"}}}}\n{open}")),
    ];
    let host = setup(&triggers).start().await;
    let (square, large) = (numbers(4000), numbers(20_000));
    for (name, body, status, outcome, limit) in [
        ("matched", &square, 422, "mapping_failed", "evaluation_steps_max (300000) was reached"),
        ("split", &square, 422, "mapping_failed", "evaluation_steps_max (300000) was reached"),
        ("mapped", &square, 422, "mapping_failed", "evaluation_steps_max (300000) was reached"),
        ("kept", &square, 202, "quarantined", "evaluation_steps_max (300000) was reached"),
        ("matched_and_kept", &square, 202, "quarantined", "evaluation_steps_max (300000) was reached"),
        ("large", &large, 422, "mapping_failed", "evaluation_bytes_max (100000) was reached"),
        ("mapped", &"[1,2]".to_owned(), 200, "accepted", ""),
    ] {
        let (found, word, detail) = detail(&host, &format!("t.{name}"), body).await;
        assert_eq!((found, word.as_str()), (status, outcome), "{name}: {detail}");
        assert!(detail.contains(limit), "{name}: {detail}");
    }
    host.stop().await;

    // A machine that was too busy must not make it final.
    let mut setup = setup(&triggers);
    setup.config.evaluation_ms = 0;
    let host = setup.start().await;
    for name in ["t.mapped", "t.kept", "t.matched"] {
        let answer = host.send(name, &square).await;
        let (outcome, detail) = host.logged(&answer).await;
        assert_eq!((answer.status, outcome.as_str()), (503, "mapper_busy"), "{detail}");
        assert!(answer.header("retry-after").is_some() && detail.contains("evaluation_ms (0)"), "{detail}");
    }
    host.stop().await;
}
