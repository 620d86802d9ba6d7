-- What plugins keep in their key-value stores.
CREATE TABLE kv_entries (
    plugin TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    -- Key and value in bytes, as it counts against the quota.
    size BIGINT NOT NULL,
    version BIGINT NOT NULL,
    -- Absent from this moment on. NULL means never.
    expires_at BIGINT,
    PRIMARY KEY (plugin, label, key)
);

CREATE INDEX kv_entries_expires_at ON kv_entries (expires_at) WHERE expires_at IS NOT NULL;

-- One row per plugin, changed in the same transaction as its entries: the quotas are exact without counting.
CREATE TABLE kv_usage (
    plugin TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    entries BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,
    -- Never goes back, so that a key deleted and written again has a new version.
    last_version BIGINT NOT NULL
);
