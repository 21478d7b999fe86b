//! What an unauthenticated client can make a host do: memory, connections and work before anything vouches for it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hookpack::config::RateLimit;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Answer, SECRET, Setup, TestHost, eventually, github_signature};

fn trigger(name: &str, webhook: &str) -> String {
    format!("name: {name}\nref: t.{name}\ntype: webhook\npayload_schema: true\nwebhook: {webhook}\n")
}

async fn host(triggers: &[(&str, &str)], change: impl FnOnce(&mut Setup)) -> TestHost {
    let files: Vec<_> = triggers
        .iter()
        .map(|(name, webhook)| (format!("t/triggers/{name}.yaml"), trigger(name, webhook)))
        .collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut setup = Setup::new(&files);
    change(&mut setup);
    setup.start().await
}

const OPEN: &str = "{enabled: true, verify: none}";

/// A connection from an address of the test's choice, over which bytes go as they are.
struct Raw(TcpStream);

impl Raw {
    async fn open(host: &TestHost, source: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        Self(socket.connect(host.address).await.unwrap())
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The head of a POST of so many bytes of JSON, and what is given of its body.
    async fn post(&mut self, host: &TestHost, trigger: &str, length: usize, more: &str, body: &str) {
        let url = host.url(trigger);
        let path = url.split_once("/api").unwrap().1;
        self.write(&format!(
            "POST /api{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Everything that comes until a head is there; empty when the connection is closed instead.
    async fn head(&mut self) -> String {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.0.read(&mut buffer).await.unwrap_or_default();
            read.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            if count == 0 || text.contains("\r\n\r\n") {
                return text;
            }
        }
    }

    async fn status(&mut self) -> u16 {
        let head = self.head().await;
        head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default()
    }
}

/// Outcome and detail of the last row of the log, once there are so many.
async fn last_logged(host: &TestHost, rows: i64) -> (String, String) {
    eventually("rows in the request log", async || {
        (host.count("select count(*) from hookpack.request_log").await >= rows).then_some(())
    })
    .await;
    let sql = "select outcome, coalesce(detail, '') from hookpack.request_log order by id desc limit 1";
    sqlx::query_as(sql).fetch_one(&host.pool).await.unwrap()
}

fn held(host: &TestHost) -> usize {
    host.running.as_ref().unwrap().host.limits.bodies.held()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_address_and_one_over_its_rate_hear_it_before_any_of_the_body_is_read() {
    let triggers = [
        (
            "listed",
            "{enabled: true, verify: none, ip_allowlist: [192.0.2.0/24], payload_size_limit_kb: 102400}",
        ),
        ("open", OPEN),
    ];
    let host = host(&triggers, |setup| {
        setup.config.source_rate_limit = RateLimit::new(1, 3600);
    })
    .await;
    for _ in 0..20 {
        let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
        raw.post(&host, "t.listed", 98 << 20, "", "").await;
        assert_eq!(raw.status().await, 403);
    }
    let mut first = Raw::open(&host, [127, 0, 0, 3]).await;
    first.post(&host, "t.open", 2, "", "{}").await;
    assert_eq!(first.status().await, 200);
    let mut raw = Raw::open(&host, [127, 0, 0, 3]).await;
    // It would have to be told to go on before it sends its body; it is told no.
    raw.post(&host, "t.open", 1000, "expect: 100-continue\r\n", "").await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after: "), "{head}");
    assert_eq!(held(&host), 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sender_gets_to_read_the_answer_though_it_still_writes() {
    let host =
        host(&[("listed", "{enabled: true, verify: none, ip_allowlist: [192.0.2.0/24]}")], |_| {}).await;
    for _ in 0..5 {
        let answer = host.send("t.listed", &"x".repeat(900_000)).await;
        assert_eq!(answer.status, 403);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_flight_have_a_budget_by_address_by_endpoint_and_in_all() {
    const KB: usize = 1024;
    let host = host(&[("one", OPEN), ("two", OPEN), ("three", OPEN)], |setup| {
        setup.config.source_bodies_bytes_max = 60 * KB;
        setup.config.endpoint_bodies_bytes_max = 100 * KB;
        setup.config.bodies_bytes_max = 150 * KB;
    })
    .await;
    let body = |kb: usize| "1".repeat(kb * KB);
    // All but the last byte of each, so that they stay.
    let hold = async |trigger: &str, source: [u8; 4], kb: usize| {
        let (before, mut raw) = (held(&host), Raw::open(&host, source).await);
        raw.post(&host, trigger, kb * KB + 1, "", &body(kb)).await;
        eventually("a body that is held", async || (held(&host) >= before + kb * KB).then_some(())).await;
        raw
    };
    let mut first = hold("t.one", [127, 0, 0, 2], 50).await;
    let over = async |trigger: &str, source: [u8; 4], rows: i64| {
        let mut raw = Raw::open(&host, source).await;
        raw.post(&host, trigger, 30 * KB, "", &body(30)).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"), "{head}");
        last_logged(&host, rows).await
    };
    let (outcome, detail) = over("t.two", [127, 0, 0, 2], 1).await;
    assert!(outcome == "overloaded" && detail.contains("(source_bodies_bytes_max)"), "{outcome} {detail}");
    let second = hold("t.one", [127, 0, 0, 3], 40).await;
    let (_, detail) = over("t.one", [127, 0, 0, 4], 2).await;
    assert!(detail.contains("(endpoint_bodies_bytes_max)"), "{detail}");
    let third = hold("t.two", [127, 0, 0, 4], 40).await;
    let (_, detail) = over("t.three", [127, 0, 0, 5], 3).await;
    assert!(detail.contains("(bodies_bytes_max)"), "{detail}");

    // What ends is free again, whichever way it ends.
    drop((second, third));
    first.write("1").await;
    assert_eq!(first.status().await, 200);
    eventually("a free budget", async || (held(&host) == 0).then_some(())).await;
    assert_eq!(host.send("t.three", &body(30)).await.status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_taken_for_what_has_come_and_not_for_what_is_announced() {
    let host = host(&[("one", OPEN)], |_| {}).await;
    let mut raws = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
        raw.post(&host, "t.one", 1 << 20, "", &"1".repeat(1000)).await;
        raws.push(raw);
    }
    eventually("every body", async || (held(&host) >= 20 * 1000).then_some(())).await;
    assert!(held(&host) <= 20 * 1000, "{}", held(&host));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_reads_a_body_only_where_the_head_and_a_small_size_allow_it() {
    let slack = "\n  enabled: true\n  preset: github\n  secrets: [secret]\n  handshake:
    - when: {json: {$.type: url_verification}}\n      verify: signature
      respond: {type: text/plain, body: \"{json:$.challenge}\"}";
    let asked = "\n  enabled: true\n  preset: github\n  secrets: [nobody_has_it]\n  handshake:
    - when: {header: {x-ask: \"*\"}, json: {$.c: \"*\"}}\n      respond: {body: \"{json:$.c}\"}";
    let host = host(&[("slack", slack), ("asked", asked)], |setup| {
        setup.config.handshake_body_bytes_max = 1000;
    })
    .await;
    let challenge =
        |pad: usize| format!(r#"{{"type": "url_verification", "challenge": "c{}"}}"#, "x".repeat(pad));
    for (pad, is_handshake) in [(10, true), (2000, false)] {
        let body = challenge(pad);
        let request =
            host.post("t.slack").header("x-hub-signature-256", github_signature(body.as_bytes(), SECRET));
        let answer = Answer::of(request.body(body).send().await.unwrap()).await;
        let outcome = if is_handshake { "handshake" } else { "accepted" };
        assert_eq!((answer.status, host.logged(&answer).await.0.as_str()), (200, outcome));
    }
    // Chunked, so that its head says nothing of its length: what was read to look for a handshake is not lost.
    let body = challenge(2000);
    let signature = github_signature(body.as_bytes(), SECRET);
    let url = host.url("t.slack");
    let mut chunked = format!(
        "POST /api{} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-hub-signature-256: {signature}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        url.split_once("/api").unwrap().1
    );
    for chunk in body.as_bytes().chunks(700) {
        chunked += &format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
    raw.write(&(chunked + "0\r\n\r\n")).await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(host.events().await.len(), 2);
    assert_eq!(host.events().await[1].1, body);

    // No handshake by its head: it is refused without its body.
    let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
    raw.post(&host, "t.asked", 500, "", "").await;
    assert_eq!(raw.status().await, 503);
    let ask = host.post("t.asked").header("x-ask", "1").body(r#"{"c": "me"}"#).send().await.unwrap();
    assert_eq!(ask.text().await.unwrap(), "me");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_and_its_half_sent_heads_make_room() {
    let host = host(&[("one", OPEN)], |setup| setup.config.source_connections_max = 3).await;
    let mut half_sent = Vec::new();
    for _ in 0..30 {
        let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
        raw.write("POST /api/v1/webhooks/x HTTP/1.1\r\nhost: ").await;
        half_sent.push(raw);
    }
    // Neither the address itself nor another waits for them.
    for source in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        let mut raw = Raw::open(&host, source).await;
        raw.post(&host, "t.one", 2, "", "{}").await;
        assert_eq!(raw.status().await, 200);
    }
    drop(half_sent);

    // All of them at work: the next one hears it at once.
    let mut busy = Vec::new();
    for number in 1..=3 {
        let mut raw = Raw::open(&host, [127, 0, 0, 4]).await;
        raw.post(&host, "t.one", 10, "", "1").await;
        eventually("its body", async || (held(&host) == number).then_some(())).await;
        busy.push(raw);
    }
    let mut raw = Raw::open(&host, [127, 0, 0, 4]).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after"), "{head}");
    assert!(host.api("/metrics").await.text.contains("hookpack_connections_refused_total 1"));
    let mut other = Raw::open(&host, [127, 0, 0, 5]).await;
    other.post(&host, "t.one", 2, "", "{}").await;
    assert_eq!(other.status().await, 200);
    for raw in &mut busy {
        raw.write("111111111").await;
        assert_eq!(raw.status().await, 200);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_has_as_many_connections_as_there_are() {
    let host = host(&[("one", OPEN)], |setup| {
        setup.config.source_connections_max = 1;
        setup.config.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
    })
    .await;
    let mut raws = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
        raw.post(&host, "t.one", 2, "", "1").await;
        raws.push(raw);
    }
    for raw in &mut raws {
        raw.write("1").await;
        assert_eq!(raw.status().await, 200);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_outlives_the_time_for_a_head() {
    let host = host(&[("one", OPEN)], |setup| {
        setup.config.header_read_seconds = 1;
        setup.config.idle_connection_seconds = 2;
    })
    .await;
    let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
    raw.post(&host, "t.one", 2, "", "{}").await;
    let began = Instant::now();
    assert_eq!(raw.status().await, 200);
    assert_eq!(raw.head().await, "", "it is closed");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());

    // From the first byte on, it is a head, which has less time.
    let mut raw = Raw::open(&host, [127, 0, 0, 2]).await;
    raw.post(&host, "t.one", 2, "", "{}").await;
    assert_eq!(raw.status().await, 200);
    let began = Instant::now();
    raw.write("POST ").await;
    assert_eq!(raw.head().await, "", "it is closed");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_places_are_short_the_longest_idle_connection_makes_room() {
    let host = host(&[("one", OPEN)], |setup| setup.config.connections_max = 2).await;
    let mut idle = Vec::new();
    for source in [2, 3] {
        let mut raw = Raw::open(&host, [127, 0, 0, source]).await;
        raw.post(&host, "t.one", 2, "", "{}").await;
        assert_eq!(raw.status().await, 200);
        idle.push(raw);
        // Idle times are told apart by milliseconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut raw = Raw::open(&host, [127, 0, 0, 4]).await;
    raw.post(&host, "t.one", 2, "", "{}").await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(idle[0].head().await, "", "the longest idle one is closed");
    idle[1].post(&host, "t.one", 2, "", "{}").await;
    assert_eq!(idle[1].status().await, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_requests_do_not_fill_the_disk_and_all_are_counted() {
    let github = "{enabled: true, preset: github, secrets: [secret]}";
    let host = host(&[("one", github), ("two", github), ("open", OPEN)], |setup| {
        setup.config.endpoint_unverified_rows_rate_limit = RateLimit::new(150, 60);
    })
    .await;
    let large = "x".repeat(2000);
    let forge = async |trigger: &str| {
        let mut request = host.post(trigger).header("x-hub-signature-256", "sha256=00").body("{}");
        for name in ["x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "x-g", "x-h", "x-i", "x-j", "x-k", "x-l"] {
            request = request.header(name, &large);
        }
        assert_eq!(request.send().await.unwrap().status(), 401);
    };
    for _ in 0..20 {
        join_all((0..20).map(|_| forge("t.one"))).await;
    }
    // What anyone may send is no better known.
    for _ in 0..20 {
        join_all((0..20).map(|_| host.send("t.open", "{"))).await;
    }
    forge("t.two").await;
    let counted = async |outcome: &str| {
        let stats = host.api("/api/v1/stats").await.json();
        stats["data"]["total"]["outcomes"][outcome].as_i64().unwrap_or_default()
    };
    eventually("every request in the statistics", async || {
        (counted("bad_signature").await == 401 && counted("undecodable").await == 400).then_some(())
    })
    .await;
    let metrics = host.api("/metrics").await.text;
    assert!(
        metrics.contains(r#"hookpack_requests_total{trigger="t.one",outcome="bad_signature"} 400"#),
        "{metrics}"
    );
    let rows = "select trigger_ref, count(*), count(*) filter (where headers is not null),
                       max(pg_column_size(l.*))::bigint
                from hookpack.request_log l group by 1 order by 1";
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(rows).fetch_all(&host.pool).await.unwrap();
    let counts: Vec<_> = rows.iter().map(|(name, all, whole, _)| (name.as_str(), *all, *whole)).collect();
    assert_eq!(counts, [("t.one", 150, 100), ("t.open", 150, 100), ("t.two", 1, 1)]);
    assert!(rows.iter().all(|(_, _, _, bytes)| *bytes < 6000), "{rows:?}");

    host.clock.advance(Duration::from_mins(1));
    let answer = host.post("t.one").body("{}").send().await.unwrap();
    let (_, detail) = host.logged(&Answer::of(answer).await).await;
    assert!(
        detail.ends_with("; 250 more like it were left out of the log since the last such row"),
        "{detail}"
    );
    host.stop().await;
}
