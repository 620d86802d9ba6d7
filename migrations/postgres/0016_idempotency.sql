-- Requests that are done once. `id` is a digest of the plugin, the route, the caller and the key that the client sent.
-- While the request is being done, `token` names who does it, until `lease_until`. Afterwards `is_done` is 1, and the answer
-- is there, unless it was not kept (`status` alone).
CREATE TABLE idempotency_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    plugin TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    token TEXT COLLATE "C" NOT NULL,
    is_done BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    status BIGINT,
    headers TEXT COLLATE "C",
    body BYTEA,
    bytes BIGINT NOT NULL
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
CREATE INDEX idempotency_keys_plugin ON idempotency_keys (plugin);
