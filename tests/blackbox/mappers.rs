//! Mappers at work: what they are given, what becomes of what they return, and how they share the host.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    guests::{component, echo, endless, error, one_event, text},
    harness::{Setup, TestHost, eventually},
};

/// A pack `m` with a trigger for each of these components.
fn setup(mappers: &[(&str, Vec<u8>)], more: &str) -> Setup {
    let mut setup = Setup::new(&[]);
    for (name, component) in mappers {
        setup = setup.with_file(&format!("m/mappers/{name}.wasm"), component).with_file(
            &format!("m/triggers/{name}.yaml"),
            format!(
                "name: {name}\nref: m.{name}\ntype: webhook\npayload_schema: true\n\
                 webhook: {{enabled: true, verify: none{more}}}\n\
                 mapping: {{wasm: mappers/{name}.wasm, settings: {{branch: main, most: 12345678901234567890}}}}\n"
            )
            .as_bytes(),
        );
    }
    setup.with_file("m/pack.yaml", b"ref: m\nname: M\nversion: 1.0.0\n")
}

async fn host(mappers: &[(&str, Vec<u8>)]) -> TestHost {
    setup(mappers, "").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mapper_returns_is_stored_as_it_wrote_it() {
    let settings = component(&one_event("(local.get $settings)", "(local.get $settings_len)"), "");
    let host = host(&[("echo", echo()), ("settings", settings)]).await;
    let body = "{ \"n\": 1.10, \"big\": 12345678901234567890123, \"text\": \"\\u00e9 \u{1f980}\" }";
    assert_eq!(host.send("m.echo", body).await.status, 200);
    assert_eq!(host.send("m.settings", "{}").await.status, 200);
    let stored: Vec<_> = host.events().await.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(stored, [body, r#"{"branch":"main","most":12345678901234567890}"#]);
    assert_eq!(host.send("m.echo", r#"{"a": 1, "b": 2, "a": 3}"#).await.status, 200);
    assert_eq!(host.events().await[2].1, r#"{"a":3,"b":2}"#, "what the schema saw");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_mappers_errors_ends_in_its_own_outcome() {
    let says = |kind, reason: &str| component(&error(kind, reason), &text(reason));
    let mappers = [
        ("invalid", says(0, "no order in it")),
        ("skip", says(1, "a draft")),
        ("failed", says(2, "the table has a hole")),
    ];
    let host = host(&mappers).await;
    for (trigger, status, outcome, detail) in [
        (
            "m.invalid",
            422,
            "mapping_failed",
            "m.invalid: mappers/invalid.wasm: not for this mapper: no order in it",
        ),
        ("m.skip", 200, "ignored", "m.skip: skipped by the mapper: a draft"),
        ("m.failed", 422, "mapping_failed", "m.failed: mappers/failed.wasm: the table has a hole"),
    ] {
        let answer = host.send(trigger, "{}").await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(host.logged(&answer).await, (outcome.to_owned(), detail.to_owned()));
        assert!(!answer.text.contains("hole") && !answer.text.contains("order"), "{}", answer.text);
    }
    // Its own fault is shown at the trigger, what a sender did wrong is not.
    let shown = host.api("/api/v1/triggers/m.failed").await.json()["data"]["mapper"].clone();
    assert_eq!(shown["failures"], 1);
    assert_eq!(shown["last_failure"]["reason"], "the table has a hole");
    let shown = host.api("/api/v1/triggers/m.invalid").await.json()["data"]["mapper"].clone();
    assert_eq!((&shown["calls"], &shown["failures"]), (&1.into(), &0.into()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_a_mapper_fails_on_can_be_quarantined() {
    let failing = component(&error(2, "no"), &text("no"));
    let host = setup(&[("failing", failing)], ", on_invalid: quarantine").start().await;
    let answer = host.send("m.failing", r#"{"kept": true}"#).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(
        host.count("select count(*) from hookpack.quarantine where cause = 'mapping_failed'").await,
        1
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapper_remembers_nothing_from_one_delivery_to_the_next() {
    let counting = component(
        &format!(
            "(i32.store8 (i32.const 2048) (i32.add (i32.const 1) (i32.load8_u (i32.const 2048))))
             (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (i32.store8 (i32.const 2049) (i32.add (i32.const 48) (global.get $calls)))
             {}",
            one_event("(i32.const 2048)", "(i32.const 2)")
        ),
        "(global $calls (mut i32) (i32.const 0)) (data (i32.const 2048) \"00\")",
    );
    let host = host(&[("counting", counting)]).await;
    join_all((0..40).map(|_| host.send("m.counting", "{}"))).await;
    let stored = host.events().await;
    assert_eq!(stored.len(), 40);
    assert!(stored.iter().all(|(_, payload)| payload == "11"), "{stored:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mapped_goes_through_the_event_schema_like_all_others() {
    let setup = setup(&[("echo", echo())], "").with_file(
        "m/triggers/echo.yaml",
        b"name: echo\nref: m.echo\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n\
          mapping: {wasm: mappers/echo.wasm}\nevent_schema: {type: object, required: [id]}\n",
    );
    let host = setup.start().await;
    assert_eq!(host.send("m.echo", r#"{"id": 1}"#).await.status, 200);
    let answer = host.send("m.echo", "{}").await;
    assert_eq!(answer.status, 422);
    assert!(host.logged(&answer).await.1.contains("breaks `event_schema`"));
    host.stop().await;
}

/// One trigger's mapper computes without end, on every worker that it can get: others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn one_triggers_slow_mapper_takes_only_its_share_of_the_workers() {
    let mut setup = setup(&[("echo", echo()), ("endless", endless())], "");
    setup.config.mapper_workers = Some(2);
    setup.config.mapper_deadline_ms = 60_000;
    setup.config.mapper_wait_seconds = 1;
    let host = setup.start().await;
    let url = host.url("m.endless");
    let slow: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(host.http.post(&url).header("content-type", "application/json").body("{}").send())
        })
        .collect();
    // Seven of the eight find no worker in time: from then on the eighth is known to be at work.
    let mut refused = 0;
    eventually("seven that were sent away", async || {
        refused = host
            .count("select count(*) from hookpack.request_log where outcome = 'mapper_busy' and status = 503")
            .await;
        (refused == 7).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(host.send("m.echo", "1").await.status, 200);
    }
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    drop(slow);
    assert_eq!(host.count("select count(*) from hookpack.event").await, 20);
}

/// However many hostile triggers there are: once they are known to be slow, most of the workers are for the others.
#[tokio::test(flavor = "multi_thread")]
async fn many_slow_triggers_leave_workers_for_the_others() {
    let slow = ["a", "b", "c", "d"].map(|name| (name, endless()));
    let mut setup = setup(&[&slow[..], &[("echo", echo())]].concat(), "");
    setup.config.mapper_workers = Some(4);
    setup.config.mapper_calls_per_trigger_max = Some(2);
    setup.config.mapper_deadline_ms = 100;
    let host = setup.start().await;
    for (name, _) in &slow {
        host.send(&format!("m.{name}"), "{}").await;
    }
    let busy: Vec<_> = slow
        .iter()
        .flat_map(|(name, _)| std::iter::repeat_n(name, 4))
        .map(|name| {
            let request = host.http.post(host.url(&format!("m.{name}"))).body("{}");
            tokio::spawn(async move {
                for _ in 0..20 {
                    request.try_clone().unwrap().send().await.ok();
                }
            })
        })
        .collect();
    for number in 0..50 {
        let body = number.to_string();
        let sent = host.send("m.echo", &body);
        let answer = tokio::time::timeout(Duration::from_secs(4), sent).await.expect("a worker was free");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A mapper that is stopped at its deadline frees its worker for the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_full_of_endless_mappers_comes_back() {
    let mut setup = setup(&[("echo", echo()), ("endless", endless())], "");
    setup.config.mapper_workers = Some(1);
    setup.config.mapper_deadline_ms = 50;
    let host = setup.start().await;
    for answer in join_all((0..5).map(|_| host.send("m.endless", "{}"))).await {
        // On a busy machine it may not even have got the CPU that it would have wasted.
        assert!([422, 503].contains(&answer.status), "{}", answer.text);
        assert!(host.logged(&answer).await.1.contains("(mapper_deadline_ms)"));
    }
    assert_eq!(host.send("m.echo", "1").await.status, 200);
    host.stop().await;
}

/// The sender hangs up, the mapper still runs: its place is not given to anybody before it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn senders_who_hang_up_do_not_let_more_mappers_in() {
    let mut setup = setup(&[("endless", endless())], "");
    setup.config.mapper_workers = Some(1);
    setup.config.mapper_deadline_ms = 60_000;
    setup.config.mapper_wait_seconds = 0;
    let host = setup.start().await;
    let impatient =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).build().unwrap();
    impatient.post(host.url("m.endless")).body("{}").send().await.unwrap_err();
    let answer = host.send("m.endless", "{}").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text);
    assert_eq!(host.logged(&answer).await.0, "mapper_busy");
}

/// A call that nobody waits for any more counts like another: who hangs up can't hide that a mapper is slow.
#[tokio::test(flavor = "multi_thread")]
async fn how_a_call_went_is_recorded_when_its_sender_has_hung_up() {
    let mut setup = setup(&[("endless", endless())], "");
    setup.config.mapper_deadline_ms = 400;
    let host = setup.start().await;
    let impatient = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(50)).build().unwrap();
    impatient.post(host.url("m.endless")).body("{}").send().await.unwrap_err();
    eventually("a call in the record", async || {
        let shown = host.api("/api/v1/triggers/m.endless").await.json()["data"]["mapper"]["calls"].clone();
        (shown == 1).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_mappers_is_bounded_in_number_and_time() {
    let mut full = setup(&[("echo", echo())], "");
    full.config.mapper_queue_deliveries_max = 0;
    let host = full.start().await;
    let answer = host.send("m.echo", "1").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text);
    assert!(host.logged(&answer).await.1.contains("mapper_queue_deliveries_max"));
    host.stop().await;

    let mut slow = setup(&[("echo", echo())], "").with_file(
        "m/triggers/echo.yaml",
        b"name: echo\nref: m.echo\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n\
          split: $[*]\nmapping: {wasm: mappers/echo.wasm}\n",
    );
    slow.config.mapper_delivery_seconds = 0;
    let host = slow.start().await;
    let answer = host.send("m.echo", "[1, 2, 3]").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(host.logged(&answer).await.1.contains("(mapper_delivery_seconds)"));
    assert_eq!(host.count("select count(*) from hookpack.event").await, 0, "all or none");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapper_is_called_for_each_member_that_split_selects() {
    let setup = setup(&[("echo", echo())], "").with_file(
        "m/triggers/echo.yaml",
        b"name: echo\nref: m.echo\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n\
          split: $.items[*]\nmapping: {wasm: mappers/echo.wasm}\n",
    );
    let host = setup.start().await;
    assert_eq!(host.send("m.echo", r#"{"items": [{"a": 1.0}, [2], "3"]}"#).await.status, 200);
    let stored: Vec<_> = host.events().await.into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(stored, [r#"{"a":1.0}"#, "[2]", r#""3""#]);
    host.stop().await;
}

/// Its payload is its key as well.
fn keyed() -> Vec<u8> {
    let event = one_event("(local.get $payload)", "(local.get $payload_len)");
    let keyed = event.replace(
        "(i32.store8 (i32.const 1048) (i32.const 0))",
        "(i32.store8 (i32.const 1048) (i32.const 1)) (i32.store (i32.const 1052) (local.get $payload))
         (i32.store (i32.const 1056) (local.get $payload_len))",
    );
    assert_ne!(keyed, event);
    component(&keyed, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_a_key_of_its_own_is_stored_once_and_every_answer_names_it() {
    let host = host(&[("keyed", keyed())]).await;
    let sent = join_all((0..20).map(|_| host.send("m.keyed", r#""order-4711""#))).await;
    let ids: Vec<_> = sent.iter().map(|answer| answer.json()["data"]["event_id"].clone()).collect();
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let replayed = sent.iter().filter(|answer| answer.header("idempotency-replayed") == Some("true"));
    assert_eq!(replayed.count(), 19);
    assert_eq!(host.send("m.keyed", r#""order-4712""#).await.header("idempotency-replayed"), None);
    assert_eq!(host.send("m.keyed", "\"\"").await.status, 200, "an empty text is a key like another");
    let keys: Vec<String> = sqlx::query_scalar("select idempotency_key from hookpack.event order by id")
        .fetch_all(&host.pool)
        .await
        .unwrap();
    assert_eq!(keys, ["\"order-4711\"", "\"order-4712\"", "\"\""]);
    host.stop().await;
}

#[test]
fn the_same_module_gives_the_same_component() {
    assert_eq!(echo(), echo());
}
