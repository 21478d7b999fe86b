//! Rounds: in each, everybody has a turn at each payload, and ratios are taken within it.

use std::{
    collections::BTreeMap,
    env,
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    contestants::{self, Contestant, Fixtures},
    payload::Case,
    sandbox::{self, Loaded},
};

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: usize,
    /// How long a turn takes.
    turn: Duration,
    /// How long the two threads are kept busy.
    rush: Duration,
}

impl Plan {
    pub fn of(arguments: &[String]) -> Self {
        let setting =
            |name, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let rounds = if quick { 3 } else { setting("ROUNDS", 25) };
        let turn = if quick { 10 } else { setting("TURN_MS", 30) };
        Self {
            rounds: usize::try_from(rounds.max(1)).unwrap_or(1),
            turn: Duration::from_millis(turn),
            rush: Duration::from_millis(turn * 10),
        }
    }
}

/// What was measured, a value a round.
#[derive(Debug, Default)]
pub struct Measured {
    /// In the order of their first turn, by payload.
    pub names: Vec<&'static str>,
    /// The median µs of a turn's calls.
    pub calls: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    /// A second, on two threads, of the short payload.
    pub on_two_threads: Vec<f64>,
    /// The same on one.
    pub on_one_thread: Vec<f64>,
    pub loads: Vec<Loaded>,
}

pub fn round(
    round: usize,
    plan: &Plan,
    fixtures: &Fixtures,
    cases: &[Case],
    measured: &mut Measured,
) -> Result<()> {
    for case in cases {
        let mut contestants = contestants::all(fixtures, case)?;
        measured.names = contestants.iter().map(|contestant| contestant.name).collect();
        // Nobody always comes after the same one.
        let count = contestants.len();
        contestants.rotate_left(round * 5 % count);
        for contestant in &mut contestants {
            let taken = turn(contestant, plan.turn);
            measured.calls.entry((case.name, contestant.name)).or_default().push(taken);
        }
    }
    measured.on_one_thread.push(rush(1, plan.rush, fixtures, &cases[0]));
    measured.on_two_threads.push(rush(2, plan.rush, fixtures, &cases[0]));
    measured.loads.push(fixtures.hookpack.load_cached()?);
    Ok(())
}

/// The median of a turn's calls, in µs.
pub fn turn(contestant: &mut Contestant<'_>, duration: Duration) -> f64 {
    let warm = Instant::now();
    while warm.elapsed() < duration / 4 {
        black_box((contestant.call)());
    }
    let mut taken = Vec::with_capacity(1 << 16);
    let began = Instant::now();
    while began.elapsed() < duration || taken.len() < 10 {
        let before = Instant::now();
        black_box((contestant.call)());
        taken.push(before.elapsed());
    }
    taken.sort_unstable();
    taken[taken.len() / 2].as_secs_f64() * 1e6
}

/// Calls a second of so many threads together.
fn rush(threads: usize, duration: Duration, fixtures: &Fixtures, case: &Case) -> f64 {
    let (delivery, mapper) = (sandbox::delivery(&case.body, true), &fixtures.hookpack.typed);
    let start = Barrier::new(threads);
    let one = || {
        start.wait();
        let (mut calls, began) = (0.0, Instant::now());
        while began.elapsed() < duration {
            black_box(mapper.transform_here(&delivery));
            calls += 1.0;
        }
        calls / began.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().expect("a rush ends")).sum()
    })
}
