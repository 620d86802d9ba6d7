-- Versions that are on their way: canaries, upgrades that wait for approval, what happened, and who did it.

-- When a deployment last became the live one; empty if it never did.
ALTER TABLE deployments ADD COLUMN live_at_ms BIGINT;

UPDATE deployments SET live_at_ms = created_at_ms;

CREATE TABLE rollouts (
    plugin TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES plugins (name),
    -- A row of `deployments` that is not the live one.
    deployment TEXT COLLATE "C" NOT NULL,
    -- Of a hundred requests.
    weight BIGINT NOT NULL,
    started_by TEXT COLLATE "C" NOT NULL,
    started_at_ms BIGINT NOT NULL
);

CREATE TABLE approvals (
    plugin TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES plugins (name),
    id TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    -- The digest under which the artifact store keeps the upload.
    upload TEXT COLLATE "C" NOT NULL,
    -- A JSON object: how it is to be deployed.
    wanted TEXT COLLATE "C" NOT NULL,
    -- A JSON array: the capabilities that it asks for and was not granted.
    missing TEXT COLLATE "C" NOT NULL,
    asked_by TEXT COLLATE "C" NOT NULL,
    asked_at_ms BIGINT NOT NULL,
    reason TEXT COLLATE "C"
);

CREATE TABLE plugin_events (
    -- UUID version 7, so that the order of ids is the order of time.
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL REFERENCES plugins (name),
    at_ms BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    deployment TEXT COLLATE "C",
    version TEXT COLLATE "C",
    -- Of a hundred requests, for canaries.
    weight BIGINT,
    done_by TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C"
);

CREATE INDEX plugin_events_by_plugin ON plugin_events (plugin, id);

CREATE TABLE plugin_migrations (
    -- Without a constraint: like the data, they outlive a plugin that is removed.
    plugin TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    is_done BIGINT NOT NULL,
    -- Until then nobody else tries.
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin, version)
);
