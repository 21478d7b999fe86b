-- Of the first body of a key: CRC-32 and length in one number, so that the log can say that a repetition differs.
-- Null where the key was claimed before this, or without a body.
alter table hookpack.delivery add column body_checksum bigint;
