//! What the private Postgres can't do: its role is no superuser, and its processes reach nothing outside of their folder.

use std::{fs, io::Write, path::Path, process::Stdio};

use hookpack::store::embedded::EmbeddedPostgres;

use crate::{
    embedded::{options, psql},
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
