-- What a host writes to find out whether it can: readiness is asked of an idle host, too.

create table hookpack.write_probe (
    id smallint primary key,                 -- 1: a small write, 2: one that needs room on the disk
    at timestamptz not null,
    filler text                              -- of 2
);
