//! Mappers that mean harm: what stops each, what the operator reads, and that nobody else notices.

use std::sync::Arc;

use futures_util::future::join_all;
use hookpack::{
    config::Config,
    wasm::{Anatomy, Cache, Purpose, Refused, Sandbox},
};

use crate::{
    guests::{component, component_of, echo, module, one_event, text},
    harness::{Setup, eventually},
};

const MEMORY: &str = "(memory (export \"memory\") 2)";
/// Ends `transform` with an empty list, for guests that do their harm before.
const NOTHING: &str =
    "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1028) (i32.const 1040))
  (i32.store (i32.const 1032) (i32.const 0)) (i32.const 1024)";

fn ending_with_nothing(harm: &str) -> String {
    format!("{harm} {NOTHING}")
}

/// Name, component, and what the log says of its delivery.
fn guests_that_fail() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let huge = "(memory.fill (i32.const 131072) (i32.const 49) (i32.const 30000000))";
    let grow_first = "(drop (memory.grow (i32.const 500)))";
    let deep = "(memory.fill (i32.const 4096) (i32.const 91) (i32.const 40000))
                (memory.fill (i32.const 44096) (i32.const 93) (i32.const 40000))";
    let realloc_loops =
        module(NOTHING, "", MEMORY).replace("(local $at i32)", "(local $at i32) (loop $again (br $again))");
    vec![
        ("loop", component("(loop $again (br $again)) (unreachable)", ""), "it ran longer than 100 ms (mapper_deadline_ms)"),
        ("realloc", component_of(&realloc_loops), "it ran longer than 100 ms (mapper_deadline_ms)"),
        (
            "fill",
            component(
                "(drop (memory.grow (i32.const 800)))
                 (loop $again (memory.fill (i32.const 131072) (i32.const 1) (i32.const 50000000)) (br $again)) (unreachable)",
                "",
            ),
            "it ran longer than 100 ms (mapper_deadline_ms)",
        ),
        (
            "recursion",
            component(
                &ending_with_nothing("(drop (call $down (i32.const 1)))"),
                "(func $down (param i32) (result i32) (i32.add (i32.const 1) (call $down (local.get 0))))",
            ),
            "it recursed deeper than 524288 bytes of stack (mapper_stack_bytes_max)",
        ),
        (
            "memory",
            component(
                "(loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 64))))) (unreachable)",
                "",
            ),
            "it wanted more than 67108864 bytes of memory (mapper_memory_bytes_max)",
        ),
        (
            "memories",
            component(
                "(loop $again
                   (br_if $again (i32.and (i32.ne (i32.const -1) (memory.grow $second (i32.const 64)))
                                          (i32.ne (i32.const -1) (memory.grow $third (i32.const 64))))))
                 (unreachable)",
                "(memory $second 1) (memory $third 1)",
            ),
            "it wanted more than 67108864 bytes of memory (mapper_memory_bytes_max)",
        ),
        (
            "table",
            component(
                "(loop $again
                   (br_if $again (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000)))))
                 (unreachable)",
                "(table $t 1 funcref)",
            ),
            "it wanted more than 20000 table elements (mapper_table_elements_max)",
        ),
        (
            "output",
            component(&format!("{grow_first} {huge} {}", one_event("(i32.const 131072)", "(i32.const 30000000)")), ""),
            "it returned more than 4194304 bytes (mapper_output_bytes_max)",
        ),
        (
            "events",
            component(
                "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1028) (i32.const 1040))
                 (i32.store (i32.const 1032) (i32.const 200000000)) (i32.const 1024)",
                "",
            ),
            "",
        ),
        ("pointer", component(&one_event("(i32.const -16)", "(i32.const 8)"), ""), "out of bounds"),
        ("area", component("(i32.const -8)", ""), "out of bounds"),
        ("alignment", component("(i32.const 1025)", ""), "not aligned"),
        (
            "discriminant",
            component("(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)", ""),
            "invalid expected discriminant",
        ),
        (
            "utf8",
            component(&one_event("(i32.const 2048)", "(i32.const 2)"), "(data (i32.const 2048) \"\\ff\\fe\")"),
            "invalid utf-8",
        ),
        (
            "no-json",
            component(&one_event("(i32.const 2048)", "(i32.const 6)"), &text("{a: 1}")),
            "event 0 that it returned is not valid JSON",
        ),
        (
            "deep",
            component(&format!("{deep} {}", one_event("(i32.const 4096)", "(i32.const 80000)")), ""),
            "event 0 that it returned is not valid JSON: recursion limit exceeded",
        ),
        ("trap", component("(unreachable)", ""), "it trapped: it panicked, or reached code that must not be reached"),
        (
            "division",
            component(&ending_with_nothing("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), ""),
            "it trapped: integer divide by zero",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hostile_mapper_is_stopped_by_name_and_its_neighbour_is_served_meanwhile() {
    let mut setup = Setup::new(&[]).with_file("m/pack.yaml", b"ref: m\nname: M\nversion: 1.0.0\n");
    setup.config.mapper_deadline_ms = 100;
    let guests = guests_that_fail();
    let neighbour = [("echo", echo(), "")];
    for (name, component, _) in guests.iter().chain(&neighbour) {
        let trigger = format!(
            "name: {name}\nref: m.{name}\ntype: webhook\npayload_schema: true\n\
             webhook: {{enabled: true, verify: none}}\nmapping: {{wasm: mappers/{name}.wasm}}\n"
        );
        setup = setup
            .with_file(&format!("m/mappers/{name}.wasm"), component)
            .with_file(&format!("m/triggers/{name}.yaml"), trigger.as_bytes());
    }
    let host = setup.start().await;
    let host = &host;
    let harmed = guests.iter().flat_map(|guest| [guest, guest]).map(|(name, _, expected)| async move {
        // On a busy machine some are sent away before they could do their harm: their senders come again.
        let (answer, outcome, detail) = eventually("a call that got its time", async || {
            let answer = host.send(&format!("m.{name}"), r#"{"a": 1}"#).await;
            let (outcome, detail) = host.logged(&answer).await;
            (outcome != "mapper_busy").then_some((answer, outcome, detail))
        })
        .await;
        assert_eq!((answer.status, outcome.as_str()), (422, "mapping_failed"), "{name}: {detail}");
        assert!(detail.contains(expected), "{name}: {detail}");
    });
    let served = (0..200).map(|number| async move {
        assert_eq!(host.send("m.echo", &number.to_string()).await.status, 200);
    });
    tokio::join!(join_all(harmed), join_all(served));
    assert_eq!(host.count("select count(*) from hookpack.event").await, 200);
    assert_eq!(host.send("m.echo", "{}").await.status, 200, "and afterwards");
}

/// A sandbox without a host.
pub fn sandbox(change: impl FnOnce(&mut Config), cache: Option<Cache>) -> Arc<Sandbox> {
    let mut config =
        Config { mapper_compiler: Some(env!("CARGO_BIN_EXE_hookpack").into()), ..Config::default() };
    config.mapper_deadline_ms = 100;
    change(&mut config);
    Sandbox::new(&config, Purpose::Serve, cache)
}

pub fn refusal(sandbox: &Sandbox, component: &[u8]) -> String {
    match sandbox.load(component) {
        Ok(_) => panic!("it was loaded"),
        Err(Refused { message, help }) => help.map_or(message.clone(), |help| format!("{message} ({help})")),
    }
}

#[test]
fn what_no_delivery_could_survive_is_refused_when_the_pack_loads() {
    let sandbox = sandbox(|_| {}, None);
    let with = |more: &str| component_of(&module(NOTHING, more, MEMORY));
    // What no tool would make a component of, with the name of one that is.
    let within = |module: &str| {
        let export = "(instance $i) (export \"hookpack:mapper/mapper@1.0.0\" (instance $i))";
        wat::parse_str(format!("(component (core module {module}) {export})")).unwrap()
    };
    let many: String =
        (0..20_000).map(|number| format!("(func (result i32) (i32.const {number}))")).collect();
    sandbox.load(&with(&many)).expect("twenty thousand functions are no harm");
    let functions: String = (0..1000).map(|_| "(table 1 funcref)").collect();
    for (name, component, expected) in [
        (
            "a start function without end",
            with("(func $f (loop $again (br $again))) (start $f)"),
            "it ran longer than 100 ms",
        ),
        ("a trap in start", with("(func $f (unreachable)) (start $f)"), "it trapped"),
        (
            "4 GiB to begin with",
            component_of(&module(NOTHING, "", "(memory (export \"memory\") 65536)")),
            "mapper_memory_bytes_max",
        ),
        ("a table of a million", with("(table 1000000 funcref)"), "mapper_table_elements_max"),
        ("a thousand tables", within(&functions), "tables"),
        ("shared memory", within("(memory 1 2 shared)"), "can't be compiled"),
        ("64-bit memory", within("(memory i64 1)"), "can't be compiled"),
        ("garbage-collected types", within("(type (struct (field i32)))"), "can't be compiled"),
        ("exceptions", within("(tag (param i32))"), "can't be compiled"),
        (
            "relaxed SIMD",
            within(
                "(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
            ),
            "can't be compiled",
        ),
    ] {
        let told = refusal(&sandbox, &component);
        assert!(told.contains(expected), "{name}: {told}");
    }
    sandbox.load(&echo()).unwrap();
}

/// Loading is done by threads that have other things to do: what a start function computes is not held against them.
#[test]
fn a_slow_start_function_costs_the_loader_nothing_but_time() {
    let busy = "(func $f (local $n i32) (loop $again (br_if $again (i32.lt_u
        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 60000000))))) (start $f)";
    let slow = component_of(&module(NOTHING, busy, MEMORY));
    let sandbox = sandbox(|config| config.mapper_deadline_ms = 5000, None);
    let policy = || thread_priority::thread_schedule_policy().unwrap();
    let before = policy();
    sandbox.load(&slow).unwrap();
    assert_eq!(policy(), before);
}

#[test]
fn imports_are_refused_by_name_with_the_flag_that_takes_them_away() {
    let sandbox = sandbox(|_| {}, None);
    let importing = |name: &str, producers: &str| {
        let text = format!("(component (import \"{name}\" (instance (export \"f\" (func)))) {producers})");
        wat::parse_str(text).unwrap()
    };
    for (component, message, help) in [
        (
            importing("wasi:cli/environment@0.2.3", ""),
            "this component imports `wasi:cli/environment@0.2.3`; a mapper imports nothing",
            "--stub-wasi",
        ),
        (
            importing("wasi:io/streams@0.2.3", "(@producers (processed-by \"componentize-py\" \"0.25\"))"),
            "wasi:io",
            "componentize-py … componentize --stub-wasi",
        ),
        (
            importing("wasi:io/streams@0.2.3", "(@producers (processed-by \"ComponentizeJS\" \"0.23\"))"),
            "wasi:io",
            "--disable all",
        ),
        (
            importing("wasi:io/streams@0.2.3", "(@producers (language \"Rust\" \"\"))"),
            "wasi:io",
            "wasm32-unknown-unknown",
        ),
        (importing("acme:clock/now", ""), "acme:clock/now", "take these imports away"),
    ] {
        let told = refusal(&sandbox, &component);
        assert!(told.contains(message) && told.contains(help), "{told}");
    }
    let future =
        wat::parse_str("(component (instance) (export \"hookpack:mapper/mapper@2.0.0\" (instance 0)))")
            .unwrap();
    assert!(refusal(&sandbox, &future).contains("speaks hookpack:mapper 2.0.0, this host speaks 1.0.0"));
}

/// A few kilobytes that keep a compiler busy for minutes: loops in loops, all over many locals.
fn compile_bomb(loops: usize) -> Vec<u8> {
    let locals = 200;
    let declared: String = (0..locals).map(|_| "(local i32)").collect();
    let opened: String = (0..loops)
        .map(|number| {
            let (to, from) = (number % locals, (number * 7 + 3) % locals);
            format!("(loop $l{number} (local.set {to} (i32.add (local.get {from}) (local.get {to})))")
        })
        .collect();
    let closed: String = (0..loops)
        .rev()
        .map(|number| format!("(br_if $l{number} (local.get {})))", number % locals))
        .collect();
    component(NOTHING, &format!("(func (export \"bomb\") {declared} {opened} {closed})"))
}

/// Straight on, without an end to what the compiler must keep in mind.
fn large_function(steps: usize) -> Vec<u8> {
    let step = |number: usize| format!("(i32.store (i32.const {}) (local.get 0))", number % 60_000);
    let body: String = (0..steps).map(step).collect();
    component(NOTHING, &format!("(func (export \"large\") (param i32) {body})"))
}

#[test]
fn a_component_made_to_keep_the_compiler_busy_is_one_fault() {
    let bomb = compile_bomb(4000);
    let short = sandbox(|config| config.mapper_compile_seconds = 1, None);
    // By the CPU's time, or on a busy machine by the clock.
    assert!(refusal(&short, &bomb).contains("mapper_compile_seconds)"));
    short.load(&echo()).unwrap();
    let narrow = sandbox(|config| config.mapper_compile_memory_bytes_max = 400 << 20, None);
    let told = refusal(&narrow, &large_function(400_000));
    assert!(told.contains("(mapper_compile_memory_bytes_max)"), "{told}");
    narrow.load(&echo()).unwrap();
}

#[test]
fn damaged_and_foreign_components_are_refused_and_nothing_breaks() {
    let good = echo();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let sandbox = sandbox(|config| config.mapper_compile_seconds = 5, None);
    for round in 0..3000 {
        let mut bytes = good.clone();
        match round % 3 {
            0 => bytes.truncate(random(good.len())),
            1 => bytes[random(good.len())] = u8::try_from(random(256)).unwrap(),
            _ => {
                let at = random(good.len());
                bytes.splice(at..at, (0..random(20)).map(|n| u8::try_from(n * 13 % 256).unwrap()));
            }
        }
        // All are looked at; of those that pass, some are compiled and instantiated too.
        if Anatomy::read(&bytes).is_ok() && round % 15 < 3 {
            sandbox.load(&bytes).ok();
        }
    }
    sandbox.load(&good).unwrap();
}
