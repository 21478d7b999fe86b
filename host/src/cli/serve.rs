//! `hookpack serve`

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    ServeArgs, Setup, curl, output,
    signals::{Signals, Stop},
};
use crate::{
    clock::Clock, config::Config, host::Host, policy_secrets::ProblemKind, serve::Running, telemetry,
};

pub(super) async fn run(setup: &Setup, args: ServeArgs) -> Result<ExitCode> {
    let config = setup.config(args.flags())?;
    telemetry::start(&config)?;
    let mut signals = Signals::listen()?;
    let mut hang_up = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let running = tokio::select! {
        started = Running::start(config, &setup.environment, Clock::System) => started?,
        _ = signals.first() => return Ok(ExitCode::FAILURE),
    };
    greet(&running);
    let asked = loop {
        tokio::select! {
            asked = signals.first() => break asked,
            _ = hang_up.recv() => look(running.host.clone()),
        }
    };
    stop(running, asked == Stop::Terminate).await;
    Ok(ExitCode::SUCCESS)
}

async fn stop(running: Running, give_notice: bool) {
    if give_notice {
        let seconds = running.host.config.drain_notice_seconds;
        tracing::info!(seconds, "about to stop: not ready any more, still serving");
        running.notice().await;
    }
    tracing::info!("stopping: no new requests, those in flight are finished");
    running.stop().await;
}

/// What SIGHUP asks for: a full look at the packs folder, while everything goes on.
fn look(host: Arc<Host>) {
    tokio::spawn(async move {
        tracing::info!("looking at the whole packs folder");
        match host.look_at_packs().await {
            Ok(()) => tracing::info!("looked at the whole packs folder"),
            Err(error) => tracing::warn!("{error:#}"),
        }
    });
}

/// What a person needs next: what runs, what doesn't, where to send, a line that works.
fn greet(running: &Running) {
    let host = &running.host;
    output::line(&format!("Hookpack {} listens on http://{}", env!("CARGO_PKG_VERSION"), running.address));
    if let Some(admin) = running.admin_address {
        output::line(&format!("management API on http://{admin}"));
    }
    if let Some(token) = &running.fresh_admin_token {
        let file = host.config.admin_token_file();
        output::line(&format!("admin token (shown this once, kept in {}): {}", file.display(), token.get()));
    }
    packs(host);
    endpoints(host);
    for (problem, owners) in host.secret_problems() {
        let told = problem.with_owners(&owners);
        let name = problem.name;
        let variable = name.to_uppercase().replace('-', "_");
        output::line(&match problem.kind {
            ProblemKind::Missing => format!(
                "{told} (`hookpack secret set {name}`, HOOKPACK_SECRET_{variable}, or a file in secrets_dir)"
            ),
            _ => told,
        });
    }
    if let Some(line) = curl::line(host) {
        output::line(&format!("\nTry it:\n{line}"));
    }
    output::line(&format!("\nWatch it:\n{}", asking(running, "requests --follow")));
}

/// A command that asks this very host, with what it needs beyond the defaults.
pub(super) fn asking(running: &Running, command: &str) -> String {
    let defaults = Config::default();
    let mut line = format!("hookpack {command}");
    let address = running.admin_address.unwrap_or(running.address);
    if address != defaults.listen {
        line += &format!(" --url http://{address}");
    }
    let token = running.host.config.admin_token_file();
    if token != defaults.admin_token_file() {
        line += &format!(" --token \"$(cat {})\"", token.display());
    }
    line
}

fn packs(host: &Host) {
    let registry = host.registry.load();
    for pack in registry.packs() {
        let count = pack.triggers.len();
        let plural = if count == 1 { "" } else { "s" };
        output::line(&format!("pack {} {}: {count} trigger{plural}", pack.reference, pack.version));
    }
    let report = registry.loaded.report();
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    for refused in registry.loaded.refused() {
        output::line(&format!("pack {} is refused:", refused.path.display()));
        for fault in &refused.report.faults {
            output::line(&fault.to_string());
        }
    }
    if registry.packs().next().is_none() {
        output::line(&format!("no pack runs: put one into {}", host.config.packs.display()));
    }
}

fn endpoints(host: &Host) {
    let registry = host.registry.load();
    let pack_refs = registry.packs().map(|pack| pack.reference.as_str());
    let trigger_refs = registry.triggers().map(|trigger| trigger.reference.as_str());
    let mut rows = Vec::new();
    for owner_ref in pack_refs.chain(trigger_refs) {
        for endpoint in registry.endpoints_of(owner_ref) {
            let url = endpoint.key.as_deref().map_or_else(
                || "sealed with another host's master key".to_owned(),
                |key| host.webhook_url(key),
            );
            let verify =
                if endpoint.target.policy().verify.verifies() { "signed" } else { "secret URL only" };
            rows.push(vec![owner_ref.to_owned(), verify.to_owned(), url]);
        }
    }
    if !rows.is_empty() {
        output::line("");
        output::table(&["RECEIVES FOR", "VERIFIED BY", "URL"], rows);
    }
}
