-- What a login begins: one row for each, with the digest of the refresh token that counts now and of the one before.
-- `revoked_at` is set while access tokens of the session may still be out; then the row goes.
CREATE TABLE sessions (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- That of the user when the session began: raising it ends the session.
    generation BIGINT NOT NULL,
    token_sha256 TEXT COLLATE "C" NOT NULL,
    previous_sha256 TEXT COLLATE "C",
    -- The network of the client, and what it says it is.
    client TEXT COLLATE "C" NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    -- When the refresh token was last exchanged.
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX sessions_by_user ON sessions (user_id, id);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
