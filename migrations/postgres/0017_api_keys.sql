-- What API keys are narrowed to, their second secret, and the accounts of programs that own them.
ALTER TABLE api_keys ADD COLUMN scopes TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN networks TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN rate_limit BIGINT;
ALTER TABLE api_keys ADD COLUMN rate_window_s BIGINT;
ALTER TABLE api_keys ADD COLUMN service_account TEXT COLLATE "C";
ALTER TABLE api_keys ADD COLUMN secret_since BIGINT;
ALTER TABLE api_keys ADD COLUMN previous_sha256 TEXT COLLATE "C";
ALTER TABLE api_keys ADD COLUMN previous_until BIGINT;
ALTER TABLE api_keys ADD COLUMN rotate_days BIGINT;
ALTER TABLE api_keys ADD COLUMN overlap_s BIGINT;

CREATE TABLE service_accounts (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    roles TEXT COLLATE "C" NOT NULL,
    is_disabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
