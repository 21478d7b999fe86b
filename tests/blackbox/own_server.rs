//! A Postgres of the operator's own: who may work in it, what is between, and what it must be.

use hookpack::{
    config::Environment,
    serve::Running,
    store::{self, Database},
};
use serde_json::json;

use crate::{
    harness::{Setup, TestHost, repository},
    server::{Pooler, Server, url},
};

const ONE: &str = "name: one\nref: t.one\ntype: webhook\npayload_schema: true
webhook: {enabled: true, verify: none, idempotency: {key: $.id}, rate_limit: {requests: 1000, window_seconds: 60}}\n";

fn setup() -> Setup {
    Setup::new(&[("t/triggers/one.yaml", ONE)])
}

/// Why a host does not start on this database.
async fn refusal(url: String) -> String {
    let mut setup = setup();
    setup.config.database_url = Some(url);
    match Running::start(setup.config.clone(), &setup.environment, setup.clock.clone()).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let mut setup = setup();
    setup.config.database_url = Some(url.to_owned());
    let database = Database::open(&setup.config, &Environment::default()).await?;
    let pool = database.pool().await?;
    let migrated = store::migrate(&pool).await;
    pool.close().await;
    migrated
}

/// Everything that a host does with its database, once over.
async fn works(host: &TestHost) {
    let first = host.send("t.one", r#"{"id": 1}"#).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = host.send("t.one", r#"{"id": 1}"#).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    for (method, path, body, status) in [
        ("PUT", "/api/v1/secrets/other", json!({"value": "hush hush hush"}), 200),
        ("POST", "/api/v1/secrets/other/rotate", json!({}), 200),
        ("DELETE", "/api/v1/secrets/other", json!(null), 200),
        ("POST", "/api/v1/triggers/t.one/webhooks/regenerate", json!(null), 200),
        ("PATCH", "/api/v1/triggers/t.one/webhooks", json!({"payload_size_limit_kb": 8}), 200),
        ("PATCH", "/api/v1/triggers/t.one/webhooks", json!({"payload_size_limit_kb": null}), 200),
        ("POST", "/api/v1/tokens", json!({"label": "a", "scope": "read"}), 201),
        ("POST", "/api/v1/master-key/reseal", json!(null), 200),
        ("GET", "/api/v1/events", json!(null), 200),
        ("GET", "/api/v1/requests", json!(null), 200),
        ("GET", "/api/v1/quarantine", json!(null), 200),
        ("GET", "/api/v1/stats", json!(null), 200),
        ("GET", "/api/v1/audit", json!(null), 200),
    ] {
        let answer = host.ask(method, path, body).await;
        assert!(
            answer.status == status || answer.status == 204,
            "{method} {path}: {} {}",
            answer.status,
            answer.text
        );
    }
    assert_eq!(host.api("/readyz").await.json()["status"], "ready");
}

/// The statements of a section of the docs, for these roles.
fn grants(section: &str, roles: &[(&str, &str)]) -> String {
    let text = std::fs::read_to_string(repository().join("docs/database-roles.md")).unwrap();
    let section =
        text.split(&format!("## {section}\n")).nth(1).unwrap_or_else(|| panic!("no section {section}"));
    let sql = section.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    roles.iter().fold(sql.to_owned(), |sql, (placeholder, role)| sql.replace(placeholder, role))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_works_with_exactly_the_rights_that_the_docs_list() {
    let server = Server::start(&["fsync=off"]);
    server
        .psql("postgres", "create role keeper login; create role worker login; create role reporting login")
        .unwrap();
    server
        .psql("postgres", "create database hooks owner owner; revoke all on database hooks from public")
        .unwrap();
    server
        .psql("hooks", &grants("The role that migrates", &[("hooks_owner", "keeper"), ("hooks", "hooks")]))
        .unwrap();
    let refused = refusal(server.url("worker", "hooks")).await;
    assert!(refused.contains("permission denied"), "{refused}");
    migrate(&server.url("keeper", "hooks")).await.unwrap();
    server
        .psql(
            "hooks",
            &grants(
                "The role that serves",
                &[("hooks_owner", "keeper"), ("hooks_host", "worker"), ("hooks", "hooks")],
            ),
        )
        .unwrap();
    server
        .psql("hooks", &grants("Roles that read", &[("hooks_reader", "reporting"), ("hooks", "hooks")]))
        .unwrap();

    let mut setup = setup();
    setup.config.database_url = Some(server.url("worker", "hooks"));
    let database = crate::harness::TestDatabase::at(&server.url("worker", "hooks")).await;
    let host = setup.start_on(&database).await;
    let first = host.send("t.one", r#"{"id": 0}"#).await;
    assert_eq!(first.status, 200, "{}", first.text);
    // `fsync` is off here.
    let readiness = host.api("/readyz").await.json();
    assert_eq!(readiness["status"], "degraded");
    assert!(readiness["reasons"][0].as_str().unwrap().contains("`fsync` is off"), "{readiness}");
    // It can't change the schema.
    let made = sqlx::query("create table hookpack.mine ()").execute(&database.pool).await;
    assert!(made.unwrap_err().to_string().contains("permission denied"));
    host.stop().await;

    let reader = crate::harness::TestDatabase::at(&server.url("reporting", "hooks")).await;
    let seen: i64 =
        sqlx::query_scalar("select count(*) from hookpack.event").fetch_one(&reader.pool).await.unwrap();
    assert_eq!(seen, 1);
    for sql in [
        "select count(*) from hookpack.secret",
        "select count(*) from hookpack.api_token",
        "delete from hookpack.event",
        "update hookpack.event set trigger_ref = 'x'",
    ] {
        let refused = sqlx::query(sql).execute(&reader.pool).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{sql}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_refused_and_one_in_session_mode_works() {
    let server = Server::start(&["fsync=on"]);
    // As PgBouncer before 1.21, and still with many managed poolers.
    for ignored in ["", "ignore_startup_parameters = extra_float_digits,options"] {
        for mode in ["transaction", "statement"] {
            for size in [1, 5] {
                let settings = format!("pool_mode = {mode}\ndefault_pool_size = {size}\n{ignored}");
                let Some(pooler) = Pooler::start(&server, &settings) else { return };
                let refused = refusal(url(&pooler.sockets(), "owner", "postgres")).await;
                assert!(refused.contains("connection pooler in transaction mode"), "{settings}: {refused}");
            }
        }
        let Some(pooler) = Pooler::start(&server, &format!("pool_mode = session\n{ignored}")) else { return };
        server.psql("postgres", "drop schema if exists hookpack cascade").unwrap();
        let database = crate::harness::TestDatabase::at(&server.url("owner", "postgres")).await;
        let through = crate::harness::TestDatabase {
            url: url(&pooler.sockets(), "owner", "postgres"),
            pool: database.pool,
        };
        let host = setup().start_on(&through).await;
        works(&host).await;
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused_with_the_remedy() {
    let server = Server::start(&["fsync=off"]);
    for encoding in ["WIN1252", "LATIN1", "SQL_ASCII"] {
        let create = format!("create database d_{encoding} encoding '{encoding}' template template0");
        server.psql("postgres", &create).unwrap();
        let refused = refusal(server.url("owner", &format!("d_{}", encoding.to_lowercase()))).await;
        assert!(refused.contains(&format!("encoding is {encoding}; Hookpack needs UTF8")), "{refused}");
        let remedy = refused
            .split('`')
            .nth(1)
            .unwrap()
            .replace("database hookpack", &format!("database r_{encoding}"));
        server.psql("postgres", &remedy).unwrap();
        migrate(&server.url("owner", &format!("r_{}", encoding.to_lowercase()))).await.unwrap();
    }
}

/// The writer makes its commits durable, whatever the role is set to; the server is killed at once after the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_though_the_role_commits_asynchronously() {
    let mut server = Server::start(&["fsync=on", "wal_writer_delay=10s"]);
    for weak in ["off", "local"] {
        let weaken = format!(
            "drop schema if exists hookpack cascade; alter role owner set synchronous_commit = {weak}"
        );
        server.psql("postgres", &weaken).unwrap();
        let database = crate::harness::TestDatabase::at(&server.url("owner", "postgres")).await;
        let host = setup().start_on(&database).await;
        assert_eq!(host.send("t.one", &format!("{{\"id\": \"{weak}\"}}")).await.status, 200);
        server.kill();
        server.start_again();
        let stored = format!("select count(*) from hookpack.event where payload->>'id' = '{weak}'");
        assert_eq!(server.psql("postgres", &stored).unwrap(), "1");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_would_lose_is_a_reason_of_readiness() {
    let server = Server::start(&["fsync=off", "full_page_writes=off"]);
    let database = crate::harness::TestDatabase::at(&server.url("owner", "postgres")).await;
    let host = setup().start_on(&database).await;
    server.psql("postgres", "alter table hookpack.quarantine set unlogged").unwrap();
    let told = host.api("/readyz").await;
    assert_eq!((told.status, &told.json()["status"]), (200, &json!("degraded")));
    for reason in ["`fsync` is off", "`full_page_writes` is off", "hookpack.quarantine is unlogged"] {
        assert!(told.text.contains(reason), "{reason}: {}", told.text);
    }
    host.stop().await;
}

/// Several hosts find nothing in the database; one makes everything, the others wait.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_start_at_once_on_an_empty_database_all_run() {
    for _ in 0..4 {
        let database = crate::harness::TestDatabase::empty().await;
        let hosts = futures_util::future::join_all((0..5).map(|_| setup().start_on(&database))).await;
        for host in hosts {
            host.stop().await;
        }
    }
}

/// A certificate that `openssl req -x509` makes by default is one of an authority.
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_connection_from_being_made_is_said_with_the_remedy() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let certificate = tempfile::tempdir().unwrap();
    let at = |name: &str| certificate.path().join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &at("key"), "-out", &at("cert")])
        .stderr(std::process::Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: there is no openssl here");
        return;
    }
    let server = Server::start(&[
        "fsync=off",
        "ssl=on",
        &format!("ssl_cert_file={}", at("cert")),
        &format!("ssl_key_file={}", at("key")),
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "password_encryption=scram-sha-256",
    ]);
    let verified =
        format!("postgres://owner@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={}", at("cert"));
    let refused = refusal(verified).await;
    assert!(refused.contains("`openssl req -x509` makes"), "{refused}");

    server.psql("postgres", "alter role owner password 'pass🦀word'").unwrap();
    server.require_passwords();
    let with_emoji =
        format!("postgres://owner:pass%F0%9F%A6%80word@localhost:{port}/postgres?sslmode=disable");
    let refused = refusal(with_emoji).await;
    assert!(refused.contains("an emoji perhaps"), "{refused}");
}
