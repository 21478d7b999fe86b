//! Events that bring a key of their own: each is stored once, whatever delivery it comes in, and every answer names it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hookpack::{
    clock::Clock,
    config::{Config, Environment},
    ingest::{Ingest, NotStored, Writers},
    model::{Answer, Delivery, DeliveryKey, LogRow, NewEvent, Outcome, Quarantined},
    store::{Database, batch::Stored, event_keys},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{NOW, TestDatabase, eventually};

const WINDOW: Duration = Duration::from_hours(72);

/// What the door makes of a request: an event of `t.one` for each of these keys, `""` for one without.
pub fn delivery(keys: &[&str]) -> Delivery {
    let events: Vec<_> = keys.iter().map(|key| event("t.one", key)).collect();
    let named: Vec<_> =
        events.iter().map(|event| json!({"event_id": event.id, "trigger_ref": event.trigger_ref})).collect();
    let body = json!({"data": {"event_id": events[0].id, "trigger_ref": "t.one", "events": named}});
    Delivery {
        events,
        quarantined: Vec::new(),
        key: None,
        answer: Answer { status: 200, content_type: "application/json".to_owned(), body: body.to_string() },
        log: LogRow {
            id: Uuid::now_v7(),
            trace_id: None,
            received_at: NOW,
            trigger_ref: Some("t.one".to_owned()),
            endpoint_key_id: None,
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            user_agent: None,
            method: "POST".to_owned(),
            body_bytes: 2,
            status: 200,
            outcome: Outcome::Accepted,
            detail: None,
            verified: true,
            started: Instant::now(),
            took: None,
            pack_version: None,
            headers: None,
        },
        raw: None,
    }
}

pub fn event(trigger_ref: &str, key: &str) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        pack_ref: "t".to_owned(),
        pack_version: "1.0.0".to_owned(),
        pack_hash: [7; 32],
        trigger_ref: trigger_ref.to_owned(),
        key: (!key.is_empty()).then(|| key.to_owned()),
        key_window: WINDOW,
        payload: json!([key]).to_string(),
        metadata: "{}".to_owned(),
    }
}

pub fn under_key(key: &str, delivery: Delivery) -> Delivery {
    let key = DeliveryKey {
        owner_ref: "t.one".to_owned(),
        key: key.to_owned(),
        window: WINDOW,
        is_held: false,
        body_checksum: 0,
    };
    Delivery { key: Some(key), ..delivery }
}

pub fn own_ids(delivery: &Delivery) -> Vec<Uuid> {
    delivery.events.iter().map(|event| event.id).collect()
}

/// The ids that an answer names, in its order; its head names the first of them.
pub fn named(stored: &Stored) -> Vec<Uuid> {
    let (Stored::First(answer) | Stored::Repeated(answer)) = stored;
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    let id = |value: &Value| value["event_id"].as_str().unwrap().parse().unwrap();
    let ids: Vec<Uuid> = answer["data"]["events"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(id(&answer["data"]), ids[0]);
    ids
}

pub fn is_first(stored: &Stored) -> bool {
    matches!(stored, Stored::First(_))
}

/// A host's ingest alone, on a database that others may share.
pub struct Host {
    pub ingest: Arc<Ingest>,
    writers: Writers,
}

impl Host {
    pub async fn on(url: &str, writers: usize) -> Self {
        // A busy machine is no outage.
        let config = Config { writers: Some(writers), store_wait_seconds: 60, ..Config::default() };
        Self::with(config, url).await
    }

    pub async fn with(config: Config, url: &str) -> Self {
        let config = Config { database_url: Some(url.to_owned()), ..config };
        let database = Database::open(&config, &Environment::default()).await.unwrap();
        let (ingest, writers) = Ingest::start(&config, &database, &Clock::held(NOW), &Arc::default());
        Self { ingest, writers }
    }

    pub async fn store(&self, delivery: &Delivery) -> Stored {
        self.ingest.store(delivery.clone()).await.unwrap()
    }

    /// Stores these as one batch: a writer that is held up lets them gather.
    pub async fn store_together(
        &self,
        pool: &PgPool,
        deliveries: Vec<Delivery>,
    ) -> Vec<Result<Stored, NotStored>> {
        let mut lock = pool.begin().await.unwrap();
        sqlx::raw_sql("lock table hookpack.event_key in access exclusive mode")
            .execute(&mut *lock)
            .await
            .unwrap();
        let plug = delivery(&[&Uuid::now_v7().to_string()]);
        let (ingest, count) = (self.ingest.clone(), deliveries.len());
        let plug = tokio::spawn(async move { ingest.store(plug).await });
        until_one_waits(pool).await;
        let ingest = self.ingest.clone();
        let stored = tokio::spawn(async move {
            join_all(deliveries.into_iter().map(|delivery| ingest.store(delivery))).await
        });
        eventually("a full queue", async || (self.ingest.waiting().deliveries == count).then_some(())).await;
        lock.rollback().await.unwrap();
        plug.await.unwrap().unwrap();
        stored.await.unwrap()
    }

    pub async fn stop(self) {
        drop(self.ingest);
        self.writers.finish().await;
    }
}

pub async fn until_one_waits(pool: &PgPool) {
    let sql = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
               where datname = current_database() and not granted";
    eventually("a writer that waits", async || (count(pool, sql).await > 0).then_some(())).await;
}

pub async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Every stored event that has a key: the key and its id.
pub async fn stored(pool: &PgPool) -> HashMap<String, Uuid> {
    let sql = "select idempotency_key, id from hookpack.event where idempotency_key is not null";
    let rows: Vec<(String, Uuid)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    let all = rows.len();
    let rows: HashMap<_, _> = rows.into_iter().collect();
    assert_eq!(rows.len(), all, "an event is stored twice");
    rows
}

/// Outcome, detail and event id of a delivery's row in the log.
pub async fn logged(pool: &PgPool, delivery: &Delivery) -> (String, String, Option<Uuid>) {
    let sql = "select outcome, coalesce(detail, ''), event_id from hookpack.request_log where id = $1";
    eventually("a row in the log", async || {
        sqlx::query_as(sql).bind(delivery.log.id).fetch_optional(pool).await.unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_again_is_stored_once_and_both_answers_name_it() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let (first, second) = (delivery(&["a"]), delivery(&["a"]));

    let answer = host.store(&first).await;
    assert_eq!((is_first(&answer), named(&answer)), (true, own_ids(&first)));
    assert_eq!(answer, Stored::First(first.answer.clone()), "nothing is corrected that is new");
    let again = host.store(&second).await;
    assert_eq!((is_first(&again), named(&again)), (false, own_ids(&first)), "all of it was there");

    let id = first.events[0].id;
    assert_eq!(stored(&database.pool).await, HashMap::from([("a".to_owned(), id)]));
    assert_eq!(logged(&database.pool, &first).await, ("accepted".to_owned(), String::new(), Some(id)));
    let told = "1 of 1 events were stored before".to_owned();
    assert_eq!(logged(&database.pool, &second).await, ("duplicate".to_owned(), told, Some(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_that_is_batched_otherwise_stores_only_what_is_new() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let first = delivery(&["a", "b", "c"]);
    let [a, b, c] = own_ids(&first)[..] else { panic!() };
    host.store(&first).await;

    let mut second = delivery(&["b", "d", "a"]);
    second.log.detail = Some("odd".to_owned());
    let d = second.events[1].id;
    let answer = host.store(&second).await;
    assert_eq!((is_first(&answer), named(&answer)), (true, vec![b, d, a]));
    let told = "odd; 2 of 3 events were stored before".to_owned();
    assert_eq!(logged(&database.pool, &second).await, ("accepted".to_owned(), told, Some(b)));

    let third = delivery(&["d", "c"]);
    let answer = host.store(&third).await;
    assert_eq!((is_first(&answer), named(&answer)), (false, vec![d, c]));
    assert_eq!(logged(&database.pool, &third).await.2, Some(d));
    assert_eq!(count(&database.pool, "select count(*) from hookpack.event").await, 4);
    assert_eq!(stored(&database.pool).await["d"], d);
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_within_one_delivery_are_one_event() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let twins = delivery(&["a", "b", "a"]);
    let [a, b, _] = own_ids(&twins)[..] else { panic!() };
    let answer = host.store(&twins).await;
    assert_eq!((is_first(&answer), named(&answer)), (true, vec![a, b, a]));
    assert_eq!(logged(&database.pool, &twins).await.1, "1 of 3 events were stored before");
    assert_eq!(named(&host.store(&delivery(&["a", "a"])).await), vec![a, a]);
    assert_eq!(stored(&database.pool).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_within_one_batch_are_one_event() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let deliveries = vec![
        delivery(&["a", "b"]),
        delivery(&["b", "c"]),
        delivery(&["c", "a"]),
        under_key("x", delivery(&["d", "a"])),
        under_key("x", delivery(&["e", "a"])),
    ];
    let ids: Vec<_> = deliveries.iter().map(own_ids).collect();
    let answers = host.store_together(&database.pool, deliveries.clone()).await;
    let answers: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap()).collect();
    let (a, b, c, d) = (ids[0][0], ids[0][1], ids[1][1], ids[3][0]);
    let expected = [
        (true, vec![a, b]),
        (true, vec![b, c]),
        (false, vec![c, a]),
        (true, vec![d, a]),
        (false, vec![d, a]),
    ];
    for (answer, expected) in answers.into_iter().zip(expected) {
        assert_eq!((is_first(answer), named(answer)), expected);
    }
    // The plug is one more. Nobody claimed `e`: its delivery was a twin.
    assert_eq!(stored(&database.pool).await.len(), 5);
    let transactions =
        "select count(distinct xmin::text) from hookpack.event_key where key in ('a', 'b', 'c', 'd')";
    assert_eq!(count(&database.pool, transactions).await, 1, "they were one batch");
    let new = delivery(&["e"]);
    assert_eq!(named(&host.store(&new).await), own_ids(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_twins_on_two_hosts_become_one_row_and_every_answer_names_it() {
    let database = TestDatabase::new().await;
    let hosts = [Host::on(&database.url, 2).await, Host::on(&database.url, 2).await];
    for round in 0..10 {
        let key = format!("message {round}");
        let twins = (0..32).map(|number| {
            let (host, twin) = (&hosts[number % 2], delivery(&[&key]));
            async move { host.store(&twin).await }
        });
        let answers = join_all(twins).await;
        assert_eq!(answers.iter().filter(|answer| is_first(answer)).count(), 1, "one was first");
        let rows = stored(&database.pool).await;
        assert_eq!(rows.len(), round + 1);
        assert!(answers.iter().all(|answer| named(answer) == [rows[&key]]));
    }
    let told =
        "select count(*) from hookpack.request_log where outcome = 'duplicate' and event_id is not null";
    assert_eq!(count(&database.pool, told).await, 310);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_tells_the_events_of_one_trigger_apart() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let both =
        |delivery: Delivery| Delivery { events: vec![event("t.one", "a"), event("t.two", "a")], ..delivery };
    host.store(&both(delivery(&["-"]))).await;
    assert!(!is_first(&host.store(&both(delivery(&["-"]))).await));
    let rows = "select count(*) from hookpack.event where idempotency_key = 'a'";
    assert_eq!(count(&database.pool, rows).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_key_is_stored_each_time_and_has_the_delivery_s() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let (first, second) = (delivery(&["", "a"]), under_key("x", delivery(&["", "a"])));
    host.store(&first).await;
    let answer = host.store(&second).await;
    let expected = vec![second.events[0].id, first.events[1].id];
    assert_eq!((is_first(&answer), named(&answer)), (true, expected));
    assert_eq!(logged(&database.pool, &second).await.1, "1 of 2 events were stored before");
    let keys = "select array_agg(coalesce(idempotency_key, '-') order by id) from hookpack.event";
    let keys: Vec<String> = sqlx::query_scalar(keys).fetch_one(&database.pool).await.unwrap();
    assert_eq!(keys, ["-", "a", "x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_window_an_event_s_key_is_new_again() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let sent = |after: Duration| {
        let mut sent = delivery(&["a"]);
        sent.log.received_at += after;
        sent.events[0].key_window = Duration::from_hours(2);
        sent
    };
    let first = sent(Duration::ZERO);
    host.store(&first).await;
    let within = host.store(&sent(Duration::from_secs(2 * 3600 - 1))).await;
    assert_eq!((is_first(&within), named(&within)), (false, own_ids(&first)));
    let second = sent(Duration::from_hours(2));
    let after = host.store(&second).await;
    assert_eq!((is_first(&after), named(&after)), (true, own_ids(&second)));
    assert_eq!(named(&host.store(&sent(Duration::from_hours(3))).await), own_ids(&second));
    assert_eq!(count(&database.pool, "select count(*) from hookpack.event").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_window_is_over_are_forgotten_a_few_at_a_time() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let mut short = delivery(&["a", "b", "c"]);
    short.events.iter_mut().for_each(|event| event.key_window = Duration::from_hours(1));
    host.store(&short).await;
    host.store(&delivery(&["d"])).await;
    let mut db = database.pool.acquire().await.unwrap();
    let mut forget = async |at| event_keys::forget_expired(&mut db, at, 2).await.unwrap();
    assert_eq!(forget(NOW + Duration::from_secs(3599)).await, 0);
    let later = NOW + Duration::from_hours(1);
    assert_eq!((forget(later).await, forget(later).await, forget(later).await), (2, 1, 0));
    let left: Vec<String> =
        sqlx::query_scalar("select key from hookpack.event_key").fetch_all(&database.pool).await.unwrap();
    assert_eq!(left, ["d"]);
    assert_eq!(stored(&database.pool).await.len(), 4, "the events stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_delivery_claims_no_event_keys_and_hears_the_corrected_answer() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let earlier = delivery(&["a"]);
    host.store(&earlier).await;

    let first = under_key("x", delivery(&["a", "b"]));
    let answer = host.store(&first).await;
    let expected = vec![earlier.events[0].id, first.events[1].id];
    assert_eq!((is_first(&answer), named(&answer)), (true, expected.clone()));

    let repeated = under_key("x", delivery(&["c", "b"]));
    let answer = host.store(&repeated).await;
    assert_eq!((is_first(&answer), named(&answer)), (false, expected.clone()));
    assert_eq!(
        logged(&database.pool, &repeated).await,
        ("duplicate".to_owned(), String::new(), Some(expected[0]))
    );

    // What it would have claimed is still free.
    let third = delivery(&["c"]);
    assert_eq!(named(&host.store(&third).await), own_ids(&third));

    // All its events were there, under a new delivery key: a repetition, and so is the next one of that key.
    for _ in 0..2 {
        let answer = host.store(&under_key("y", delivery(&["c", "a"]))).await;
        assert_eq!((is_first(&answer), named(&answer)), (false, vec![own_ids(&third)[0], expected[0]]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pack_says_instead_of_our_json_is_said_to_repetitions_too() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let said = Answer { status: 202, content_type: "text/plain".to_owned(), body: "[accepted]".to_owned() };
    let sent = |keys: &[&str]| Delivery { answer: said.clone(), ..delivery(keys) };
    assert_eq!(host.store(&sent(&["a"])).await, Stored::First(said.clone()));
    assert_eq!(host.store(&sent(&["a", "b"])).await, Stored::First(said.clone()));
    assert_eq!(host.store(&sent(&["b", "a"])).await, Stored::Repeated(said.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_beside_events_from_before_is_kept() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    host.store(&delivery(&["a"])).await;
    let quarantined = Quarantined {
        id: Uuid::now_v7(),
        trigger_ref: "t.two".to_owned(),
        cause: Outcome::MappingFailed,
        detail: "odd".to_owned(),
        path: String::new(),
        query: None,
        headers: "[]".to_owned(),
        body: bytes::Bytes::new(),
        key: None,
    };
    let answer = host.store(&Delivery { quarantined: vec![quarantined], ..delivery(&["a"]) }).await;
    assert!(!is_first(&answer));
    assert_eq!(count(&database.pool, "select count(*) from hookpack.quarantine").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_of_new_events_only() {
    let database = TestDatabase::new().await;
    let host = Host::on(&database.url, 1).await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&database.pool).await.unwrap();
    listener.listen("hookpack_event").await.unwrap();
    host.store(&delivery(&["a", "", "b"])).await;
    host.store(&delivery(&["a"])).await;
    let last = Delivery { events: vec![event("t.two", "a")], ..delivery(&["-"]) };
    host.store(&last).await;
    for expected in ["t.one", "t.two"] {
        assert_eq!(listener.recv().await.unwrap().payload(), expected);
    }
}
