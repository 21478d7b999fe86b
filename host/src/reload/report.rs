//! What became of changes in the packs folder, in the log.

use super::Keeper;
use crate::{metrics::Metrics, pack::Change};

/// A line in the log for each change, and for each fault of what was refused.
pub(super) fn report(changes: &[Change], keeper: &Keeper, metrics: &Metrics) {
    for change in changes {
        metrics.pack_change(change.word());
        match change {
            Change::Loaded(live) | Change::Mended(live) => {
                let (pack, took) = (&live.pack, keeper.took(&live.pack.path));
                tracing::info!(
                    pack = pack.reference,
                    version = pack.version,
                    triggers = pack.triggers.len(),
                    ?took,
                    "pack {}",
                    change.word()
                );
            }
            Change::Changed { from, to } => {
                let (pack, took) = (&to.pack, keeper.took(&to.pack.path));
                tracing::info!(
                    pack = pack.reference,
                    version = pack.version,
                    triggers = pack.triggers.len(),
                    from = from.version,
                    ?took,
                    "pack changed"
                );
            }
            Change::Moved { from, to } => {
                let (pack, took) = (&to.pack, keeper.took(&to.pack.path));
                tracing::info!(
                    pack = pack.reference, version = pack.version, from = %from.path.display(),
                    to = %pack.path.display(), ?took, "pack moved"
                );
            }
            Change::Refused { refused, live } => {
                let runs = live.as_ref().map_or("none", |live| live.pack.version.as_str());
                let faults = refused.report.faults.len();
                let took = keeper.took(&refused.path);
                tracing::warn!(
                    path = %refused.path.display(), pack = refused.reference, faults, runs, ?took, "pack refused"
                );
                for fault in &refused.report.faults {
                    tracing::warn!("{}:{}:{}: {}", fault.file, fault.line, fault.column, fault.message);
                }
            }
            Change::Removed { reference, version } => {
                tracing::info!(
                    pack = reference,
                    version,
                    "pack removed: its URLs answer 404, its events and keys stay"
                );
            }
        }
    }
}
