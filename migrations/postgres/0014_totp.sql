-- Second factors (RFC 6238). `last_step` is that of the code used last, so that none is used twice; `recovery` is a JSON array
-- with the digests of the recovery codes that were not used.
CREATE TABLE totp (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed BYTEA NOT NULL,
    is_confirmed BIGINT NOT NULL,
    last_step BIGINT NOT NULL,
    recovery TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);
