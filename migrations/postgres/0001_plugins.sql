-- Plugins, their deployments and what they were given.

CREATE TABLE plugins (
    name TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- Points to a row of `deployments`, without a constraint: each table would need the other one first.
    live_deployment TEXT COLLATE "C",
    live_by TEXT COLLATE "C" NOT NULL,
    live_at_ms BIGINT NOT NULL,
    -- Empty means every host.
    mount_host TEXT COLLATE "C" NOT NULL,
    -- Without a slash at its end; empty means the root.
    mount_path TEXT COLLATE "C" NOT NULL,
    -- A JSON object: the operator's values, without the author's defaults.
    config TEXT COLLATE "C" NOT NULL,
    created_at_ms BIGINT NOT NULL,
    UNIQUE (mount_host, mount_path)
);

CREATE TABLE deployments (
    -- UUID version 7, so that the order of ids is the order of time.
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL REFERENCES plugins (name),
    version TEXT COLLATE "C" NOT NULL,
    -- The digest under which the artifact store keeps the component.
    component TEXT COLLATE "C" NOT NULL,
    entry TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    note TEXT COLLATE "C"
);

CREATE INDEX deployments_by_plugin ON deployments (plugin, id);

CREATE TABLE grants (
    plugin TEXT COLLATE "C" NOT NULL REFERENCES plugins (name),
    -- For example `kv:carts` or `http:api.example.com`.
    capability TEXT COLLATE "C" NOT NULL,
    granted_by TEXT COLLATE "C" NOT NULL,
    granted_at_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin, capability)
);
