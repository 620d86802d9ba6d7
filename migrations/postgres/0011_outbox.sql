-- Mail that waits to be sent. `sealed` holds address and text, because some texts carry codes.
CREATE TABLE outbox_mails (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL,
    tries BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    -- When it is given up.
    until_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX outbox_mails_due ON outbox_mails (due_at);
