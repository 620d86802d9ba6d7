-- What tells the master key with which the rows are sealed, without giving it away.
CREATE TABLE host_keys (
    id BIGINT PRIMARY KEY NOT NULL,
    fingerprint TEXT NOT NULL
);
