-- Data that is removed when the host starts, unless the plugin is there then: of plugins that were being removed, or deployed
-- for the first time, when the host died.
CREATE TABLE unwanted_data (
    plugin TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- Secrets can be set before a plugin is deployed; then they outlive a deployment that failed.
    with_secrets BIGINT NOT NULL
);
