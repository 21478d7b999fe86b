//! Packs: folders of YAML turned, whole or not at all, into values that are ready to work.

mod archive;
pub mod bundle;
pub mod cases;
pub mod diagnostics;
mod files;
mod fingerprint;
mod folder;
mod load;
mod loaded;
pub mod overrides;
pub mod presets;
mod read;
mod read_cases;
mod read_handshake;
mod read_jwt;
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
    archive::{CHECKSUM, SIGNATURE, beside, is_archive},
    fingerprint::{Fingerprint, links},
    load::{
        Entry, Listing, Reader, Refused, Sound, entry_of, is_entry, list, load_all, load_alone, load_entry,
        load_one,
    },
    loaded::{Change, Live, Loaded, Removed, STATES, Standing, changes, differ, settle},
    read_policy::is_name as is_ref,
};
use self::{diagnostics::Place, yaml::Node};
use crate::{mapping::Mapping, matching::Match, policy::Policy, schema::Schema, selector::JsonPath};

/// A pack as it runs.
#[derive(Clone, Debug)]
pub struct Pack {
    /// `ref` in the file.
    pub reference: String,
    pub name: String,
    pub version: String,
    pub description: Option<String>,
    /// Where `ref` stands in its `pack.yaml`.
    pub ref_at: Place,
    /// Its folder or archive.
    pub path: PathBuf,
    /// The same bytes under the same names give the same hash.
    pub content_hash: [u8; 32],
    /// One URL for the whole pack.
    pub endpoint_enabled: bool,
    /// What requests to that URL must satisfy.
    pub policy: Arc<Policy>,
    /// What its files say of that.
    pub declared: Declared,
    pub triggers: Vec<Arc<Trigger>>,
}

/// `webhook` as it is written, and where to point when it is not.
#[derive(Clone, Debug)]
pub struct Declared {
    webhook: Option<Arc<Node>>,
    start: Place,
}

/// A trigger as it runs.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// `<pack>.<name>`
    pub reference: String,
    pub name: String,
    pub pack_ref: String,
    pub pack_version: String,
    /// The content hash of its pack.
    pub pack_hash: [u8; 32],
    pub description: Option<String>,
    /// Its file inside the pack.
    pub file: String,
    pub schema: Schema,
    pub split: Option<JsonPath>,
    pub matching: Match,
    pub policy: Arc<Policy>,
    /// What its file says of that.
    pub declared: Declared,
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
