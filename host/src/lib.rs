//! Hookpack: a self-hosted gateway for inbound webhooks.
//!
//! The rooms, from the doors down to the ground; a room uses only the ones below it, and each library has
//! one owner.

/// The command line, one file a command (clap).
pub mod cli;
/// Starting and stopping a host.
pub mod serve;
/// Log lines (tracing-subscriber).
pub mod telemetry;
/// The doors: webhooks, the management API, health (axum).
pub mod web;
/// What operators change.
pub mod operate;
/// The story of one request.
pub mod receive;
/// Keeping the tables small.
pub mod tidy;
/// Keeping what runs in step with the packs folder.
pub mod reload;
/// What a request needs at hand.
pub mod host;
/// The group-commit writer.
pub mod ingest;
/// Loaded packs and the keys that open them.
pub mod registry;
/// Postgres: one function a statement (sqlx).
pub mod store;
/// From folders of YAML to values that are ready to work (serde-saphyr).
pub mod pack;
/// Spans of requests for a collector (reqwest).
pub mod traces;
/// A host's own rate limits (governor).
pub mod limits;
/// Large bodies take turns at the processor.
pub mod offload;
/// Deficit round robin.
pub mod fair;
/// Telling whoever waits for events that some were stored.
pub mod news;
/// Which secrets each policy may use, and what is wrong with the others.
pub mod policy_secrets;
/// What a request must satisfy before it is looked at.
pub mod policy;
/// From payload to event: fields, templates (minijinja).
pub mod mapping;
/// Mappers in their sandbox (wasmtime).
pub mod wasm;
/// Which requests a trigger is for.
pub mod matching;
/// JSON Schema (jsonschema).
pub mod schema;
/// Text made safe for terminals.
pub mod printable;
/// What libraries may spend on a thread.
pub mod meter;
/// From bytes to one JSON document.
pub mod decode;
/// Signatures, one file a scheme.
pub mod verify;
/// How a part of a request is named.
pub mod selector;
/// What parts of a request are compared with.
pub mod constant;
/// Queries into JSON (RFC 9535), and their evaluation.
pub mod jsonpath;
/// What one request may spend on evaluation.
pub mod budget;
/// One request as it was received.
pub mod request;
/// Forms and query strings as everything here reads them.
pub mod form;
/// JSON as everything here reads it.
pub mod json;
/// JSON numbers compared by value.
pub mod number;
/// Counters and durations (prometheus-client).
pub mod metrics;
/// Why the database does not store.
pub mod fault;
/// What each step of a request took.
pub mod steps;
/// The words that every room shares.
pub mod model;
/// Every setting and limit.
pub mod config;
/// What a request shows and nothing may keep.
pub mod credentials;
/// What a misspelt word was meant to be (strsim).
pub mod spelling;
/// What senders publish: certificates, key sets (reqwest).
pub mod fetch;
/// Hearing that files have changed (notify).
pub mod watch;
/// Signatures of packs (ring).
pub mod signing;
/// Public keys that prove nothing.
pub mod weak_keys;
/// Secrets, and the key that seals.
pub mod secret;
/// The time of day.
pub mod clock;
