//! Hookpack: a self-hosted gateway for inbound webhooks.
//!
//! The rooms, in the order in which a request meets them; a room uses only the ones below it.

pub mod cli;
pub mod clock;
pub mod config;
pub mod decode;
pub mod host;
pub mod ingest;
pub mod limits;
pub mod mapping;
pub mod matching;
pub mod model;
pub mod pack;
pub mod policy;
pub mod receive;
pub mod registry;
pub mod request;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod web;
