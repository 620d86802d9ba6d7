-- Secrets that the operator keeps for plugins, encrypted.
CREATE TABLE secrets (
    plugin TEXT NOT NULL,
    label TEXT NOT NULL,
    revision TEXT NOT NULL,
    -- The nonce, then the ciphertext; bound to plugin, label and revision.
    sealed BYTEA NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (plugin, label)
);
