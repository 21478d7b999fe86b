//! Any request to any preset, under a secret that nobody knows: nobody is believed.

#![no_main]

use std::sync::OnceLock;

use hookpack::{
    budget::Budget,
    pack::{self, Reader, presets},
    secret::SecretValue,
    verify::{Seen, Verify, public_key::private},
};
use hookpack_fuzz::{request, sandbox};
use libfuzzer_sys::fuzz_target;
use time::macros::datetime;

fn all() -> &'static [Verify] {
    static MADE: OnceLock<Vec<Verify>> = OnceLock::new();
    MADE.get_or_init(|| presets::all().iter().map(|preset| of(&preset.name)).collect())
}

fn of(preset: &str) -> Verify {
    let folder = tempfile::tempdir().expect("a folder");
    let params = "{webhook_id: W, public_key: p, audience: a, email: e}";
    let manifest = format!(
        "ref: f\nname: f\nversion: 1.0.0\nwebhook: {{preset: {preset}, secrets: [own], params: {params}}}\n"
    );
    std::fs::write(folder.path().join("pack.yaml"), manifest).expect("written");
    std::fs::create_dir(folder.path().join("triggers")).expect("made");
    let trigger = "name: t\nref: f.t\ntype: webhook\npayload_schema: true\n";
    std::fs::write(folder.path().join("triggers/t.yaml"), trigger).expect("written");
    let limits = hookpack::config::Config::default();
    let loaded = pack::load_alone(folder.path(), "f", Reader { limits: &limits, sandbox: sandbox() });
    let pack = loaded.packs().next().unwrap_or_else(|| panic!("{preset}: {:?}", loaded.report()));
    pack.triggers[0].policy.verify.clone()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((number, rest)) = bytes.split_first() else { return };
    let verify = &all()[usize::from(*number) % all().len()];
    let request = request(rest);
    let budget = Budget::default();
    let seen = Seen::new(&request, "https://hooks.example.com", &budget);
    let fetched = verify.wanted(&seen).ok().flatten().map(|_| private::CERTIFICATE);
    let secret = [SecretValue::new("c3e1c8a75d1f4d0d9a5f7c1b3e2a4f60")];
    let now = datetime!(2026-11-22 10:00 UTC);
    assert!(verify.check(&seen.with(fetched), &secret, now).is_err());
});
