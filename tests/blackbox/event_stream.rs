//! Events are searched, and followed as they are stored: each once and none left out, wherever a reader takes up again.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hookpack::store::events::{Asked, Place, after};
use reqwest::Response;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Setup, TestDatabase, TestHost, eventually};

const TRIGGER: &str = "name: NAME\nref: PACK.NAME\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";
const BEGINNING: &str = "0-00000000-0000-0000-0000-000000000000";

fn setup() -> Setup {
    let trigger = |pack: &str, name: &str| TRIGGER.replace("PACK", pack).replace("NAME", name);
    Setup::new(&[
        ("one/triggers/a.yaml", &trigger("one", "a")),
        ("one/triggers/b.yaml", &trigger("one", "b")),
        ("two/triggers/c.yaml", &trigger("two", "c")),
    ])
}

/// An open stream.
struct Reader {
    response: Response,
    buffer: String,
}

/// What came of one event: its `id:` and its document.
type Came = (String, Value);

impl Reader {
    async fn open(host: &TestHost, token: &str, query: &str, last: Option<&str>) -> Self {
        let response = asked(host, token, query, last).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// `None` when the stream has ended.
    async fn next(&mut self) -> Option<Came> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let came =
                    field("data:").map(|data| (field("id:").unwrap(), serde_json::from_str(data).unwrap()));
                let came = came.map(|(id, data)| (id.to_owned(), data));
                self.buffer = String::from(rest);
                if came.is_some() {
                    return came;
                }
                continue;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.buffer += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The payloads of the next so many.
    async fn payloads(&mut self, count: usize) -> Vec<Value> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            payloads.push(self.next().await.unwrap().1["payload"].clone());
        }
        payloads
    }
}

async fn asked(host: &TestHost, token: &str, query: &str, last: Option<&str>) -> Response {
    let url = format!("http://{}/api/v1/events/stream{query}", host.address);
    let request = host.http.get(url).bearer_auth(token);
    let request = match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    };
    request.send().await.unwrap()
}

async fn send(host: &TestHost, reference: &str, body: &str) {
    let answer = host.send(reference, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_are_stored_and_as_they_were_asked_for() {
    let host = setup().start().await;
    send(&host, "one.a", r#"{"before": true}"#).await;
    let (read, bound) = (host.token("read", None).await, host.token("read", Some(&["two"])).await);
    let mut all = Reader::open(&host, &read, "", None).await;
    let mut of_b = Reader::open(&host, &read, "?trigger=one.b", None).await;
    let mut paid = Reader::open(&host, &read, "?contains={\"status\":\"paid\"}", None).await;
    let mut of_two = Reader::open(&host, &bound, "", None).await;
    send(&host, "one.a", "{\"n\":1,\r\n \"status\": \"paid\"}").await;
    send(&host, "one.b", r#"{"n": 2, "odd": "\u0000", "status": "paid"}"#).await;
    send(&host, "two.c", r#"{"n": 3.0, "status": "open"}"#).await;
    send(&host, "one.b", r#"{"n": 4, "status": "paid", "more": [1]}"#).await;

    let numbers =
        |payloads: Vec<Value>| payloads.iter().map(|payload| payload["n"].to_string()).collect::<Vec<_>>();
    assert_eq!(numbers(all.payloads(4).await), ["1", "2", "3.0", "4"]);
    assert_eq!(numbers(of_b.payloads(2).await), ["2", "4"]);
    // What can't be looked into does not match.
    assert_eq!(numbers(paid.payloads(2).await), ["1", "4"]);
    assert_eq!(numbers(of_two.payloads(1).await), ["3.0"]);

    // From the beginning, and each as the list has it.
    let mut again = Reader::open(&host, &read, &format!("?after={BEGINNING}"), None).await;
    let listed = host.api("/api/v1/events").await.json()["data"].as_array().unwrap().clone();
    for event in listed.iter().rev() {
        assert_eq!(&again.next().await.unwrap().1, event);
    }
    assert_eq!(asked(&host, &read, "?after=x", None).await.status(), 400);
    drop((all, of_b, paid, of_two, again));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_events_can_be_searched() {
    let host = setup().start().await;
    let paid = r#"{"status": "paid", "order": {"lines": [{"sku": "x", "n": 2}]}}"#;
    for body in [paid, r#"{"status": "open"}"#, r#"{"status": "paid", "odd": "\u0000"}"#, "[1, 2]", "7"] {
        send(&host, "one.a", body).await;
    }
    for (contains, found) in [
        (r#"{"status":"paid"}"#, 1),
        (r#"{"order":{"lines":[{"sku":"x"}]}}"#, 1),
        (r#"{"status":"lost"}"#, 0),
        ("[2]", 1),
        ("7", 1),
        ("{}", 2),
    ] {
        let url = format!("http://{}/api/v1/events", host.address);
        let request =
            host.http.get(url).query(&[("contains", contains)]).bearer_auth(host.token("read", None).await);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["data"].as_array().unwrap().len(), found, "{contains}: {answer}");
    }
    for wrong in ["{", r#""\u0000""#, r#"{"a":1e999999}"#] {
        let url = format!("http://{}/api/v1/events", host.address);
        let request =
            host.http.get(url).query(&[("contains", wrong)]).bearer_auth(host.token("read", None).await);
        assert_eq!(request.send().await.unwrap().status(), 400, "{wrong}");
    }
    host.stop().await;
}

/// Stores events in transactions that commit in another order than their ids have.
async fn write(pool: &PgPool, writer: usize, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for number in 0..count {
        let mut transaction = pool.begin().await.unwrap();
        for _ in 0..=number % 3 {
            let id = Uuid::now_v7();
            let sql = "insert into hookpack.event (id, pack_ref, trigger_ref, payload, metadata, received_at)
                       values ($1, 'one', 'one.a', '{}', '{}', now())";
            sqlx::query(sql).bind(id).execute(&mut *transaction).await.unwrap();
            ids.push(id);
        }
        let hold = "select pg_sleep($1), pg_notify('hookpack_event', 'one.a')";
        let seconds = f64::from(u8::try_from((writer * 7 + number * 3) % 11).unwrap()) / 1000.0;
        sqlx::query(hold).bind(seconds).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_up_again_misses_nothing_and_hears_nothing_twice() {
    let host = setup().start().await;
    let token = host.token("read", None).await;
    let mut reader = Reader::open(&host, &token, "", None).await;
    let writers = join_all((0..8).map(|writer| write(&host.pool, writer, 60)));
    let reads = async {
        let (mut came, mut last): (Vec<Uuid>, Option<String>) = (Vec::new(), None);
        // 8 × 60 transactions of 1, 2 and 3 events.
        while came.len() < 8 * 120 {
            for _ in 0..37.min(8 * 120 - came.len()) {
                let (id, event) = reader.next().await.unwrap();
                came.push(event["id"].as_str().unwrap().parse().unwrap());
                last = Some(id);
            }
            // Cut off, with whatever was on its way.
            reader = Reader::open(&host, &token, &format!("?after={BEGINNING}"), last.as_deref()).await;
        }
        came
    };
    let (written, came) = tokio::join!(writers, reads);
    let written: HashSet<Uuid> = written.into_iter().flatten().collect();
    assert_eq!((came.len(), written.len()), (960, 960));
    assert_eq!(came.into_iter().collect::<HashSet<_>>(), written);
    drop(reader);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_up_where_nothing_has_come_yet_hears_nothing_old() {
    let host = setup().start().await;
    send(&host, "one.a", r#"{"n": "old"}"#).await;
    let read = host.token("read", None).await;
    // Once used, a token is written to no more for a minute.
    assert_eq!(asked(&host, &read, "", None).await.status(), 200);
    // As a heartbeat names it while nobody writes: the number of the transaction that comes next.
    let next = "select pg_snapshot_xmax(pg_current_snapshot())::text";
    let next: String = sqlx::query_scalar(next).fetch_one(&host.pool).await.unwrap();
    let place = format!("{next}-00000000-0000-0000-0000-000000000000");
    let mut reader = Reader::open(&host, &read, "", Some(&place)).await;
    send(&host, "one.a", r#"{"n": "new"}"#).await;
    assert_eq!(reader.payloads(1).await[0]["n"], "new");
    drop(reader);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_where_its_event_is_now() {
    let host = setup().start().await;
    let read = host.token("read", None).await;
    for n in 0..3 {
        send(&host, "one.a", &format!(r#"{{"n": {n}}}"#)).await;
    }
    let mut reader = Reader::open(&host, &read, &format!("?after={BEGINNING}"), None).await;
    let (id, _) = reader.next().await.unwrap();
    drop(reader);
    // Restored elsewhere: its events have other numbers there, below those of the place and above.
    for number in ["1", "18446744073709551615"] {
        let place = format!("{number}-{}", id.split_once('-').unwrap().1);
        let mut reader = Reader::open(&host, &read, "", Some(&place)).await;
        let numbers: Vec<_> =
            reader.payloads(2).await.iter().map(|payload| payload["n"].to_string()).collect();
        assert_eq!(numbers, ["1", "2"], "{place}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_with_its_host() {
    let host = setup().start().await;
    let made = host.ask("POST", "/api/v1/tokens", json!({"label": "brief", "scope": "read"})).await.json();
    let token = made["data"]["token"].as_str().unwrap();
    let mut ended = Reader::open(&host, token, "", None).await;
    let mut other = Reader::open(&host, &host.token("read", None).await, "", None).await;
    let path = format!("/api/v1/tokens/{}", made["data"]["id"].as_str().unwrap());
    assert_eq!(host.ask("DELETE", &path, Value::Null).await.status, 204);
    assert!(ended.next().await.is_none());
    send(&host, "one.a", r#"{"n": 1}"#).await;
    assert_eq!(other.payloads(1).await, [json!({"n": 1})]);
    let began = Instant::now();
    host.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(other.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_streams_and_no_more() {
    let mut setup = setup();
    setup.config.event_streams_max = 1;
    let host = setup.start().await;
    let token = host.token("read", None).await;
    let open = Reader::open(&host, &token, "", None).await;
    let refused = asked(&host, &token, "", None).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("event_streams_max"));
    drop(open);
    eventually("a free place", async || (asked(&host, &token, "", None).await.status() == 200).then_some(()))
        .await;
    assert_eq!(asked(&host, "hp_nobody", "", None).await.status(), 401);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_a_page_of_bounded_size() {
    let database = TestDatabase::new().await;
    // 1,000 small ones, then 20 of some 300 kB that don't compress.
    let sql = "insert into hookpack.event (id, pack_ref, trigger_ref, payload, metadata, received_at)
               select gen_random_uuid(), 'one', 'one.a', payload, '{}', now()
               from (select '1'::json as payload from generate_series(1, 1000)
                     union all
                     select to_json((select string_agg(md5(random()::text || k || i), '') from generate_series(1, 9600) k))
                     from generate_series(1, 20) i) t";
    sqlx::query(sql).execute(&database.pool).await.unwrap();
    let mut place = Place { written_in: 0, id: Uuid::nil() };
    let mut seen = 0;
    eventually("an end of older transactions", async || {
        (!after(&database.pool, place, &Asked::default()).await.unwrap().is_empty()).then_some(())
    })
    .await;
    loop {
        let page = after(&database.pool, place, &Asked::default()).await.unwrap();
        let Some(last) = page.last() else { break };
        let bytes: usize = page.iter().map(|row| row.event.as_ref().unwrap().payload.get().len()).sum();
        assert!(page.len() <= 200 && bytes < (1 << 20) + 400_000, "{} rows, {bytes} bytes", page.len());
        (place, seen) = (last.place, seen + page.len());
    }
    assert_eq!(seen, 1020);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_copied_from_another_server_come_first() {
    let database = TestDatabase::new().await;
    let sql =
        "insert into hookpack.event (id, pack_ref, trigger_ref, payload, metadata, received_at, written_in)
               values ($1, 'one', 'one.a', '\"copied\"', '{}', now(), '99999999999')";
    sqlx::query(sql).bind(Uuid::now_v7()).execute(&database.pool).await.unwrap();
    let host = setup().start_on(&database).await;
    send(&host, "one.a", "1").await;
    let token = host.token("read", None).await;
    let mut reader = Reader::open(&host, &token, &format!("?after={BEGINNING}"), None).await;
    assert_eq!(reader.payloads(2).await, [json!("copied"), json!(1)]);
    // A place that was reached there leads to what is new here.
    let there = format!("99999999999-{}", Uuid::max());
    let mut reader = Reader::open(&host, &token, "", Some(&there)).await;
    assert_eq!(reader.payloads(1).await, [json!(1)]);
    drop(reader);
    host.stop().await;
}
