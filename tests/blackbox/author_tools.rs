//! What pack authors have at hand: new, build, check, test, bundle.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    guests::{component, echo, error, module as module_text, one_event, text},
    harness::{repository, write},
};

/// One target folder for the mappers of all tests: what they share is compiled once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("mappers")
}

fn hookpack(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", target());
    // What is compiled for a test is not for its author's own cache.
    command.env("XDG_CACHE_HOME", target().with_file_name("cache"));
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    hookpack(folder, arguments).output().unwrap()
}

/// What it prints; it must succeed.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_pack_passes_check_and_test_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [("plain", &[][..]), ("in-rust", &["--mapper", "rust"])] {
        told(folder.path(), &[&["pack", "new", name], arguments].concat());
        assert!(told(folder.path(), &["pack", "check", name]).ends_with("1 pack, 0 faults, 0 warnings\n"));
        assert!(told(folder.path(), &["pack", "test", name]).ends_with(" passed, 0 failed, 0 faults\n"));
    }
    let again = run(folder.path(), &["pack", "new", "plain"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("plain is there already: nothing was changed"));
    let named = run(folder.path(), &["pack", "new", "My Pack"]);
    assert!(String::from_utf8_lossy(&named.stderr).contains("`My Pack` can't be a pack's ref"));
}

/// What `pack new` writes for languages whose tools may not be here: everything but the component.
#[test]
fn a_new_pack_in_another_language_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    for (language, expected) in [("python", "pip install componentize-py"), ("js", "npm install")] {
        let output = hookpack(folder.path(), &["pack", "new", language, "--mapper", language])
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(expected), "{told}");
        let missing = run(folder.path(), &["pack", "check", language]);
        assert!(String::from_utf8_lossy(&missing.stdout).contains("build it with `hookpack pack build"));
    }
}

/// A pack with its sources and without what builds leave beside them.
fn copy_of(pack: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("pack");
    copy(&repository().join(pack), &to);
    (folder, to)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if ["target", ".hookpack", "node_modules", ".venv"].contains(&name.as_str()) {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(&name));
        } else {
            fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

/// With another compiler the bytes differ; then what it builds must at least do the same.
#[test]
fn the_committed_component_is_what_its_source_builds() {
    let (_folder, pack) = copy_of("packs/whatsapp");
    let committed = fs::read(pack.join("mappers/messages.wasm")).unwrap();
    fs::remove_file(pack.join("mappers/messages.wasm")).unwrap();
    let parent = pack.parent().unwrap();
    told(parent, &["pack", "build", "pack"]);
    let built = fs::read(pack.join("mappers/messages.wasm")).unwrap();
    let compilers = |component: &[u8]| {
        let anatomy = hookpack::wasm::Anatomy::read(component).unwrap();
        let rustc = anatomy.producers.into_iter().filter(|tool| tool.starts_with("rustc"));
        rustc.collect::<Vec<_>>()
    };
    assert!(!compilers(&committed).is_empty(), "it says who compiled it");
    if compilers(&committed) == compilers(&built) {
        let same = Sha256::digest(&committed) == Sha256::digest(&built);
        assert!(same, "run `hookpack pack build packs/whatsapp` and commit what it writes");
    }
    assert!(told(parent, &["pack", "test", "pack"]).ends_with(" passed, 0 failed, 0 faults\n"));
}

#[test]
fn the_example_in_rust_is_built_and_its_cases_pass_with_the_same_fuel_each_time() {
    let (_folder, pack) = copy_of("examples/rust-mapper");
    let parent = pack.parent().unwrap();
    told(parent, &["pack", "build", "pack"]);
    let fuel = || {
        let report: Value = serde_json::from_str(&told(parent, &["pack", "test", "pack", "--json"])).unwrap();
        assert_eq!(report["failed"], 0, "{report}");
        report["cases"].as_array().unwrap().iter().map(|case| case["fuel"].clone()).collect::<Vec<_>>()
    };
    // The author's own tests run without WebAssembly.
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet"]).current_dir(pack.join("mappers/change-summary"));
    let tested = cargo.env("CARGO_TARGET_DIR", target()).output().unwrap();
    assert!(tested.status.success(), "{tested:?}");
    let first = fuel();
    assert!(first[0].as_u64().unwrap() > 1000, "{first:?}");
    assert_eq!(first, fuel());
}

/// A pack whose mapper echoes.
fn echoing(cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("m");
    write(&pack.join("pack.yaml"), "ref: m\nname: M\nversion: 1.2.3\n");
    write(
        &pack.join("triggers/echo.yaml"),
        "name: echo\nref: m.echo\ntype: webhook\npayload_schema: true\nwebhook: {verify: none}\n\
         mapping: {wasm: mappers/echo.wasm}\n",
    );
    write(&pack.join("tests/echo.yaml"), &format!("trigger: m.echo\ncases:\n{cases}"));
    fs::create_dir(pack.join("mappers")).unwrap();
    fs::write(pack.join("mappers/echo.wasm"), echo()).unwrap();
    folder
}

#[test]
fn check_tells_what_each_mapper_is() {
    let folder = echoing("  []\n");
    let report = told(folder.path(), &["pack", "check", "m"]);
    assert!(report.contains("m/mappers/echo.wasm: "), "{report}");
    assert!(report.contains(" bytes, no imports, hookpack:mapper 1.0.0, compiled in "), "{report}");
    let report: Value =
        serde_json::from_str(&told(folder.path(), &["pack", "check", "m", "--output", "json"])).unwrap();
    let mapper = &report["mappers"][0];
    assert_eq!((&mapper["interface"], &mapper["imports"]), (&"1.0.0".into(), &Value::Array(Vec::new())));
    assert!(mapper["compile_ms"].as_u64().is_some(), "{report}");
}

const WRONG: &str = r#"
  # The first is right as it is.
  - name: right
    request: {json: {a: 1}}
    expect: {status: 200, outcome: accepted}

  - name: another payload
    request: {json: {a: 1.5, "no": [x, {}, "2"]}}
    expect:
      status: 200        # this comment goes
      events:
        - payload:
            a: 2

  - name: written in a line
    request: {json: [true]}
    expect: {status: 422}

  # And the last.
  - name: too cheap
    request: {json: {a: 1}}
    expect:
      status: 200
      fuel_max: 3
"#;

#[test]
fn bless_writes_what_came_and_leaves_every_other_line_as_it_was() {
    let folder = echoing(WRONG);
    let failed = run(folder.path(), &["pack", "test", "m"]);
    assert_eq!(failed.status.code(), Some(1));
    let shown = String::from_utf8(failed.stdout).unwrap();
    for line in
        ["-   \"a\": 2", "+   \"a\": 1.5,", "status: expected 422, got 200", "fuel: expected 3 at most, got "]
    {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours in a pipe");
    told(folder.path(), &["pack", "test", "m", "--bless"]);
    let blessed = fs::read_to_string(folder.path().join("m/tests/echo.yaml")).unwrap();
    insta::with_settings!({filters => [(r"fuel_max: \d+", "fuel_max: [fuel]")]}, {
        insta::assert_snapshot!(blessed);
    });
    assert!(told(folder.path(), &["pack", "test", "m"]).ends_with("4 passed, 0 failed, 0 faults\n"));
}

/// Ways to write a case that lines don't show: nothing is written, or the right thing.
#[test]
fn bless_never_changes_what_is_not_its_own() {
    let right = "  - name: right\n    request: {json: 1}\n    expect:\n      status: 200\n";
    for (what, wrong, is_written) in [
        ("a case in one line", "  - {name: wrong, request: {json: 2}, expect: {status: 422}}\n", false),
        (
            "a key in quotes",
            "  - name: wrong\n    request: {json: 2}\n    \"expect\":\n      status: 422\n",
            false,
        ),
        (
            "a brace at the key's column",
            "  - name: wrong\n    request: {json: 2}\n    expect: {\n      status: 422\n    }\n",
            false,
        ),
        (
            "a remark at the margin",
            "  - name: wrong\n    request: {json: 2}\n    expect:\n      status: 422\n# why\n      outcome: ignored\n",
            true,
        ),
        (
            "an anchor that another case names",
            "  - name: wrong\n    request: {json: 2}\n    expect: &e\n      status: 415\n  - name: alias\n    request: {headers: {content-type: multipart/form-data}, text: x}\n    expect: *e\n",
            false,
        ),
    ] {
        let folder = echoing(&format!("{right}{wrong}"));
        let file = folder.path().join("m/tests/echo.yaml");
        let before = fs::read_to_string(&file).unwrap();
        let output = run(folder.path(), &["pack", "test", "m", "--bless"]);
        let after = fs::read_to_string(&file).unwrap();
        assert_eq!(before != after, is_written, "{what}: {output:?}\n{after}");
        assert!(after.contains(right), "{what}: {after}");
        if is_written {
            assert!(output.status.success(), "{what}: {output:?}");
        }
    }
    let folder =
        echoing("  - name: wrong\r\n    request: {json: \"\\x7f\"}\r\n    expect:\r\n      status: 422\r\n");
    assert!(run(folder.path(), &["pack", "test", "m", "--bless"]).status.success());
    let blessed = fs::read_to_string(folder.path().join("m/tests/echo.yaml")).unwrap();
    assert_eq!(blessed.matches('\n').count(), blessed.matches("\r\n").count(), "{blessed:?}");
}

#[test]
fn a_failure_of_a_mapper_can_be_expected_by_its_detail() {
    let folder = echoing(
        "  - {name: fails, request: {json: 1}, expect: {status: 422, outcome: mapping_failed, detail: a hole}}\n",
    );
    let failing = component(&error(2, "the table has a hole"), &text("the table has a hole"));
    fs::write(folder.path().join("m/mappers/echo.wasm"), failing).unwrap();
    assert!(told(folder.path(), &["pack", "test", "m"]).ends_with("1 passed, 0 failed, 0 faults\n"));
}

#[test]
fn watch_runs_again_when_something_is_saved() {
    let folder = echoing("  - {name: one, request: {json: 1}, expect: {status: 200}}\n");
    let mut child =
        hookpack(folder.path(), &["pack", "test", "m", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |wanted: &str| lines.find(|line| line.starts_with(wanted)).unwrap();
    until("1 passed, 0 failed");
    until("watching m");
    let cases = "trigger: m.echo\ncases:\n  - {name: one, request: {json: 1}, expect: {status: 201}}\n";
    // As an editor saves: written beside, then renamed.
    fs::write(folder.path().join("m/tests/.echo.yaml.swp"), cases).unwrap();
    fs::rename(folder.path().join("m/tests/.echo.yaml.swp"), folder.path().join("m/tests/echo.yaml"))
        .unwrap();
    until("0 passed, 1 failed");
    until("watching m");
    fs::write(folder.path().join("m/pack.yaml"), "ref: m\n").unwrap();
    until("m/pack.yaml:1:1: `pack.yaml` lacks `name`");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_bundle_is_the_same_bytes_for_the_same_pack_and_holds_what_the_loader_reads() {
    let folder = echoing("  []\n");
    write(&folder.path().join("m/mappers/echo/src/lib.rs"), "// not in it");
    write(&folder.path().join("m/.git/config"), "nor this");
    told(folder.path(), &["pack", "bundle", "m"]);
    let bundle = folder.path().join("m-1.2.3.tar.gz");
    let first = fs::read(&bundle).unwrap();
    let checksum = fs::read_to_string(folder.path().join("m-1.2.3.tar.gz.sha256")).unwrap();
    assert_eq!(checksum, format!("{}  m-1.2.3.tar.gz\n", hex::encode(Sha256::digest(&first))));

    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(first.as_slice()));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push(entry.path().unwrap().to_str().unwrap().to_owned());
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
    }
    assert_eq!(files, ["m/mappers/echo.wasm", "m/pack.yaml", "m/tests/echo.yaml", "m/triggers/echo.yaml"]);

    // Elsewhere, with other times and rights, it is the same.
    copy(&folder.path().join("m"), &folder.path().join("elsewhere"));
    fs::set_permissions(folder.path().join("elsewhere/pack.yaml"), fs::Permissions::from_mode(0o600))
        .unwrap();
    told(folder.path(), &["pack", "bundle", "elsewhere", "--out", "again.tar.gz"]);
    assert_eq!(fs::read(folder.path().join("again.tar.gz")).unwrap(), first);

    let within = run(&folder.path().join("m"), &["pack", "bundle", "."]);
    assert!(String::from_utf8_lossy(&within.stderr).contains("would be a file of the pack"), "{within:?}");
}

#[test]
fn what_can_not_be_built_says_why() {
    let folder = echoing("  []\n");
    let build = |folder: &Path| String::from_utf8(run(folder, &["pack", "build", "m"]).stderr).unwrap();
    assert!(build(folder.path()).contains("there is nothing to build"));
    let source = folder.path().join("m/mappers/odd");
    write(&source.join("odd.py"), "");
    assert!(build(folder.path()).contains("pip install componentize-py"));
    write(&source.join("build"), "#!/bin/sh\nexit 0\n");
    assert!(build(folder.path()).contains("is it executable?"));
    fs::set_permissions(source.join("build"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(build(folder.path()).contains("its `build` script wrote no "));
    write(&source.join("build"), "#!/bin/sh\nprintf '\\0asm\\1\\0\\0\\0' > ../odd.wasm\n");
    let told = build(folder.path());
    assert!(told.contains("making a component of it"), "{told}");
}

/// What clang writes for C: a module whose exports have the right names, and nothing that says what they are.
#[test]
fn a_core_module_that_a_script_writes_is_made_a_component() {
    let folder = echoing("  - {name: one, request: {json: {a: 1}}, expect: {status: 200}}\n");
    let source = folder.path().join("m/mappers/echo");
    fs::create_dir(&source).unwrap();
    let module = one_event("(local.get $payload)", "(local.get $payload_len)");
    let module = wat::parse_str(module_text(&module, "", "(memory (export \"memory\") 2)")).unwrap();
    fs::write(source.join("echo.core"), module).unwrap();
    write(&source.join("build"), "#!/bin/sh\ncp echo.core ../echo.wasm\n");
    fs::set_permissions(source.join("build"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(told(folder.path(), &["pack", "build", "m"]).ends_with("hookpack:mapper 1.0.0\n"));
    assert!(told(folder.path(), &["pack", "test", "m"]).ends_with("1 passed, 0 failed, 0 faults\n"));
}

#[test]
fn every_copy_of_the_interface_is_the_interface() {
    let own = fs::read_to_string(repository().join("sdk/wit/mapper.wit")).unwrap();
    for example in ["python-mapper/mappers/alerts", "js-mapper/mappers/issue", "c-mapper/mappers/readings"] {
        let copy = repository().join("examples").join(example).join("wit/mapper.wit");
        assert_eq!(fs::read_to_string(&copy).unwrap(), own, "{}", copy.display());
    }
}
