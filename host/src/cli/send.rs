//! `hookpack send`: a request to a running host, signed as its sender would.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Setup,
    client::{self, Client, ClientArgs},
    output,
};
use crate::{
    clock::Clock,
    config::Config,
    pack::{self, Pack, Reader, cases, diagnostics::Report},
    policy::Policy,
    secret::{Secrets, StoredSecrets},
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
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let Args { reference, case, body, headers, packs, client } = args;
    let config = setup.config([("packs", packs)])?;
    let sandbox = setup.sandbox(&config, Purpose::Serve);
    let (pack, policy) = find(Reader { limits: &config, sandbox: &sandbox }, &reference)?;
    let secrets =
        config.secret_sources(&setup.environment).read(pack.secret_names(), &StoredSecrets::default());
    let url = url(&Client::new(setup, client)?, &pack, &reference).await?;
    let headers = headers.iter().map(|line| header_of(line)).collect::<Result<HeaderMap>>()?;
    let request = match body {
        Some(file) => {
            let body = std::fs::read(&file).with_context(|| file.display().to_string())?;
            cases::Case::of_body(&reference, body, headers)
        }
        None => find_case(&config, &pack, &reference, case.as_deref())?.with_headers(&headers),
    };
    let outgoing = signed(&request, &policy, &secrets, &url)?;
    output::line(&format!("POST {url}"));
    deliver(&url, outgoing).await
}

/// The pack on this machine that declares the trigger: it says how to sign.
fn find(reader: Reader<'_>, reference: &str) -> Result<(Arc<Pack>, Arc<Policy>)> {
    let config = reader.limits;
    let loaded =
        pack::load_all(&config.packs, &config.packs.to_string_lossy(), reader).map_err(anyhow::Error::msg)?;
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

async fn url(client: &Client, pack: &Pack, reference: &str) -> Result<String> {
    let kind = if pack.reference == reference { "packs" } else { "triggers" };
    let answer = client.get(&format!("/{kind}/{reference}/webhooks"), &[]).await?;
    let url = answer["data"]["webhook_url"].as_str();
    url.map(str::to_owned)
        .ok_or_else(|| anyhow!("{reference} has no URL on that host: its webhook is not enabled"))
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
