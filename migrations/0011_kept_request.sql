-- Requests whose events were stored, as they came, where the host is told to keep them: to be mapped again.

create table hookpack.kept_request (
    request_id uuid primary key,
    received_at timestamptz not null,
    owner_ref text not null,                 -- the trigger or pack whose URL it came to
    method text not null,
    path text not null,                      -- without the key
    query text,
    source_ip inet not null,
    headers json not null,                   -- [[name, value], …], credentials taken out
    body bytea not null                      -- as it came over the wire
);
