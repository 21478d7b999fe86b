//! The sandbox against other ways to map a payload: one job, one process, ratios round by round. README.md says more.

mod contestants;
mod engines;
mod measure;
mod native;
mod payload;
mod report;
mod sandbox;

use std::{env, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

use self::{
    contestants::Fixtures,
    measure::{Measured, Plan},
    payload::Case,
};

/// The host's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Every command of Hookpack is one of this program: `run` builds mappers with it, the sandbox compiles them with it.
    let arguments: Vec<_> = env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        None | Some("--quick") => run(&Plan::of(&arguments)),
        Some("--profile") => profile(&arguments[1..].join(" ")),
        Some(_) => return hookpack::cli::main(),
    };
    match result {
        Ok(missed) => ExitCode::from(u8::from(missed > 0)),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many goals were missed.
fn run(plan: &Plan) -> Result<usize> {
    let fixtures = Fixtures::make()?;
    let cases = payload::cases();
    for case in &cases {
        prove(&fixtures, case)?;
    }
    let mut measured = Measured::default();
    for round in 0..plan.rounds {
        // In a thread of its own: the sandbox takes priority from one whose call was held up, and never gives it back.
        std::thread::scope(|scope| {
            let (fixtures, cases, measured) = (&fixtures, &cases, &mut measured);
            scope.spawn(move || measure::round(round, plan, fixtures, cases, measured)).join()
        })
        .map_err(|_| anyhow::anyhow!("round {round} broke"))??;
        eprint!("\rround {} of {}", round + 1, plan.rounds);
    }
    eprintln!();
    Ok(report::print(plan, &cases, &measured))
}

/// One contestant alone, ten seconds a payload: for `perf record`.
fn profile(name: &str) -> Result<usize> {
    let fixtures = Fixtures::make()?;
    for case in payload::cases() {
        for mut contestant in contestants::all(&fixtures, &case)?.into_iter().filter(|one| one.name == name) {
            let p50 = measure::turn(&mut contestant, Duration::from_secs(10));
            println!("{name}, {}: {p50:.2} µs", case.name);
        }
    }
    Ok(0)
}

/// Before anything is measured: each does the job, for each payload.
fn prove(fixtures: &Fixtures, case: &Case) -> Result<()> {
    for mut contestant in contestants::all(fixtures, case)? {
        let Some(expected) = contestant.makes.of(case) else { continue };
        let made: serde_json::Value = serde_json::from_str(&(contestant.call)())?;
        ensure!(
            made == expected,
            "{} makes {made} of the push of {}, not {expected}",
            contestant.name,
            case.name
        );
    }
    Ok(())
}
