//! What each step of a request costs in memory, beside the bare parts that it can't do without.
//!
//!     cargo bench --bench pipeline                 # all
//!     cargo bench --bench pipeline -- whole        # authenticate and judge, as for each request
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark may stop where it stands"
)]

use std::{
    fs,
    hint::black_box,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::FutureExt;
use hmac::{KeyInit, Mac};
use hookpack::{
    budget::{self, Budget},
    config::Config,
    decode::{self, Coding},
    mapping::{Given, Made},
    pack::{self, Pack, Reader, Trigger},
    receive::{Limits, authenticate, judge},
    registry::Target,
    request::Inbound,
    secret::SecretValue,
    steps::Steps,
    verify::Seen,
    wasm::{Purpose, Sandbox},
};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};
use sha2::Sha256;
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

/// The host's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: OffsetDateTime = datetime!(2026-11-22 10:00:00.123456 UTC);
const SECRET: &str = "It's a Secret to Everybody";
const PUBLIC_URL: &str = "https://hooks.example.com";
const SIZES: [(&str, usize); 2] = [("1.5 kB", 1_500), ("20 kB", 20_000)];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots()
        .configure_from_args();
    let github = Arc::new(load(&shipped("github")));
    let stripe = Arc::new(load(&shipped("stripe")));
    let templates = tempfile::tempdir().unwrap();
    let templates = Arc::new(load(&with_template(&shipped("github"), templates.path())));
    for (name, bytes) in SIZES {
        let body = push(bytes);
        let case = Case { name, request: signed(&github.policy.verify, &body) };
        bare(&mut criterion, &case);
        steps(&mut criterion, &case, trigger(&github, "github.push"), trigger(&templates, "github.push"));
        verify_stripe(&mut criterion, &case, &stripe, &body);
        whole(&mut criterion, &case, &github);
    }
    criterion.final_summary();
}

/// A request of some size.
struct Case {
    name: &'static str,
    request: Inbound,
}

/// The parts that any receiver pays for, called without a line between.
fn bare(criterion: &mut Criterion, case: &Case) {
    let body = &case.request.body;
    measure(criterion, "bare/hmac-sha256", case, || {
        let mut mac = hmac::Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body);
        mac.finalize().into_bytes()
    });
    measure(criterion, "bare/serde_json::Value", case, || serde_json::from_slice::<Value>(body).unwrap());
}

fn steps(criterion: &mut Criterion, case: &Case, push: &Trigger, template: &Trigger) {
    let (request, secrets) = (&case.request, [SecretValue::new(SECRET)]);
    let coding = Coding::of(&request.headers).unwrap();
    let limits =
        decode::Limits { bytes_max: push.policy.body_bytes_max, payloads_max: 1, form_fields_max: 1 };
    let payload = coding.decode(request, limits).unwrap().payloads.remove(0);
    measure(criterion, "verify/github", case, || {
        push.policy.verify.check(&Seen::new(request, PUBLIC_URL, &Budget::default()), &secrets, NOW).unwrap();
    });
    measure(criterion, "decode", case, || coding.decode(request, limits).unwrap());
    measure(criterion, "schema", case, || push.schema.check(&payload.value, &Budget::default()).unwrap());
    for (name, trigger) in [("map/fields", push), ("map/template", template)] {
        measure(criterion, name, case, || {
            let (trigger_ref, verify) = (trigger.reference.as_str(), &trigger.policy.verify);
            let budget = &Budget::default();
            let given = Given { subject: payload.subject(request, budget), trigger_ref, verify };
            let Made::One(mapped) = at_once(trigger.mapping.apply(given, Bytes::new)).unwrap() else {
                panic!("fields and templates make one event");
            };
            serde_json::to_string(&mapped).unwrap()
        });
    }
}

fn verify_stripe(criterion: &mut Criterion, case: &Case, stripe: &Pack, body: &Bytes) {
    let (request, secrets) = (signed(&stripe.policy.verify, body), [SecretValue::new(SECRET)]);
    measure(criterion, "verify/stripe", case, || {
        stripe
            .policy
            .verify
            .check(&Seen::new(&request, PUBLIC_URL, &Budget::default()), &secrets, NOW)
            .unwrap();
    });
}

/// From the read request to the events that are ready to be stored: to the trigger's URL and to the pack's.
fn whole(criterion: &mut Criterion, case: &Case, github: &Arc<Pack>) {
    let (request, secrets) = (&case.request, [SecretValue::new(SECRET)]);
    let push = github.trigger("github.push").unwrap().clone();
    let config = Config::default();
    for (name, target) in
        [("whole/trigger", Target::Trigger(push)), ("whole/pack", Target::Pack(github.clone()))]
    {
        let receive = || {
            let budget = &Budget::new(budget::Limits::of(&config), std::time::Instant::now());
            authenticate(&target, request, PUBLIC_URL, None, &secrets, NOW, budget).unwrap();
            let steps = &mut Steps::begin(std::time::Instant::now());
            let coding = Coding::of(&request.headers).unwrap();
            at_once(judge(&target, request, coding, Limits::of(&config, budget), steps)).unwrap()
        };
        assert_eq!(receive().events.len(), 1, "a push is one event");
        measure(criterion, name, case, receive);
    }
}

/// What needs no waiting: nothing here has a mapper.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

fn measure<T>(criterion: &mut Criterion, name: &str, case: &Case, mut work: impl FnMut() -> T) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(case.request.body.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(case.name), |bencher| {
        bencher.iter(|| black_box(work()));
    });
    group.finish();
}

fn shipped(pack: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packs").join(pack)
}

fn load(folder: &Path) -> Pack {
    let limits = Config::default();
    let reader = Reader { limits: &limits, sandbox: &Sandbox::new(&limits, Purpose::Serve, None) };
    pack::load_one(folder, "", reader).unwrap_or_else(|refused| panic!("{:?}", refused.report)).0
}

fn trigger<'a>(pack: &'a Pack, reference: &str) -> &'a Trigger {
    pack.trigger(reference).unwrap()
}

/// The shipped pack's push with a template for its mapping, in a folder of its own.
fn with_template(pack: &Path, folder: &Path) -> PathBuf {
    const MAPPING: &str = r#"mapping:
  template:
    repository: "{{ payload.repository.full_name }}"
    branch: "{{ payload.ref | replace('refs/heads/', '') }}"
    head: "{{ payload.head_commit.id }}"
    author: "{{ payload.head_commit.author.name }}"
    title: "{{ payload.pusher.name }} pushed {{ payload.commits | length }} commits to {{ payload.repository.name }}"
    messages: "{{ payload.commits | map(attribute='message') | list }}"
    event: "{{ headers['x-github-event'] }}"
    source: "{{ trigger }}"
"#;
    for file in ["pack.yaml", "triggers/push.yaml", "schemas/push.yaml"] {
        let text = fs::read_to_string(pack.join(file)).unwrap();
        let text = match text.split_once("mapping:\n") {
            Some((before, _)) => format!("{before}{MAPPING}"),
            None => text,
        };
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }
    folder.to_owned()
}

/// A request with the headers that GitHub sends, signed as `verify` wants it.
fn signed(verify: &hookpack::verify::Verify, body: &Bytes) -> Inbound {
    let headers = [
        ("host", "hooks.example.com"),
        ("user-agent", "GitHub-Hookshot/044aadd"),
        ("content-type", "application/json"),
        ("accept", "*/*"),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-github-event", "push"),
        ("x-github-hook-id", "292430182"),
        ("x-github-hook-installation-target-id", "79929171"),
        ("x-github-hook-installation-target-type", "repository"),
    ];
    let mut request = Inbound {
        id: Uuid::now_v7(),
        received_at: NOW,
        source_ip: IpAddr::from([140, 82, 115, 7]),
        method: Method::POST,
        path: "/api/v1/webhooks/wh_4kYb0cXyqZ8nT2vRm7LdPf1sHw6JuGea".to_owned(),
        query: None,
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect::<HeaderMap>(),
        body: body.clone(),
    };
    request.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let added = verify
        .sign(&Seen::new(&request, PUBLIC_URL, &Budget::default()), &SecretValue::new(SECRET), NOW)
        .unwrap();
    request.headers.extend(added.headers);
    request
}

/// A push of about so many bytes, as GitHub writes it: short ones with the members that the schema wants, longer
/// ones with the repository's many URLs and more commits.
fn push(bytes: usize) -> Bytes {
    let mut push = json!({
        "ref": "refs/heads/main",
        "before": sha(1),
        "after": sha(2),
        "repository": repository(bytes > 5_000),
        "pusher": {"name": "amara-okafor", "email": "amara@example.com"},
        "sender": {"login": "amara-okafor", "id": 21_031_067, "type": "User"},
        "created": false,
        "deleted": false,
        "forced": false,
        "base_ref": null,
        "compare": "https://github.com/acme/orchard/compare/3f0c1a9d5b7e...a17c0de4925b",
        "commits": [],
        "head_commit": commit(2),
    });
    for number in 2.. {
        push["commits"].as_array_mut().unwrap().push(commit(number));
        if push.to_string().len() + commit(number).to_string().len() / 2 > bytes {
            break;
        }
    }
    push.to_string().into()
}

fn repository(whole: bool) -> Value {
    let mut repository = json!({
        "id": 186_853_002,
        "name": "orchard",
        "full_name": "acme/orchard",
        "private": false,
        "html_url": "https://github.com/acme/orchard",
        "created_at": 1_557_933_565,
        "default_branch": "main",
    });
    let urls = ["forks", "keys{/key_id}", "collaborators{/collaborator}", "teams", "hooks", "events", "tags"];
    let more =
        ["git/refs{/sha}", "git/trees{/sha}", "statuses/{sha}", "languages", "stargazers", "contributors"];
    for url in urls.into_iter().chain(more).filter(|_| whole) {
        let name = url.split(['{', '/']).collect::<String>() + "_url";
        repository[name] = json!(format!("https://api.github.com/repos/acme/orchard/{url}"));
    }
    repository
}

fn commit(number: u64) -> Value {
    let person = json!({"name": "Amara Okafor", "email": "amara@example.com", "username": "amara-okafor"});
    json!({
        "id": sha(number),
        "tree_id": sha(number + 1_000),
        "distinct": true,
        "message": format!("Résumé {number} of the harvest\n\nFixes #{number}"),
        "timestamp": "2026-11-22T10:59:57+01:00",
        "url": format!("https://github.com/acme/orchard/commit/{}", sha(number)),
        "author": person,
        "committer": person,
        "added": [format!("src/count_{number}.rs")],
        "removed": [],
        "modified": ["src/main.rs", "README.md"],
    })
}

fn sha(number: u64) -> String {
    format!("{:040x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c_c060)
}
