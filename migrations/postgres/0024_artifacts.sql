-- Components and uploads by their digest, where several hosts use the same rows: each has its own folder of artifacts.
CREATE TABLE artifacts (
    digest TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    bytes BYTEA NOT NULL,
    put_at_ms BIGINT NOT NULL
);

-- The next number of a line is asked of the rows.
CREATE INDEX log_entries_sequence ON log_entries (sequence);

-- Hosts that use the same rows look at the trail for what others have changed. This tells them when.
CREATE FUNCTION gantry_tell_hosts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('gantry', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER audit_marks_told AFTER UPDATE ON audit_marks
    FOR EACH ROW WHEN (NEW.kind = 'head') EXECUTE FUNCTION gantry_tell_hosts();
