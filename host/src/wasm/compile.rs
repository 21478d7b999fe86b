//! Compiling a component: in a child process, so that one which takes minutes or gigabytes costs a fault and no more.
//!
//! A few kilobytes can keep a compiler busy for minutes (nested loops times locals), and wasmtime has no knob
//! against it. The child is this very program under a hidden command; it limits itself before it reads a byte.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::getppid,
};
use serde::{Deserialize, Serialize};

use super::{Compiler, Limits, Refused, engine, engine::Purpose};

/// The hidden command of the child.
pub const COMMAND: &str = "compile-mapper";

/// An artefact larger than this is none: the child went wrong.
const ARTEFACT_BYTES_MAX: u64 = 1 << 30;
/// What the child may say about a failure.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;
/// How often the child sees whether its host is still there.
const HOST_LOOKED_FOR: Duration = Duration::from_millis(500);
/// How the child ends when the component is at fault.
const REFUSED: u8 = 3;

/// What the child is told, as its one argument.
#[derive(Debug, Deserialize, Serialize)]
struct Order {
    measure: bool,
    stack_bytes_max: usize,
    cpu_seconds: u64,
    memory_bytes_max: u64,
}

/// Compiles a component to an artefact of this machine; the error is the component's, or the limit's that it ran into.
pub(super) fn compile(
    compiler: &Compiler,
    component: &[u8],
    purpose: Purpose,
    limits: &Limits,
) -> Result<Vec<u8>, Refused> {
    match compiler {
        Compiler::Child(program) => in_child(program, component, purpose, limits),
        Compiler::Here => here(component, purpose, limits)
            .map_err(|message| Refused::new(format!("this component can't be compiled: {message}"), None)),
    }
}

fn in_child(program: &Path, component: &[u8], purpose: Purpose, limits: &Limits) -> Result<Vec<u8>, Refused> {
    let order = Order {
        measure: purpose == Purpose::Measure,
        stack_bytes_max: limits.stack_bytes_max,
        cpu_seconds: limits.compile_seconds,
        memory_bytes_max: limits.compile_memory_bytes_max,
    };
    let failed = |what: &str, error: &dyn std::fmt::Display| Refused::new(format!("{what}: {error}"), None);
    let order = serde_json::to_string(&order).map_err(|error| failed("compiling", &error))?;
    let mut child = Command::new(program)
        .args([COMMAND, &order])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .spawn()
        .map_err(|error| failed("the compiler can't be started", &error))?;
    let talked = talk(&mut child, component, Duration::from_secs(limits.compile_seconds.saturating_mul(2)));
    if talked.is_none() {
        child.kill().ok();
    }
    let status = child.wait().map_err(|error| failed("the compiler was lost", &error))?;
    let Some((artefact, message)) = talked else {
        let seconds = limits.compile_seconds.saturating_mul(2);
        return Err(too_much(format!(
            "compiling it takes more than {seconds} s (twice mapper_compile_seconds)"
        )));
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(artefact),
        (Some(code), _) if code == i32::from(REFUSED) => {
            Err(Refused::new(format!("this component can't be compiled: {message}"), None))
        }
        (_, Some(signal)) if signal == Signal::SIGXCPU as i32 => {
            let seconds = limits.compile_seconds;
            Err(too_much(format!("compiling it takes more than {seconds} s of CPU (mapper_compile_seconds)")))
        }
        (_, Some(_)) if message.contains("alloc") => {
            let bytes = limits.compile_memory_bytes_max;
            Err(too_much(format!(
                "compiling it takes more than {bytes} bytes of memory (mapper_compile_memory_bytes_max)"
            )))
        }
        (_, Some(signal)) if signal == Signal::SIGKILL as i32 => {
            let help =
                "perhaps the machine has no memory left: look there, then load the pack again".to_owned();
            Err(Refused::new("somebody killed the compiler of this component", help))
        }
        _ => Err(Refused::new(format!("the compiler broke on this component ({status}): {message}"), None)),
    }
}

fn too_much(message: String) -> Refused {
    Refused::new(
        message,
        "a component that takes so long to compile is most likely made to; split it up, or raise the limit"
            .to_owned(),
    )
}

/// Gives the child its component and takes what it has to say; `None` when it takes too long.
fn talk(child: &mut Child, component: &[u8], wait: Duration) -> Option<(Vec<u8>, String)> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return None;
    };
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let artefact = scope.spawn(move || read(stdout, ARTEFACT_BYTES_MAX));
        let message = scope.spawn(move || read(stderr, MESSAGE_BYTES_MAX));
        scope.spawn(move || {
            // A child that ends early closes its end; that shows in how it ended.
            stdin.write_all(component).ok();
            drop(stdin);
        });
        scope.spawn(move || {
            let artefact = artefact.join().unwrap_or_default();
            let message = String::from_utf8_lossy(&message.join().unwrap_or_default()).trim().to_owned();
            send.send((artefact, message)).ok();
        });
        let said = receive.recv_timeout(wait).ok();
        if said.is_none() {
            // The readers end when the child does.
            child.kill().ok();
        }
        said
    })
}

fn read(source: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.take(bytes_max).read_to_end(&mut bytes).ok();
    bytes
}

/// The child: component on standard input, artefact on standard output, what went wrong on standard error.
pub fn child(order: &str) -> ExitCode {
    match compiled(order) {
        Ok(artefact) => {
            if std::io::stdout().lock().write_all(&artefact).is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(message) => {
            drop(writeln!(std::io::stderr().lock(), "{message}"));
            ExitCode::from(REFUSED)
        }
    }
}

fn compiled(order: &str) -> Result<Vec<u8>, String> {
    let order: Order = serde_json::from_str(order).map_err(|error| error.to_string())?;
    end_with_the_host();
    // The hard limit a second later, for a compiler that would not hear the first signal.
    limit(Resource::RLIMIT_CPU, order.cpu_seconds, order.cpu_seconds.saturating_add(1))?;
    limit(Resource::RLIMIT_AS, order.memory_bytes_max, order.memory_bytes_max)?;
    // It reads one pipe and writes another.
    limit(Resource::RLIMIT_FSIZE, 0, 0)?;
    limit(Resource::RLIMIT_NOFILE, 16, 16)?;
    limit(Resource::RLIMIT_CORE, 0, 0)?;
    let mut component = Vec::new();
    std::io::stdin().lock().read_to_end(&mut component).map_err(|error| error.to_string())?;
    let purpose = if order.measure { Purpose::Measure } else { Purpose::Serve };
    let limits = Limits { stack_bytes_max: order.stack_bytes_max, ..Limits::default() };
    here(&component, purpose, &limits)
}

/// Never more than is allowed already.
fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let told = |error| format!("setting a limit of the compiler: {error}");
    let (_, most) = getrlimit(resource).map_err(told)?;
    setrlimit(resource, soft.min(most), hard.min(most)).map_err(told)
}

/// A host that is killed can't stop its children; this one looks after its parent.
fn end_with_the_host() {
    let host = getppid();
    let (running, runs) = mpsc::channel();
    thread::spawn(move || {
        running.send(()).ok();
        while getppid() == host {
            thread::sleep(HOST_LOOKED_FOR);
        }
        std::process::exit(1);
    });
    // It has its memory before the limit is set.
    runs.recv().ok();
}

fn here(component: &[u8], purpose: Purpose, limits: &Limits) -> Result<Vec<u8>, String> {
    let engine = engine::compiling(limits, purpose).map_err(|error| error.to_string())?;
    engine.precompile_component(component).map_err(|error| one_line(&format!("{error:#}")))
}

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(500)
        .collect()
}
