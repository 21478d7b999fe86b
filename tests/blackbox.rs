//! Black-box tests by concern: real HTTP, a real database each, real files, and a clock that the test holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test may stop where it stands"
)]

#[path = "blackbox/guests.rs"]
mod guests;
#[path = "blackbox/harness.rs"]
mod harness;
#[path = "blackbox/server.rs"]
mod server;

#[path = "blackbox/archives.rs"]
mod archives;
#[path = "blackbox/author_tools.rs"]
mod author_tools;
#[path = "blackbox/broken_packs.rs"]
mod broken_packs;
#[path = "blackbox/commands.rs"]
mod commands;
#[path = "blackbox/crash.rs"]
mod crash;
#[path = "blackbox/declared_senders.rs"]
mod declared_senders;
#[path = "blackbox/decoding.rs"]
mod decoding;
#[path = "blackbox/drain.rs"]
mod drain;
#[path = "blackbox/dry_run.rs"]
mod dry_run;
#[path = "blackbox/embedded.rs"]
mod embedded;
#[path = "blackbox/embedded_rights.rs"]
mod embedded_rights;
#[path = "blackbox/evaluation.rs"]
mod evaluation;
#[path = "blackbox/event_key_faults.rs"]
mod event_key_faults;
#[path = "blackbox/event_keys.rs"]
mod event_keys;
#[path = "blackbox/event_stream.rs"]
mod event_stream;
#[path = "blackbox/explain.rs"]
mod explain;
#[path = "blackbox/fetched_keys.rs"]
mod fetched_keys;
#[path = "blackbox/generic_preset.rs"]
mod generic_preset;
#[path = "blackbox/handshake.rs"]
mod handshake;
#[path = "blackbox/handshake_senders.rs"]
mod handshake_senders;
#[path = "blackbox/health.rs"]
mod health;
#[path = "blackbox/hostile_mappers.rs"]
mod hostile_mappers;
#[path = "blackbox/hostile_packs.rs"]
mod hostile_packs;
#[path = "blackbox/hostile_senders.rs"]
mod hostile_senders;
#[path = "blackbox/idempotency.rs"]
mod idempotency;
#[path = "blackbox/ingest.rs"]
mod ingest;
#[path = "blackbox/keys.rs"]
mod keys;
#[path = "blackbox/large_payloads.rs"]
mod large_payloads;
#[path = "blackbox/mapper_cache.rs"]
mod mapper_cache;
#[path = "blackbox/mappers.rs"]
mod mappers;
#[path = "blackbox/metrics.rs"]
mod metrics;
#[path = "blackbox/odd_names.rs"]
mod odd_names;
#[path = "blackbox/operators.rs"]
mod operators;
#[path = "blackbox/operators_day.rs"]
mod operators_day;
#[path = "blackbox/overrides.rs"]
mod overrides;
#[path = "blackbox/own_server.rs"]
mod own_server;
#[path = "blackbox/pipeline.rs"]
mod pipeline;
#[path = "blackbox/preset_keys.rs"]
mod preset_keys;
#[path = "blackbox/quarantine.rs"]
mod quarantine;
#[path = "blackbox/readme.rs"]
mod readme;
#[path = "blackbox/replays_and_deletions.rs"]
mod replays_and_deletions;
#[path = "blackbox/retention.rs"]
mod retention;
#[path = "blackbox/redaction.rs"]
mod redaction;
#[path = "blackbox/remap.rs"]
mod remap;
#[path = "blackbox/rooms.rs"]
mod rooms;
#[path = "blackbox/schemas.rs"]
mod schemas;
#[path = "blackbox/schemes.rs"]
mod schemes;
#[path = "blackbox/secret_ownership.rs"]
mod secret_ownership;
#[path = "blackbox/secret_values.rs"]
mod secret_values;
#[path = "blackbox/secrets.rs"]
mod secrets;
#[path = "blackbox/selector_attacks.rs"]
mod selector_attacks;
#[path = "blackbox/several_hosts.rs"]
mod several_hosts;
#[path = "blackbox/signed_readings.rs"]
mod signed_readings;
#[path = "blackbox/spine.rs"]
mod spine;
#[path = "blackbox/stats.rs"]
mod stats;
#[path = "blackbox/terminals.rs"]
mod terminals;
#[path = "blackbox/traces.rs"]
mod traces;
#[path = "blackbox/vectors.rs"]
mod vectors;
#[path = "blackbox/verification_attacks.rs"]
mod verification_attacks;
#[path = "blackbox/watching_process.rs"]
mod watching_process;
#[path = "blackbox/yaml_scalars.rs"]
mod yaml_scalars;
#[path = "blackbox/watching.rs"]
mod watching;
