-- Events, the request log, quarantine, and what makes deliveries unique.
-- Others read `event`, `request_log` and `quarantine` with SQL: their columns are a public interface.

create table hookpack.event (
    id uuid primary key,                     -- v7: sorts by time of receipt
    pack_ref text not null,
    trigger_ref text not null,
    payload json not null,                   -- json, not jsonb: the mapped bytes as they are
    metadata jsonb not null,
    idempotency_key text,
    received_at timestamptz not null
);
create index event_trigger on hookpack.event (trigger_ref, id);

-- What has been answered under which idempotency key; a row lives as long as its window.
create table hookpack.delivery (
    owner_ref text not null,                 -- the trigger or pack whose deliveries the key tells apart
    key text not null,
    request_id uuid not null,                -- the request that was first
    event_id uuid,
    status smallint not null,                -- the answer, to be given again word for word
    content_type text not null,
    body text not null,
    received_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (owner_ref, key)
);
create index delivery_expiry on hookpack.delivery (expires_at);

create table hookpack.request_log (
    id uuid primary key,
    received_at timestamptz not null,
    trigger_ref text,                        -- of a pack's endpoint: the pack's ref
    endpoint_key_id uuid,
    source_ip inet not null,
    user_agent text,
    method text not null,
    body_bytes bigint not null,
    status smallint not null,
    outcome text not null,
    detail text,
    event_id uuid,
    verified boolean not null,
    duration_us bigint not null,
    pack_version text
);
create index request_log_trigger on hookpack.request_log (trigger_ref, id);

create table hookpack.quarantine (
    id uuid primary key,
    request_id uuid not null,
    received_at timestamptz not null,
    trigger_ref text not null,
    pack_version text,
    cause text not null,                     -- an outcome of the request log
    detail text not null,
    method text not null,
    path text not null,
    query text,
    source_ip inet not null,
    headers jsonb not null,                  -- [[name, value], …], credentials taken out
    body bytea not null,                     -- as it came over the wire
    idempotency_key text
);

-- Whether a trigger (or a pack, for its own URL) receives; kept while its pack is away.
create table hookpack.endpoint (
    owner_ref text primary key,
    kind text not null check (kind in ('trigger', 'pack')),
    paused boolean not null default false,
    created_at timestamptz not null
);

create table hookpack.endpoint_key (
    id uuid primary key,
    owner_ref text not null references hookpack.endpoint on delete cascade,
    key_hash bytea not null unique,          -- SHA-256
    key_sealed bytea not null,               -- under the host's master key
    created_at timestamptz not null
);
create index endpoint_key_owner on hookpack.endpoint_key (owner_ref);

create table hookpack.api_token (
    token_hash bytea primary key,            -- SHA-256
    label text not null,
    created_at timestamptz not null
);
