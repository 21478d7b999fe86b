-- Run as the superuser that `initdb` made, in single-user mode, when no server runs: the host's role exists, is no
-- superuser, and owns what the host and its operator have made. Run again it changes nothing.
do $roles$
declare
    object record;
begin
    -- Older hosts worked as the superuser itself. A session can't rename its own role otherwise.
    update pg_authid set rolname = 'hookpack_superuser' where oid = 10 and rolname = 'hookpack';
    if not exists (select from pg_roles where rolname = 'hookpack') then
        create role hookpack;
    end if;
    if not exists (select from pg_roles where rolname = 'hookpack_reader') then
        create role hookpack_reader;
    end if;
    -- A reader can't keep the host from a connection, and makes nothing.
    alter role hookpack_reader login nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit 30;
    alter role hookpack_reader set default_transaction_read_only = on;
    revoke create on schema public from public;
    grant create on schema public to hookpack;
    revoke temporary on database postgres from public;
    grant temporary on database postgres to hookpack;
    alter role hookpack login nosuperuser createdb nocreaterole noreplication nobypassrls;
    for object in
        select format('database %I', datname) as name from pg_database where datdba = 10 and not datistemplate
        union all
        select format('schema %I', nspname) from pg_namespace where nspowner = 10 and oid >= 16384
        union all
        -- What belongs to an extension, and the sequence of a column, goes with what it belongs to.
        select format('table %s', oid::regclass) from pg_class
        where relowner = 10 and oid >= 16384 and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
            and not exists (
                select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid
                    and (deptype = 'e' or deptype in ('a', 'i') and relkind = 'S'))
        union all
        select format('routine %s', oid::regprocedure) from pg_proc
        where proowner = 10 and oid >= 16384
            and not exists (
                select from pg_depend where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype = 'e')
        union all
        select format('type %s', oid::regtype) from pg_type
        where typowner = 10 and oid >= 16384 and typtype in ('d', 'e', 'r', 'c')
            and (typrelid = 0 or exists (select from pg_class where oid = typrelid and relkind = 'c'))
            and not exists (
                select from pg_depend where classid = 'pg_type'::regclass and objid = pg_type.oid and deptype = 'e')
    loop
        execute format('alter %s owner to hookpack', object.name);
    end loop;
end
$roles$;

