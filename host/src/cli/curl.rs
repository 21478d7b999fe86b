//! A request as a curl line that works.

use crate::{host::Host, model::Outcome, pack::cases, pack::diagnostics::Report, registry::Target};

/// The lightest case of a trigger that receives, and that is stored, as a curl line; cases that say which events they
/// become come first, then unsigned triggers.
pub(super) fn line(host: &Host) -> Option<String> {
    let registry = host.registry.load();
    let mut best: Option<((bool, bool, usize), String)> = None;
    for pack in registry.packs() {
        for case in cases::read(pack, &pack.reference, &host.config, &mut Report::default()) {
            let is_stored = case.expect.status == 200
                && case.expect.outcome.is_none_or(|outcome| outcome == Outcome::Accepted)
                && case.expect.events.as_ref().is_none_or(|events| !events.is_empty());
            let Some(trigger) = pack.trigger(&case.target_ref).filter(|_| is_stored) else {
                continue;
            };
            let target = Target::Trigger(trigger.clone());
            let endpoints = registry.endpoints_of(target.owner_ref());
            let Some(key) = endpoints.iter().find_map(|endpoint| endpoint.key.as_deref()) else { continue };
            let path = format!("/api/v1/webhooks/{key}");
            let verifies = target.policy().verify.verifies();
            let rank = (case.expect.events.is_none(), verifies, case.request.body.len());
            if best.as_ref().is_some_and(|(other, _)| *other <= rank) || case.request.body.len() > 1500 {
                continue;
            }
            let secrets = &host.secrets_of(&target).usable;
            let outgoing = case.outgoing(target.policy(), secrets, &host.public_url, &path, host.clock.now());
            if let Ok(outgoing) = outgoing {
                best = Some((rank, written(&host.webhook_url(key), &outgoing)));
            }
        }
    }
    best.map(|(_, line)| line)
}

fn written(url: &str, outgoing: &cases::Outgoing) -> String {
    let mut line = String::from("curl");
    for (name, value) in &outgoing.headers {
        line += &format!(" -H {}", quoted(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))));
    }
    let query = outgoing.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    line + &format!(
        " --data-binary {} {}",
        quoted(&String::from_utf8_lossy(&outgoing.body)),
        quoted(&format!("{url}{query}"))
    )
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
