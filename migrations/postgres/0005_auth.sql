-- Bundles of permissions. `permissions` is a JSON array of text.
CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

INSERT INTO roles (name, permissions, created_at, updated_at) VALUES ('admin', '["*"]', 0, 0);

-- Accounts. `email` is in its normal form, `roles` a JSON array of names. Access tokens carry the generation they were
-- made for, so raising it revokes them.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL,
    is_disabled BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- `token_sha256` is hexadecimal; the key itself is nowhere.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    token_sha256 TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);
