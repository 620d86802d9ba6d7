-- Plugins, their deployments and what they were given.

CREATE TABLE plugins (
    name TEXT PRIMARY KEY NOT NULL,
    -- Points to a row of `deployments`, without a constraint: each table would need the other one first.
    live_deployment TEXT,
    live_by TEXT NOT NULL,
    live_at_ms BIGINT NOT NULL,
    -- Empty means every host.
    mount_host TEXT NOT NULL,
    -- Without a slash at its end; empty means the root.
    mount_path TEXT NOT NULL,
    -- A JSON object: the operator's values, without the author's defaults.
    config TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    UNIQUE (mount_host, mount_path)
);

CREATE TABLE deployments (
    -- UUID version 7, so that the order of ids is the order of time.
    id TEXT PRIMARY KEY NOT NULL,
    plugin TEXT NOT NULL REFERENCES plugins (name),
    version TEXT NOT NULL,
    -- The digest under which the artifact store keeps the component.
    component TEXT NOT NULL,
    entry TEXT NOT NULL,
    manifest TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    note TEXT
);

CREATE INDEX deployments_by_plugin ON deployments (plugin, id);

CREATE TABLE grants (
    plugin TEXT NOT NULL REFERENCES plugins (name),
    -- For example `kv:carts` or `http:api.example.com`.
    capability TEXT NOT NULL,
    granted_by TEXT NOT NULL,
    granted_at_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin, capability)
);
