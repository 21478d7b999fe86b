-- Which pack, word for word, an event went through; null in rows from before.

alter table hookpack.event add pack_version text, add pack_hash bytea;   -- SHA-256 over the pack's files
