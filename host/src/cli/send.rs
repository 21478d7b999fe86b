//! `hookpack send`: a request to a running host, signed as its sender would.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{
    Output, Setup,
    client::{self, Client, ClientArgs},
    output,
};
use crate::{
    clock::Clock,
    config::Config,
    pack::{self, Loaded, Pack, Reader, cases, diagnostics::Report},
    policy::Policy,
    policy_secrets::{ProblemKind, SecretProblem},
    secret::{Ownership, Secrets, StoredSecrets},
    wasm::Purpose,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trigger (or pack, for its own URL) to send to.
    #[arg(value_name = "TRIGGER")]
    reference: String,
    /// Send this case of the pack's tests. Default: the first that is to be accepted.
    #[arg(long, value_name = "NAME", conflicts_with = "body")]
    case: Option<String>,
    /// Send this file as the body, as application/json.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// A header to send along, as `Name: value`; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// The folder of packs. Default: packs
    #[arg(long, value_name = "DIR")]
    packs: Option<String>,
    /// Only ask what would become of it: nothing is stored.
    #[arg(long)]
    dry_run: bool,
    /// How a dry run is told.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let Args { reference, case, body, headers, packs, dry_run, output, client } = args;
    let config = setup.config([("packs", packs)])?;
    let sandbox = setup.sandbox(&config, Purpose::Serve);
    let loaded = load(Reader { limits: &config, sandbox: &sandbox })?;
    let (pack, policy) = find(&loaded, &config, &reference)?;
    let client = Client::new(setup, client)?;
    let secrets = secrets(setup, &config, &loaded, &pack, &policy, &client).await?;
    let resource = resource(&pack, &reference);
    let url = url(&client, &resource, &reference, dry_run).await?;
    let headers = headers.iter().map(|line| header_of(line)).collect::<Result<HeaderMap>>()?;
    let request = match body {
        Some(file) => {
            let body = std::fs::read(&file).with_context(|| file.display().to_string())?;
            cases::Case::of_body(&reference, body, headers)
        }
        None => find_case(&config, &pack, &reference, case.as_deref())?.with_headers(&headers),
    };
    let outgoing = signed(&request, &policy, &secrets, &url)?;
    if dry_run {
        return rehearse(&client, &resource, &url, &outgoing, output).await;
    }
    output::line(&format!("POST {url}"));
    deliver(&url, outgoing).await
}

/// The packs on this machine.
fn load(reader: Reader<'_>) -> Result<Loaded> {
    let packs = &reader.limits.packs;
    pack::load_all(packs, &packs.to_string_lossy(), reader).map_err(anyhow::Error::msg)
}

/// What this machine has of the policy's secrets, as far as the pack may use them: it is a request of the pack's making
/// that carries them.
async fn secrets(
    setup: &Setup,
    config: &Config,
    loaded: &Loaded,
    pack: &Pack,
    policy: &Policy,
    client: &Client,
) -> Result<Secrets> {
    let ownership = Ownership::new(loaded.references().map(str::to_owned), config.secret_grants());
    let sources = config.secret_sources(&setup.environment);
    let mut secrets = Secrets::default();
    for name in policy.secret_names() {
        if !ownership.may_use(&pack.reference, name) && !is_granted(client, name, &pack.reference).await {
            let kind = ProblemKind::NotGranted { pack_ref: pack.reference.clone() };
            bail!("{}", SecretProblem { name: name.to_owned(), kind });
        }
        let (_, values) = sources.find(name, &StoredSecrets::default()).of(&pack.reference);
        secrets.insert(name, values.into_iter().filter(|value| !value.is_blank()).collect());
    }
    Ok(secrets)
}

/// Whether the host lets the pack use the secret; not if it doesn't say.
async fn is_granted(client: &Client, name: &str, pack_ref: &str) -> bool {
    let answer = client.get(&format!("/secrets/{name}/grants"), &[]).await.unwrap_or_default();
    answer["data"].as_array().into_iter().flatten().any(|grant| grant["pack"] == *pack_ref)
}

/// The pack that declares the trigger: it says how to sign.
fn find(loaded: &Loaded, config: &Config, reference: &str) -> Result<(Arc<Pack>, Arc<Policy>)> {
    for pack in loaded.packs() {
        if pack.reference == reference {
            return Ok((pack.clone(), pack.policy.clone()));
        }
        if let Some(trigger) = pack.trigger(reference) {
            return Ok((pack.clone(), trigger.policy.clone()));
        }
    }
    let triggers = loaded.packs().flat_map(|pack| &pack.triggers).map(|trigger| trigger.reference.as_str());
    let known: Vec<_> = triggers.collect();
    bail!(
        "no pack in {} has the trigger `{reference}`; {}",
        config.packs.display(),
        pack::diagnostics::suggestion(reference, &known)
    )
}

/// Its path in the API.
fn resource(pack: &Pack, reference: &str) -> String {
    let kind = if pack.reference == reference { "packs" } else { "triggers" };
    format!("/{kind}/{reference}")
}

/// The webhook's URL; a dry run needs none that is open.
async fn url(client: &Client, resource: &str, reference: &str, dry_run: bool) -> Result<String> {
    let answer = client.get(&format!("{resource}/webhooks"), &[]).await?;
    let webhook = &answer["data"];
    let url = webhook["webhook_url"].as_str().map(str::to_owned);
    let url = url.or_else(|| dry_run.then(|| format!("{}/api/v1/webhooks/dry-run", client.url())));
    url.ok_or_else(|| match webhook["webhook_enabled"].as_bool() {
        Some(true) => anyhow!(
            "the URL of {reference} is not shown: that takes a token with the scope `write`, and on the host the master \
             key that sealed it"
        ),
        _ => anyhow!("{reference} has no URL on that host: its webhook is not enabled"),
    })
}

fn find_case(config: &Config, pack: &Pack, reference: &str, name: Option<&str>) -> Result<cases::Case> {
    let mut report = Report::default();
    let cases = cases::read(pack, &pack.path.to_string_lossy(), config, &mut report);
    if let Some(fault) = report.faults.first() {
        bail!("{fault}");
    }
    let own: Vec<_> = cases.into_iter().filter(|case| case.target_ref == reference).collect();
    let names: Vec<_> = own.iter().map(|case| case.name.clone()).collect();
    let found = own.into_iter().find(|case| match name {
        Some(name) => case.name == name,
        None => case.expect.status == 200,
    });
    found.ok_or_else(|| {
        let list = names.iter().map(|name| format!("\n  {name}")).collect::<String>();
        anyhow!("{reference} has no such case; give --body FILE, or --case with one of:{list}")
    })
}

fn header_of(line: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) =
        line.split_once(':').ok_or_else(|| anyhow!("`{line}` is no header: write `Name: value`"))?;
    let name = name.trim().parse().with_context(|| format!("`{name}`"))?;
    Ok((name, value.trim().parse().with_context(|| format!("`{value}`"))?))
}

fn signed(case: &cases::Case, policy: &Policy, secrets: &Secrets, url: &str) -> Result<cases::Outgoing> {
    let url: http::Uri = url.parse().context("the host's webhook URL")?;
    let base =
        format!("{}://{}", url.scheme_str().unwrap_or("http"), url.authority().map_or("", |it| it.as_str()));
    // A public URL with a path of its own: what stands before the API's path belongs to the base.
    let at = url.path().find("/api/v1/webhooks/").unwrap_or_default();
    let (prefix, path) = url.path().split_at(at);
    case.outgoing(policy, secrets, &format!("{base}{prefix}"), path, Clock::System.now())
        .map_err(anyhow::Error::msg)
}

/// Asks the host what would become of it; a 2xx for the sender is a success.
async fn rehearse(
    client: &Client,
    resource: &str,
    url: &str,
    outgoing: &cases::Outgoing,
    output: Output,
) -> Result<ExitCode> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
    };
    let path = &url[url.find("/api/v1/webhooks/").unwrap_or_default()..];
    let body = json!({
        "method": outgoing.method.as_str(),
        "headers": outgoing.headers.iter().map(line).collect::<Vec<_>>(),
        "query": outgoing.query,
        "path": path,
        "body_base64": STANDARD.encode(&outgoing.body),
    });
    let answer = client.call(Method::POST, &format!("{resource}/test"), &body).await?;
    let told = &answer["data"];
    match output {
        Output::Json => output::line(&answer.to_string()),
        Output::Text => show(told),
    }
    let status = told["answer"]["status"].as_u64().unwrap_or_default();
    Ok(if (200..300).contains(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps as a table, then what would be answered and stored.
fn show(told: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = told["steps"].as_array().into_iter().flatten();
    let rows = steps.map(|step| {
        let took = format!("{} µs", step["took_us"]);
        vec![text(&step["step"]), text(&step["outcome"]), took, text(&step["detail"])]
    });
    output::table(&["STEP", "OUTCOME", "TOOK", ""], rows);
    output::line(&format!("\n{} {}", told["answer"]["status"], text(&told["outcome"])));
    output::line(&text(&told["answer"]["body"]));
    for event in told["events"].as_array().into_iter().flatten() {
        output::line(&format!("\nevent of {}", text(&event["trigger_ref"])));
        output::line(&serde_json::to_string_pretty(&event["payload"]).unwrap_or_default());
    }
    for kept in told["quarantined"].as_array().into_iter().flatten() {
        output::line(&format!("\nkept for {}: {}", text(&kept["trigger_ref"]), text(&kept["detail"])));
    }
}

/// Sends it and shows the answer; a 2xx is a success.
async fn deliver(url: &str, outgoing: cases::Outgoing) -> Result<ExitCode> {
    let response = send(&client::http()?, url, outgoing).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.text().await?;
    output::line(&format!("{status}"));
    for name in [header::RETRY_AFTER, HeaderName::from_static("idempotency-replayed")] {
        if let Some(value) = headers.get(&name) {
            output::line(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    output::line(&body);
    if headers.contains_key("idempotency-replayed") {
        output::line(
            "the host had this delivery already and stored nothing: a new one needs an id of its own (-H)",
        );
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn send(
    http: &reqwest::Client,
    url: &str,
    outgoing: cases::Outgoing,
) -> Result<reqwest::Response> {
    let url = match &outgoing.query {
        Some(query) => format!("{url}?{query}"),
        None => url.to_owned(),
    };
    let request = http.request(outgoing.method, &url).headers(outgoing.headers).body(outgoing.body);
    request.send().await.with_context(|| format!("sending to {url}"))
}
