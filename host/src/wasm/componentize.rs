//! From a core module, as Rust's compiler writes it, to a component that any host of the interface runs.

use anyhow::{Context, Result};
use wasm_encoder::{ComponentSection, Encode, ProducersField, ProducersSection};
use wit_component::ComponentEncoder;

use super::{Anatomy, Refused};

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
    Anatomy::read(&component).map_err(|Refused { message, help }| {
        anyhow::anyhow!("{message}{}", help.map(|help| format!("; {help}")).unwrap_or_default())
    })?;
    Ok(component)
}
