//! Changes that follow each other, and when they can be taken for over.

use std::time::Duration;

use tokio::time::Instant;

use crate::pack::Fingerprint;

/// A copy that paused for so long before may pause so many times longer before it goes on.
const PATIENCE: u32 = 3;
/// A pause that long ends a burst whatever came before.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// An entry of the packs folder that is being changed.
#[derive(Debug)]
pub(super) struct Burst {
    /// How it was when it was last looked at; `None` when it was gone.
    pub(super) seen: Option<Fingerprint>,
    pub(super) began: Instant,
    last: Instant,
    longest_pause: Duration,
    /// Whether somebody was told that this takes long.
    pub(super) told: bool,
}

impl Burst {
    /// Seen changed at `now`, for the last time `age` ago.
    pub(super) fn new(seen: Option<Fingerprint>, now: Instant, age: Duration) -> Self {
        let last = now.checked_sub(age).unwrap_or(now);
        Self { seen, began: now, last, longest_pause: Duration::ZERO, told: false }
    }

    /// Looks again; whether it has changed since.
    pub(super) fn look(&mut self, seen: Option<Fingerprint>, now: Instant) -> bool {
        if seen == self.seen {
            return false;
        }
        self.longest_pause = self.longest_pause.max(now.duration_since(self.last));
        self.last = now;
        self.seen = seen;
        true
    }

    /// When it is over, if nothing more comes: after `quiet`, and after longer where a slow hand was at work.
    pub(super) fn due(&self, quiet: Duration) -> Instant {
        self.last + quiet.max((self.longest_pause * PATIENCE).min(PATIENCE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_pauses_is_given_longer_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let look = |text: &str| {
            fs::write(folder.path().join("pack.yaml"), text).unwrap();
            Fingerprint::of(folder.path(), 100)
        };
        let (start, quiet) = (Instant::now(), Duration::from_secs(1));
        let at = |millis| start + Duration::from_millis(millis);
        let mut burst = Burst::new(look("1"), start, Duration::ZERO);
        assert_eq!(burst.due(quiet), at(1000));

        assert!(burst.look(look("22"), at(900)));
        assert_eq!(burst.due(quiet), at(900 + 2700));
        assert!(!burst.look(Fingerprint::of(folder.path(), 100), at(2000)));
        assert_eq!(burst.due(quiet), at(3600));
        assert!(burst.look(None, at(60_000)));
        assert_eq!(burst.due(quiet), at(70_000));
    }
}
