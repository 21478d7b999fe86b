//! Schemes that no preset stands for, each over HTTP.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{KeyInit, Mac};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

use crate::harness::{Answer, SECRET, Setup, TestHost};

async fn host(webhook: &str, secret: &str) -> TestHost {
    let head = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook:\n  enabled: true\n  secrets: [own]\n";
    let mut setup = Setup::new(&[("s/triggers/t.yaml", &format!("{head}{webhook}"))]);
    setup.environment = setup.environment.with("HOOKPACK_SECRET_OWN", secret);
    setup.start().await
}

async fn with(host: &TestHost, name: &str, value: &str) -> u16 {
    Answer::of(host.post("s.t").header(name, value).body("{}").send().await.unwrap()).await.status
}

#[tokio::test]
async fn a_user_and_a_password_are_one_secret() {
    let host =
        host("  verify: {token: {header: Authorization, basic: true}}\n", "hook:pass:word\nold:one").await;
    let send = async |user: &str, password: &str| {
        let request = host.post("s.t").basic_auth(user, Some(password)).body("{}");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("hook", "pass:word").await, 200);
    assert_eq!(send("old", "one").await, 200);
    assert_eq!(send("hook", "password").await, 401);
    assert_eq!(with(&host, "authorization", "Basic not base64").await, 401);
    assert_eq!(
        with(&host, "authorization", "basic aG9vazpwYXNzOndvcmQ=").await,
        200,
        "the scheme's case is free"
    );
    assert_eq!(with(&host, "authorization", "Bearer aG9vazpwYXNzOndvcmQ=").await, 401);
}

fn jwt(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
}

const JWT: &str = "  verify:
    jwt:
      header: X-Jwt
      alg: [EdDSA, RS256]
      max_age: 300
      claims: {iss: sender, body: \"{sha256hex:body}\"}\n";

/// Of `{}`.
const DIGEST: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

#[tokio::test]
async fn a_jwt_is_checked_by_a_key_of_its_kind_and_no_other() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": public}]}).to_string();
    let host = host(JWT, &set).await;
    let now = host.clock.now().unix_timestamp();
    let claims = json!({"iss": "sender", "body": DIGEST, "iat": now});
    let sign =
        |header: Value, claims: &Value| jwt(&header, claims, |message| pair.sign(message).as_ref().to_vec());
    let token = sign(json!({"alg": "EdDSA", "kid": "k1"}), &claims);
    assert_eq!(with(&host, "x-jwt", &token).await, 200);
    // One header of the token at a time is another.
    let mac = |message: &[u8]| {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(set.as_bytes()).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    };
    for (what, token) in [
        ("another key id", sign(json!({"alg": "EdDSA", "kid": "k2"}), &claims)),
        ("another algorithm", sign(json!({"alg": "RS256", "kid": "k1"}), &claims)),
        ("none", format!("{}.", token.rsplit_once('.').unwrap().0)),
        ("no algorithm", jwt(&json!({"alg": "none"}), &claims, |_| Vec::new())),
        ("the public key as a shared secret", jwt(&json!({"alg": "HS256"}), &claims, mac)),
        ("another body", sign(json!({"alg": "EdDSA"}), &json!({"iss": "sender", "body": "00", "iat": now}))),
        (
            "another issuer",
            sign(json!({"alg": "EdDSA"}), &json!({"iss": "other", "body": DIGEST, "iat": now})),
        ),
        ("old", sign(json!({"alg": "EdDSA"}), &json!({"iss": "sender", "body": DIGEST, "iat": now - 301}))),
        (
            "expired",
            sign(
                json!({"alg": "EdDSA"}),
                &json!({"iss": "sender", "body": DIGEST, "iat": now, "exp": now - 61}),
            ),
        ),
        (
            "not yet",
            sign(
                json!({"alg": "EdDSA"}),
                &json!({"iss": "sender", "body": DIGEST, "iat": now, "nbf": now + 61}),
            ),
        ),
        ("without its time", sign(json!({"alg": "EdDSA"}), &json!({"iss": "sender", "body": DIGEST}))),
        ("two parts", token.split_once('.').unwrap().1.to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(with(&host, "x-jwt", &token).await, 401, "{what}");
    }
}

#[tokio::test]
async fn a_jwt_s_key_may_be_a_certificate_in_pem() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/verify/test-keys");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let host = host(JWT, &read("rsa-certificate.pem")).await;
    let pem: String = read("rsa-key.pem").lines().filter(|line| !line.starts_with('-')).collect();
    let pair = RsaKeyPair::from_pkcs8(&base64::prelude::BASE64_STANDARD.decode(pem).unwrap()).unwrap();
    let claims = json!({"iss": "sender", "body": DIGEST, "iat": host.clock.now().unix_timestamp()});
    let token = jwt(&json!({"alg": "RS256"}), &claims, |message| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    });
    assert_eq!(with(&host, "x-jwt", &token).await, 200);
    assert_eq!(with(&host, "x-jwt", &token.replace('.', "..")).await, 401);
}

#[tokio::test]
async fn sha_512_in_base64url_over_a_query_parameter() {
    let host = host("  verify:\n    hmac: sha512\n    signed: \"{method} {path}?{query:id}\\n{sha256b64:body}\"\n    signature: {query: sig, encoding: base64url}\n", SECRET).await;
    let url = host.url("s.t");
    let path = format!("/api{}", url.split_once("/api").unwrap().1);
    let mut mac = hmac::Hmac::<sha2::Sha512>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("POST {path}?7\nRBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=").as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let send = async |query: String| {
        let request =
            host.http.post(format!("{url}?{query}")).header("content-type", "application/json").body("{}");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(format!("id=7&sig={signature}")).await, 200);
    assert_eq!(send(format!("id=8&sig={signature}")).await, 401);
    assert_eq!(send("id=7".to_owned()).await, 401);
}

const HEADER: &str = r#"{"alg":"EdDSA"}"#;

/// One wrong thing at a time, in a token that is signed all right.
#[tokio::test]
async fn a_jwt_that_could_be_read_in_two_ways_is_refused() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public, "use": "sig", "key_ops": ["verify"], "alg": "EdDSA"}]});
    let host = host("  verify: {jwt: {header: X-Jwt, alg: [EdDSA], claims: {iss: sender, n: 100, body: \"{sha256hex:body}\"}}}\n", &set.to_string()).await;
    let now = host.clock.now().unix_timestamp();
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let sign = |header: &str, claims: &str| {
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
    };
    let claims = |more: &str| format!(r#"{{"iss":"sender","n":1e2,"body":"{DIGEST}"{more}}}"#);
    let accepted = sign(HEADER, &claims(&format!(r#","exp":{now},"nbf":{now},"iat":{now}"#)));
    assert_eq!(with(&host, "x-jwt", &accepted).await, 200);
    let (seconds, zeros) = ((now + 100).to_string(), "0".repeat(400));
    let exponent = format!("{}.{}e9", &seconds[..1], &seconds[1..]);
    assert_eq!(with(&host, "x-jwt", &sign(HEADER, &claims(&format!(r#","exp":{exponent}"#)))).await, 200);
    assert_eq!(
        with(&host, "x-jwt", &sign(HEADER, &claims(&format!(r#","exp":{seconds}.5,"nbf":1e3"#)))).await,
        200
    );
    for more in [
        r#","exp":"1""#.to_owned(),
        format!(r#","exp":"{seconds}""#),
        r#","exp":null"#.to_owned(),
        format!(r#","exp":[{seconds}]"#),
        format!(r#","exp":1{zeros}"#),
        r#","exp":1e9"#.to_owned(),
        format!(r#","nbf":"{now}""#),
        r#","nbf":true"#.to_owned(),
        r#","nbf":2e9"#.to_owned(),
        r#","iat":"then""#.to_owned(),
        format!(r#","exp":1,"exp":{seconds}"#),
        format!(r#","exp":1,"\u0065xp":{seconds}"#),
        r#","iss":"sender""#.to_owned(),
        r#","x":{"a":1,"a":2}"#.to_owned(),
    ] {
        assert_eq!(with(&host, "x-jwt", &sign(HEADER, &claims(&more))).await, 401, "{more}");
    }
    for header in [
        r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":["EdDSA"]}"#,
        r#"{"alg":"eddsa"}"#,
        r#"{"alg":"EdDSA","kid":7}"#,
        r#"["EdDSA"]"#,
    ] {
        assert_eq!(with(&host, "x-jwt", &sign(header, &claims(""))).await, 401, "{header}");
    }
    for token in [
        format!("{accepted}="),
        accepted.replacen('.', "=.", 1),
        format!("{accepted}.{}", accepted.rsplit('.').next().unwrap()),
        sign(HEADER, &format!(r#"{{"iss":["sender"],"n":100,"body":"{DIGEST}"}}"#)),
        sign(HEADER, &format!(r#"{{"iss":"sender=","n":100,"body":"{DIGEST}"}}"#)),
        sign(HEADER, &format!(r#"{{"iss":"sender","n":100,"body":"{DIGEST}="}}"#)),
        sign(HEADER, &format!(r#"{{"iss":"sender","n":"100","body":"{DIGEST}"}}"#)),
    ] {
        assert_eq!(with(&host, "x-jwt", &token).await, 401, "{token}");
    }
}

#[tokio::test]
async fn a_jwk_that_is_for_something_else_verifies_nothing() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    for (more, expected) in [
        (json!({}), 200),
        (json!({"use": "sig", "alg": "EdDSA", "key_ops": ["sign", "verify"]}), 200),
        (json!({"use": "enc"}), 401),
        (json!({"use": ["sig"]}), 401),
        (json!({"key_ops": ["encrypt"]}), 401),
        (json!({"key_ops": []}), 401),
        (json!({"key_ops": "verify"}), 401),
        (json!({"alg": "ES256"}), 401),
    ] {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": public});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let host = host(JWT, &json!({"keys": [key]}).to_string()).await;
        let claims = json!({"iss": "sender", "body": DIGEST, "iat": host.clock.now().unix_timestamp()});
        let token = jwt(&json!({"alg": "EdDSA"}), &claims, |message| pair.sign(message).as_ref().to_vec());
        assert_eq!(with(&host, "x-jwt", &token).await, expected, "{more}");
    }
}

/// Of `{}`, in base64 without padding.
const DIGEST_BASE64: &str = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o";

/// Whom a token is for may be a list; what it says is a digest in base64 may be padded, and nothing else.
#[tokio::test]
async fn an_audience_may_be_a_list_and_only_base64_may_be_padded() {
    let webhook = "  params: {audience: \"https://a.example/\"}\n  verify: {jwt: {header: X-Jwt, alg: [HS256], claims: {aud: \"{param:audience}\", kind: push, body: \"{sha256b64:body}\"}}}\n";
    let host = host(webhook, SECRET).await;
    let sign = |claims: &Value| {
        jwt(&json!({"alg": "HS256"}), claims, |message| {
            let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        })
    };
    let (own, padded) = ("https://a.example/", format!("{DIGEST_BASE64}="));
    for (claims, expected) in [
        (json!({"aud": own, "kind": "push", "body": DIGEST_BASE64}), 200),
        (json!({"aud": [own], "kind": "push", "body": padded}), 200),
        (json!({"aud": ["https://b.example/", own], "kind": "push", "body": padded}), 200),
        (json!({"aud": ["https://b.example/"], "kind": "push", "body": DIGEST_BASE64}), 401),
        (json!({"aud": [], "kind": "push", "body": DIGEST_BASE64}), 401),
        (json!({"aud": [[own]], "kind": "push", "body": DIGEST_BASE64}), 401),
        (json!({"aud": format!("{own}="), "kind": "push", "body": DIGEST_BASE64}), 401),
        (json!({"aud": own, "kind": ["push"], "body": DIGEST_BASE64}), 401),
        (json!({"aud": own, "kind": "push", "body": [DIGEST_BASE64]}), 401),
    ] {
        assert_eq!(with(&host, "x-jwt", &sign(&claims)).await, expected, "{claims}");
    }
}
