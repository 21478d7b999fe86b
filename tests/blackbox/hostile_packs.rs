//! Packs come from outside: what each limit says when a pack hits it, and how soon.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::write;

const TRIGGER: &str = "name: order\nref: acme.order\ntype: webhook\n";
const ANY: &str = "payload_schema: {type: object}\n";

/// A sound pack named `acme`, in a folder of its own.
fn acme() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("acme/pack.yaml"), "ref: acme\nname: Acme\nversion: 1.0.0\n");
    write(&folder.path().join("acme/triggers/order.yaml"), &format!("{TRIGGER}{ANY}"));
    folder
}

fn hookpack(folder: &Path, arguments: &[&str]) -> Value {
    hookpack_with(folder, arguments, &[])
}

fn hookpack_with(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Value {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command
        .envs(settings.iter().copied())
        .args(arguments)
        .args(["acme", "--output", "json"])
        .current_dir(folder);
    let output = command.output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", began.elapsed());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The faults of the pack as `file: message`.
fn faults(folder: &Path) -> Vec<String> {
    faults_with(folder, &[])
}

fn faults_with(folder: &Path, settings: &[(&str, &str)]) -> Vec<String> {
    let report = hookpack_with(folder, &["pack", "check"], settings);
    let told = |fault: &Value| {
        format!("{}: {}", fault["file"].as_str().unwrap(), fault["message"].as_str().unwrap())
    };
    report["faults"].as_array().unwrap().iter().map(told).collect()
}

#[test]
fn files_that_are_none_of_a_pack_are_refused() {
    type Make = fn(&Path);
    let table: [(&str, Make, &[&str]); 12] = [
        (
            "a file behind a link out",
            |pack| symlink("/etc/hostname", pack.join("schemas.json")).unwrap(),
            &["acme/schemas.json: this link leads out of the pack"],
        ),
        (
            "a folder behind a link out",
            |pack| symlink("/etc", pack.join("schemas")).unwrap(),
            &["acme/schemas: this link leads out of the pack"],
        ),
        (
            "a relative link out",
            |pack| symlink("..", pack.join("schemas")).unwrap(),
            &["acme/schemas: this link leads out of the pack"],
        ),
        (
            "a device behind a link",
            |pack| symlink("/dev/zero", pack.join("README.md")).unwrap(),
            &["acme/README.md: this link leads out of the pack"],
        ),
        (
            "a link to itself",
            |pack| symlink("loop", pack.join("loop")).unwrap(),
            &["acme/loop: this file can't be read: Too many levels of symbolic links (os error 40)"],
        ),
        (
            "a link to nothing",
            |pack| symlink("nothing", pack.join("link")).unwrap(),
            &["acme/link: this file can't be read: No such file or directory (os error 2)"],
        ),
        (
            "a link to its own folder",
            |pack| symlink("..", pack.join("triggers/up")).unwrap(),
            &["acme/triggers/up: this link leads back to a folder that it lies in"],
        ),
        (
            "a pipe",
            |pack| make_pipe(&pack.join("triggers/refund.yaml")),
            &["acme/triggers/refund.yaml: this is neither a file nor a folder"],
        ),
        (
            "a socket",
            |pack| drop(UnixListener::bind(pack.join("socket")).unwrap()),
            &["acme/socket: this is neither a file nor a folder"],
        ),
        (
            "a large file",
            |pack| fs::write(pack.join("large.txt"), vec![b'x'; 2 << 20]).unwrap(),
            &["acme/large.txt: this file is larger than 1048576 bytes (pack_file_bytes_max)"],
        ),
        (
            "a name that is no text",
            |pack| fs::write(pack.join(OsStr::from_bytes(b"caf\xe9")), "").unwrap(),
            &["acme: the file name `caf\u{fffd}` is not UTF-8"],
        ),
        (
            "folders within folders",
            |pack| write(&pack.join("1/2/3/4/5/6/7/8/9/x"), ""),
            &["acme/1/2/3/4/5/6/7/8/9: folders are nested more than 8 deep"],
        ),
    ];
    for (what, make, expected) in table {
        let folder = acme();
        make(&folder.path().join("acme"));
        assert_eq!(faults(folder.path()), expected, "{what}");
    }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_link_within_the_pack_is_followed() {
    let folder = acme();
    let pack = folder.path().join("acme");
    write(
        &pack.join("triggers/order.yaml"),
        &format!("{TRIGGER}payload_schema: {{$ref: ../schemas/order.yaml}}\n"),
    );
    write(&pack.join("shared/order.yaml"), "type: object\n");
    symlink("shared", pack.join("schemas")).unwrap();
    assert_eq!(faults(folder.path()), [""; 0]);
}

#[test]
fn a_file_that_may_not_be_read_is_a_fault() {
    let folder = acme();
    let file = folder.path().join("acme/README.md");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&file).is_ok() {
        return; // root reads everything
    }
    let expected = "acme/README.md: this file can't be read: Permission denied (os error 13)";
    assert_eq!(faults(folder.path()), [expected]);
}

#[test]
fn a_pack_of_too_much_is_refused() {
    let many = acme();
    for number in 0..1001 {
        write(&many.path().join(format!("acme/payloads/{number}.json")), "{}");
    }
    let expected = "acme: this pack has 1000 files and folders or more (pack_files_max)";
    assert_eq!(faults(many.path()), [expected]);

    let large = acme();
    for number in 0..65 {
        write(&large.path().join(format!("acme/payloads/{number}.json")), &" ".repeat(1 << 20));
    }
    let expected = "acme: this pack is 67108864 bytes or larger (pack_bytes_max)";
    assert_eq!(faults(large.path()), [expected]);

    // Ten links in each of seven folders: a hundred files that look like ten million.
    let echoes = acme();
    let folder = |level: usize| echoes.path().join(format!("acme/level{level}"));
    for level in 0..7 {
        fs::create_dir(folder(level)).unwrap();
        for number in 0..10 {
            symlink(format!("../level{}", level + 1), folder(level).join(number.to_string())).unwrap();
        }
    }
    fs::create_dir(folder(7)).unwrap();
    let expected = "acme: this pack has 1000 files and folders or more (pack_files_max)";
    assert_eq!(faults(echoes.path()), [expected]);
}

#[test]
fn yaml_and_schemas_that_grow_without_end_are_refused() {
    let aliases: String =
        (1..10).fold("  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let alias = format!("*a{}", level - 1);
            format!("{text}  a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "))
        });
    let references: String = (0..40).fold(String::new(), |text, level| {
        let next = format!("{{$ref: \"#/$defs/a{}\"}}", level + 1);
        format!("{text}    a{level}: {{allOf: [{next}, {next}]}}\n")
    });
    let chain: String = (0..10_000).fold(String::new(), |text, level| {
        format!("{text}    a{level}: {{$ref: \"#/$defs/a{}\"}}\n", level + 1)
    });
    let table = [
        (
            format!("{TRIGGER}payload_schema:\n{aliases}"),
            "more than 50000 values, counting those behind aliases (yaml_nodes_max)",
        ),
        (
            format!("{TRIGGER}payload_schema: {}", "[".repeat(10_000)),
            "nested more than 64 deep (yaml_depth_max)",
        ),
        (
            format!("{TRIGGER}payload_schema: {}{}", "{a: ".repeat(10_000), "}".repeat(10_000)),
            "nested more than 64 deep (yaml_depth_max)",
        ),
        (
            format!("{TRIGGER}payload_schema: {{enum: [{}]}}", "x, ".repeat(60_000)),
            "more than 50000 values, counting those behind aliases (yaml_nodes_max)",
        ),
        (
            format!(
                "{TRIGGER}payload_schema:\n  $ref: \"#/$defs/a0\"\n  $defs:\n{references}    a40: true\n"
            ),
            "checking one value against this schema takes more than 50000 steps (yaml_nodes_max)",
        ),
        (
            format!("{TRIGGER}payload_schema:\n  $ref: \"#/$defs/a0\"\n  $defs:\n{chain}    a10000: true\n"),
            "this schema leads through more than 256 references, one after the other",
        ),
        (
            format!("{TRIGGER}payload_schema: {{pattern: \"((a{{1000}}){{1000}}){{1000}}\"}}"),
            "`((a{1000}){1000}){1000}` can't be used as a pattern",
        ),
        (
            format!("{TRIGGER}payload_schema: {{pattern: '{}'}}", "(".repeat(100_000)),
            "can't be used as a pattern",
        ),
    ];
    for (text, expected) in table {
        let folder = acme();
        write(&folder.path().join("acme/triggers/order.yaml"), &text);
        let told = faults(folder.path());
        assert!(told.len() == 1 && told[0].ends_with(expected), "{expected}: {told:?}");
    }
}

/// Thirty definitions that each refer twice to the next, however the reference is written: 2^30 steps.
#[test]
fn a_chain_of_references_that_doubles_is_refused_in_each_spelling() {
    type Write = fn(usize) -> String;
    let schema = |dialect: &str, defs: &str, marked: Write, reference: Write| {
        let definitions: String = (0..30).fold(String::new(), |text, level| {
            let next = reference(level + 1);
            format!("{text}    \"a/{level}\": {{{} allOf: [{{{next}}}, {{{next}}}]}}\n", marked(level))
        });
        let last = format!("    \"a/30\": {{{} type: object}}\n", marked(30));
        let entry = reference(0);
        format!("$schema: {dialect}\nallOf: [{{{entry}}}]\n{defs}:\n{definitions}{last}")
    };
    let unmarked: Write = |_| String::new();
    let (new, middle, seven, four) = (
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-04/schema#",
    );
    let table: [(&str, String); 9] = [
        ("pointer", schema(new, "$defs", unmarked, |n| format!("$ref: \"#/$defs/a~1{n}\""))),
        ("percent", schema(new, "$defs", unmarked, |n| format!("$ref: \"#/%24defs/%61~1{n}\""))),
        ("file", schema(new, "$defs", unmarked, |n| format!("$ref: \"chain.yaml#/$defs/a~1{n}\""))),
        ("anchor", schema(new, "$defs", |n| format!("$anchor: x{n},"), |n| format!("$ref: \"#x{n}\""))),
        (
            "dynamic",
            schema(new, "$defs", |n| format!("$dynamicAnchor: x{n},"), |n| format!("$dynamicRef: \"#x{n}\"")),
        ),
        (
            "dynamic by pointer",
            schema(new, "$defs", unmarked, |n| format!("$dynamicRef: \"#/$defs/a~1{n}\"")),
        ),
        ("2019-09", schema(middle, "$defs", |n| format!("$anchor: x{n},"), |n| format!("$ref: \"#x{n}\""))),
        ("draft 7", schema(seven, "definitions", unmarked, |n| format!("$ref: \"#/definitions/a~1{n}\""))),
        ("draft 4", schema(four, "definitions", unmarked, |n| format!("$ref: \"#/definitions/a~1{n}\""))),
    ];
    let expected = "checking one value against this schema takes more than 50000 steps (yaml_nodes_max)";
    for (what, text) in table {
        let folder = acme();
        let pack = folder.path().join("acme");
        write(&pack.join("schemas/chain.yaml"), &text);
        let trigger = format!("{TRIGGER}payload_schema: {{$ref: ../schemas/chain.yaml}}\n");
        write(&pack.join("triggers/order.yaml"), &trigger);
        let told = faults(folder.path());
        assert_eq!(
            told.first().map(String::as_str),
            Some(&*format!("acme/schemas/chain.yaml: {expected}")),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn a_schema_that_refers_to_itself_below_a_member_is_fine() {
    let folder = acme();
    let tree = "$dynamicAnchor: node\ntype: object\nproperties:\n  children: {type: array, items: {$dynamicRef: \"#node\"}}
  next: {$ref: \"#\"}\n  either: {anyOf: [{$ref: \"#/$defs/leaf\"}, {$ref: tree.yaml}]}\n$defs: {leaf: {type: string}}\n";
    write(&folder.path().join("acme/schemas/tree.yaml"), tree);
    let trigger = format!("{TRIGGER}payload_schema: {{$ref: ../schemas/tree.yaml}}\n");
    write(&folder.path().join("acme/triggers/order.yaml"), &trigger);
    assert_eq!(faults(folder.path()), [""; 0]);
}

#[test]
fn every_pattern_that_can_not_be_used_is_told() {
    let folder = acme();
    let schema = "payload_schema: {properties: {a: {pattern: '(?=x)'}, b: {pattern: '('}}, patternProperties: {'[': true, '^x': {pattern: '(a)\\1'}}}\n";
    write(&folder.path().join("acme/triggers/order.yaml"), &format!("{TRIGGER}{schema}"));
    let told = |pattern: &str| format!("acme/triggers/order.yaml: `{pattern}` can't be used as a pattern");
    assert_eq!(faults(folder.path()), ["(?=x)", "(", "[", "(a)\\1"].map(told));
}

/// 3,000 expressions, each within its own limit, took 2 GB and 14 s.
#[test]
fn what_a_pack_has_in_all_is_bounded() {
    let folder = acme();
    let patterns: String = (0..3000).fold(String::new(), |text, number| {
        format!("{text}    p{number}: {{pattern: '^x{number}[a-z]{{500}}$'}}\n")
    });
    let trigger = format!("{TRIGGER}payload_schema:\n  properties:\n{patterns}");
    write(&folder.path().join("acme/triggers/order.yaml"), &trigger);
    let expected = "with this one, the patterns of this pack have more than 20000 states together (pack_pattern_states_max)";
    let told = faults_with(folder.path(), &[("HOOKPACK_PACK_PATTERN_STATES_MAX", "20000")]);
    assert_eq!(told, [format!("acme/triggers/order.yaml: {expected}")]);

    let folder = acme();
    let members: String = (0..100).fold(String::new(), |text, number| {
        format!("{text}  p{number}: {{type: string, maxLength: {number}}}\n")
    });
    write(&folder.path().join("acme/schemas/wide.yaml"), &format!("properties:\n{members}"));
    for number in 0..20 {
        let schema = format!("payload_schema: {{title: t{number}, $ref: ../schemas/wide.yaml}}\n");
        let text = format!("name: t{number}\nref: acme.t{number}\ntype: webhook\n{schema}");
        write(&folder.path().join(format!("acme/triggers/t{number}.yaml")), &text);
    }
    let told = faults_with(folder.path(), &[("HOOKPACK_PACK_SCHEMA_NODES_MAX", "1000")]);
    let expected = "with this one, the schemas of this pack reach more than 1000 schemas, counting those behind references (pack_schema_nodes_max)";
    assert!(told[0].ends_with(expected), "{told:?}");
    assert_eq!(faults(folder.path()), [""; 0]);
}

/// An engine that goes back and forth would need 2^50 000 steps for these.
#[test]
fn patterns_that_explode_elsewhere_run_in_linear_time() {
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(a|a)*$", "^(.*a){12}$", "(x+x+)+y"] {
        let folder = acme();
        let pack = folder.path().join("acme");
        let schema = format!("payload_schema: {{properties: {{id: {{pattern: '{pattern}'}}}}}}\n");
        write(&pack.join("triggers/order.yaml"), &format!("{TRIGGER}{schema}"));
        write(&pack.join("tests/id.json"), &format!("{{\"id\": \"{}!\"}}", "a".repeat(50_000)));
        let case = "{name: no match, request: {file: id.json}, expect: {status: 422}}";
        write(&pack.join("tests/order.yaml"), &format!("trigger: acme.order\ncases: [{case}]\n"));
        let report = hookpack(folder.path(), &["pack", "test"]);
        assert_eq!(report["passed"], 1, "{pattern}: {report}");
    }
}

#[test]
fn a_pack_can_not_speak_to_the_terminal() {
    let folder = acme();
    let trigger = format!("{TRIGGER}{ANY}\"\\e[2J\\e]0;owned\\a\": 1\n");
    write(&folder.path().join("acme/triggers/order.yaml"), &trigger);
    let expected = "acme/triggers/order.yaml: unknown key `\u{fffd}[2J\u{fffd}]0;owned\u{fffd}` in a trigger";
    assert_eq!(faults(folder.path()), [expected]);
}
