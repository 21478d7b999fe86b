-- What makes events unique that bring a key of their own, whichever deliveries they come in.

create table hookpack.event_key (
    trigger_ref text not null,               -- the key tells the events of one trigger apart
    key text not null,
    event_id uuid not null,                  -- the event that was first
    expires_at timestamptz not null,         -- a row lives as long as its window
    primary key (trigger_ref, key)
);
create index event_key_expiry on hookpack.event_key (expires_at);
