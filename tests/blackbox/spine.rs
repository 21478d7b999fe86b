//! From a pack file to a row in Postgres.

use crate::harness::{SECRET, Setup, github_signature};

const PUSH: &str =
    r#"{"ref": "refs/heads/main", "commits": [], "n": 12345678901234567890123, "f": 1.0, "e": 1E5}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_push_becomes_one_row() {
    let trigger = "
name: push
ref: github.push
type: webhook
payload_schema: {type: object, required: [ref, commits]}
webhook: {enabled: true, preset: github, secrets: [github_webhook]}
";
    let host = Setup::new(&[("github/triggers/push.yaml", trigger)]).start().await;
    let send = async |signature: &str| {
        let request = host
            .post("github.push")
            .header("x-hub-signature-256", signature)
            .header("x-github-delivery", "d1");
        crate::harness::Answer::of(request.body(PUSH).send().await.unwrap()).await
    };
    let answer = send(&github_signature(PUSH.as_bytes(), SECRET)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let data = &answer.json()["data"];
    assert_eq!(data["trigger_ref"], "github.push");
    assert_eq!(data["message"], "Webhook received successfully");
    assert_eq!(host.events().await, [("github.push".to_owned(), PUSH.to_owned())]);
    assert_eq!(host.logged(&answer).await.0, "accepted");

    let again = send(&github_signature(PUSH.as_bytes(), SECRET)).await;
    assert_eq!((again.status, &again.text), (200, &answer.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(host.logged(&again).await.0, "duplicate");

    let refused = send(&github_signature(PUSH.as_bytes(), "another secret")).await;
    assert_eq!(refused.status, 401);
    assert_eq!(host.logged(&refused).await.0, "bad_signature");
    assert_eq!(host.events().await.len(), 1);
    host.stop().await;
}
