//! Names that can't be: NUL in calls of the API, and what systems leave in folders of packs.

use serde_json::{Value, json};

use crate::harness::Setup;

const ONE: &str =
    "name: one\nref: t.one\ntype: webhook\npayload_schema: true\nwebhook: {enabled: true, verify: none}\n";

#[tokio::test]
async fn a_nul_anywhere_in_a_call_of_the_api_is_400() {
    let host = Setup::new(&[("t/triggers/one.yaml", ONE)]).start().await;
    let document = host.api("/openapi.json").await.json();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for parameter in parameters {
                let name = parameter["name"].as_str().unwrap();
                let filled = |value: &str| {
                    let mut filled = path.clone();
                    while let (Some(from), Some(to)) = (filled.find('{'), filled.find('}')) {
                        let inside = &filled[from + 1..to];
                        let text = if inside == name { value } else { "t.one" };
                        filled.replace_range(from..=to, text);
                    }
                    filled
                };
                let path = match parameter["in"].as_str().unwrap() {
                    "path" => filled("a%00b"),
                    "query" => format!("{}?{name}=a%00b", filled("t.one")),
                    _ => continue,
                };
                let answer = host.ask(&method.to_uppercase(), &path, Value::Null).await;
                assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
                asked += 1;
            }
        }
    }
    assert!(asked > 50, "{asked}");
    let label = json!({"label": "a\0b", "scope": "read"});
    let answer = host.ask("POST", "/api/v1/tokens", label).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    host.stop().await;
}

#[tokio::test]
async fn what_systems_leave_in_folders_is_no_pack_and_no_file_of_one() {
    let setup = Setup::new(&[("t/triggers/one.yaml", ONE)])
        .with_file("lost+found/x", b"")
        .with_file("@eaDir/t@SynoEAStream", b"")
        .with_file(".snapshot/t/pack.yaml", b"")
        .with_file("System Volume Information/x", b"")
        .with_file("t/@eaDir/pack.yaml@SynoEAStream", b"")
        .with_file("t/triggers/Thumbs.db", b"")
        .with_file("t/__MACOSX/x", b"");
    let host = setup.start().await;
    let packs = host.api("/api/v1/packs").await.json();
    assert_eq!(packs["data"].as_array().unwrap().len(), 1, "{packs}");
    assert_eq!(host.api("/readyz").await.json()["reasons"], json!([]));
    assert_eq!(host.send("t.one", "{}").await.status, 200);
    host.stop().await;
}
