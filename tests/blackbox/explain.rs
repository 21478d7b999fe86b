//! `pack check --explain`: the request that it prints is accepted, made by nothing but bash, openssl and curl.

use std::process::Command;

use hookpack::clock::Clock;

use crate::harness::{SECRET, Setup, eventually, write};

#[tokio::test(flavor = "multi_thread")]
async fn the_request_that_it_explains_is_accepted() {
    // Standard Webhooks keeps its secrets in base64.
    let in_base64 = format!("whsec_{}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, SECRET));
    for (preset, secret, headers) in [
        ("github", SECRET, ""),
        ("stripe", SECRET, ""),
        ("slack", SECRET, ""),
        ("shopify", SECRET, ""),
        ("zendesk", SECRET, ""),
        ("zoom", SECRET, ""),
        ("gitlab", SECRET, ""),
        ("hubspot", SECRET, ""),
        ("square", SECRET, ""),
        ("standard-webhooks", &in_base64, "webhook-id: msg_1"),
        ("twitch", SECRET, "Twitch-Eventsub-Message-Id: m1"),
    ] {
        let trigger = format!(
            "name: t\nref: s.t\ntype: webhook\npayload_schema: {{type: object}}\nwebhook: {{enabled: true, preset: {preset}, secrets: [secret]}}\n"
        );
        let cases = format!(
            "trigger: s.t\ncases:\n  - name: one\n    request: {{headers: {{{headers}}}, json: {{id: \"it's\", text: \"é $HOME `x`\"}}}}\n    expect: {{status: 200}}\n"
        );
        let mut setup = Setup::new(&[("s/triggers/t.yaml", &trigger), ("s/tests/t.yaml", &cases)]);
        setup.clock = Clock::System;
        setup.environment = setup.environment.with("HOOKPACK_SECRET_SECRET", secret);
        // `{url}` is what the host calls itself: it has to know its port beforehand.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        setup.config.listen.set_port(port);
        let host = setup.start().await;
        let mut check = Command::new(env!("CARGO_BIN_EXE_hookpack"));
        let told =
            check.args(["pack", "check", "--explain", "s"]).current_dir(host.packs()).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let script: Vec<_> = told.lines().skip_while(|line| !line.contains("For example")).skip(1).collect();
        let script: Vec<_> = script.into_iter().take_while(|line| line.starts_with("    ")).collect();
        let script = script.join("\n");
        let script = script.replace("url=…", &format!("url='{}'", host.url("s.t")));
        let script = script.replace("secret=…", &format!("secret='{}'", secret.replace('\'', "'\\''")));
        let file = host.folder.path().join("send.sh");
        write(&file, &script);
        let ran = tokio::task::spawn_blocking(move || Command::new("bash").arg(file).output().unwrap())
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{preset}: {script}\n{answer}{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        eventually("the event", async || (!host.events().await.is_empty()).then_some(())).await;
    }
}

#[test]
fn it_says_what_is_demanded_in_words() {
    let packs = crate::harness::repository().join("packs");
    let mut check = Command::new(env!("CARGO_BIN_EXE_hookpack"));
    let told = check.args(["pack", "check", "--explain", "github"]).current_dir(packs).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    for line in [
        "github.push: a POST to its URL, and",
        "  - signed: HMAC-SHA256 over `{body}`, in the header x-hub-signature-256, as hex behind `sha256=`",
        "  - the key is the secret github_webhook",
        "  - only where `header:X-GitHub-Event` is \"push\"; anything else is acknowledged and ignored",
        "  - a second one of the same `header:x-github-delivery` within 72 h is answered like the first, and not stored",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}
