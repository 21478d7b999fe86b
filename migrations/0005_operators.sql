-- What operators do to a host that runs: tokens with scopes, several keys, versions of secrets, overrides of policies,
-- and the trail of all that.

alter table hookpack.api_token
    add id uuid not null default gen_random_uuid() unique,
    add scope text not null default 'admin' check (scope in ('read', 'write', 'admin')),
    add pack_refs text[],                    -- null: every pack
    add expires_at timestamptz,
    add last_used_at timestamptz,            -- to the minute
    add revoked_at timestamptz;              -- a revoked one stays: its file must not bring it back

alter table hookpack.endpoint_key
    add label text,
    add expires_at timestamptz,
    add is_main boolean not null default true; -- the one that `regenerate` replaces; the others come and go beside it
create unique index endpoint_key_main on hookpack.endpoint_key (owner_ref) where is_main;

-- What an operator wants otherwise than the pack; kept while the pack is away.
create table hookpack.policy_override (
    owner_ref text primary key,
    kind text not null check (kind in ('trigger', 'pack')),
    policy json not null,                    -- as `webhook` in a trigger, key by key
    declared json not null,                  -- what the pack said of these keys when they were overridden
    updated_at timestamptz not null
);

alter table hookpack.secret
    add version integer not null default 1,
    add expires_at timestamptz,              -- the end of the grace time of a replaced version
    drop constraint secret_source_check,
    add constraint secret_source_check check (source in ('handshake', 'operator'));
create index secret_name on hookpack.secret (name);

-- One row, counted up by every change above: by it hosts see that they have something to catch up with.
create table hookpack.change (
    only_one boolean primary key default true check (only_one),
    version bigint not null
);
insert into hookpack.change (version) values (1);

-- Who changed what, when, from where.
create table hookpack.audit (
    id uuid primary key,                     -- v7
    at timestamptz not null,
    actor text not null,                     -- the token's label
    token_id uuid,
    source_ip inet,
    action text not null,                    -- secret.set, webhook.pause, …
    subject text not null,                   -- the ref, name or id that it was done to
    detail json not null                     -- what changed; never a secret, a key or a token
);
create index audit_subject on hookpack.audit (subject, id);
