-- What somebody has sent, and has open, is counted before there is more of it.
CREATE INDEX blob_uploads_by_owner ON blob_uploads (plugin, (COALESCE(owner, ''))) WHERE finished_at IS NULL;
CREATE INDEX blobs_by_owner ON blobs (plugin, owner, size) WHERE owner IS NOT NULL;
