//! Hookpack: a self-hosted gateway for inbound webhooks.
//!
//! The rooms, in the order in which a request meets them; a room uses only the ones below it.

pub mod cli;
pub mod serve;
pub mod web;
pub mod receive;
pub mod host;
pub mod ingest;
pub mod registry;
pub mod store;
pub mod pack;
pub mod limits;
pub mod policy;
pub mod mapping;
pub mod matching;
pub mod schema;
pub mod decode;
pub mod verify;
pub mod selector;
pub mod request;
pub mod model;
pub mod secret;
pub mod config;
pub mod clock;
pub mod telemetry;
