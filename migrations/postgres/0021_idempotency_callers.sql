-- Whose request it is, as a digest: how many one caller has is bounded.
ALTER TABLE idempotency_keys ADD COLUMN caller TEXT COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX idempotency_keys_plugin;
CREATE INDEX idempotency_keys_by_caller ON idempotency_keys (plugin, caller, bytes);
