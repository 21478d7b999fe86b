//! Packs as archives: what is read of them, what is refused, checksums and signatures.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::EntryType;
use tempfile::TempDir;

use crate::harness::{Setup, eventually, repository, write};

const MANIFEST: &str = "ref: acme\nname: Acme\nversion: 1.0.0\n";
const TRIGGER: &str =
    "name: t\nref: acme.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";

fn hookpack(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.args(arguments).current_dir(folder).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// One entry as anybody could write it: the library that we read with would not.
fn entry(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
    }
    header.set_cksum();
    let padding = content.len().next_multiple_of(512) - content.len();
    [header.as_bytes().as_slice(), content, &vec![0; padding]].concat()
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, EntryType::Regular, content.as_bytes())
}

/// A whole pack, and what comes after it.
fn pack_and(more: &[u8]) -> Vec<u8> {
    let own = [file("acme/pack.yaml", MANIFEST), file("acme/triggers/t.yaml", TRIGGER)].concat();
    gzip(&[&own, more, &[0; 1024]].concat())
}

/// Bytes that hardly compress.
fn noise(count: usize) -> Vec<u8> {
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Some(state.to_be_bytes()[0])
    };
    std::iter::repeat(()).scan(7, |state, ()| next(state)).take(count).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What `pack check` says of an archive.
fn check(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.tar.gz"), bytes).unwrap();
    told(&hookpack(folder.path(), &["pack", "check", "a.tar.gz"]))
}

#[test]
fn an_archive_is_read_like_the_folder_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("acme/pack.yaml"), MANIFEST);
    write(&at("acme/triggers/t.yaml"), TRIGGER);
    write(&at("acme/.git/config"), "not ours");
    write(&at("acme/mappers/source/Cargo.toml"), "[not ours");
    let hash = |packs: &str| {
        let setup = Setup::new(&[]);
        let reader = &setup.config;
        let sandbox = hookpack::wasm::Sandbox::new(reader, hookpack::wasm::Purpose::Serve, None);
        let reader = hookpack::pack::Reader { limits: reader, sandbox: &sandbox };
        let loaded = hookpack::pack::load_alone(&at(packs), packs, reader);
        let pack = loaded.packs().next().unwrap_or_else(|| panic!("{packs}: {:?}", loaded.report()));
        pack.content_hash
    };
    let own = hash("acme");
    // By us, by tar from outside and from inside the folder, and as macOS's tar adds to it.
    assert!(hookpack(folder.path(), &["pack", "bundle", "acme", "-o", "bundled.tar.gz"]).status.success());
    let tar = |args: &[&str]| {
        let ran = Command::new("tar").args(args).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{}", told(&ran));
    };
    tar(&["-czf", "outside.tar.gz", "acme"]);
    tar(&["-czf", "inside.tar.gz", "-C", "acme", "."]);
    tar(&["-czf", "pax.tar.gz", "--format=pax", "acme"]);
    let with_double = pack_and(&file("acme/._pack.yaml", "AppleDouble"));
    fs::write(at("double.tar.gz"), with_double).unwrap();
    for archive in ["bundled", "outside", "inside", "pax", "double"] {
        assert_eq!(hash(&format!("{archive}.tar.gz")), own, "{archive}");
    }
}

#[test]
fn a_fault_in_an_archive_points_at_its_line() {
    let wrong = file("acme/triggers/u.yaml", "name: u\nref: acme.u\ntype: webhok\npayload_schema: true\n");
    let report = check(&pack_and(&wrong));
    assert!(report.starts_with("a.tar.gz/triggers/u.yaml:3:7: "), "{report}");
    assert!(report.contains("type: webhok"), "{report}");
}

#[test]
fn an_archive_has_files_and_folders_inside_and_nothing_else() {
    let zeros = vec![0; 3 << 20];
    let many: Vec<u8> = (0..1001).flat_map(|number| file(&format!("acme/tests/{number}.yaml"), "")).collect();
    let cut = pack_and(&file("acme/README.md", &"text ".repeat(1000)));
    let whole = pack_and(&[]);
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("acme/evil:1:1: this is a link", pack_and(&entry("acme/evil", EntryType::Symlink, b""))),
        ("acme/evil:1:1: this is a link", pack_and(&entry("acme/evil", EntryType::Link, b""))),
        ("acme/null:1:1: this is a device", pack_and(&entry("acme/null", EntryType::Char, b""))),
        ("acme/sda:1:1: this is a device", pack_and(&entry("acme/sda", EntryType::Block, b""))),
        ("acme/pipe:1:1: this is a pipe", pack_and(&entry("acme/pipe", EntryType::Fifo, b""))),
        ("/etc/cron.d/x:1:1: this path is absolute", pack_and(&file("/etc/cron.d/x", "x"))),
        ("/etc:1:1: this path is absolute", pack_and(&entry("/etc", EntryType::Directory, b""))),
        (
            "acme/../../x:1:1: this path leads out of the archive with `..`",
            pack_and(&file("acme/../../x", "x")),
        ),
        ("this path has a character that a pack's files don't", pack_and(&file("acme/a\\b", "x"))),
        (
            "acme/pack.yaml:1:1: this file is in the archive twice",
            pack_and(&file("acme/pack.yaml", "ref: b\n")),
        ),
        (
            "acme/pack.yaml:1:1: this file is in the archive twice",
            pack_and(&file("./acme//pack.yaml", "ref: b\n")),
        ),
        (
            "acme/big.yaml:1:1: this file is larger than 1048576 bytes (pack_file_bytes_max)",
            pack_and(&entry("acme/big.yaml", EntryType::Regular, &noise((1 << 20) + 1))),
        ),
        ("this pack has 1000 files and folders or more (pack_files_max)", pack_and(&many)),
        (
            "this archive grows to more than 100 times its size (archive_ratio_max)",
            pack_and(&entry("acme/mappers/zeros.wasm", EntryType::Regular, &zeros)),
        ),
        ("this archive is cut off", cut[..cut.len() - 9].to_vec()),
        ("this archive is cut off", cut[..cut.len() / 2].to_vec()),
        ("this archive can't be unpacked", b"not an archive at all".to_vec()),
        ("this archive can't be unpacked", gzip(b"not an archive either")),
        ("this archive is cut off", Vec::new()),
        ("something follows the end of this archive", [whole.clone(), b"more".to_vec()].concat()),
        ("this archive can't be unpacked", {
            let mut flipped = whole.clone();
            let at = flipped.len() - 6;
            flipped[at] ^= 1;
            flipped
        }),
        ("there is no `pack.yaml` here", gzip(&[file("readme", "hello"), vec![0; 1024]].concat())),
        ("there is no `pack.yaml` here", gzip(&[0; 1024])),
    ];
    for (expected, bytes) in rows {
        let report = check(&bytes);
        assert!(report.contains(expected), "{expected}: {report}");
        assert!(report.starts_with("a.tar.gz"), "{report}");
        assert!(report.contains("1 pack, 1 fault, 0 warnings"), "{report}");
    }
    assert_eq!(check(&whole).lines().last().unwrap(), "1 pack, 0 faults, 0 warnings");
}

/// 64 MiB of zeros in 64 kB: told by its ratio long before it is unpacked, in memory that stays small.
#[test]
fn a_bomb_does_not_go_off() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_ustar();
    header.set_path("acme/mappers/bomb.wasm").unwrap();
    header.set_size(8 << 30);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.tar.gz"), encoder.finish().unwrap()).unwrap();
    let check = format!("ulimit -v 1500000; {} pack check a.tar.gz", env!("CARGO_BIN_EXE_hookpack"));
    let ran = Command::new("bash").args(["-c", &check]).current_dir(folder.path()).output().unwrap();
    assert!(told(&ran).contains("(archive_ratio_max)"), "{}", told(&ran));
}

#[test]
fn a_checksum_beside_an_archive_must_match() {
    let bytes = pack_and(&[]);
    let digest = hex::encode(Sha256::digest(&bytes));
    let other = "0".repeat(64);
    let rows = [
        (format!("{digest}  a.tar.gz\n"), "1 pack, 0 faults"),
        (format!("{digest} *a.tar.gz\n"), "1 pack, 0 faults"),
        (digest.clone(), "1 pack, 0 faults"),
        // Called so when it was made.
        (format!("{digest}  acme-1.0.0.tar.gz\n"), "1 pack, 0 faults"),
        (format!("{other}  b.tar.gz\n{digest}  a.tar.gz\n"), "1 pack, 0 faults"),
        (format!("{other}  a.tar.gz\n"), "and `a.tar.gz.sha256` says 0000"),
        (
            format!("{other}  b.tar.gz\n{digest}  c.tar.gz\n"),
            "`a.tar.gz.sha256` has no SHA-256 of this archive",
        ),
        (String::new(), "`a.tar.gz.sha256` has no SHA-256 of this archive"),
        ("MD5".to_owned(), "`a.tar.gz.sha256` has no SHA-256 of this archive"),
    ];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.tar.gz"), &bytes).unwrap();
    for (text, expected) in rows {
        fs::write(folder.path().join("a.tar.gz.sha256"), &text).unwrap();
        let report = told(&hookpack(folder.path(), &["pack", "check", "a.tar.gz"]));
        assert!(report.contains(expected), "{text}: {report}");
    }
}

/// A key as the README makes it.
fn key(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let ran = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&path).output();
    assert!(ran.unwrap().status.success());
    path
}

struct Signed {
    folder: TempDir,
    /// What a host is told to accept.
    public_key: String,
}

fn signed() -> Signed {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("acme/pack.yaml"), MANIFEST);
    write(&folder.path().join("acme/triggers/t.yaml"), TRIGGER);
    key(folder.path(), "packs.key");
    let bundled =
        hookpack(folder.path(), &["pack", "bundle", "acme", "--sign", "packs.key", "-o", "acme.tar.gz"]);
    let line = told(&bundled).lines().last().unwrap().to_owned();
    let public_key = line.split_once('[').unwrap().1.split_once(']').unwrap().0.to_owned();
    Signed { folder, public_key }
}

/// By OpenSSL, which had no part in making it.
#[test]
fn a_signature_is_one_that_others_can_check() {
    let signed = signed();
    let at = |name: &str| signed.folder.path().join(name);
    let openssl = |args: &[&str]| {
        let ran = Command::new("openssl").args(args).current_dir(signed.folder.path()).output().unwrap();
        assert!(ran.status.success(), "{}", told(&ran));
        told(&ran)
    };
    openssl(&["pkey", "-in", "packs.key", "-pubout", "-out", "packs.pub"]);
    openssl(&["base64", "-d", "-A", "-in", "acme.tar.gz.sig", "-out", "raw.sig"]);
    let verify = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "packs.pub",
        "-rawin",
        "-in",
        "acme.tar.gz",
        "-sigfile",
        "raw.sig",
    ];
    assert!(openssl(&verify).contains("Success"));
    let pem = fs::read_to_string(at("packs.pub")).unwrap();
    let key: hookpack::signing::PublicKey = serde_json::from_value(Value::String(pem)).unwrap();
    assert_eq!(key.to_string(), signed.public_key);
    let refused = hookpack(signed.folder.path(), &["pack", "bundle", "acme", "--sign", "acme/pack.yaml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        told(&refused).contains("`openssl genpkey -algorithm ed25519 -out FILE` makes one"),
        "{}",
        told(&refused)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_wants_signatures_runs_nothing_without() {
    let made = signed();
    let archive = fs::read(made.folder.path().join("acme.tar.gz")).unwrap();
    let signature = fs::read(made.folder.path().join("acme.tar.gz.sig")).unwrap();
    let mut setup = Setup::new(&[("shop/triggers/t.yaml", &TRIGGER.replace("acme", "shop"))]);
    let key = serde_json::from_value(Value::String(made.public_key)).unwrap();
    setup.config.require_signed_packs = vec![key];
    let host = setup.start().await;
    let state = async |name: &str| {
        let all = host.api("/api/v1/packs").await.json()["data"].clone();
        all.as_array().unwrap().iter().find(|pack| pack["folder"] == name).cloned().unwrap_or_default()
    };
    let until = async |name: &str, what: &str| {
        eventually(what, async || {
            let pack = state(name).await;
            let fault = pack["faults"][0]["message"].as_str().unwrap_or_default().to_owned();
            (pack["state"] == what || fault.contains(what)).then_some(())
        })
        .await;
    };
    until("shop", "a folder is not signed, and this host wants it (require_signed_packs)").await;

    let at = |name: &str| host.packs().join(name);
    fs::write(at("acme.tar.gz"), &archive).unwrap();
    until("acme.tar.gz", "this archive is not signed, and this host wants it (require_signed_packs)").await;
    fs::write(at("acme.tar.gz.sig"), &signature).unwrap();
    until("acme.tar.gz", "live").await;

    // Another archive under the old signature: refused, and the signed one runs on.
    fs::write(at("acme.tar.gz"), pack_and(&file("acme/more.md", "more"))).unwrap();
    until(
        "acme.tar.gz",
        "`acme.tar.gz.sig` is not a signature of this archive by a key of `require_signed_packs`",
    )
    .await;
    assert_eq!(state("acme.tar.gz").await["state"], "live_newer_refused");
    assert_eq!(host.send("acme.t", "{}").await.status, 200);

    // By a key that nobody trusts.
    let other = signed();
    for name in ["acme.tar.gz", "acme.tar.gz.sig"] {
        fs::copy(other.folder.path().join(name), at(name)).unwrap();
    }
    until("acme.tar.gz", "is not a signature of this archive").await;
    fs::write(at("acme.tar.gz.sig"), "nonsense!").unwrap();
    until("acme.tar.gz", "`acme.tar.gz.sig` is not a signature in base64").await;
}

/// Every pack of the repository, bundled, checks as its folder does, and its cases pass.
#[test]
fn what_bundle_writes_can_be_checked_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    for pack in ["github", "stripe", "myapp"] {
        let from = repository().join("packs").join(pack);
        let out = format!("{pack}.tar.gz");
        let bundled = hookpack(folder.path(), &["pack", "bundle", from.to_str().unwrap(), "-o", &out]);
        assert!(bundled.status.success(), "{}", told(&bundled));
        let tested = hookpack(folder.path(), &["pack", "test", &out]);
        assert!(tested.status.success(), "{}", told(&tested));
    }
    assert!(
        told(&hookpack(folder.path(), &["pack", "check", "."])).ends_with("3 packs, 0 faults, 0 warnings\n")
    );
}
