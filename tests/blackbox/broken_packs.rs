//! Every way that we know of to write a pack wrong, and the exact report that its author gets.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{repository, write};

fn fixtures() -> PathBuf {
    repository().join("tests/fixtures/broken")
}

/// What `hookpack pack check DIR` prints in `folder`; it fails, unless there are only warnings.
fn check(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    let output = command.args(["pack", "check"]).args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fine = text.contains(" 0 faults") || text.contains(r#""faults":[]"#);
    assert_eq!(output.status.code(), Some(i32::from(!fine)), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{text}");
    text
}

#[test]
fn every_broken_pack_has_one_fault_and_its_report_is_known() {
    let mut packs: Vec<_> =
        fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    packs.sort();
    assert!(packs.len() >= 60, "{} packs", packs.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/broken");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for pack in packs {
        let pack = pack.to_str().unwrap();
        let report = check(&fixtures(), &[pack]);
        // Of two packs with one ref each is told.
        let counts = if pack == "twins-in-two-packs" {
            "2 packs, 2 faults, 0 warnings\n"
        } else {
            "1 pack, 1 fault, 0 warnings\n"
        };
        assert!(report.ends_with(counts), "{report}");
        settings.bind(|| insta::assert_snapshot!(pack, report));
    }
}

/// A pack of one trigger from the rest of its file, and further files.
fn pack(folder: &Path, trigger: &str, files: &[(&str, &str)]) {
    let head = "name: order\nref: acme.order\ntype: webhook\n";
    write(&folder.join("acme/pack.yaml"), "ref: acme\nname: Acme\nversion: 1.0.0\n");
    write(&folder.join("acme/triggers/order.yaml"), &format!("{head}{trigger}"));
    for (file, text) in files {
        write(&folder.join("acme").join(file), text);
    }
}

const ANY: &str = "payload_schema: {type: object}\n";

#[test]
fn faults_of_several_packs_come_in_one_report() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = "payload_schema: {type: strng}\nmatch: {'$.id[': 1}\nmapping: {fields: {id: '$.id['}}\n";
    pack(folder.path(), wrong, &[("tests/order.yaml", "trigger: acme.order\n")]);
    let manifest = "ref: shop\nname: Shop\nversion: one\nwebhook: {preset: gihtub}\n";
    write(&folder.path().join("shop/pack.yaml"), manifest);
    write(&folder.path().join("shop/triggers/sale.yaml"), "name: sale\n");
    insta::assert_snapshot!(check(folder.path(), &["."]));
}

#[test]
fn doubtful_packs_load_with_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let trigger = "
payload_schema:
  type: object
  requried: [id]
  properties:
    id: {type: integer, format: int64}
    at: {type: string, format: datetime}
split: $.orders
webhook: {enabled: true}
";
    let cases = "endpoint: acme\ncases: [{name: one, request: {json: {}}, expect: {status: 200}}]\n";
    pack(folder.path(), trigger, &[("tests/order.yaml", cases), ("triggers/notes.txt", "")]);
    write(&folder.path().join("shop-1.0.0.zip"), "");
    insta::assert_snapshot!(check(folder.path(), &["."]));
}

#[test]
fn the_report_as_json_has_the_documented_shape() {
    let report = check(&fixtures(), &["manifest-unknown-key", "--output", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn a_pack_without_a_secret_of_its_own_lends_its_preset_to_triggers_that_have_one() {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path(), &format!("{ANY}webhook: {{enabled: true, secrets: [acme_webhook]}}\n"), &[]);
    let manifest = folder.path().join("acme/pack.yaml");
    fs::write(&manifest, "ref: acme\nname: Acme\nversion: 1.0.0\nwebhook: {preset: github}\n").unwrap();
    assert_eq!(check(folder.path(), &["acme"]), "1 pack, 0 faults, 0 warnings\n");
}
