-- Logins elsewhere that open an account here: who somebody is at a provider. `issuer` says whose word it is, `subject` who it
-- is there, for good; `provider` is the name in the settings.
CREATE TABLE identities (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- As the provider last said it.
    email TEXT,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);

CREATE INDEX identities_by_user ON identities (user_id, id);

-- Logins at providers that have come back, for as long as somebody could come back with them again.
CREATE TABLE used_login_attempts (
    state_sha256 TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Whether somebody has shown to read mail to the address. Of older accounts nobody knows.
ALTER TABLE users ADD COLUMN is_email_confirmed BIGINT NOT NULL DEFAULT 0;
