-- Who comes when, and where they sit.

-- A guest is what was told at a booking. It is never changed, so that nobody can rename others by their address.
CREATE TABLE guests (
    id            TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL,
    email         TEXT NOT NULL,
    phone         TEXT NOT NULL,
    -- Name, address and number in small letters, for searching.
    search        TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    UNIQUE (email, name, phone)
);

CREATE TABLE reservations (
    id               TEXT PRIMARY KEY NOT NULL,
    restaurant_id    TEXT NOT NULL REFERENCES restaurants (id),
    table_id         TEXT NOT NULL REFERENCES tables (id),
    guest_id         TEXT NOT NULL REFERENCES guests (id),
    -- On the restaurant's clock, as the guest reads it.
    date             TEXT NOT NULL,
    minute           BIGINT NOT NULL CHECK (minute BETWEEN 0 AND 1439),
    duration_minutes BIGINT NOT NULL CHECK (duration_minutes > 0),
    -- The same in UTC, for everybody else.
    starts_at_ms     BIGINT NOT NULL,
    party_size       BIGINT NOT NULL CHECK (party_size > 0),
    status           TEXT NOT NULL
        CHECK (status IN ('pending', 'confirmed', 'seated', 'completed', 'cancelled', 'no_show')),
    special_requests TEXT NOT NULL,
    source           TEXT NOT NULL CHECK (source IN ('guest', 'staff')),
    -- Grows with each change: a writer that read an older one has lost.
    revision         BIGINT NOT NULL,
    created_at_ms    BIGINT NOT NULL,
    updated_at_ms    BIGINT NOT NULL
);
CREATE INDEX reservations_by_time ON reservations (date, minute, id);
CREATE INDEX reservations_by_restaurant ON reservations (restaurant_id, date, minute, id);
CREATE INDEX reservations_by_status ON reservations (status, date, minute, id);
CREATE INDEX reservations_by_table ON reservations (table_id, date, minute, id);
CREATE INDEX reservations_by_guest ON reservations (guest_id);

-- The promise that no table is given away twice. A reservation that holds its table has one row for each quarter of an
-- hour, and the primary key lets only one in. `slot` counts quarters from 1970 on the restaurant's clock.
CREATE TABLE table_slots (
    table_id       TEXT NOT NULL REFERENCES tables (id),
    slot           BIGINT NOT NULL,
    -- Checked at the end, because a table is chosen before the reservation is written.
    reservation_id TEXT NOT NULL REFERENCES reservations (id) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (table_id, slot)
);
CREATE INDEX table_slots_by_reservation ON table_slots (reservation_id);

CREATE TABLE reservation_history (
    id             TEXT PRIMARY KEY NOT NULL,
    reservation_id TEXT NOT NULL REFERENCES reservations (id),
    at_ms          BIGINT NOT NULL,
    actor_kind     TEXT NOT NULL,
    actor_id       TEXT,
    actor_name     TEXT NOT NULL,
    action         TEXT NOT NULL,
    changes        TEXT NOT NULL
);
CREATE INDEX history_by_reservation ON reservation_history (reservation_id, id);

CREATE TABLE reservation_notes (
    id             TEXT PRIMARY KEY NOT NULL,
    reservation_id TEXT NOT NULL REFERENCES reservations (id),
    at_ms          BIGINT NOT NULL,
    author_id      TEXT,
    author_name    TEXT NOT NULL,
    text           TEXT NOT NULL
);
CREATE INDEX notes_by_reservation ON reservation_notes (reservation_id, id);
