-- The keys that sign access tokens. `sealed` is the private part, empty once it is not needed any more; `state` is
-- `standby`, `active`, `retiring` or `revoked`, since `since`.
CREATE TABLE token_keys (
    id TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    sealed BLOB NOT NULL,
    state TEXT NOT NULL,
    since BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Two that sign at once would be a mistake.
CREATE UNIQUE INDEX token_keys_active ON token_keys (state) WHERE state = 'active';
