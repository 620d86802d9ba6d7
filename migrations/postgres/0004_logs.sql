-- What plugins log. Old entries are removed by count and age.
CREATE TABLE log_entries (
    plugin TEXT COLLATE "C" NOT NULL,
    -- Grows with each entry, over all plugins: the order of pages.
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical
    level BIGINT NOT NULL,
    context TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    deployment TEXT COLLATE "C",
    request_id TEXT COLLATE "C",
    PRIMARY KEY (plugin, sequence)
);

CREATE INDEX log_entries_request_id ON log_entries (plugin, request_id) WHERE request_id IS NOT NULL;
