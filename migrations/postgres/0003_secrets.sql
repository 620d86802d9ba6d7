-- Secrets that the operator keeps for plugins, encrypted.
CREATE TABLE secrets (
    plugin TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    revision TEXT COLLATE "C" NOT NULL,
    -- The nonce, then the ciphertext; bound to plugin, label and revision.
    sealed BYTEA NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (plugin, label)
);
