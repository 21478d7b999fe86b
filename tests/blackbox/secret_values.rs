//! Values that can't be what they are meant for: refused when they are set, and unusable where they come from elsewhere.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestHost, eventually, github_signature, write};

const HMAC: &str = "preset: github";
const SVIX: &str = "preset: svix";
const HEX: &str = "verify: {hmac: sha256, secret: {decode: hex}, signed: \"{body}\", signature: {header: x-sig, encoding: hex}}";
const ED25519: &str =
    "verify: {ed25519: {decode: hex}, signed: \"{body}\", signature: {header: x-sig, encoding: hex}}";
const ECDSA: &str =
    "verify: {ecdsa: sha256, signed: \"{body}\", signature: {header: x-sig, encoding: base64}}";
const RSA: &str = "verify: {rsa: sha256, signed: \"{body}\", signature: {header: x-sig, encoding: base64}}";
const BASIC: &str = "verify: {token: {header: Authorization, basic: true}}";
const JWT: &str = "verify: {jwt: {header: x-jwt, alg: [EdDSA, RS256, ES256]}}";

fn setup(webhook: &str) -> Setup {
    let trigger = format!(
        "name: one\nref: shop.one\ntype: webhook\npayload_schema: true\nwebhook: {{enabled: true, {webhook}, secrets: [shop_key]}}\n"
    );
    Setup::new(&[("shop/triggers/one.yaml", &trigger)])
}

async fn signed(host: &TestHost, secret: &str) -> Answer {
    let request = host.post("shop.one").header("x-hub-signature-256", github_signature(b"{}", secret));
    let request = request.header("x-github-delivery", uuid::Uuid::now_v7().to_string());
    Answer::of(request.body("{}").send().await.unwrap()).await
}

fn spki(kind: &str, key: &[u8]) -> String {
    let prefix = match kind {
        "ed25519" => "302a300506032b6570032100",
        _ => "3059301306072a8648ce3d020106082a8648ce3d030107034200",
    };
    BASE64_STANDARD.encode([hex::decode(prefix).unwrap(), key.to_vec()].concat())
}

/// PKCS #1 with a modulus of so many bytes and this exponent, as PEM.
fn rsa(bytes: usize, exponent: u8) -> String {
    let number = |digits: &[u8]| {
        let length = u16::try_from(digits.len()).unwrap().to_be_bytes();
        [&[0x02, 0x82, length[0], length[1]][..], digits].concat()
    };
    let modulus = number(&[&[0][..], &vec![0xff; bytes]].concat());
    let exponent = [0x02, 0x01, exponent];
    let length = u16::try_from(modulus.len() + exponent.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82, length[0], length[1]][..], &modulus, &exponent].concat();
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", lines.join("\n"))
}

/// Declarations, and values that can't be used as they say.
fn unusable() -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = vec![
        (HMAC, "   ".to_owned()),
        (HMAC, "\u{a0}\u{2003}".to_owned()),
        (HMAC, "\u{200b}\t".to_owned()),
        (HMAC, "\u{1}\u{7f}".to_owned()),
        (SVIX, "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        (SVIX, "whsec_!!!!".to_owned()),
        (SVIX, "whsec_".to_owned()),
        (SVIX, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        (SVIX, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        (HEX, "not hex".to_owned()),
        (HEX, "00000000".to_owned()),
        (BASIC, ":".to_owned()),
        (ED25519, "abcd".to_owned()),
        (ED25519, "00".repeat(32)),
        (ED25519, spki("ed25519", &[0; 32])),
        (
            ED25519,
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", spki("ed25519", &[0; 32])),
        ),
        (ECDSA, spki("p256", &[&[4][..], &[1; 64]].concat())),
        (ECDSA, "not a key".to_owned()),
        (RSA, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned()),
        (RSA, rsa(256, 1)),
        (RSA, rsa(255, 3)),
        (RSA, rsa(256, 2)),
        (JWT, "{\"keys\": []}".to_owned()),
        (JWT, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}]}).to_string()),
        (JWT, json!({"keys": [{"kty": "RSA", "n": "_w", "e": "AQ"}]}).to_string()),
    ];
    // Every point of small order, in each of its spellings.
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut with_sign = hex::decode(y).unwrap();
        with_sign[31] |= 0x80;
        all.extend([(ED25519, y.to_owned()), (ED25519, hex::encode(with_sign))]);
    }
    all
}

/// A trigger `shop.tN` with a secret `shop_kN` for each of these declarations.
fn many<'a>(webhooks: impl Iterator<Item = &'a str>) -> Setup {
    let trigger = |(number, webhook): (usize, &str)| {
        let text = format!(
            "name: t{number}\nref: shop.t{number}\ntype: webhook\npayload_schema: true\n\
             webhook: {{enabled: true, {webhook}, secrets: [shop_k{number}]}}\n"
        );
        (format!("shop/triggers/t{number}.yaml"), text)
    };
    let files: Vec<_> = webhooks.enumerate().map(trigger).collect();
    Setup::new(&files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cant_be_used_is_refused_when_it_is_set() {
    let all = unusable();
    let host = many(all.iter().map(|(webhook, _)| *webhook)).start().await;
    for (number, (webhook, value)) in all.iter().enumerate() {
        let path = format!("/api/v1/secrets/shop_k{number}");
        let set = host.ask("PUT", &path, json!({"value": value})).await;
        assert!([400, 422].contains(&set.status), "{webhook} {value:?}: {} {}", set.status, set.text);
        assert!(set.text.contains("can't be used") || set.text.contains("blanks"), "{}", set.text);
    }
    assert_eq!(host.count("select count(*) from hookpack.secret").await, 0);
    host.stop().await;
    // What is refused says what would be right, and what is right is taken.
    let host = setup(SVIX).start().await;
    let set = async |value: &str| host.ask("PUT", "/api/v1/secrets/shop_key", json!({"value": value})).await;
    let refused = set("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await;
    assert!(refused.text.contains("it begins with `whsec_`, then comes base64"), "{}", refused.text);
    assert!(!refused.text.contains("MfKQ"), "{}", refused.text);
    assert_eq!(set("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await.status, 200);
    assert_eq!(set("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").await.status, 400, "a line break at its end");
    host.stop().await;
    let host = setup(RSA).start().await;
    let set = host.ask("PUT", "/api/v1/secrets/shop_key", json!({"value": rsa(256, 3)})).await;
    assert_eq!(set.status, 200, "{}", set.text);
    host.stop().await;
}

/// Under the key of zeros every fourth body or so verifies, whatever it says, with the signature below.
#[tokio::test(flavor = "multi_thread")]
async fn under_a_key_of_zeros_nothing_is_accepted() {
    let mut setup = setup(ED25519);
    setup.environment = setup.environment.with("HOOKPACK_SECRET_SHOP_KEY", &"00".repeat(32));
    let host = setup.start().await;
    let signature = format!("01{}", "00".repeat(63));
    for number in 0..40 {
        let request = host.post("shop.one").header("x-sig", &signature).body(format!("{{\"n\": {number}}}"));
        assert_eq!(request.send().await.unwrap().status(), 503, "{number}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_environment_or_a_file_that_cant_be_used_closes_the_webhook() {
    let all = unusable();
    let mut setup = many(all.iter().map(|(webhook, _)| *webhook));
    let folder = setup.folder.path().join("secrets");
    setup.config.secrets_dir = Some(folder.clone());
    for (number, (_, value)) in all.iter().enumerate() {
        if number % 2 == 0 {
            write(&folder.join(format!("shop_k{number}")), value);
        } else {
            setup.environment = setup.environment.with(&format!("HOOKPACK_SECRET_SHOP_K{number}"), value);
        }
    }
    let host = setup.start().await;
    let ready = host.api("/readyz").await.json();
    assert_eq!(ready["status"], "degraded");
    for (number, (webhook, value)) in all.iter().enumerate() {
        let (reference, unusable) = (format!("shop.t{number}"), format!("secret unusable: shop_k{number}"));
        let answer = host.send(&reference, "{}").await;
        let logged = host.logged(&answer).await;
        let expected = ("secret_missing".to_owned(), unusable.clone());
        assert_eq!((answer.status, logged), (503, expected), "{webhook} {value:?}");
        assert!(ready["reasons"].to_string().contains(&format!("{unusable} ({reference})")), "{ready}");
        let shown = host.api(&format!("/api/v1/triggers/{reference}/webhooks")).await.json();
        let own = &shown["data"]["policy"]["secrets"][0];
        assert_eq!((&own["provided"], &own["problem"]), (&json!(false), &json!(unusable)));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_values_those_that_can_be_used_count_and_the_others_are_told_of() {
    let mut setup = setup(HMAC);
    let folder = setup.folder.path().join("secrets");
    let file = folder.join("shop_key");
    // A byte order mark in front and the ends of lines are no part of a value.
    write(&file, &format!("\u{feff}{SECRET}\r\n   \r\n"));
    setup.config.secrets_dir = Some(folder);
    let host = setup.start().await;
    assert_eq!(signed(&host, SECRET).await.status, 200);
    assert_eq!((signed(&host, "   ").await.status, signed(&host, "").await.status), (401, 401));
    let reasons = host.api("/readyz").await.json()["reasons"].clone();
    assert_eq!(reasons, json!(["secret unusable: one of the values of shop_key (shop.one)"]));
    fs::write(&file, "\u{feff}mended").unwrap();
    eventually("the mended file", async || (signed(&host, "mended").await.status == 200).then_some(())).await;
    assert_eq!(host.api("/readyz").await.json()["reasons"], json!([]));
    // By the API as well.
    let set = host.ask("PUT", "/api/v1/secrets/shop_key", json!({"value": "\u{feff}stored"})).await;
    assert_eq!((set.status, signed(&host, "stored").await.status), (200, 200));
    assert_eq!(host.ask("DELETE", "/api/v1/secrets/shop_key", Value::Null).await.status, 204);
    // Not text at all: there, and not to be used; no sender may bring another one meanwhile.
    fs::write(&file, [0xff, 0xfe, 0x41, 0]).unwrap();
    eventually("a file that can't be read", async || {
        (signed(&host, "mended").await.status == 503).then_some(())
    })
    .await;
    let answer = signed(&host, "mended").await;
    assert_eq!(host.logged(&answer).await.1, "secret unusable: shop_key");
    host.stop().await;
}
