-- Codes that were sent to somebody and count once. `subject` is an e-mail address in its normal form or the id of a user;
-- `payload` is what the code does when it comes back, as its purpose has it.
CREATE TABLE one_time_codes (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    purpose TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    secret_sha256 TEXT COLLATE "C" NOT NULL,
    payload TEXT COLLATE "C" NOT NULL,
    tries BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX one_time_codes_by_subject ON one_time_codes (subject, created_at);
CREATE INDEX one_time_codes_end ON one_time_codes (expires_at);
