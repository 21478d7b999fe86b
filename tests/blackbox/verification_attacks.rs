//! Requests that somebody has made out of what a sender really signed, and declarations that would let them.

use std::fs;

use hmac::{KeyInit, Mac};
use serde_json::Value;

use crate::harness::{Answer, SECRET, Setup, TestHost, github_signature, repository, write};

async fn host(webhook: &str) -> TestHost {
    let head = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook:\n  enabled: true\n";
    let mut setup = Setup::new(&[("s/triggers/t.yaml", &format!("{head}{webhook}"))]);
    setup.environment = setup.environment.with("HOOKPACK_SECRET_S_OWN", SECRET);
    setup.start().await
}

/// Verification finds the signed members in JSON; a content type that nobody signs must not have the same bytes decoded
/// as a form, in which the attacker has written what they like.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_as_json_is_not_believed_as_a_form() {
    let file = repository().join("tests/interop/vectors/data/sns.json");
    let document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let head =
        "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, preset: sns}\n";
    let mut setup = Setup::new(&[("s/triggers/t.yaml", head)]);
    for (number, (url, text)) in document["pinned"].as_object().unwrap().iter().enumerate() {
        let file = setup.folder.path().join(format!("pinned-{number}"));
        write(&file, text.as_str().unwrap());
        setup.config.pinned_urls.insert(url.clone(), file);
    }
    let host = setup.start().await;
    let accepted =
        document["cases"].as_array().unwrap().iter().find(|case| case["expect"] == "accepted").unwrap();
    let mut body: Value = serde_json::from_str(accepted["body"].as_str().unwrap()).unwrap();
    body["x"] =
        "&Type=Notification&TopicArn=arn:aws:sns:eu-west-1:1:victim&MessageId=new&Message=EVIL&z=".into();
    let body = body.to_string();
    let send = async |kind: &str, encoding: Option<&str>| {
        let mut request = host.http.post(host.url("s.t")).header("content-type", kind);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        Answer::of(request.body(body.clone()).send().await.unwrap()).await.status
    };
    assert_eq!(send("text/plain; charset=UTF-8", None).await, 200, "it is signed, after all");
    for kind in [
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/xml",
        "application/x-ndjson",
        "text/plain; charset=utf-16le",
    ] {
        assert_eq!(send(kind, None).await, 401, "{kind}");
    }
    assert_eq!(send("application/json", Some("deflate")).await, 401);
    assert_eq!(host.count("select count(*) from hookpack.event").await, 1);
}

#[tokio::test]
async fn what_was_signed_as_a_form_is_not_believed_as_json() {
    let webhook = "  preset: braintree\n  params: {public_key: pub}\n  secrets: [secret]\n";
    let host = host(webhook).await;
    let key = <sha1::Sha1 as sha2::Digest>::digest(SECRET);
    let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
    mac.update(b"PG5vdGlmaWNhdGlvbj4=\n");
    let signature = hex::encode(mac.finalize().into_bytes());
    let fields = format!("bt_payload=PG5vdGlmaWNhdGlvbj4%3D%0A&bt_signature=pub%7C{signature}");
    let send = async |kind: &str, body: String| {
        let request = host.http.post(host.url("s.t")).header("content-type", kind).body(body);
        Answer::of(request.send().await.unwrap()).await.status
    };
    assert_eq!(send("application/x-www-form-urlencoded", fields.clone()).await, 200);
    let json = format!(r#"{{"kind":"evil","x":"&{fields}&z="}}"#);
    assert_eq!(send("application/json", json.clone()).await, 401);
    assert_eq!(send("application/x-www-form-urlencoded; charset=utf-16", fields).await, 415);
    assert_eq!(send("text/plain", json).await, 401);
}

/// A value with a `;` in it could stand for a header that is not named.
#[tokio::test]
async fn the_time_is_among_the_headers_that_are_signed() {
    let host = host(
        r#"  verify:
    hmac: sha256
    signed: "{headers:x-list}\n{body}"
    signature: {header: x-sig, encoding: hex}
    timestamp: {header: x-ts, tolerance: 30}
  secrets: [secret]
"#,
    )
    .await;
    let now = host.clock.now().unix_timestamp();
    let signature =
        |listed: &str| github_signature(format!("{listed}\n{{}}").as_bytes(), SECRET).replace("sha256=", "");
    let send = async |list: &str, a: &str, time: i64, signature: &str| {
        let request =
            host.post("s.t").header("x-list", list).header("x-a", a).header("x-ts", time.to_string());
        Answer::of(request.header("x-sig", signature).body("{}").send().await.unwrap()).await.status
    };
    let old = now - 3600;
    assert_eq!(send("x-a,x-ts", "1", now, &signature(&format!("x-a:1;x-ts:{now}"))).await, 200);
    let captured = signature(&format!("x-a:1;x-ts:{old}"));
    assert_eq!(send("x-a,x-ts", "1", old, &captured).await, 401, "late");
    assert_eq!(send("x-a", &format!("1;x-ts:{old}"), now, &captured).await, 401, "renewed");
}

/// What an operator provides counts, and what a stranger brings doesn't, whenever it can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_brought_never_stands_before_an_operator_s() {
    let trigger = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, preset: asana, secrets: [s_hook]}\n";
    let mut setup = Setup::new(&[("s/triggers/t.yaml", trigger)]);
    let secrets = setup.folder.path().join("secrets");
    // There, and being written.
    write(&secrets.join("s_hook"), "");
    setup.config.secrets_dir = Some(secrets.clone());
    let host = setup.start().await;
    let brought = "6f0b2ce0e6f74d1f9b3f9a1a0c3f7a11";
    let shake = async || {
        host.post("s.t").header("x-hook-secret", brought).body("{}").send().await.unwrap().status().as_u16()
    };
    assert_eq!(shake().await, 503);
    assert_eq!(host.count("select count(*) from hookpack.secret").await, 0);
    // Brought while there was none, then provided: the operator's counts from now on.
    fs::remove_file(secrets.join("s_hook")).unwrap();
    assert_eq!(shake().await, 200);
    assert_eq!(shake().await, 200, "asked again, for the answer was lost");
    write(&secrets.join("s_hook"), "the operator's own secret");
    let deliver = async |secret: &str| {
        let signature = github_signature(b"{}", secret).replace("sha256=", "");
        host.post("s.t")
            .header("x-hook-signature", signature)
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    crate::harness::eventually("the operator's secret", async || {
        (deliver("the operator's own secret").await == 200).then_some(())
    })
    .await;
    assert_eq!(deliver(brought).await, 401);
}

#[tokio::test]
async fn nobody_brings_a_secret_from_where_nobody_may_send() {
    let host = host("  preset: asana\n  secrets: [s_hook]\n  ip_allowlist: [192.0.2.0/24]\n").await;
    let request = host.post("s.t").header("x-hook-secret", "6f0b2ce0e6f74d1f9b3f9a1a0c3f7a11").body("{}");
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert_eq!(host.count("select count(*) from hookpack.secret").await, 0);
}

/// Declarations with a hole in them do not load.
#[test]
fn a_declaration_that_anybody_could_get_around_is_a_fault() {
    let sig = "signature: {header: x-sig, encoding: hex}";
    let rows = [
        (
            format!(
                "{{hmac: sha256, signed: \"{{json:$.id}}\", {sig}, timestamp: {{json: $.ts, tolerance: 300}}}}"
            ),
            "the signature does not cover the timestamp",
        ),
        (
            format!(
                "{{hmac: sha256, signed: \"{{timestamp}}{{json:$.id?}}\", {sig}, timestamp: {{header: x-ts}}}}"
            ),
            "`signed` does not cover the body",
        ),
        (
            format!(
                "{{hmac: sha256, signed: \"{{header:Date}}\", {sig}, body_digest: {{header: Digest, hash: sha256, encoding: hex}}}}"
            ),
            "the digest of the body is not signed itself",
        ),
        (
            format!(
                "{{hmac: sha256, signed: \"{{header:Date}}\", {sig}, body_digest: {{json: $.d, hash: sha256, encoding: hex}}}}"
            ),
            "the digest of the body is not signed itself",
        ),
        (
            "{token: {header: x-token}, body_digest: {header: Digest, hash: sha256, encoding: hex}}"
                .to_owned(),
            "nothing signs the digest of the body",
        ),
        (
            format!(
                "{{rsa: sha256, cert: {{header: x-cert, host: '.*', path: '/.*'}}, signed: \"{{body}}\", {sig}}}"
            ),
            "the pattern fits every host",
        ),
    ];
    for (verify, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("s/pack.yaml"), "ref: s\nname: s\nversion: 1.0.0\n");
        let trigger = format!(
            "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {{secrets: [own], verify: {verify}}}\n"
        );
        write(&folder.path().join("s/triggers/t.yaml"), &trigger);
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_hookpack"));
        let told = check.args(["pack", "check", "s"]).current_dir(folder.path()).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains(expected), "{verify}: {told}");
    }
}

/// Sends a body to the trigger's URL with this query, and the signature of this message.
async fn send_signed(
    host: &TestHost,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
    message: &str,
) -> u16 {
    let signature = github_signature(message.as_bytes(), SECRET).replace("sha256=", "");
    let mut request = host.http.post(format!("{}{query}", host.url("s.t"))).header("x-sig", signature);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body.to_owned()).send().await.unwrap()).await.status
}

fn signed(template: &str, more: &str) -> String {
    format!(
        "  verify:\n    hmac: sha256\n    signed: \"{template}\"\n    signature: {{header: x-sig, encoding: hex}}\n{more}  secrets: [s_own]\n"
    )
}

/// A client who can have text written into a signed body moves the borders between the parts: an id, a time and a body of
/// their own, under a signature that fits.
#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_what_is_signed_can_grow_into_the_next_one() {
    let timestamp = "    timestamp: {header: x-ts, tolerance: 300}\n";
    let host_ = host(&signed("{header:x-id}.{timestamp}.{body}", timestamp)).await;
    let now = host_.clock.now().unix_timestamp();
    let old = now - 3600;
    let head = format!("msg_1.{old}.{{\"text\": \"");
    let message = format!("{head}.{now}.role=admin&x=\"}}");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let forged = [form, ("x-id", &head), ("x-ts", &now.to_string())];
    assert_eq!(send_signed(&host_, "", &forged, "role=admin&x=\"}", &message).await, 401);
    let own = [("x-id", "msg_1"), ("x-ts", &now.to_string())];
    assert_eq!(send_signed(&host_, "", &own, "{}", &format!("msg_1.{now}.{{}}")).await, 200);

    // A time whose freshness is not checked has its form all the same.
    let timestamp = "    timestamp: {header: x-ts}\n";
    let host_ = host(&signed("{timestamp}{body}", timestamp)).await;
    let message = format!("{now}1&role=admin");
    for (time, body, status) in [
        (now.to_string(), "1&role=admin", 200),
        (format!("{now}1"), "&role=admin", 401),
        (format!("{now}1&"), "role=admin", 401),
        (now.to_string()[..9].to_owned(), &message[9..], 401),
        (String::new(), message.as_str(), 401),
    ] {
        assert_eq!(send_signed(&host_, "", &[form, ("x-ts", &time)], body, &message).await, status, "{time}");
    }
    let host_ = host(&signed("{timestamp}.{body}", timestamp)).await;
    let message = format!("{now}.a.role=admin");
    for (time, body, status) in
        [(now.to_string(), "a.role=admin", 200), (format!("{now}.a"), "role=admin", 401)]
    {
        assert_eq!(send_signed(&host_, "", &[form, ("x-ts", &time)], body, &message).await, status, "{time}");
    }

    // What ends a parameter must not stand in it.
    let host_ = host(&signed("{query:id}\\n{body}", "")).await;
    let message = "a\nb\nrole=admin";
    assert_eq!(send_signed(&host_, "?id=a", &[form], "b\nrole=admin", message).await, 200);
    assert_eq!(send_signed(&host_, "?id=a%0Ab", &[form], "role=admin", message).await, 401);

    // The head of a document in the query.
    let host_ = host(&signed("{url}{body}", "")).await;
    let message = format!("{}?x={{\"text\":\"role=admin\"}}", host_.url("s.t"));
    assert_eq!(send_signed(&host_, "?x=", &[], "{\"text\":\"role=admin\"}", &message).await, 200);
    assert_eq!(send_signed(&host_, "?x={\"text\":\"", &[form], "role=admin\"}", &message).await, 401);

    // The name of a member in another one.
    let host_ = host(&signed("{fields:Message,MessageId,Type}", "")).await;
    let message = "Message\nhello\nMessageId\nx\nMessageId\n1\nType\nN\n";
    let json = |message: &str, id: &str| {
        serde_json::json!({"Message": message, "MessageId": id, "Type": "N"}).to_string()
    };
    assert_eq!(send_signed(&host_, "", &[], &json("hello\nMessageId\nx", "1"), message).await, 200);
    assert_eq!(send_signed(&host_, "", &[], &json("hello", "x\nMessageId\n1"), message).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_rides_along_with_a_path_that_is_signed() {
    let host_ = host(&signed("{method} {path}\\n{body}", "")).await;
    let path = host_.url("s.t").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    let message = format!("POST {path}\n{{}}");
    for (query, status) in [("", 200), ("?role=admin", 401), ("?role", 401), ("?", 200), ("?&", 200)] {
        assert_eq!(send_signed(&host_, query, &[], "{}", &message).await, status, "{query}");
    }
    let detail: String =
        sqlx::query_scalar("select detail from hookpack.request_log where status = 401 limit 1")
            .fetch_one(&host_.pool)
            .await
            .unwrap();
    assert!(detail.contains("`query: unsigned` allows that"), "{detail}");

    let host_ = host(&signed("{method} {path}\\n{body}", "    query: unsigned\n")).await;
    let path = host_.url("s.t").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    assert_eq!(send_signed(&host_, "?role=admin", &[], "{}", &format!("POST {path}\n{{}}")).await, 200);

    let host_ = host(&signed("{path}?{query:id}&{query:n?}\\n{body}", "")).await;
    let path = host_.url("s.t").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    let message = format!("{path}?7&\n{{}}");
    for (query, status) in [
        ("?id=7", 200),
        ("?id=7&role=admin", 401),
        ("?id=7&id=8", 401),
        ("?role=admin&id=7", 401),
        ("?%69d=7", 200),
    ] {
        assert_eq!(send_signed(&host_, query, &[], "{}", &message).await, status, "{query}");
    }

    let host_ = host(&signed("{target}\\n{body}", "")).await;
    let path = host_.url("s.t").split_once("/api").map(|(_, path)| format!("/api{path}")).unwrap();
    let message = format!("{path}?b=%20&a=1\n{{}}");
    for (query, status) in [("?b=%20&a=1", 200), ("?b=+&a=1", 401), ("?a=1&b=%20", 401), ("", 401)] {
        assert_eq!(send_signed(&host_, query, &[], "{}", &message).await, status, "{query}");
    }
}
