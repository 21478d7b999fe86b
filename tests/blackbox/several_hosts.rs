//! Several hosts on one database: what one is told is in force on all, and what they share they share exactly.

use serde_json::{Value, json};

use crate::harness::{Setup, TestDatabase, TestHost, eventually};

const TRIGGER: &str = "name: any\nref: one.any\ntype: webhook\npayload_schema: {type: object}\n\
    webhook: {enabled: true, verify: none, rate_limit: {requests: 100, window_seconds: 60}}\n";

/// Hosts with one master key and folders of their own that hold the same.
async fn hosts(count: usize, trigger: &str) -> Vec<TestHost> {
    let database = TestDatabase::new().await;
    let mut hosts: Vec<TestHost> = Vec::new();
    for _ in 0..count {
        let mut setup = Setup::new(&[("one/triggers/any.yaml", trigger)]);
        if let Some(first) = hosts.first() {
            setup.config.master_key_file = Some(first.folder.path().join("data/master-key"));
            setup.clock = first.clock.clone();
        }
        hosts.push(setup.start_on(&database).await);
    }
    hosts
}

async fn stop(hosts: Vec<TestHost>) {
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test]
async fn what_one_host_is_told_is_in_force_on_the_other() {
    let hosts = hosts(2, TRIGGER).await;
    let [one, two] = &hosts[..] else { unreachable!() };
    let url =
        |host: &TestHost| host.url("one.any").replace(&host.address.to_string(), &two.address.to_string());
    let there = async |url: &str| {
        let sent = two.http.post(url).header("content-type", "application/json").body("{}");
        sent.send().await.unwrap().status().as_u16()
    };
    let first = url(one);
    assert_eq!(there(&first).await, 200);
    let act = async |action: &str| {
        let path = format!("/api/v1/triggers/one.any/webhooks/{action}");
        assert_eq!(one.ask("POST", &path, Value::Null).await.status, 200);
    };
    let heard = async |status: u16, url: &str| {
        eventually("the change on the other host", async || (there(url).await == status).then_some(())).await;
    };
    act("pause").await;
    heard(403, &first).await;
    act("resume").await;
    heard(200, &first).await;
    act("regenerate").await;
    heard(404, &first).await;
    assert_eq!(there(&url(one)).await, 200);
    let patched =
        one.ask("PATCH", "/api/v1/triggers/one.any/webhooks", json!({"ip_allowlist": ["192.0.2.1"]})).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    heard(403, &url(one)).await;
    let token =
        json!({"ip_allowlist": null, "verify": {"token": {"header": "x-token"}}, "secrets": ["shared"]});
    one.ask("PATCH", "/api/v1/triggers/one.any/webhooks", token).await;
    heard(503, &url(one)).await;
    one.ask("PUT", "/api/v1/secrets/shared", json!({"value": "hush"})).await;
    heard(401, &url(one)).await;
    let read = one.token("read", None).await;
    assert_eq!(two.ask_as(&read, "GET", "/api/v1/packs", Value::Null).await.status, 200);
    let rotated = one.ask("POST", "/api/v1/master-key/rotate", Value::Null).await;
    assert_eq!(rotated.json()["data"]["unreadable"], 0);
    // The other one seals and opens with the new key as well.
    assert_eq!(two.ask("PUT", "/api/v1/secrets/shared", json!({"value": "hush 2"})).await.status, 200);
    let shown = one.ask("POST", "/api/v1/master-key/reseal", Value::Null).await;
    assert_eq!(shown.json()["data"]["unreadable"], 0);
    stop(hosts).await;
}

#[tokio::test]
async fn a_rate_limit_counts_over_all_hosts() {
    let hosts = hosts(3, TRIGGER).await;
    let key = hosts[0].url("one.any").rsplit_once('/').unwrap().1.to_owned();
    let round = async || {
        let sends = (0..300).map(|number| {
            let host = &hosts[number % 3];
            let url = format!("http://{}/api/v1/webhooks/{key}", host.address);
            async move {
                let sent = host.http.post(url).header("content-type", "application/json").body("{}");
                sent.send().await.unwrap().status().as_u16()
            }
        });
        let statuses = futures_util::future::join_all(sends).await;
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    };
    let accepted = round().await;
    // A host may hold a twentieth that the others would have had requests for.
    assert!((90..=100).contains(&accepted), "{accepted}");
    assert!(accepted + round().await <= 100);
    hosts[0].clock.advance(std::time::Duration::from_mins(1));
    let accepted = round().await;
    assert!((90..=100).contains(&accepted), "{accepted}");
    stop(hosts).await;
}

#[tokio::test]
async fn what_a_host_took_of_a_limit_and_did_not_use_goes_back() {
    let hosts = hosts(2, TRIGGER).await;
    let [one, two] = &hosts[..] else { unreachable!() };
    let key = one.url("one.any").rsplit_once('/').unwrap().1.to_owned();
    let send = async |host: &TestHost| {
        let url = format!("http://{}/api/v1/webhooks/{key}", host.address);
        let sent = host.http.post(url).header("content-type", "application/json").body("{}");
        sent.send().await.unwrap().status().as_u16()
    };
    // One request every second on each of two hosts is 120 a minute against 100: within the burst for minutes.
    for _ in 0..60 {
        for host in [one, two] {
            assert_eq!(send(host).await, 200);
        }
        one.clock.advance(std::time::Duration::from_secs(1));
    }
    stop(hosts).await;
}
