-- Secrets that senders bring in their handshakes, sealed with the host's master key.

create table hookpack.secret (
    id uuid primary key,
    name text not null,                      -- as a policy names it under `secrets`
    value_sealed bytea not null,
    source text not null check (source in ('handshake')),
    created_at timestamptz not null
);
-- The first that is brought is the one: nobody replaces it by asking.
create unique index secret_brought on hookpack.secret (name) where source = 'handshake';
