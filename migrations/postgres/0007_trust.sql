-- Keys that may sign plugins, beside those in the settings.
CREATE TABLE trusted_keys (
    -- The first half of the SHA-256 of the public key.
    id TEXT PRIMARY KEY NOT NULL,
    -- `ed25519:` and base64.
    public_key TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- Names, beginnings of names with `*`, separated by blanks.
    plugins TEXT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT,
    added_by TEXT NOT NULL,
    added_at_ms BIGINT NOT NULL
);

-- Where deployments came from. A row is written before its deployment and may outlive it for a while.
CREATE TABLE provenance (
    deployment TEXT PRIMARY KEY NOT NULL,
    -- `plugin.sig` as it was uploaded.
    signature TEXT,
    -- The key that signed it, if it was trusted then.
    signed_by TEXT,
    -- What the uploader said, for example `oci://registry.example.com/shop@sha256:…`.
    source TEXT,
    -- Of the upload as it came.
    upload TEXT NOT NULL,
    recorded_at_ms BIGINT NOT NULL
);
