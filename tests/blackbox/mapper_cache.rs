//! Compiled mappers are kept and never trusted; the compiler is a process that can be lost.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use hookpack::{
    config::Config,
    secret::MasterKey,
    wasm::{Cache, Purpose, Sandbox},
};

use crate::{
    guests::{component, echo, one_event, text},
    hostile_mappers::{refusal, sandbox},
};

fn cache(folder: &Path, key: &str) -> Cache {
    let key = MasterKey::load_or_make(&folder.join(key)).unwrap();
    Cache::open(&folder.join("mappers"), key, 1 << 30).unwrap()
}

#[test]
fn a_compiled_mapper_is_kept_and_never_trusted_when_it_was_touched() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = |key: &str| {
        let program = sandbox(|_| {}, Some(cache(folder.path(), key))).load(&echo()).unwrap();
        program.about.compiled.is_some()
    };
    let entry = || {
        let entries = fs::read_dir(folder.path().join("mappers")).unwrap().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        assert_eq!(paths.len(), 1, "{paths:?}");
        paths.pop().unwrap()
    };
    assert!(compiled("key"), "the first time it is compiled");
    assert!(!compiled("key"), "and then it is there");
    let good = fs::read(entry()).unwrap();
    for (what, bytes) in [
        ("a flipped bit in the code", {
            let mut bytes = good.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("a flipped bit in the seal", [&[good[0] ^ 1], &good[1..]].concat()),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("longer", [&good[..], b"x"].concat()),
        ("nothing of ours", vec![0x7f; 4096]),
    ] {
        fs::write(entry(), bytes).unwrap();
        assert!(compiled("key"), "{what}: it is compiled again");
        assert!(!compiled("key"), "{what}: and mended");
    }
    assert!(compiled("another-key"), "what another host's key vouches for is nobody's here");
    let mode = fs::metadata(folder.path().join("mappers")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_entry_in_the_place_of_another_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let load = |component: &[u8]| sandbox(|_| {}, Some(cache(folder.path(), "key"))).load(component).unwrap();
    let other = component(&one_event("(i32.const 2048)", "(i32.const 1)"), &text("7"));
    load(&echo());
    load(&other);
    let entries = fs::read_dir(folder.path().join("mappers")).unwrap().flatten();
    let paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    let [first, second] = paths.as_slice() else { panic!("{paths:?}") };
    let (one, two) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    fs::write(first, two).unwrap();
    fs::write(second, one).unwrap();
    assert!(load(&echo()).about.compiled.is_some());
    assert!(load(&other).about.compiled.is_some());
}

#[test]
fn two_hosts_may_compile_into_one_cache_at_once() {
    let folder = tempfile::tempdir().unwrap();
    cache(folder.path(), "key");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| sandbox(|_| {}, Some(cache(folder.path(), "key"))).load(&echo()).unwrap());
        }
    });
    assert!(
        sandbox(|_| {}, Some(cache(folder.path(), "key"))).load(&echo()).unwrap().about.compiled.is_none()
    );
}

#[test]
fn only_compiled_mappers_are_removed_to_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_make(&folder.path().join("key")).unwrap();
    let mappers = folder.path().join("mappers");
    let small = || Cache::open(&mappers, key.clone(), 1).unwrap();
    sandbox(|_| {}, Some(small())).load(&echo()).unwrap();
    fs::write(mappers.join("important.txt"), "not ours").unwrap();
    fs::create_dir(mappers.join("folder")).unwrap();
    let other = component(&one_event("(i32.const 2048)", "(i32.const 1)"), &text("7"));
    sandbox(|_| {}, Some(small())).load(&other).unwrap();
    let mut left: Vec<_> = fs::read_dir(&mappers).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().any(|name| name == "important.txt"), "{left:?}");
    assert!(
        sandbox(|_| {}, Some(small())).load(&other).unwrap().about.compiled.is_none(),
        "the newest stays"
    );
}

#[test]
fn what_serves_and_what_measures_share_a_folder_and_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { mapper_compiler: Some(env!("CARGO_BIN_EXE_hookpack").into()), ..Config::default() };
    let compiled = |purpose| {
        let sandbox = Sandbox::new(&config, purpose, Some(cache(folder.path(), "key")));
        sandbox.load(&echo()).unwrap().about.compiled.is_some()
    };
    assert!(compiled(Purpose::Serve) && compiled(Purpose::Measure));
    assert!(!compiled(Purpose::Serve) && !compiled(Purpose::Measure));
}

#[test]
fn a_compiler_that_is_not_there_is_said_so() {
    let sandbox = sandbox(|config| config.mapper_compiler = Some("/nowhere/hookpack".into()), None);
    assert!(refusal(&sandbox, &echo()).contains("the compiler can't be started"));
    for (script, expected) in [
        ("exec sleep 60", "(twice mapper_compile_seconds)"),
        ("kill -9 $$", "somebody killed the compiler"),
        ("echo broken >&2; exit 101", "the compiler broke on this component (exit status: 101): broken"),
        ("echo not machine code", "what the compiler wrote can't be used"),
    ] {
        let (sandbox, _folder) = sandbox_with_program(&format!("#!/bin/sh\n{script}\n"));
        let told = refusal(&sandbox, &echo());
        assert!(told.contains(expected), "{script}: {told}");
    }
}

/// A compiler that is none.
fn sandbox_with_program(script: &str) -> (Arc<Sandbox>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("compiler");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = sandbox(
        |config| {
            config.mapper_compiler = Some(program);
            config.mapper_compile_seconds = 1;
        },
        None,
    );
    (sandbox, folder)
}
