-- Links that have brought a file, until they would be worth nothing anyway: each is good once.
CREATE TABLE blob_links (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    plugin TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX blob_links_by_plugin ON blob_links (plugin, digest);
CREATE INDEX blob_links_by_expiry ON blob_links (expires_at);
