//! What proves a sender, and what opens a URL, is nowhere to be found afterwards.

use crate::harness::{Answer, Setup, TestHost};

const TOKEN: &str = "passcode 4f1c9b";

async fn host(webhook: &str, more: &str) -> TestHost {
    let text = format!(
        "name: t\nref: s.t\ntype: webhook\npayload_schema: {{not: {{required: [broken]}}}}\nwebhook:\n  enabled: true\n  on_invalid: quarantine\n  secrets: [s_own]\n{webhook}{more}"
    );
    let mut setup = Setup::new(&[("s/triggers/t.yaml", &text)]);
    setup.environment = setup.environment.with("HOOKPACK_SECRET_S_OWN", TOKEN);
    setup.config.kept_request_days = Some(std::num::NonZero::new(7).unwrap());
    setup.start().await
}

async fn send(host: &TestHost, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = host.http.post(format!("{}{query}", host.url("s.t")));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body.to_owned()).send().await.unwrap()).await
}

/// Everything that is stored of requests, as text.
async fn stored(host: &TestHost) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "select payload::text || metadata::text from hookpack.event order by id",
        "select headers::text || coalesce(query, '') || convert_from(body, 'UTF8') from hookpack.kept_request",
        "select headers::text || coalesce(query, '') || convert_from(body, 'UTF8') || detail from hookpack.quarantine",
        "select coalesce(headers::text, '') || coalesce(detail, '') || coalesce(user_agent, '') from hookpack.request_log",
    ] {
        all.extend(sqlx::query_scalar::<_, String>(sql).fetch_all(&host.pool).await.unwrap());
    }
    all
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Once as an event that is the payload itself, once into the quarantine; both are kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_body_is_taken_out_of_what_is_kept() {
    let form = format!("a=1&code={}&b=%41", TOKEN.replace(' ', "+"));
    let msgraph = |more: &str| {
        format!(
            r#"{{"value":[{{"clientState":"{TOKEN}","n":1.10}},{{"n":1E2,"clientState":"{}"}}]{more}}}"#,
            TOKEN.replace('p', "\\u0070")
        )
    };
    let kofi = format!(r#"{{"verification_token":"{TOKEN}","message_id":"m1","amount":"3.00"}}"#);
    let kofi: String =
        percent_encoding::utf8_percent_encode(&kofi, percent_encoding::NON_ALPHANUMERIC).to_string();
    for (webhook, header, accepted, broken, expected) in [
        (
            "  preset: figma\n".to_owned(),
            JSON,
            format!(r#"{{"passcode":"x","passcode":"{TOKEN}","n":1.10}}"#),
            format!(r#"{{"passcode":"{TOKEN}","broken":1}}"#),
            r#"{"passcode":"[redacted]","n":1.10}"#,
        ),
        (
            "  preset: msgraph\n".to_owned(),
            JSON,
            msgraph(""),
            msgraph(r#","broken":1"#),
            r#"{"value":[{"clientState":"[redacted]","n":1.10},{"n":1E2,"clientState":"[redacted]"}]}"#,
        ),
        (
            "  verify: {token: {form: code}}\n".to_owned(),
            FORM,
            form.clone(),
            format!("{form}&broken=1"),
            r#"{"a":"1","code":"[redacted]","b":"A"}"#,
        ),
        (
            "  verify: {token: {form: data, json: $.verification_token}}\n  json_fields: [data]\n  idempotency: {key: $.data.message_id}\n".to_owned(),
            FORM,
            format!("data={kofi}"),
            format!("data={kofi}&broken=1"),
            r#"{"data":{"verification_token":"[redacted]","message_id":"m1","amount":"3.00"}}"#,
        ),
    ] {
        let host = host(&webhook, "").await;
        let answer = send(&host, "", &[header], &accepted).await;
        assert!(answer.status < 300, "{webhook}: {}", answer.text);
        assert_eq!(host.events().await, [("s.t".to_owned(), expected.to_owned())], "{webhook}");
        assert_eq!(send(&host, "", &[header], &broken).await.status, 202, "{webhook}");
        assert_eq!(host.count("select count(*) from hookpack.kept_request").await, 1);
        assert_eq!(host.count("select count(*) from hookpack.quarantine").await, 1);
        for text in stored(&host).await {
            assert!(!text.contains("4f1c9b"), "{webhook}: {text}");
        }
        let other = accepted.replace("4f1c9b", "4f1c9c");
        assert_eq!(send(&host, "", &[header], &other).await.status, 401, "{webhook}");
        host.stop().await;
    }
}

/// Ko-fi's form: what tells its deliveries apart lies in JSON in a field, and so does what they are about.
#[tokio::test(flavor = "multi_thread")]
async fn json_in_a_field_of_a_form_is_looked_into() {
    let webhook = "  verify: {token: {form: data, json: $.verification_token}}\n  json_fields: [data]\n  idempotency: {key: $.data.message_id}\n";
    let more = "match: {$.data.type: Donation}\nmapping: {fields: {amount: $.data.amount}}\n";
    let host = host(webhook, more).await;
    let body = |kind: &str| {
        let text = format!(
            r#"{{"verification_token":"{TOKEN}","message_id":"m1","type":"{kind}","amount":"3.00"}}"#
        );
        format!("data={}", percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC))
    };
    assert_eq!(send(&host, "", &[FORM], &body("Donation")).await.status, 200);
    let again = send(&host, "", &[FORM], &body("Donation")).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{}", again.text);
    assert!(send(&host, "", &[FORM], &body("Shop")).await.text.contains("\"ignored\":true"));
    assert_eq!(host.events().await, [("s.t".to_owned(), r#"{"amount":"3.00"}"#.to_owned())]);
    for broken in ["data=", "data=x", "data=1&data=2", "other={}"] {
        assert_eq!(send(&host, "", &[FORM], broken).await.status, 401, "{broken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_headers_and_queries_are_nowhere_to_be_found() {
    let more = "mapping: {template: {seen: \"{{ headers }}\"}}\n";
    let host = host("  verify: {token: {query: code}}\n  keep_headers: [Referer]\n", more).await;
    let key = host.url("s.t").rsplit('/').next().unwrap().to_owned();
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twice = encoded.replace('%', "%25");
    let referer = format!("https://h/{encoded}?{twice}&{}", key.replacen('w', "%77", 1));
    let headers = [
        JSON,
        ("x-api-key", TOKEN),
        ("x-amz-security-token", TOKEN),
        ("apikey", TOKEN),
        ("authorization", TOKEN),
        ("referer", &referer),
        ("user-agent", &referer),
        ("x-github-event", "kept"),
    ];
    let query = "?a=1&code=passcode+4f1c9b&b=2";
    assert_eq!(send(&host, query, &headers, "{}").await.status, 200);
    assert_eq!(send(&host, query, &headers, "{\"broken\": 1}").await.status, 202);
    assert_eq!(send(&host, "?a=1&code=no", &headers, "{}").await.status, 401);
    let sql = "select count(*) from hookpack.request_log where status = 401";
    crate::harness::eventually("a row", async || (host.count(sql).await == 1).then_some(())).await;
    let all = stored(&host).await;
    for text in &all {
        assert!(!text.contains("4f1c9b"), "{text}");
        for name in [key.as_str(), &encoded, &twice, &key[4..], &encoded[12..]] {
            assert!(!text.contains(name), "{text}");
        }
    }
    let quarantined: String = sqlx::query_scalar("select headers::text || query from hookpack.quarantine")
        .fetch_one(&host.pool)
        .await
        .unwrap();
    assert!(quarantined.contains("https://h/…?…&…") && quarantined.ends_with("a=1&b=2"), "{quarantined}");
    assert!(quarantined.contains("x-github-event"), "{quarantined}");
}

#[test]
fn no_part_of_a_database_s_password_is_told() {
    for url in [
        "postgres://user:Pass/Word@127.0.0.1:1/db",
        "postgres://user:12?Pass=Word@127.0.0.1:1/db",
        "postgres://user:12?Pass&Word@127.0.0.1:1/db",
        "postgres://user:12#PassWord@127.0.0.1:1/db",
        "postgres://user:12/PassWord@127.0.0.1:1/db",
        "postgres://user:Pass@Word@127.0.0.1:1/db",
        "postgres://user:[PassWord@127.0.0.1:1/db",
        "postgres://user:%ffPassWord@127.0.0.1:1/db",
        "postgres://user@127.0.0.1:1/db?pasword=PassWord",
        "user:PassWord@127.0.0.1/db",
    ] {
        let folder = tempfile::tempdir().unwrap();
        for log in ["info", "trace"] {
            let mut serve = std::process::Command::new(env!("CARGO_BIN_EXE_hookpack"));
            serve
                .args(["serve", "--listen", "127.0.0.1:0", "--database-url", url])
                .current_dir(folder.path());
            let told = serve.env("HOOKPACK_LOG", log).env("PATH", "").output().unwrap();
            assert!(!told.status.success(), "{url}");
            let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
            assert!(!told.contains("Pass") && !told.contains("Word"), "{url}: {told}");
        }
    }
}
