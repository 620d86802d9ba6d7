-- Keys that may sign plugins, beside those in the settings.
CREATE TABLE trusted_keys (
    -- The first half of the SHA-256 of the public key.
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- `ed25519:` and base64.
    public_key TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    -- Names, beginnings of names with `*`, separated by blanks.
    plugins TEXT COLLATE "C" NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT,
    added_by TEXT COLLATE "C" NOT NULL,
    added_at_ms BIGINT NOT NULL
);

-- Where deployments came from. A row is written before its deployment and may outlive it for a while.
CREATE TABLE provenance (
    deployment TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- `plugin.sig` as it was uploaded.
    signature TEXT COLLATE "C",
    -- The key that signed it, if it was trusted then.
    signed_by TEXT COLLATE "C",
    -- What the uploader said, for example `oci://registry.example.com/shop@sha256:…`.
    source TEXT COLLATE "C",
    -- Of the upload as it came.
    upload TEXT COLLATE "C" NOT NULL,
    recorded_at_ms BIGINT NOT NULL
);
