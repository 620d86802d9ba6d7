-- Files of plugins. A row is the truth: an object is there when its row is. Bytes lie in a folder or on an S3-compatible
-- server, in pieces under the id.
CREATE TABLE blobs (
    -- Another one with each write.
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    plugin TEXT COLLATE "C" NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT COLLATE "C" NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    -- An object of texts, as JSON.
    metadata TEXT COLLATE "C" NOT NULL,
    -- The id of the principal who sent it.
    owner TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    UNIQUE (plugin, bucket, name)
);

-- Objects that are being sent: noted before the first byte is kept, so that no byte is kept that nobody knows of.
CREATE TABLE blob_uploads (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- The id of the object that it becomes.
    object TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    content_type TEXT COLLATE "C",
    metadata TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C",
    -- What was declared. NULL until it is.
    length BIGINT,
    -- What may be sent, as JSON.
    rules TEXT COLLATE "C" NOT NULL,
    -- When it may take its name: NULL always, `absent`, or the id of the object that has it.
    condition TEXT COLLATE "C",
    is_resumable BIGINT NOT NULL,
    -- Bytes of the quota that are kept for it.
    reserved BIGINT NOT NULL,
    -- Bytes that are kept in pieces, and how many pieces.
    taken BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    -- The first bytes, for the type, and where the digest stands.
    head BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    finished_at BIGINT,
    -- Who writes to it now, and until when if nothing more is heard of them.
    lease TEXT COLLATE "C",
    lease_until BIGINT NOT NULL,
    -- Whether somebody who lost the lease may have left a piece.
    has_strays BIGINT NOT NULL
);

CREATE INDEX blob_uploads_by_bucket ON blob_uploads (plugin, bucket, object);
CREATE INDEX blob_uploads_by_object ON blob_uploads (object);
CREATE INDEX blob_uploads_by_expiry ON blob_uploads (expires_at);

-- What objects and uploads lie in.
CREATE TABLE blob_parts (
    object TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    begins_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    -- The name at the object's place in the store.
    key TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (object, number)
);

-- Bytes that nobody needs any more. They count until they are removed.
CREATE TABLE blob_removals (
    object TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    plugin TEXT COLLATE "C" NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL
);

-- One row per bucket and one per plugin (with an empty bucket), changed with the others: the quotas are exact without counting.
CREATE TABLE blob_usage (
    plugin TEXT COLLATE "C" NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    objects BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    uploads BIGINT NOT NULL,
    PRIMARY KEY (plugin, bucket)
);
