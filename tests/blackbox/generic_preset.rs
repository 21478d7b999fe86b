//! A sender of one's own: an unsigned trigger gets signing by one override and one secret.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup, TestHost, github_signature};

const PATH: &str = "/api/v1/triggers/shop.orders/webhooks";

async fn send(host: &TestHost, header: Option<(&str, String)>) -> u16 {
    let mut request = host.post("shop.orders").body("{}");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    Answer::of(request.send().await.unwrap()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_trigger_gets_signing_by_one_override_and_one_rotation() {
    for webhook in
        ["enabled: true, verify: none", "enabled: true", "enabled: true, preset: gitlab, secrets: [shop_old]"]
    {
        let trigger = format!(
            "name: orders\nref: shop.orders\ntype: webhook\npayload_schema: true\nwebhook: {{{webhook}}}\n"
        );
        let host = Setup::new(&[("shop/triggers/orders.yaml", &trigger)]).start().await;
        let is_unsigned = !webhook.contains("gitlab");
        assert_eq!(send(&host, None).await, if is_unsigned { 200 } else { 503 });

        let patched = host.ask("PATCH", PATH, json!({"preset": "generic"})).await;
        assert_eq!(patched.status, 200, "{}", patched.text);
        let name = if is_unsigned { "shop_orders" } else { "shop_old" };
        let data = &patched.json()["data"];
        let missing =
            json!([{"name": name, "provided": false, "problem": format!("secret missing: {name}")}]);
        assert_eq!(data["policy"]["secrets"], missing, "{}", patched.text);
        assert_eq!(data["policy_sources"]["verify"], "preset");
        assert_eq!(send(&host, None).await, 503, "no value yet, and nothing gets through without");

        let rotated = host.ask("POST", &format!("/api/v1/secrets/{name}/rotate"), Value::Null).await;
        assert!(rotated.status < 300, "{}", rotated.text);
        let secret = rotated.json()["data"]["value"].as_str().unwrap().to_owned();
        let signature = github_signature(b"{}", &secret);
        for (header, value, expected) in [
            ("x-webhook-signature", signature.clone(), 200),
            ("x-webhook-signature", signature.replace("sha256=", ""), 200),
            ("x-hub-signature-256", signature.clone(), 200),
            ("x-hub-signature-256", signature.replace("sha256=", ""), 200),
            ("x-signature", signature.clone(), 401),
            ("x-webhook-signature", github_signature(b"{}", "other"), 401),
            ("x-gitlab-token", secret.clone(), 401),
        ] {
            assert_eq!(send(&host, Some((header, value))).await, expected, "{header}");
        }
        assert_eq!(send(&host, None).await, 401);

        let back = host.ask("PATCH", PATH, json!({"preset": null})).await;
        assert_eq!(back.status, 200, "{}", back.text);
        if is_unsigned {
            assert_eq!(send(&host, None).await, 200);
        }
        host.stop().await;
    }
}

/// Twilio's own libraries try the URL with the port and without it, whichever port it is.
#[tokio::test(flavor = "multi_thread")]
async fn twilio_signs_the_url_with_any_port_or_without() {
    use hmac::{KeyInit, Mac};
    for public_url in ["https://hooks.example.com:8443", "https://hooks.example.com"] {
        let trigger = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, preset: twilio, secrets: [s_own]}\n";
        let mut setup = Setup::new(&[("s/triggers/t.yaml", trigger)]);
        setup.environment = setup.environment.with("HOOKPACK_SECRET_S_OWN", "secret");
        setup.config.public_url = Some(public_url.to_owned());
        let host = setup.start().await;
        let url = host.url("s.t");
        let path = url.split_once("/api").unwrap().1.to_owned();
        for (signed, expected) in [
            ("https://hooks.example.com:8443", if public_url.ends_with("8443") { 200 } else { 401 }),
            ("https://hooks.example.com", 200),
            ("https://hooks.example.com:443", if public_url.ends_with("8443") { 401 } else { 200 }),
            ("https://hooks.example.com:9443", 401),
        ] {
            let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(b"secret").unwrap();
            mac.update(format!("{signed}/api{path}Aone").as_bytes());
            let signature =
                base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac.finalize().into_bytes());
            let request = host.http.post(&url).header("content-type", "application/x-www-form-urlencoded");
            let request = request.header("x-twilio-signature", signature).body("A=one");
            assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{public_url}: {signed}");
        }
        host.stop().await;
    }
}

/// As Node and Python decode them: without padding, and with bits left over.
#[tokio::test(flavor = "multi_thread")]
async fn base64_is_taken_as_the_senders_libraries_take_it() {
    use hmac::{KeyInit, Mac};
    // Both stand for the bytes of `secret k`.
    for secret in ["whsec_c2VjcmV0IGs=", "whsec_c2VjcmV0IGs", "whsec_c2VjcmV0IGt="] {
        let trigger = "name: t\nref: s.t\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, preset: standard-webhooks, secrets: [s_own]}\n";
        let mut setup = Setup::new(&[("s/triggers/t.yaml", trigger)]);
        setup.environment = setup.environment.with("HOOKPACK_SECRET_S_OWN", secret);
        let host = setup.start().await;
        let now = host.clock.now().unix_timestamp();
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"secret k").unwrap();
        mac.update(format!("id.{now}.{{}}").as_bytes());
        let signature =
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac.finalize().into_bytes());
        for (number, signature) in
            [signature.clone(), signature.trim_end_matches('=').to_owned()].iter().enumerate()
        {
            let request =
                host.post("s.t").header("webhook-id", "id").header("webhook-timestamp", now.to_string());
            let answer = request
                .header("webhook-signature", format!("v1,{signature}"))
                .body("{}")
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{secret} {number}");
        }
        host.stop().await;
    }
}
