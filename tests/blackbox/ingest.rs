//! The writer: no neighbour suffers, nothing waits without end, nothing is acknowledged that is not stored.

use std::time::Duration;

use futures_util::future::join_all;

use crate::harness::{Answer, Setup, TestHost, eventually};

const ONE: &str =
    "name: one\nref: t.one\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";

async fn host() -> TestHost {
    Setup::new(&[("t/triggers/one.yaml", ONE)]).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_but_valid_json_is_stored_as_it_is_and_broken_json_is_told_so() {
    let host = host().await;
    for body in [
        r#"{"a": "\u0000"}"#,
        r#"{"a": "x\u0000y", "n": 1e99999999999999999999}"#,
        r#"{"a": 1, "a": 2}"#,
        "\"\\ud83e\\udd80\"",
    ] {
        let answer = host.send("t.one", body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        assert_eq!(host.events().await.last().unwrap().1, body);
    }
    for body in [r#"{"a": "\ud800"}"#, "{\"a\": \"\u{1}\"}", "", "\u{feff}"] {
        let answer = host.send("t.one", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(host.logged(&answer).await.0, "undecodable");
    }
    let not_utf8 = Answer::of(host.post("t.one").body(b"\"\xff\"".to_vec()).send().await.unwrap()).await;
    assert_eq!(not_utf8.status, 400);
    host.stop().await;
}

/// The operator's own rule on the table refuses some rows: the others of their batches are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_row_never_fails_its_neighbours() {
    let host = host().await;
    sqlx::raw_sql("alter table hookpack.event add check (payload::text not like '%poison%')")
        .execute(&host.pool)
        .await
        .unwrap();
    let sent = (0..200).map(|number| {
        let text = if number % 10 == 3 { "poison" } else { "fine" };
        let host = &host;
        async move { (text, host.send("t.one", &format!("[\"{text}\", {number}]")).await) }
    });
    for (text, answer) in join_all(sent).await {
        if text == "fine" {
            assert_eq!(answer.status, 200, "{}", answer.text);
        } else {
            assert_eq!(answer.status, 422, "{}", answer.text);
            assert!(!answer.text.contains("check constraint"), "the database's words are for the log");
            let (outcome, detail) = host.logged(&answer).await;
            assert_eq!(outcome, "store_refused");
            assert!(detail.contains("check constraint"), "{detail}");
        }
    }
    assert_eq!(host.count("select count(*) from hookpack.event").await, 180);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_senders_are_told_to_come_again_and_then_it_goes_on() {
    let mut setup = Setup::new(&[("t/triggers/one.yaml", ONE)]);
    setup.config.store_wait_seconds = 1;
    let host = setup.start().await;
    assert_eq!(host.send("t.one", "1").await.status, 200);

    // Somebody holds the table: the store does not answer.
    let mut lock = host.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table hookpack.event, hookpack.request_log in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let answers = join_all((0..20).map(|_| host.send("t.one", "2"))).await;
    for answer in answers {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text);
    }
    lock.rollback().await.unwrap();
    eventually("a stored event", async || (host.send("t.one", "3").await.status == 200).then_some(())).await;

    // Who heard 503 was not stored behind its back.
    assert_eq!(host.count("select count(*) from hookpack.event where payload::text = '2'").await, 0);
    // The log was away as well; what happened meanwhile is in it all the same.
    let told = "select count(*) from hookpack.request_log where outcome = 'store_unavailable'";
    eventually("the outage in the log", async || (host.count(told).await >= 20).then_some(())).await;

    // Every connection is cut: the writer makes a new one within the request.
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()";
    let mut one = host.pool.acquire().await.unwrap();
    let _: i64 = sqlx::query_scalar(sql).fetch_one(&mut *one).await.unwrap();
    assert_eq!(host.send("t.one", "4").await.status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_at_once() {
    let mut setup = Setup::new(&[("t/triggers/one.yaml", ONE)]);
    setup.config.queue_deliveries_max = 4;
    setup.config.batch_rows_max = 1;
    setup.config.store_wait_seconds = 2;
    let host = setup.start().await;
    let mut lock = host.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table hookpack.event in access exclusive mode").execute(&mut *lock).await.unwrap();
    let waiting: Vec<_> = (0..32)
        .map(|_| {
            let request = host.post("t.one").body("1");
            tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await })
        })
        .collect();
    let full = async || {
        (host
            .count(
                "select count(*) from hookpack.request_log where detail = 'the queue of the store is full (queue_deliveries_max)'",
            )
            .await
            > 0)
        .then_some(())
    };
    // Rows of the log wait behind the table's lock as well: the refusals are seen in the answers.
    let answers = join_all(waiting).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status == 503));
    lock.rollback().await.unwrap();
    eventually("the refusals in the log", full).await;
    assert_eq!(host.send("t.one", "5").await.status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_does_not_flood_the_table() {
    let host = host().await;
    let url = format!("http://{}/api/v1/webhooks/wh_nobody", host.address);
    let post = async || host.http.post(&url).body("{}").send().await.unwrap().status().as_u16();
    for _ in 0..20 {
        assert!(join_all((0..50).map(|_| post())).await.iter().all(|status| *status == 404));
    }
    host.clock.advance(Duration::from_secs(1));
    let last = Answer::of(host.http.post(&url).body("{}").send().await.unwrap()).await;
    let (outcome, detail) = host.logged(&last).await;
    assert_eq!(outcome, "unknown_key");
    assert!(detail.starts_with("990 more like it"), "{detail}");
    assert_eq!(host.count("select count(*) from hookpack.request_log").await, 11);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_of_new_events() {
    let host = host().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&host.pool).await.unwrap();
    listener.listen("hookpack_event").await.unwrap();
    host.send("t.one", "1").await;
    assert_eq!(listener.recv().await.unwrap().payload(), "t.one");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_s_own_trigger_refuses_may_be_sent_again() {
    let host = host().await;
    let sql = "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.payload::text like '%later%' then raise exception 'not now'; end if; return new; end $$;
               create trigger refuse before insert on hookpack.event for each row execute function refuse()";
    sqlx::raw_sql(sql).execute(&host.pool).await.unwrap();
    let answers = join_all((0..20).map(|number| {
        let (host, text) = (&host, if number == 7 { "later" } else { "now" });
        async move { (text, host.send("t.one", &format!("[\"{text}\"]")).await.status) }
    }))
    .await;
    for (text, status) in answers {
        assert_eq!(status, if text == "later" { 503 } else { 200 }, "{text}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_endpoint_fills_its_own_part_of_the_queue_and_no_other() {
    let two = ONE.replace("name: one", "name: two").replace("t.one", "t.two");
    let mut setup = Setup::new(&[("t/triggers/one.yaml", ONE), ("t/triggers/two.yaml", &two)]);
    setup.config.endpoint_queue_deliveries_max = 4;
    setup.config.batch_rows_max = 1;
    setup.config.store_wait_seconds = 20;
    let host = setup.start().await;
    let mut lock = host.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table hookpack.event in access exclusive mode").execute(&mut *lock).await.unwrap();
    let post = |trigger: &str| {
        let request = host.post(trigger).body("1");
        tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await.status })
    };
    let mut flood: Vec<_> = (0..20).map(|_| post("t.one")).collect();
    // What finds no room hears it at once; the others wait for the table.
    let full =
        |flood: &[tokio::task::JoinHandle<u16>]| flood.iter().filter(|sent| sent.is_finished()).count();
    eventually("refusals", async || (full(&flood) >= 14).then_some(())).await;
    let polite: Vec<_> = (0..3).map(|_| post("t.two")).collect();
    let waiting = async || host.running.as_ref().unwrap().host.ingest.waiting().deliveries;
    eventually("the polite sender's deliveries", async || (waiting().await >= 7).then_some(())).await;
    lock.rollback().await.unwrap();
    assert!(join_all(polite).await.into_iter().all(|status| status.unwrap() == 200));
    let statuses: Vec<u16> = join_all(flood.drain(..)).await.into_iter().map(Result::unwrap).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    let detail = "select count(*) from hookpack.request_log
                  where detail = 'the queue of the store is full (endpoint_queue_deliveries_max)'";
    eventually("refusals in the log", async || (host.count(detail).await >= 14).then_some(())).await;
    host.stop().await;
}
