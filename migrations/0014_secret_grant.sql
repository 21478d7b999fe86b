-- A secret belongs to packs: to the one whose ref its name begins with, and to those that an operator grants it to.
create table hookpack.secret_grant (
    name text not null,                      -- of the secret
    pack_ref text not null,
    created_at timestamptz not null,
    primary key (name, pack_ref)
);

-- One row while packs of a database that was in use before have not been granted what they name. The first host that
-- starts does it, since only loaded packs say what they name.
create table hookpack.secret_grant_pending (
    only_one boolean primary key default true check (only_one)
);
insert into hookpack.secret_grant_pending (only_one)
select true where exists (select from hookpack.endpoint_key) or exists (select from hookpack.secret)
    or exists (select from hookpack.policy_override);

-- What a sender brings counts for the pack whose handshake took it. Older rows don't say.
alter table hookpack.secret add pack_ref text;
drop index hookpack.secret_brought;
create unique index secret_brought on hookpack.secret (name, coalesce(pack_ref, '')) where source = 'handshake';
