-- The audit trail: each event has the hash of the one before. `detail` is canonical JSON.
CREATE TABLE audit_events (
    seq BIGINT PRIMARY KEY NOT NULL,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE INDEX audit_events_by_actor ON audit_events (actor, seq);
CREATE INDEX audit_events_by_action ON audit_events (action, seq);
CREATE INDEX audit_events_by_target ON audit_events (target, seq);

-- Signed places of the chain: `head` is its end, `base` the last event that was removed because of its age.
CREATE TABLE audit_marks (
    kind TEXT PRIMARY KEY NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    hash TEXT NOT NULL,
    signature TEXT NOT NULL
);

INSERT INTO audit_marks (kind, seq, at_ms, hash, signature)
VALUES ('head', 0, 0, '0000000000000000000000000000000000000000000000000000000000000000', '');
