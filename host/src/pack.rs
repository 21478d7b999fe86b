//! Packs.
pub mod diagnostics;
pub mod yaml;
