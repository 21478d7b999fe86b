//! `hookpack demo`: the newcomer's first minute.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::HeaderValue;
use serde_json::Value;
use tokio::{net::TcpListener, time::sleep};
use uuid::Uuid;

use super::{
    ServeArgs, Setup, client,
    compare::{self, Got, GotEvent},
    output, send, serve,
    signals::Signals,
};
use crate::{
    budget::Budget,
    clock::Clock,
    config::{Config, Environment, LogFormat},
    model::Outcome,
    pack::{self, Pack, Reader, cases, diagnostics::Report},
    registry::Target,
    serve::Running,
    store::{
        events,
        requests::{self, RequestRow},
    },
    telemetry,
    verify::{Seen, public_key::private},
    wasm::Purpose,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    serve: ServeArgs,
    /// End after the table; with 1 when a request did not come out as its case expects.
    #[arg(long)]
    exit: bool,
}

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let folder = tempdir()?;
    let outcome = in_folder(setup, args, &folder).await;
    // The store of a demo is nobody's: it goes as it came.
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        output::error(&format!("{} could not be removed: {error}", folder.display()));
    }
    outcome
}

async fn in_folder(setup: &Setup, args: Args, folder: &Path) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut config = setup.config(args.serve.flags())?;
    if config.database_url.is_none() {
        config.data_dir = folder.to_owned();
    }
    config.log = format!("warn,{}", config.log.replace("info", "warn"));
    config.log_format = LogFormat::Text;
    config.listen = free(config.listen).await?;
    // So that a case's `source_ip` can be told as a proxy would.
    config.trusted_proxies.push(ipnet::IpNet::from(config.listen.ip()));
    telemetry::start(&config)?;
    if !config.packs.is_dir() {
        let packs = config.packs.display();
        bail!(
            "there is no packs folder {packs} here: run this in a checkout of Hookpack, or give --packs DIR"
        );
    }
    let sandbox = setup.sandbox(&config, Purpose::Serve);
    let reader = Reader { limits: &config, sandbox: &sandbox };
    let loaded =
        pack::load_all(&config.packs, &config.packs.to_string_lossy(), reader).map_err(anyhow::Error::msg)?;
    let packs: Vec<_> = loaded.packs().cloned().collect();
    pin(&mut config, &packs, folder)?;
    let environment = with_secrets(&setup.environment, &packs);
    grant(&mut config, &packs);
    output::line("Starting a host on a fresh store …");
    let started = async { Running::start(config, &environment, Clock::System).await };
    let running = tokio::select! {
        started = started => started?,
        _ = signals.first() => return Ok(ExitCode::FAILURE),
    };
    let all_well = tokio::select! {
        shown = show(&running) => Some(shown?),
        _ = signals.first() => None,
    };
    if all_well.is_some() && !args.exit {
        stay(&running);
        signals.first().await;
    }
    running.stop().await;
    Ok(if all_well == Some(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder of our own for the store.
fn tempdir() -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("hookpack-demo-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// The address that was asked for, or another port when somebody has that one.
async fn free(address: SocketAddr) -> Result<SocketAddr> {
    match TcpListener::bind(address).await {
        Ok(_) => Ok(address),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            output::line(&format!("{address} is taken; the demo listens on another port"));
            Ok(SocketAddr::new(address.ip(), 0))
        }
        Err(error) => Err(error).with_context(|| format!("listening on {address}")),
    }
}

/// Certificates that cases name lie nowhere but here.
fn pin(config: &mut Config, packs: &[Arc<Pack>], folder: &Path) -> Result<()> {
    let file = folder.join("certificate.pem");
    std::fs::write(&file, private::CERTIFICATE).with_context(|| file.display().to_string())?;
    for pack in packs {
        let secrets = cases::secrets(pack);
        for case in cases::read(pack, "", config, &mut Report::default()) {
            let policy = pack.trigger(&case.target_ref).map_or(&pack.policy, |trigger| &trigger.policy);
            let now = time::OffsetDateTime::UNIX_EPOCH;
            let Ok(outgoing) = case.outgoing(policy, &secrets, "", "", now) else { continue };
            let request = case.inbound(&outgoing, "", now);
            if let Ok(Some(url)) = policy.verify.wanted(&Seen::new(&request, "", &Budget::default())) {
                config.pinned_urls.insert(url, file.clone());
            }
        }
    }
    Ok(())
}

fn with_secrets(environment: &Environment, packs: &[Arc<Pack>]) -> Environment {
    let mut environment = environment.clone();
    for pack in packs {
        let secrets = cases::secrets(pack);
        for name in pack.secret_names() {
            if let Some(value) = secrets.values(name).first() {
                let variable = format!("HOOKPACK_SECRET_{}", name.to_uppercase().replace('-', "_"));
                environment = environment.with(&variable, &String::from_utf8_lossy(value.bytes()));
            }
        }
    }
    environment
}

/// Secrets of a demo are made up: every pack may use those that it names.
fn grant(config: &mut Config, packs: &[Arc<Pack>]) {
    for pack in packs {
        for name in pack.secret_names() {
            config.secret_grants.entry(name.to_owned()).or_default().push(pack.reference.clone());
        }
    }
}

/// Sends every case of every pack and shows what came of it; whether all went as expected.
async fn show(running: &Running) -> Result<bool> {
    let http = client::http()?;
    let host = &running.host;
    let registry = host.registry.load_full();
    let mut rows = Vec::new();
    let (mut surprises, mut stored) = (Vec::new(), 0);
    for pack in registry.packs() {
        let mut report = Report::default();
        for case in cases::read(pack, &pack.path.to_string_lossy(), &host.config, &mut report) {
            let target = match pack.trigger(&case.target_ref) {
                Some(trigger) => Target::Trigger(trigger.clone()),
                None => Target::Pack(pack.clone()),
            };
            let endpoints = registry.endpoints_of(target.owner_ref());
            let Some(key) = endpoints.iter().find_map(|endpoint| endpoint.key.as_deref()) else {
                surprises.push(format!(
                    "{}: {} has no URL: its webhook is not enabled",
                    case.name, case.target_ref
                ));
                continue;
            };
            let (got, answer) = deliver(running, &http, &case, &target, key).await?;
            stored += got.events.len();
            let differences = compare::differences(&case.expect, &got);
            let mark = if differences.is_empty() { "ok" } else { "!!" };
            surprises.extend(differences.iter().map(|difference| format!("{}: {difference}", case.name)));
            let events: Vec<_> = got
                .events
                .iter()
                .map(|event| format!("{} {}", event.trigger, output::clipped(&event.payload.to_string(), 60)))
                .collect();
            rows.push(vec![
                mark.to_owned(),
                case.target_ref.clone(),
                case.name.clone(),
                answer,
                events.join("\n"),
            ]);
        }
        surprises.extend(report.faults.iter().map(ToString::to_string));
    }
    surprises.extend(registry.loaded.report().faults.iter().map(ToString::to_string));
    let sent = rows.len();
    output::table(&["", "SENT TO", "REQUEST", "ANSWER", "STORED EVENT"], rows);
    output::line(&format!("\n{sent} requests sent, {stored} events stored, {} surprises", surprises.len()));
    for surprise in &surprises {
        output::line(surprise);
    }
    Ok(surprises.is_empty() && sent > 0)
}

/// Sends one case for real; what became of it, and its answer in a few words.
async fn deliver(
    running: &Running,
    http: &reqwest::Client,
    case: &cases::Case,
    target: &Target,
    key: &str,
) -> Result<(Got, String)> {
    let host = &running.host;
    let path = format!("/api/v1/webhooks/{key}");
    let secrets = &host.secrets_of(target).usable;
    let outgoing = case.outgoing(target.policy(), secrets, &host.public_url, &path, host.clock.now());
    let mut outgoing = outgoing.map_err(anyhow::Error::msg)?;
    if case.request.source_ip != running.address.ip() {
        let source = HeaderValue::from_str(&case.request.source_ip.to_string())?;
        outgoing.headers.insert("x-forwarded-for", source);
    }
    let response = send::send(http, &format!("http://{}{path}", running.address), outgoing).await?;
    let status = response.status().as_u16();
    let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let id = id.context("the answer has no X-Request-Id")?;
    let logged = logged(running, id).await?;
    let body = response.text().await?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let told = format!("{status} {}", logged.outcome);
    let got = Got {
        status,
        outcome: Outcome::from_word(&logged.outcome),
        detail: logged.detail,
        events: stored_events(running, id, &answer["data"]).await?,
        body: Some(body),
        fuel: None,
    };
    Ok((got, told))
}

/// The row of a request in the log; it is written a moment after the answer.
async fn logged(running: &Running, id: Uuid) -> Result<RequestRow> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(row) = requests::get(&running.host.pool, id).await? {
            return Ok(row);
        }
        if Instant::now() > deadline {
            bail!("request {id} is not in the request log");
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The events that an answer names, or, where a sender hears something else, those of its request; read back from the
/// store.
async fn stored_events(running: &Running, request_id: Uuid, data: &Value) -> Result<Vec<GotEvent>> {
    let named = match data["events"].as_array() {
        Some(events) => events.iter().map(|event| &event["event_id"]).collect(),
        None => vec![&data["event_id"]],
    };
    let mut ids: Vec<_> = named.into_iter().filter_map(|id| id.as_str()?.parse::<Uuid>().ok()).collect();
    if ids.is_empty() {
        ids = events::of_request(&running.host.pool, request_id).await?;
    }
    let mut stored = Vec::new();
    for id in ids {
        let row = events::get(&running.host.pool, id).await?;
        let row = row.with_context(|| format!("event {id} was acknowledged and is not in the store"))?;
        stored.push(GotEvent {
            trigger: row.trigger_ref,
            payload: serde_json::from_str(row.payload.0.get())?,
            key: row.idempotency_key,
        });
    }
    Ok(stored)
}

/// What to try while the host stays up.
fn stay(running: &Running) {
    let host = &running.host;
    output::line(&format!(
        "\nThe host stays up on http://{} until you press Ctrl-C. Meanwhile:\n",
        running.address
    ));
    if let Some(line) = super::curl::line(host) {
        output::line(&line);
    }
    output::line(&serve::asking(running, "events"));
    output::line(&serve::asking(running, "requests"));
}
