//! Retention: what is too old goes, nothing else does, and nobody waits for it.

use std::{num::NonZeroU32, time::Duration};

use hookpack::tidy::forget;
use serde_json::{Value, json};

use crate::harness::{Setup, TestDatabase, TestHost, eventually};

const TRIGGER: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {required: [n]}\n\
    webhook: {enabled: true, verify: none, on_invalid: quarantine}\n";

fn setup() -> Setup {
    let mut setup = Setup::new(&[("one/triggers/any.yaml", TRIGGER)]);
    let config = &mut setup.config;
    config.request_log_days = NonZeroU32::new(2);
    config.quarantine_days = NonZeroU32::new(3);
    config.event_days = NonZeroU32::new(4);
    config.audit_days = NonZeroU32::new(5);
    config.stats_days = NonZeroU32::new(6);
    setup
}

async fn tidy(host: &TestHost) {
    forget(&host.running.as_ref().unwrap().host).await.unwrap();
}

/// Rows of the request log, the quarantine, events, the trail; requests in the statistics.
async fn kept(host: &TestHost) -> [i64; 5] {
    let mut kept = [0; 5];
    for (kept, sql) in kept.iter_mut().zip([
        "select count(*) from hookpack.request_log",
        "select count(*) from hookpack.quarantine",
        "select count(*) from hookpack.event",
        "select count(*) from hookpack.audit",
        "select coalesce(sum(requests), 0)::bigint from hookpack.request_count",
    ]) {
        *kept = host.count(sql).await;
    }
    kept
}

/// A day: an event, a request that is quarantined, a change.
async fn day(host: &TestHost) {
    assert_eq!(host.send("one.any", r#"{"n": 1}"#).await.status, 200);
    assert_eq!(host.send("one.any", "{}").await.status, 202);
    host.token("read", None).await;
    hookpack::tidy::sum_up(&host.running.as_ref().unwrap().host).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_and_nothing_else() {
    let host = setup().start().await;
    day(&host).await;
    host.clock.advance(Duration::from_hours(24));
    day(&host).await;
    eventually("all counts to be summed up", async || (kept(&host).await == [4, 2, 2, 2, 4]).then_some(()))
        .await;
    // The second day began 24 hours ago less a moment, and so on.
    let instant = Duration::from_millis(1);
    let mut advance = Duration::from_hours(24);
    for (hours, wanted) in [
        (24, [4, 2, 2, 2, 4]),
        (0, [2, 2, 2, 2, 4]),
        (24, [0, 1, 2, 2, 4]),
        (24, [0, 0, 1, 2, 4]),
        (24, [0, 0, 0, 1, 4]),
        (24, [0, 0, 0, 0, 4]),
        (24, [0, 0, 0, 0, 2]),
        (24, [0, 0, 0, 0, 0]),
    ] {
        if hours == 0 {
            advance = instant;
        }
        host.clock.advance(advance);
        tidy(&host).await;
        assert_eq!(kept(&host).await, wanted, "{hours}");
        advance = Duration::from_hours(24);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_for_ever_is() {
    let mut setup = setup();
    let config = &mut setup.config;
    (config.request_log_days, config.quarantine_days, config.event_days) = (None, None, None);
    (config.audit_days, config.stats_days) = (None, None);
    let host = setup.start().await;
    day(&host).await;
    host.clock.advance(Duration::from_hours(24 * 365 * 50));
    tidy(&host).await;
    let all = [2, 1, 1, 1, 2];
    eventually("all of it", async || (kept(&host).await == all).then_some(())).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_secrets_and_counts_of_revoked_keys_go() {
    let host = setup().start().await;
    for value in ["first", "second"] {
        let put =
            host.ask("PUT", "/api/v1/secrets/shared", json!({"value": value, "grace_seconds": 60})).await;
        assert_eq!(put.status, 200, "{}", put.text);
    }
    day(&host).await;
    tidy(&host).await;
    let (secrets, keys) =
        ("select count(*) from hookpack.secret", "select count(*) from hookpack.endpoint_key_count");
    assert_eq!((host.count(secrets).await, host.count(keys).await), (2, 1));
    host.clock.advance(Duration::from_mins(1));
    let path = "/api/v1/triggers/one.any/webhooks/regenerate";
    assert_eq!(host.ask("POST", path, Value::Null).await.status, 200);
    tidy(&host).await;
    assert_eq!((host.count(secrets).await, host.count(keys).await), (1, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_while_two_hosts_clear_away_fifty_thousand_rows() {
    let database = TestDatabase::new().await;
    // Ids as they were made then.
    let old = "insert into hookpack.request_log
                 (id, received_at, source_ip, method, body_bytes, status, outcome, verified, duration_us)
               select ('00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, '2026-11-01', '127.0.0.1', 'POST', 2, 200,
                      'accepted', true, 1
               from generate_series(1, 50000) i";
    sqlx::query(old).execute(&database.pool).await.unwrap();
    let one = setup().start_on(&database).await;
    let mut two = setup();
    two.config.master_key_file = Some(one.folder.path().join("data/master-key"));
    let two = two.start_on(&database).await;
    let sent = {
        let clearing = async {
            let old = "select count(*) from hookpack.request_log where received_at < '2026-11-20'";
            while one.count(old).await > 0 {
                tokio::join!(tidy(&one), tidy(&two));
            }
        };
        let (mut clearing, mut sent) = (std::pin::pin!(clearing), 0);
        loop {
            tokio::select! {
                () = &mut clearing => break sent,
                answer = one.send("one.any", r#"{"n": 1}"#) => assert_eq!(answer.status, 200, "{}", answer.text),
            }
            sent += 1;
        }
    };
    // Fifty transactions with pauses between them: there was room for others.
    assert!(sent > 5, "{sent} requests");
    // Those of now are all there; one more may just have been on its way.
    let left = one.count("select count(*) from hookpack.event").await;
    assert!((sent..=sent + 1).contains(&left), "{left} of {sent}");
    for host in [one, two] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_replay_is_kept_from_the_replay_on() {
    let mut setup = setup();
    (setup.config.event_days, setup.config.quarantine_days) = (NonZeroU32::new(1), NonZeroU32::new(30));
    let host = setup.start().await;
    assert_eq!(host.send("one.any", "{}").await.status, 202);
    host.clock.advance(Duration::from_hours(72));
    crate::harness::write(&host.packs().join("one/triggers/any.yaml"), &TRIGGER.replace("[n]", "[]"));
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    assert_eq!(host.ask("POST", "/api/v1/quarantine/replay", json!({})).await.json()["data"]["replayed"], 1);
    tidy(&host).await;
    assert_eq!(host.events().await.len(), 1);
    host.clock.advance(Duration::from_hours(25));
    tidy(&host).await;
    assert!(host.events().await.is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_table_that_can_t_be_cleared_keeps_no_other_from_it() {
    let host = setup().start().await;
    day(&host).await;
    sqlx::query("create table mine (event_id uuid references hookpack.event)")
        .execute(&host.pool)
        .await
        .unwrap();
    sqlx::query("insert into mine select id from hookpack.event").execute(&host.pool).await.unwrap();
    host.clock.advance(Duration::from_hours(24 * 10));
    assert!(forget(&host.running.as_ref().unwrap().host).await.is_err());
    let [_, _, events, audit, _] = kept(&host).await;
    assert_eq!((events, audit), (1, 0));
    host.stop().await;
}
