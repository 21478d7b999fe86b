//! The table, and whether each goal was met.

use std::{fs, time::Duration};

use crate::{
    contestants::{EXTISM_FRESH, QUICKJS_REUSED, SANDBOX, TYPED, VALUE},
    measure::{Measured, Plan},
    payload::Case,
    sandbox::Loaded,
};

/// How many goals were missed.
pub fn print(plan: &Plan, cases: &[Case], measured: &Measured) -> usize {
    for case in cases {
        table(case, measured);
    }
    let loads = |part: fn(&Loaded) -> Duration| {
        median(&measured.loads.iter().map(|load| part(load).as_secs_f64() * 1e6).collect::<Vec<_>>())
    };
    println!(
        "\nA mapper from the cache: {:.0} µs, of this {:.0} reading and unsealing, {:.0} looking at the component; the first of a host {:.0}",
        loads(|load| load.next),
        loads(|load| load.unsealed),
        loads(|load| load.anatomy),
        loads(|load| load.first),
    );
    println!(
        "{} on one thread: {:.0} calls/s, on two: {:.0}",
        SANDBOX,
        median(&measured.on_one_thread),
        median(&measured.on_two_threads)
    );
    println!("{} rounds, {} cores, load {}\n", plan.rounds, cores(), load_average());
    goals(cases, measured)
}

fn table(case: &Case, measured: &Measured) {
    println!(
        "\n{:<26}{:>9}{:>23}{:>23}",
        format!("push of {} bytes", case.body.len()),
        "p50 µs",
        "× native typed",
        "× native Value"
    );
    for name in &measured.names {
        println!(
            "{name:<26}{:>9.2}{:>23}{:>23}",
            median(&measured.calls[&(case.name, *name)]),
            Ratio::of(measured, case, name, TYPED).told(),
            Ratio::of(measured, case, name, VALUE).told(),
        );
    }
}

fn goals(cases: &[Case], measured: &Measured) -> usize {
    let (short, long) = (&cases[0], &cases[1]);
    let mut missed = 0;
    let mut at_most = |what: &str, case: &Case, ours, other, limit: f64| {
        let ratio = Ratio::of(measured, case, ours, other);
        missed += verdict(
            &format!("{what}, {}", case.name),
            &format!("{:.2}", ratio.median),
            &format!("≤ {limit}"),
            ratio.median <= limit,
        );
    };
    at_most("mapper / native typed", short, SANDBOX, TYPED, 4.5);
    at_most("mapper / native typed", long, SANDBOX, TYPED, 1.5);
    at_most("mapper / native Value", short, SANDBOX, VALUE, 2.0);
    at_most("mapper / native Value", long, SANDBOX, VALUE, 1.0);
    at_most("mapper / QuickJS reused", short, SANDBOX, QUICKJS_REUSED, 1.0);
    at_most("mapper / QuickJS reused", long, SANDBOX, QUICKJS_REUSED, 1.0);
    for case in cases {
        let extism = Ratio::of(measured, case, EXTISM_FRESH, SANDBOX).median;
        let what = format!("fresh Extism / mapper, {}", case.name);
        missed += verdict(&what, &format!("{extism:.2}"), "≥ 5", extism >= 5.0);
    }
    let calls = median(&measured.on_two_threads);
    missed += verdict("calls/s on two threads", &format!("{calls:.0}"), "≥ 75000", calls >= 75_000.0);
    let load = median(&measured.loads.iter().map(|load| load.next.as_secs_f64() * 1e3).collect::<Vec<_>>());
    missed += verdict("a cached mapper loads", &format!("{load:.2} ms"), "≤ 1 ms", load <= 1.0);
    missed
}

fn verdict(what: &str, measured: &str, goal: &str, met: bool) -> usize {
    println!("{what:<34}{measured:>10}   {goal:<10}{}", if met { "met" } else { "MISSED" });
    usize::from(!met)
}

/// Of two contestants' times, round by round.
struct Ratio {
    least: f64,
    median: f64,
}

impl Ratio {
    fn of(measured: &Measured, case: &Case, ours: &'static str, other: &'static str) -> Self {
        let times = |name| measured.calls[&(case.name, name)].iter();
        let ratios: Vec<f64> = times(ours).zip(times(other)).map(|(ours, other)| ours / other).collect();
        Self { least: ratios.iter().copied().fold(f64::INFINITY, f64::min), median: median(&ratios) }
    }

    fn told(&self) -> String {
        format!("{:.2} (least {:.2})", self.median, self.least)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
