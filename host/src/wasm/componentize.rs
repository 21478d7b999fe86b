//! From a core module, as Rust's compiler writes it, to a component that any host of the interface runs.

use anyhow::{Context, Result};
use wasm_encoder::{ComponentSection, Encode, ProducersField, ProducersSection};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::{Anatomy, Refused};

/// The interface, for languages that make their bindings from it.
pub const WIT: &str = include_str!("../../../sdk/wit/mapper.wit");

/// The component of a core module that the SDK is linked into; the same bytes for the same module. `compiler` is
/// written into it: who compares bytes wants to know.
pub fn componentize(module: &[u8], compiler: &str) -> Result<Vec<u8>> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let mut component =
        encoder.and_then(|mut encoder| encoder.encode()).context("making a component of it")?;
    let mut tools = ProducersField::new();
    tools.value("rustc", compiler);
    let mut producers = ProducersSection::new();
    producers.field("processed-by", &tools);
    component.push(producers.id());
    producers.encode(&mut component);
    checked(component)
}

/// The component of a core module that knows nothing of components: its exports are those that the interface asks for,
/// by the names and in the shape of the canonical ABI. C needs no other tool.
pub fn componentize_plain(module: &[u8]) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("mapper.wit", WIT).context("reading the interface")?;
    let world = resolve.select_world(&[package], Some("pack")).context("reading the interface")?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    checked(encoded(&module)?)
}

fn encoded(module: &[u8]) -> Result<Vec<u8>> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).context("making a component of it")
}

fn checked(component: Vec<u8>) -> Result<Vec<u8>> {
    Anatomy::read(&component).map_err(|Refused { message, help }| {
        anyhow::anyhow!("{message}{}", help.map(|help| format!("; {help}")).unwrap_or_default())
    })?;
    Ok(component)
}
