//! `/healthz` and `/readyz`: what they say, and that their words are in the API's own description.

use serde_json::{Value, json};

use crate::harness::{Answer, Process, Setup, TestHost, eventually, write};

const OPEN: &str = "name: open\nref: t.open\ntype: webhook\npayload_schema: true
webhook: {enabled: true, verify: none}\n";
const SHUT: &str = "name: shut\nref: t.shut\ntype: webhook\npayload_schema: true
webhook: {enabled: true, preset: github, secrets: [nobody_has_it]}\n";

/// With the admin's token, which sees why.
async fn ready(host: &TestHost) -> (u16, Value) {
    let answer = host.api("/readyz").await;
    (answer.status, answer.json())
}

fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    let checks = told["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {told}"))
}

#[tokio::test]
async fn readiness_tells_what_was_looked_at() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["status"], &told["reasons"]), (200, &json!("ready"), &json!([])));
    for name in [
        "database",
        "durability",
        "api",
        "disk",
        "queue",
        "packs_folder",
        "packs",
        "overrides",
        "master_key",
        "secrets",
    ] {
        assert_eq!(check(&told, name)["status"], "ok");
    }
    host.stop().await;
}

#[tokio::test]
async fn what_does_not_work_is_a_reason_and_no_refusal() {
    let files = [("t/triggers/shut.yaml", SHUT), ("broken/pack.yaml", "ref: broken\nversoin: 1\n")];
    let host = Setup::new(&files).start().await;
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["status"]), (200, &json!("degraded")), "{told}");
    assert_eq!(check(&told, "secrets")["reasons"], json!(["secret missing: nobody_has_it"]));
    assert_eq!(check(&told, "packs")["status"], "degraded");
    assert_eq!(check(&told, "database")["status"], "ok");
    assert_eq!(told["reasons"].as_array().unwrap().len(), 2, "{told}");
    host.stop().await;
}

/// Names of secrets and packs are not for those who only know the address.
#[tokio::test]
async fn reasons_need_a_token_of_all_packs_or_an_address_of_their_own() {
    let host = Setup::new(&[("t/triggers/shut.yaml", SHUT)]).start().await;
    let url = format!("http://{}/readyz", host.address);
    let bare = Answer::of(host.http.get(&url).send().await.unwrap()).await;
    assert_eq!((bare.status, bare.json()), (200, json!({"status": "degraded"})));
    let bound = host.token("read", Some(&["t"])).await;
    let answer = host.ask_as(&bound, "GET", "/readyz", Value::Null).await;
    assert_eq!(answer.json(), json!({"status": "degraded"}));
    let read = host.token("read", None).await;
    let answer = host.ask_as(&read, "GET", "/readyz", Value::Null).await;
    assert_eq!(answer.json()["reasons"], json!(["secret missing: nobody_has_it"]));
    assert_eq!(host.ask_as("none of ours", "GET", "/readyz", Value::Null).await.status, 401);
    let alive = Answer::of(host.http.get(url.replace("readyz", "healthz")).send().await.unwrap()).await;
    assert_eq!(alive.json(), json!({"status": "ok"}));
    host.stop().await;

    let mut setup = Setup::new(&[("t/triggers/shut.yaml", SHUT)]);
    setup.config.admin_listen = Some(([127, 0, 0, 1], 0).into());
    let host = setup.start().await;
    let admin = host.running.as_ref().unwrap().admin_address.unwrap();
    let open = Answer::of(host.http.get(format!("http://{admin}/readyz")).send().await.unwrap()).await;
    assert_eq!(open.json()["reasons"], json!(["secret missing: nobody_has_it"]));
    host.stop().await;
}

/// A host whose health is at an address of its own, so that it tells reasons without a database.
async fn observed() -> (TestHost, String) {
    let mut setup = Setup::new(&[("t/triggers/open.yaml", OPEN)]);
    setup.config.admin_listen = Some(([127, 0, 0, 1], 0).into());
    setup.config.store_wait_seconds = 1;
    let host = setup.start().await;
    let admin = host.running.as_ref().unwrap().admin_address.unwrap();
    (host, format!("http://{admin}"))
}

async fn get(host: &TestHost, url: String) -> Answer {
    Answer::of(host.http.get(url).send().await.unwrap()).await
}

/// How a server keeps a host from writing, and how it lets it again; `$db` is the database.
struct Outage {
    begin: &'static str,
    end: &'static str,
    /// The reason that readiness gives, and the word of the metrics.
    reason: &'static str,
    word: &'static str,
}

const OUTAGES: [Outage; 2] = [
    Outage {
        begin: "alter database $db set default_transaction_read_only = on",
        end: "alter database $db reset default_transaction_read_only",
        reason: "read-only: the database takes no writes",
        word: "read_only",
    },
    Outage {
        begin: "alter database $db connection limit 0",
        end: "alter database $db connection limit -1",
        reason: "too many connections: the database takes no more",
        word: "too_many_connections",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_not_ready_and_says_why() {
    for Outage { begin, end, reason, word } in OUTAGES {
        for idle in [true, false] {
            let (host, admin) = observed().await;
            let metric =
                async |line: String| get(&host, format!("{admin}/metrics")).await.text.contains(&line);
            assert_eq!(get(&host, format!("{admin}/readyz")).await.json()["status"], "ready");
            assert!(metric("hookpack_store_writable 1".to_owned()).await);
            let mut operator = host.pool.acquire().await.unwrap();
            let run = async |operator: &mut sqlx::PgConnection, sql: &str| {
                let name: String =
                    sqlx::query_scalar("select current_database()").fetch_one(&mut *operator).await.unwrap();
                // What is set for a database counts for the sessions after it; this one makes up its own mind.
                let sql = format!("begin read write; {}; commit", sql.replace("$db", &name));
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *operator).await.unwrap();
                let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                           where pid <> pg_backend_pid() and datname = current_database()";
                sqlx::query(cut).execute(operator).await.unwrap();
            };
            run(&mut operator, begin).await;
            if !idle {
                let answer = host.send("t.open", "{}").await;
                assert_eq!(
                    (answer.status, answer.header("retry-after")),
                    (503, Some("5")),
                    "{}",
                    answer.text
                );
            }
            let told = eventually("an unready host", async || {
                // Sessions that were cut are away, until the next ones meet the outage itself.
                let told = get(&host, format!("{admin}/readyz")).await;
                (told.status == 503 && told.text.contains(reason)).then_some(told)
            })
            .await;
            assert_eq!(
                check(&told.json(), "database"),
                &json!({"check": "database", "status": "failed", "reasons": [reason]})
            );
            assert!(metric("hookpack_store_writable 0".to_owned()).await);
            assert!(!metric(format!("hookpack_store_failures_total{{fault=\"{word}\"}} 0")).await);
            // Its end cuts no session: those of the outage must be thrown away.
            let name: String =
                sqlx::query_scalar("select current_database()").fetch_one(&mut *operator).await.unwrap();
            let sql = format!("begin read write; {}; commit", end.replace("$db", &name));
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *operator).await.unwrap();
            eventually("a ready host", async || {
                let told = get(&host, format!("{admin}/readyz")).await;
                (told.json()["status"] == "ready").then_some(())
            })
            .await;
            assert!(metric("hookpack_store_writable 1".to_owned()).await);
            for number in 0..10 {
                assert_eq!(host.send("t.open", "{}").await.status, 200);
                let request = host.http.put(format!("{admin}/api/v1/secrets/name_{number}"));
                let request =
                    request.bearer_auth(host.admin_token()).json(&json!({"value": "a long enough value"}));
                let answer = Answer::of(request.send().await.unwrap()).await;
                assert_eq!(answer.status, 200, "{word}: {}", answer.text);
            }
            drop(operator);
            host.stop().await;
        }
    }
}

/// Reading goes on while nothing can be written: a token is looked up, and its last use is not noted.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_reads_from_a_database_that_takes_no_writes() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    sqlx::raw_sql(
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$;
         select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()",
    )
    .execute(&host.pool)
    .await
    .unwrap();
    host.clock.advance(std::time::Duration::from_mins(2));
    for path in ["/api/v1/events", "/api/v1/requests", "/api/v1/stats"] {
        let answer = host.api(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let (status, told) = ready(&host).await;
    assert_eq!((status, &told["reasons"][0]), (503, &json!("read-only: the database takes no writes")));
    host.stop().await;
}

/// A small disk of its own for the private Postgres.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let options = ["-t", "tmpfs", "-o", "size=160m,mode=0700", "tmpfs"];
    let mounted = std::process::Command::new("mount").args(options).arg(&data).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a small tmpfs cannot be mounted here");
        return;
    }
    let _unmounted = Unmount(data.clone());
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    write(&folder.path().join("packs/t/triggers/open.yaml"), OPEN);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hookpack"));
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    command.env("HOOKPACK_ADMIN_LISTEN", admin.to_string()).env("HOOKPACK_STORE_WAIT_SECONDS", "1");
    let host = Process::start_with(folder.path(), command);
    let http = crate::harness::http();
    let api = async |path: &str| {
        let request = http.get(format!("http://{admin}{path}")).bearer_auth(host.token());
        Answer::of(request.send().await.unwrap()).await
    };
    let key = api("/api/v1/triggers/t.open/webhooks").await.json()["data"]["webhook_key"].clone();
    let url = format!("http://{}/api/v1/webhooks/{}", host.address, key.as_str().unwrap());
    // Text that can't be made smaller.
    let send = async || {
        let random: String = (0..2000).map(|_| uuid::Uuid::now_v7().to_string()).collect();
        let request =
            http.post(&url).header("content-type", "application/json").body(json!([random]).to_string());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send().await, 200);
    assert_eq!(api("/readyz").await.json()["status"], "ready");
    let filler = data.join("filler");
    assert!(std::fs::write(&filler, vec![0; 160 << 20]).is_err(), "the disk is full");
    eventually("a delivery that is not stored", async || (send().await == 503).then_some(())).await;
    let told =
        eventually("an unready host", async || Some(api("/readyz").await).filter(|told| told.status == 503))
            .await;
    assert_eq!(
        check(&told.json(), "database")["reasons"],
        json!(["disk full: the database has no room for more"])
    );
    assert_eq!(check(&told.json(), "disk")["status"], "degraded");
    std::fs::remove_file(&filler).unwrap();
    eventually("room again", async || (send().await == 200).then_some(())).await;
    let told = api("/readyz").await;
    assert_eq!(check(&told.json(), "database")["status"], "ok", "{}", told.text);
    host.kill();
}

/// A log that can't be written, on a disk that is full, say, stops nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_can_not_be_written_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    write(&folder.path().join("packs/t/triggers/open.yaml"), OPEN);
    let mut command = std::process::Command::new("sh");
    // Every write to /dev/full fails as on a full disk.
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", env!("CARGO_BIN_EXE_hookpack")]);
    command.env("HOOKPACK_LOG", "trace");
    let host = Process::start_with(folder.path(), command);
    let shown = host.api("/api/v1/triggers/t.open/webhooks").await.json();
    let url =
        format!("http://{}/api/v1/webhooks/{}", host.address, shown["data"]["webhook_key"].as_str().unwrap());
    let http = crate::harness::http();
    for _ in 0..20 {
        let request = http.post(&url).header("content-type", "application/json").body("{}");
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    host.kill();
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: the private Postgres may still be ending.
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn health_is_in_the_apis_own_description() {
    let host = Setup::new(&[("t/triggers/open.yaml", OPEN)]).start().await;
    let document = host.api("/openapi.json").await.json();
    for (path, statuses) in [("/healthz", &["200"][..]), ("/readyz", &["200", "503"])] {
        let operation = &document["paths"][path]["get"];
        for status in statuses {
            assert!(operation["responses"][status].is_object(), "{path} {status}");
        }
        assert_eq!(operation["security"][0], json!({}), "no token is needed");
    }
    host.stop().await;
}
