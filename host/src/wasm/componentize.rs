//! From a core module, as Rust's compiler writes it, to a component that any host of the interface runs.

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use super::{Anatomy, Refused};

/// The component of a core module that the SDK is linked into; the same bytes for the same module.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let component = encoder.and_then(|mut encoder| encoder.encode()).context("making a component of it")?;
    Anatomy::read(&component).map_err(|Refused { message, help }| {
        anyhow::anyhow!("{message}{}", help.map(|help| format!("; {help}")).unwrap_or_default())
    })?;
    Ok(component)
}
