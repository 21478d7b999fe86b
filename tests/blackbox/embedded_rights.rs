//! What the private Postgres can't do: its role is no superuser, and its processes reach nothing outside of their folder.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use hookpack::store::embedded::{EmbeddedPostgres, Options};
use nix::unistd::geteuid;

use crate::{
    embedded::{BINARIES, options, psql},
    harness::{Answer, Process, Setup, http, write},
    server::postgres_program,
};

fn start(folder: &Path) -> EmbeddedPostgres {
    EmbeddedPostgres::start(&options(folder)).unwrap()
}

/// Runs a statement as the superuser that `initdb` made, while no server runs.
fn as_superuser(folder: &Path, sql: &str) {
    let mut single = postgres_program("postgres")
        .args(["--single", "-c", "exit_on_error=on", "-D"])
        .arg(folder.join("postgres/data"))
        .arg("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    single.stdin.take().unwrap().write_all(format!("{sql}\n").as_bytes()).unwrap();
    assert!(single.wait().unwrap().success(), "{sql}");
}

/// Ways out of a database; each must fail.
fn ways_out(outside: &Path) -> Vec<String> {
    let outside = outside.display();
    vec![
        "copy gone to program 'cat /etc/shadow >/dev/null'".to_owned(),
        format!("copy gone to program 'touch {outside}/made'"),
        "copy gone from program 'cat /etc/passwd'".to_owned(),
        "copy gone from '/etc/passwd'".to_owned(),
        format!("copy gone to '{outside}/made'"),
        "select pg_read_file('/etc/passwd')".to_owned(),
        "select pg_read_file('/etc/shadow')".to_owned(),
        format!("select pg_read_file('{outside}/secret')"),
        format!("select pg_ls_dir('{outside}')"),
        "select lo_import('/etc/passwd')".to_owned(),
    ]
}

#[test]
fn the_role_of_the_host_reaches_no_file_and_no_program() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let postgres = start(folder.path());
    let sockets = postgres.socket_folder();
    let rights = "select rolsuper or rolcreaterole or rolreplication or rolbypassrls from pg_roles where rolname = current_user";
    assert_eq!(psql(sockets, rights).unwrap(), "f");
    psql(sockets, "create table gone (t text)").unwrap();
    let more = [
        "create role mine superuser",
        "alter role hookpack superuser",
        "set session authorization hookpack_superuser",
        "set role hookpack_superuser",
        "select pg_read_file('PG_VERSION')",
        "alter system set archive_command = 'touch /tmp/x'",
        "load '/tmp/x.so'",
        "create function f() returns int language c as '/tmp/x.so'",
    ];
    for way in ways_out(outside.path()).iter().map(String::as_str).chain(more) {
        assert!(psql(sockets, way).is_err(), "{way}");
    }
    assert!(!outside.path().join("made").exists());
    // The superuser has no way in.
    let output = postgres_program("psql")
        .args(["-XAtqw", "-U", "hookpack_superuser", "-d", "postgres", "-c", "select 1", "-h"])
        .arg(sockets)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no pg_hba.conf entry"), "{told}");
}

#[test]
fn even_a_superuser_stays_in_the_folder() {
    if !cfg!(target_os = "linux") {
        println!("skipped: there is no Landlock on this system");
        return;
    }
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    start(folder.path()).stop();
    as_superuser(folder.path(), "alter role hookpack superuser");
    let postgres = start(folder.path());
    let sockets = postgres.socket_folder();
    assert_eq!(psql(sockets, "select pg_read_file('PG_VERSION')").unwrap(), "15", "it is a superuser");
    psql(sockets, "create table gone (t text)").unwrap();
    for way in ways_out(outside.path()) {
        let told = psql(sockets, &way).expect_err(&way);
        // A program would be run by a shell, which can't be started.
        assert!(told.contains("Permission denied") || told.contains("could not execute"), "{way}: {told}");
    }
    assert!(!outside.path().join("made").exists());
    // What it needs is there: files of its own, time zones, memory that parallel workers share.
    let inside = format!("copy gone to '{}'", folder.path().join("postgres/data/inside").display());
    for way in [
        "copy (select 1) to '/dev/null'",
        &inside,
        "select '2026-11-28 12:00'::timestamptz at time zone 'Europe/Helsinki'",
        "set force_parallel_mode = on; set parallel_setup_cost = 0; select count(*) from gone",
        "select gen_random_uuid(), sha256('x')",
    ] {
        psql(sockets, way).unwrap_or_else(|told| panic!("{way}: {told}"));
    }
}

#[test]
fn a_folder_of_an_older_host_loses_its_superuser() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).stop();
    // As hosts made it before: the role of the host is the superuser of `initdb`.
    let data = folder.path().join("postgres/data");
    fs::remove_dir_all(&data).unwrap();
    let made = postgres_program("initdb")
        .args(["--username", "hookpack", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let mut server = postgres_program("postgres")
        .args(["-c", "listen_addresses=", "-k"])
        .arg(elsewhere.path())
        .arg("-D")
        .arg(&data)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::embedded::within(std::time::Duration::from_secs(10), "the old one runs", || {
        psql(elsewhere.path(), "select 1").ok()
    });
    for statement in [
        "create schema hookpack",
        "create table hookpack.old (id bigserial primary key, n int generated always as identity)",
        "create view hookpack.seen as select * from hookpack.old",
        "create function hookpack.f() returns int language sql as 'select 1'",
        "create type public.mood as enum ('good')",
        "create table public.of_a_worker (t text)",
        "create database beside",
    ] {
        psql(elsewhere.path(), statement).unwrap();
    }
    let pid = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    server.wait().unwrap();

    for _ in 0..2 {
        let postgres = start(folder.path());
        let sockets = postgres.socket_folder();
        let superusers = "select string_agg(rolname, ',') from pg_roles where rolsuper";
        assert_eq!(psql(sockets, superusers).unwrap(), "hookpack_superuser");
        let not_ours = "select count(*) from pg_class where relowner <> 'hookpack'::regrole and oid >= 16384";
        assert_eq!(psql(sockets, not_ours).unwrap(), "0");
        for statement in [
            "alter table hookpack.old add column if not exists more int",
            "create or replace view hookpack.seen as select id, n from hookpack.old",
            "create or replace function hookpack.f() returns int language sql as 'select 2'",
            "alter type public.mood add value if not exists 'bad'",
            "insert into public.of_a_worker values ('x')",
            "insert into hookpack.old default values",
            "create table if not exists public.newer (t text)",
        ] {
            psql(sockets, statement).unwrap_or_else(|told| panic!("{statement}: {told}"));
        }
    }
}

/// What a user of the machine is told by the socket of the readers.
fn as_user(ids: &str, sockets: &Path, role: &str, sql: &str) -> Result<String, String> {
    let [uid, gid] = ids.split(':').collect::<Vec<_>>()[..] else { panic!("{ids}") };
    let output = Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"])
        .arg(format!("{BINARIES}/psql"))
        .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", "postgres", "-c", sql, "-h"])
        .arg(sockets)
        .current_dir("/")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_read_events_and_can_do_nothing_else() {
    if !geteuid().is_root() {
        println!("skipped: only root can try as other users");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    write(&folder.path().join("packs/t/pack.yaml"), "ref: t\nname: t\nversion: 1.0.0\n");
    let one = "name: one\nref: t.one\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";
    write(&folder.path().join("packs/t/triggers/one.yaml"), one);
    // Without the group first: nothing is there for others.
    Process::start(folder.path()).kill();
    assert!(!folder.path().join("data/readers").exists());

    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.env("HOOKPACK_POSTGRES_SOCKET_GROUP", "games");
    let host = Process::start_with(folder.path(), command);
    let shown = host.api("/api/v1/triggers/t.one/webhooks").await.json();
    let key = shown["data"]["webhook_key"].as_str().unwrap();
    let sent = http().post(format!("http://{}/api/v1/webhooks/{key}", host.address));
    let sent =
        Answer::of(sent.header("content-type", "application/json").body("{}").send().await.unwrap()).await;
    assert_eq!(sent.status, 200, "{}", sent.text);

    let sockets = folder.path().join("data/readers");
    let (member, other) = ("12345:games", "12345:nogroup");
    assert_eq!(
        as_user(member, &sockets, "hookpack_reader", "select count(*) from hookpack.event").unwrap(),
        "1"
    );
    as_user(member, &sockets, "hookpack_reader", "listen hookpack_event").unwrap();
    as_user(member, &sockets, "hookpack_reader", "select * from hookpack.request_log, hookpack.quarantine")
        .unwrap();
    for sql in [
        "select * from hookpack.secret",
        "select * from hookpack.api_token",
        "select * from hookpack.endpoint_key",
        "delete from hookpack.event",
        "set default_transaction_read_only = off; begin read write; delete from hookpack.event",
        "begin read write; create table public.mine (t text)",
        "begin read write; create temporary table mine (t text)",
        "set role hookpack",
    ] {
        let told = as_user(member, &sockets, "hookpack_reader", sql).expect_err(sql);
        assert!(told.contains("permission denied") || told.contains("read-only"), "{sql}: {told}");
    }
    // The host's role has a password now, which its own user finds in a file.
    for role in ["hookpack", "hookpack_superuser"] {
        let told = as_user(member, &sockets, role, "select 1").expect_err(role);
        assert!(told.contains("password") || told.contains("no pg_hba.conf entry"), "{told}");
    }
    let told = as_user(other, &sockets, "hookpack_reader", "select 1").unwrap_err();
    assert!(told.contains("Permission denied"), "{told}");
    let own = folder.path().join("data/postgres");
    let told = as_user(member, &own, "hookpack_reader", "select 1").unwrap_err();
    assert!(told.contains("Permission denied"), "{told}");
    let dump = Command::new(format!("{BINARIES}/psql"))
        .args([
            "-XAtqw",
            "-U",
            "hookpack",
            "-d",
            "postgres",
            "-c",
            "select count(*) from hookpack.secret",
            "-h",
        ])
        .arg(&own)
        .env("PGPASSFILE", own.join("pgpass"))
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    host.signal(nix::sys::signal::Signal::SIGINT);
    assert!(host.ended().await.success());
    let told = as_user(member, &sockets, "hookpack_reader", "select 1").unwrap_err();
    assert!(told.contains("No such file") || told.contains("Connection refused"), "{told}");
    // Without the setting the host is alone again.
    let host = Process::start(folder.path());
    assert_eq!(psql(&own, "select count(*) from hookpack.event").unwrap(), "1");
    let told = as_user(member, &sockets, "hookpack_reader", "select 1").unwrap_err();
    assert!(told.contains("No such file") || told.contains("Connection refused"), "{told}");
    host.kill();
}

#[test]
fn a_group_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { readers: Some("nobody_made_it".to_owned()), ..options(folder.path()) };
    let error = EmbeddedPostgres::start(&options).map(drop).unwrap_err();
    assert!(error.to_string().contains("`groupadd nobody_made_it`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_tokens_are_files_of_the_hosts_account_alone() {
    let host = Setup::new(&[]).start().await;
    for file in ["master-key", "admin-token"] {
        let mode = fs::metadata(host.folder.path().join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    host.stop().await;
}
