//! Packs as they run: what their files say, with what operators want on top.

use std::{collections::HashMap, sync::Arc};

use crate::{
    pack::{Loaded, Pack, diagnostics::Report, overrides},
    store::overrides::OverrideRow,
};

/// What operators want otherwise, by the ref of the trigger or pack.
pub type Overrides = HashMap<String, OverrideRow>;

/// One pack.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    declared: Arc<Pack>,
    pub(super) pack: Arc<Pack>,
    /// Owners whose override does not fit.
    pub(super) faults: Vec<(String, Arc<Report>)>,
}

impl Effective {
    /// Every pack that runs; what has not changed since `before` is taken from there.
    pub(super) fn all(
        loaded: &Loaded,
        overrides: &Arc<Overrides>,
        before: &HashMap<String, Self>,
        overrides_before: &Arc<Overrides>,
    ) -> HashMap<String, Self> {
        let are_the_same = Arc::ptr_eq(overrides, overrides_before);
        let effective = |pack: &Arc<Pack>| {
            let known = before.get(&pack.reference).filter(|known| Arc::ptr_eq(&known.declared, pack));
            let known = known.filter(|_| are_the_same || same(pack, overrides, overrides_before));
            let own = known.cloned().unwrap_or_else(|| Self::of(pack, overrides));
            (pack.reference.clone(), own)
        };
        loaded.packs().map(effective).collect()
    }

    fn of(declared: &Arc<Pack>, overrides: &Overrides) -> Self {
        if !owners(declared).any(|owner_ref| overrides.contains_key(owner_ref)) {
            return Self { declared: declared.clone(), pack: declared.clone(), faults: Vec::new() };
        }
        let of = |owner_ref: &str| overrides.get(owner_ref).map(|row| row.policy.as_str());
        let applied = overrides::apply(declared, of);
        for (owner_ref, report) in &applied.faults {
            let fault = report.faults.first().map_or("", |fault| &fault.message);
            tracing::error!(
                owner = owner_ref,
                fault,
                "an operator's override does not fit what the pack says now: this webhook answers 503"
            );
        }
        let faults = applied.faults.into_iter().map(|(owner_ref, report)| (owner_ref, Arc::new(report)));
        Self { declared: declared.clone(), pack: applied.pack, faults: faults.collect() }
    }
}

fn same(pack: &Pack, one: &Overrides, other: &Overrides) -> bool {
    owners(pack).all(|owner_ref| one.get(owner_ref) == other.get(owner_ref))
}

fn owners(pack: &Pack) -> impl Iterator<Item = &str> {
    let triggers = pack.triggers.iter().map(|trigger| trigger.reference.as_str());
    std::iter::once(pack.reference.as_str()).chain(triggers)
}
