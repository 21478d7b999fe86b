//! Hookpack: a self-hosted gateway for inbound webhooks.
pub mod clock;
pub mod config;
pub mod decode;
pub mod mapping;
pub mod matching;
pub mod model;
pub mod pack;
pub mod policy;
pub mod request;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod store;
pub mod verify;
