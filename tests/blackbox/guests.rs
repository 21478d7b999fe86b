//! Mappers written in WebAssembly text: small, and free to do what no compiler would write.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::repository;

/// How `transform` arrives at the core module: sixteen numbers, a pointer and a length for each text or list.
const SIGNATURE: &str =
    "(param $trigger i32) (param $trigger_len i32) (param $received i32) (param $received_len i32)
  (param $headers i32) (param $headers_len i32) (param $query i32) (param $query_len i32)
  (param $settings i32) (param $settings_len i32) (param $attributes i32) (param $attributes_len i32)
  (param $kind i32) (param $kind_len i32) (param $payload i32) (param $payload_len i32) (result i32)";

/// An allocator that only goes up, and grows the memory as it goes.
const ALLOCATOR: &str = r#"
  (global $free (mut i32) (i32.const 65536))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
              (i32.shr_u (i32.sub (global.get $free) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
            (then (unreachable)))))
    (local.get $at))"#;

/// Ends `transform` with one event, whose payload lies at these two expressions.
pub fn one_event(pointer: &str, length: &str) -> String {
    format!(
        "(i32.store8 (i32.const 1024) (i32.const 0))
         (i32.store (i32.const 1028) (i32.const 1040)) (i32.store (i32.const 1032) (i32.const 1))
         (i32.store (i32.const 1040) {pointer}) (i32.store (i32.const 1044) {length})
         (i32.store8 (i32.const 1048) (i32.const 0)) (i32.const 1024)"
    )
}

/// Ends `transform` with an error: 0 invalid-payload, 1 skip, 2 failed. Its reason is the text at 2048.
pub fn error(kind: u8, reason: &str) -> String {
    format!(
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1028) (i32.const {kind}))
         (i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (i32.const {})) (i32.const 1024)",
        reason.len()
    )
}

/// Text at 2048 of the memory.
pub fn text(text: &str) -> String {
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const 2048) \"{escaped}\")")
}

/// A component of a core module with this `transform`, and whatever else stands in the module.
pub fn component(transform: &str, more: &str) -> Vec<u8> {
    component_of(&module(transform, more, "(memory (export \"memory\") 2)"))
}

/// The text of such a module.
pub fn module(transform: &str, more: &str, memory: &str) -> String {
    format!(
        "(module {memory} {ALLOCATOR} {more}
           (func (export \"hookpack:mapper/mapper@1.0.0#transform\") {SIGNATURE} {transform}))"
    )
}

pub fn component_of(module: &str) -> Vec<u8> {
    let mut bytes = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(repository().join("sdk/wit")).unwrap();
    let world = resolve.select_world(&[package], Some("pack")).unwrap();
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).unwrap();
    // Not validated: some of them are not to be valid.
    ComponentEncoder::default().validate(false).module(&bytes).unwrap().encode().unwrap()
}

/// Gives its payload back as its one event.
pub fn echo() -> Vec<u8> {
    component(&one_event("(local.get $payload)", "(local.get $payload_len)"), "")
}

/// Computes until somebody stops it.
pub fn endless() -> Vec<u8> {
    component("(loop $again (br $again)) (unreachable)", "")
}

/// Writes what two letters a byte spell in its payload to 1024 and says that its answer lies there.
pub fn answering() -> Vec<u8> {
    component(
        "(local $at i32)
         (block $done (loop $next
           (br_if $done (i32.ge_u (i32.mul (local.get $at) (i32.const 2)) (local.get $payload_len)))
           (br_if $done (i32.ge_u (local.get $at) (i32.const 60000)))
           (i32.store8 (i32.add (i32.const 1024) (local.get $at))
             (i32.or
               (i32.shl (i32.sub (i32.load8_u (i32.add (local.get $payload) (i32.mul (local.get $at) (i32.const 2)))) (i32.const 97)) (i32.const 4))
               (i32.sub (i32.load8_u offset=1 (i32.add (local.get $payload) (i32.mul (local.get $at) (i32.const 2)))) (i32.const 97))))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br $next)))
         (i32.const 1024)",
        "",
    )
}

/// The seeds of the fuzz targets are made of these; `HOOKPACK_SEEDS=write cargo test seeds` writes them again.
#[test]
fn the_seeds_for_fuzzing_are_what_is_made_here() {
    let folder = repository().join("tests/fuzz/seeds");
    let seeds = [
        ("answering.wasm", answering()),
        ("component/echo.wasm", echo()),
        ("component/endless.wasm", endless()),
        ("component/failed.wasm", component(&error(2, "no"), &text("no"))),
    ];
    for (file, bytes) in seeds {
        if std::env::var("HOOKPACK_SEEDS").is_ok() {
            std::fs::write(folder.join(file), &bytes).unwrap();
        }
        assert!(std::fs::read(folder.join(file)).is_ok_and(|known| known == bytes), "{file} is another");
    }
}
