//! A secret belongs to packs: what another pack, a token bound to packs and a sender can't get at.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestDatabase, TestHost, eventually, github_signature, write};

fn trigger(reference: &str, webhook: &str) -> String {
    let name = reference.split_once('.').unwrap().1;
    format!(
        "name: {name}\nref: {reference}\ntype: webhook\npayload_schema: true\nwebhook: {{enabled: true, {webhook}}}\n"
    )
}

/// These triggers, each in its pack, and these secrets in the environment.
fn setup(triggers: &[(&str, &str)], secrets: &[(&str, &str)]) -> Setup {
    let files: Vec<_> = triggers
        .iter()
        .map(|(reference, webhook)| {
            let (pack, name) = reference.split_once('.').unwrap();
            (format!("{pack}/triggers/{name}.yaml"), trigger(reference, webhook))
        })
        .collect();
    let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let mut setup = Setup::new(&files);
    for (name, value) in secrets {
        setup.environment = setup.environment.with(&format!("HOOKPACK_SECRET_{name}"), value);
    }
    setup
}

async fn signed(host: &TestHost, reference: &str, secret: &str) -> Answer {
    let request = host.post(reference).header("x-hub-signature-256", github_signature(b"{}", secret));
    let request = request.header("x-github-delivery", uuid::Uuid::now_v7().to_string());
    Answer::of(request.body("{}").send().await.unwrap()).await
}

async fn reasons(host: &TestHost) -> String {
    host.api("/readyz").await.json()["reasons"].to_string()
}

/// The command line against a host of this process.
async fn hookpack(host: &TestHost, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    command.args(arguments).args(["--url", &format!("http://{}", host.address)]);
    command.env("HOOKPACK_DATA_DIR", host.folder.path().join("data")).current_dir(host.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

const COMMAND: &str = "hookpack secret grant shop_key --pack evil";

/// A wrong guess of how the secret begins must look like a right one, whatever the pack declares.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_learns_nothing_of_another_packs_secret() {
    let hmac = |strip: &str| {
        format!(
            "verify: {{hmac: sha256, secret: {{strip: \"{strip}\"}}, signed: \"{{body}}\", \
             signature: {{header: x-sig, encoding: hex}}}}, secrets: [shop_key], \
             handshake: [{{when: {{query: {{c: \"*\"}}}}, respond: {{body: \"{{hmac-sha256-hex:query:c}}\"}}}}]"
        )
    };
    let shown = |pack_secret: &str| {
        format!(
            "verify: none, handshake: [{{when: {{query: {{c: \"*\"}}}}, token: {{query: t, secret: {pack_secret}}}, respond: {{body: yes}}}}]"
        )
    };
    let host = setup(
        &[
            ("shop.paid", "preset: github, secrets: [shop_key]"),
            ("evil.right", &hmac("It")),
            ("evil.wrong", &hmac("zz")),
            ("evil.plain", "preset: github, secrets: [shop_key]"),
            ("evil.token", &shown("shop_key")),
            ("evil.dash", "preset: github, secrets: [shop-key]"),
        ],
        &[("SHOP_KEY", SECRET)],
    )
    .start()
    .await;
    assert_eq!(signed(&host, "shop.paid", SECRET).await.status, 200, "its own pack uses it");
    for reference in ["evil.right", "evil.wrong"] {
        let asked = Answer::of(host.http.get(format!("{}?c=x", host.url(reference))).send().await.unwrap());
        let asked = asked.await;
        assert_eq!(asked.status, 503, "{reference}: {}", asked.text);
    }
    for reference in ["evil.plain", "evil.dash"] {
        let answer = signed(&host, reference, SECRET).await;
        let (outcome, detail) = host.logged(&answer).await;
        assert_eq!((answer.status, outcome.as_str()), (503, "secret_missing"), "{reference}");
        let command =
            COMMAND.replace("shop_key", if reference == "evil.dash" { "shop-key" } else { "shop_key" });
        assert!(detail.contains(&command), "{detail}");
        assert!(!answer.text.contains("shop"), "{}", answer.text);
    }
    let url = format!("{}?c=x&t={SECRET}", host.url("evil.token"));
    assert_eq!(host.http.get(url).send().await.unwrap().status(), 405, "a token as right as it can be");
    // In a dry run, too, and for who sees no more than this pack.
    let bound = host.token("write", Some(&["evil"])).await;
    let tried = json!({"body": "{}", "headers": {"x-sig": "00", "content-type": "application/json"}});
    for reference in ["evil.right", "evil.wrong"] {
        let path = format!("/api/v1/triggers/{reference}/test");
        let told = host.ask_as(&bound, "POST", &path, tried.clone()).await.json();
        assert_eq!(told["data"]["outcome"], "secret_missing", "{told}");
    }
    assert!(reasons(&host).await.contains(COMMAND), "{}", reasons(&host).await);
    let shown = host.api("/api/v1/triggers/evil.plain/webhooks").await.json();
    let own = &shown["data"]["policy"]["secrets"][0];
    assert_eq!(own["provided"], false);
    assert!(own["problem"].as_str().unwrap().contains(COMMAND), "{own}");

    // `send` signs with what this machine has: the same holds.
    let sent = hookpack(&host, &["send", "evil.plain", "--packs", "packs", "--body", "/dev/null"]).await;
    assert!(!sent.0 && sent.1.contains(COMMAND), "{}", sent.1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_lets_a_pack_use_a_secret_until_it_is_revoked() {
    let host = setup(
        &[
            ("shop.paid", "preset: github, secrets: [shop_key]"),
            ("evil.plain", "preset: github, secrets: [shop_key]"),
        ],
        &[("SHOP_KEY", SECRET)],
    )
    .start()
    .await;
    let arguments: Vec<_> = COMMAND.split(' ').skip(1).collect();
    let granted = hookpack(&host, &arguments).await;
    assert!(granted.0 && granted.1.contains("shop_key: pack evil may use it"), "{}", granted.1);
    assert_eq!(signed(&host, "evil.plain", SECRET).await.status, 200);
    assert_eq!(signed(&host, "shop.paid", SECRET).await.status, 200);
    let shown = host.api("/api/v1/secrets/shop_key").await.json()["data"].clone();
    assert_eq!((&shown["owner"], &shown["grants"][0]["pack"]), (&json!("shop"), &json!("evil")));
    assert_eq!((&shown["refused_packs"], &shown["problems"]), (&json!([]), &json!([])));
    assert_eq!(host.api("/api/v1/secrets/shop_key/grants").await.json()["data"][0]["source"], "operator");
    for command in [&["secret", "list"][..], &["secret", "show", "shop_key"]] {
        let listed = hookpack(&host, command).await;
        assert!(listed.0 && listed.1.contains("evil") && !listed.1.contains(SECRET), "{}", listed.1);
    }
    // Granting again changes nothing; a token without the scope can't.
    assert_eq!(
        host.ask("POST", "/api/v1/secrets/shop_key/grants", json!({"pack": "evil"})).await.status,
        200
    );
    let (write, bound) = (host.token("write", None).await, host.token("write", Some(&["evil"])).await);
    for token in [write, bound] {
        for (method, path, body) in [
            ("POST", "/api/v1/secrets/other/grants", json!({"pack": "evil"})),
            ("DELETE", "/api/v1/secrets/shop_key/grants/evil", Value::Null),
        ] {
            assert_eq!(host.ask_as(&token, method, path, body).await.status, 403, "{method}");
        }
    }
    for (path, pack) in [("shop_key", "../x"), ("shop_key", "Evil"), ("..%2Fx", "evil"), ("a%00b", "evil")] {
        let answer = host.ask("POST", &format!("/api/v1/secrets/{path}/grants"), json!({"pack": pack})).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
    let revoked = hookpack(&host, &["secret", "revoke", "shop_key", "--pack", "evil"]).await;
    assert!(revoked.0, "{}", revoked.1);
    assert_eq!(signed(&host, "evil.plain", SECRET).await.status, 503);
    assert_eq!(host.ask("DELETE", "/api/v1/secrets/shop_key/grants/evil", Value::Null).await.status, 404);
    let trail = host.api("/api/v1/audit").await.json()["data"].clone();
    let actions: Vec<_> =
        trail.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    let count = |action: &str| actions.iter().filter(|own| **own == action).count();
    assert_eq!((count("secret.grant"), count("secret.revoke")), (1, 1), "{trail}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_ref_owns_a_name_and_the_configuration_may_grant_it() {
    let use_of = "preset: github, secrets: [shop_eu_key]";
    let setup = || setup(&[("shop.paid", use_of), ("shop-eu.paid", use_of)], &[("SHOP_EU_KEY", SECRET)]);
    let host = setup().start().await;
    assert_eq!(signed(&host, "shop-eu.paid", SECRET).await.status, 200);
    assert_eq!(signed(&host, "shop.paid", SECRET).await.status, 503);
    // A pack that is broken for now is not robbed.
    write(&host.packs().join("shop-eu/pack.yaml"), "ref: shop-eu\nname: x\nversion: none\n");
    fs::remove_dir_all(host.packs().join("shop-eu/triggers")).unwrap();
    host.api_post("/api/v1/packs/reload").await;
    assert_eq!(signed(&host, "shop.paid", SECRET).await.status, 503);
    // Without any other that fits, the beginning is enough.
    fs::remove_dir_all(host.packs().join("shop-eu")).unwrap();
    host.api_post("/api/v1/packs/reload").await;
    eventually("the secret of the only pack that fits", async || {
        (signed(&host, "shop.paid", SECRET).await.status == 200).then_some(())
    })
    .await;
    host.stop().await;

    let mut granted = setup();
    granted.config.secret_grants.insert("shop_eu_key".to_owned(), vec!["shop".to_owned()]);
    let host = granted.start().await;
    for reference in ["shop.paid", "shop-eu.paid"] {
        assert_eq!(signed(&host, reference, SECRET).await.status, 200, "{reference}");
    }
    let grants = host.api("/api/v1/secrets/shop_eu_key/grants").await.json()["data"].clone();
    assert_eq!((&grants[0]["pack"], &grants[0]["source"]), (&json!("shop"), &json!("configuration")));
    let revoked = host.ask("DELETE", "/api/v1/secrets/shop_eu_key/grants/shop", Value::Null).await;
    assert_eq!(revoked.status, 409, "{}", revoked.text);
    host.stop().await;
}

/// `a-b` and `a_b` are one variable of the environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_differs_in_a_dash_gets_nobody_elses_secret() {
    let host = setup(
        &[
            ("a_b.one", "preset: github, secrets: [a_b_key]"),
            ("a-b.one", "preset: github, secrets: [a-b_key]"),
        ],
        &[("A_B_KEY", SECRET)],
    )
    .start()
    .await;
    for reference in ["a_b.one", "a-b.one"] {
        assert_eq!(signed(&host, reference, SECRET).await.status, 503, "{reference}");
    }
    host.ask("POST", "/api/v1/secrets/a_b_key/grants", json!({"pack": "a_b"})).await;
    assert_eq!(signed(&host, "a_b.one", SECRET).await.status, 200);
    assert_eq!(signed(&host, "a-b.one", SECRET).await.status, 503);
    host.stop().await;
}

const CRC: &str = "verify: {hmac: sha256, signed: \"{body}\", signature: {header: x-sig, encoding: hex}}, \
    handshake: [{when: {method: GET, query: {crc: \"*\"}}, respond: {body: \"{hmac-sha256-hex:query:crc}\"}}]";
const FORM: &str = "verify: {hmac: sha256, signed: \"{body}\", signature: {header: x-sig, encoding: hex}}";

/// What the challenge of `crc.ask` gets signed, sent to `form.paid` as a delivery.
async fn forged(host: &TestHost) -> (u16, Answer) {
    let word = "amount=100000";
    let asked = host.http.get(host.url("crc.ask")).query(&[("crc", word)]).send().await.unwrap();
    let asked = Answer::of(asked).await;
    let sent = host.http.post(host.url("form.paid")).header("x-sig", &asked.text).body(word);
    let sent = sent.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    (asked.status, Answer::of(sent).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_handshake_makes_macs_with_is_one_packs_alone() {
    let with = |secret: &str, webhook: &str| format!("{webhook}, secrets: [{secret}]");
    // One name, granted to the pack with the form; its owner, and the one who keeps it, has the handshake.
    let mut shared = setup(
        &[("crc.ask", &with("crc_key", CRC)), ("form.paid", &with("crc_key", FORM))],
        &[("CRC_KEY", SECRET)],
    );
    shared.config.secret_grants.insert("crc_key".to_owned(), vec!["form".to_owned()]);
    // Two names, one value.
    let same = setup(
        &[("crc.ask", &with("crc_key", CRC)), ("form.paid", &with("form_key", FORM))],
        &[("CRC_KEY", SECRET), ("FORM_KEY", SECRET)],
    );
    for setup in [shared, same] {
        let host = setup.start().await;
        let (asked, sent) = forged(&host).await;
        assert_eq!((asked, sent.status), (200, 503), "{}", sent.text);
        let (outcome, detail) = host.logged(&sent).await;
        assert!(outcome == "secret_missing" && detail.contains("a handshake makes MACs with it"), "{detail}");
        assert!(reasons(&host).await.contains("a handshake makes MACs with it"));
        host.stop().await;
    }
    // A handshake that was granted the secret doesn't take it away from its owner.
    let mut granted = setup(
        &[("crc.ask", &with("form_key", CRC)), ("form.paid", &with("form_key", FORM))],
        &[("FORM_KEY", SECRET)],
    );
    granted.config.secret_grants.insert("form_key".to_owned(), vec!["crc".to_owned()]);
    let host = granted.start().await;
    let (asked, sent) = forged(&host).await;
    assert_eq!((asked, sent.status), (503, 401), "{}", sent.text);
    let signature = github_signature(b"amount=1", SECRET).replace("sha256=", "");
    let genuine = host.http.post(host.url("form.paid")).header("x-sig", signature).body("amount=1");
    let genuine = genuine.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(genuine.status(), 200);
    host.stop().await;
    // Each with a value of its own, both work.
    let apart = setup(
        &[("crc.ask", &with("crc_key", CRC)), ("form.paid", &with("form_key", FORM))],
        &[("CRC_KEY", SECRET), ("FORM_KEY", "another secret")],
    );
    let host = apart.start().await;
    let (asked, sent) = forged(&host).await;
    assert_eq!((asked, sent.status), (200, 401));
    host.stop().await;
}

const BROUGHT: &str = "6f0b2ce0e6f74d1f9b3f9a1a0c3f7a11";

async fn bring(host: &TestHost, reference: &str) -> u16 {
    let request = host.post(reference).header("x-hook-secret", BROUGHT).body("{}");
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_plants_no_secret_of_another_pack() {
    let shop = "preset: github, secrets: [shop_hook]";
    let host = setup(&[("evil.ask", "preset: asana, secrets: [shop_hook]"), ("shop.paid", shop)], &[]);
    let host = host.start().await;
    assert_eq!(bring(&host, "evil.ask").await, 503);
    // Nor with a grant: that lets it verify with the secret, not provide it.
    host.ask("POST", "/api/v1/secrets/shop_hook/grants", json!({"pack": "evil"})).await;
    assert_eq!(bring(&host, "evil.ask").await, 503);
    assert_eq!(signed(&host, "shop.paid", BROUGHT).await.status, 503);
    assert_eq!(host.count("select count(*) from hookpack.secret").await, 0);
    host.stop().await;
}

/// A name may come to belong to a pack that is added later: what was brought before is not its secret.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_brings_counts_for_the_pack_that_it_was_brought_to() {
    let host = setup(&[("shop.ask", "preset: asana, secrets: [shop_eu_hook]")], &[]).start().await;
    assert_eq!(bring(&host, "shop.ask").await, 200);
    let later = trigger("shop_eu.paid", "preset: github, secrets: [shop_eu_hook]");
    write(&host.packs().join("shop_eu/triggers/paid.yaml"), &later);
    write(&host.packs().join("shop_eu/pack.yaml"), "ref: shop_eu\nname: EU\nversion: 1.0.0\n");
    assert_eq!(host.api_post("/api/v1/packs/reload").await.status, 200);
    let answer = signed(&host, "shop_eu.paid", BROUGHT).await;
    assert_eq!((answer.status, host.logged(&answer).await.1.as_str()), (503, "secret missing: shop_eu_hook"));
    // And the pack that has it by its name no longer uses it.
    assert_eq!(bring(&host, "shop.ask").await, 503);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_on_an_older_database_grants_what_is_in_use_once() {
    let database = TestDatabase::new().await;
    // As the migration leaves a database that was in use.
    sqlx::query("insert into hookpack.secret_grant_pending (only_one) values (true)")
        .execute(&database.pool)
        .await
        .unwrap();
    let setup = || {
        setup(
            &[
                ("shop.paid", "preset: github, secrets: [shop_key, company_key]"),
                ("other.paid", "preset: github, secrets: [company_key]"),
            ],
            &[("COMPANY_KEY", SECRET)],
        )
    };
    let host = setup().start_on(&database).await;
    for reference in ["shop.paid", "other.paid"] {
        assert_eq!(signed(&host, reference, SECRET).await.status, 200, "{reference}");
    }
    let granted: Vec<(String, String)> =
        sqlx::query_as("select name, pack_ref from hookpack.secret_grant order by 1, 2")
            .fetch_all(&database.pool)
            .await
            .unwrap();
    let key = |pack: &str| ("company_key".to_owned(), pack.to_owned());
    assert_eq!(granted, [key("other"), key("shop")]);
    let trail =
        "select count(*) from hookpack.audit where action = 'secret.grant' and subject = 'company_key'";
    assert_eq!(host.count(trail).await, 2);
    // A pack that comes later is granted nothing by itself.
    let later = trigger("late.paid", "preset: github, secrets: [company_key]");
    write(&host.packs().join("late/triggers/paid.yaml"), &later);
    write(&host.packs().join("late/pack.yaml"), "ref: late\nname: Late\nversion: 1.0.0\n");
    host.api_post("/api/v1/packs/reload").await;
    assert_eq!(signed(&host, "late.paid", SECRET).await.status, 503);
    host.ask("DELETE", "/api/v1/secrets/company_key/grants/other", Value::Null).await;
    host.stop().await;
    let again = setup().start_on(&database).await;
    assert_eq!(again.count("select count(*) from hookpack.secret_grant").await, 1);
    again.stop().await;
}
