-- The order in which events can be seen: ids are in the order of receipt, and a later one may be committed earlier.
-- Who reads rows of transactions before the oldest that still runs, in the order of (written_in, id), misses none.

alter table hookpack.event add written_in xid8 not null default '0'; -- of rows from before: all of them are visible
alter table hookpack.event alter written_in set default pg_current_xact_id();
create index event_order on hookpack.event (written_in, id);

-- For searching: what json can hold and jsonb can't (\u0000, half a surrogate pair, 1e999999) is null.
create function hookpack.jsonb_of(document json) returns jsonb
language plpgsql immutable strict as $$
begin
    return document::jsonb;
exception when others then
    return null;
end $$;
