//! Hookpack: a self-hosted gateway for inbound webhooks.
pub mod clock;
pub mod config;
pub mod model;
pub mod pack;
pub mod secret;
