//! Packs: folders of YAML turned, whole or not at all, into values that are ready to work.

pub mod bundle;
pub mod cases;
pub mod diagnostics;
mod folder;
mod load;
pub mod presets;
mod read;
mod read_cases;
mod read_handshake;
mod read_mapper;
mod read_mapping;
mod read_policy;
mod read_schema;
mod read_trigger;
mod read_verify;
mod schema_cost;
mod schema_walk;
mod yaml;
mod yaml_faults;

use std::{path::PathBuf, sync::Arc};

pub use self::{
    load::{Loaded, Reader, Refused, load_all, load_one},
    read_policy::is_name as is_ref,
};
use crate::{mapping::Mapping, matching::Match, policy::Policy, schema::Schema, selector::JsonPath};

/// A pack as it runs.
#[derive(Clone, Debug)]
pub struct Pack {
    /// `ref` in the file.
    pub reference: String,
    pub name: String,
    pub version: String,
    pub description: Option<String>,
    pub folder: PathBuf,
    /// The same bytes under the same names give the same hash.
    pub content_hash: [u8; 32],
    /// One URL for the whole pack.
    pub endpoint_enabled: bool,
    /// What requests to that URL must satisfy.
    pub policy: Arc<Policy>,
    pub triggers: Vec<Arc<Trigger>>,
}

/// A trigger as it runs.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// `<pack>.<name>`
    pub reference: String,
    pub name: String,
    pub pack_ref: String,
    pub pack_version: String,
    pub description: Option<String>,
    /// Its file inside the pack.
    pub file: String,
    pub schema: Schema,
    pub split: Option<JsonPath>,
    pub matching: Match,
    pub policy: Arc<Policy>,
    pub mapping: Mapping,
    pub event_schema: Option<Schema>,
}

impl Pack {
    pub fn trigger(&self, reference: &str) -> Option<&Arc<Trigger>> {
        self.triggers.iter().find(|trigger| trigger.reference == reference)
    }

    /// Every secret that the pack names, each once.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let policies =
            std::iter::once(&self.policy).chain(self.triggers.iter().map(|trigger| &trigger.policy));
        policies.flat_map(|policy| policy.secret_names())
    }
}
