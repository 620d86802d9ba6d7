-- Components and uploads by their digest, where several hosts use the same rows: each has its own folder of artifacts.
CREATE TABLE artifacts (
    digest TEXT PRIMARY KEY NOT NULL,
    bytes BLOB NOT NULL,
    put_at_ms BIGINT NOT NULL
);

-- The next number of a line is asked of the rows.
CREATE INDEX log_entries_sequence ON log_entries (sequence);
