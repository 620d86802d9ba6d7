-- The keys that sign access tokens. `sealed` is the private part, empty once it is not needed any more; `state` is
-- `standby`, `active`, `retiring` or `revoked`, since `since`.
CREATE TABLE token_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm TEXT COLLATE "C" NOT NULL,
    public_jwk TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    since BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Two that sign at once would be a mistake.
CREATE UNIQUE INDEX token_keys_active ON token_keys (state) WHERE state = 'active';
