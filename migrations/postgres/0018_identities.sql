-- Logins elsewhere that open an account here: who somebody is at a provider. `issuer` says whose word it is, `subject` who it
-- is there, for good; `provider` is the name in the settings.
CREATE TABLE identities (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider TEXT COLLATE "C" NOT NULL,
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    -- As the provider last said it.
    email TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);

CREATE INDEX identities_by_user ON identities (user_id, id);

-- Logins at providers that have come back, for as long as somebody could come back with them again.
CREATE TABLE used_login_attempts (
    state_sha256 TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Whether somebody has shown to read mail to the address. Of older accounts nobody knows.
ALTER TABLE users ADD COLUMN is_email_confirmed BIGINT NOT NULL DEFAULT 0;
