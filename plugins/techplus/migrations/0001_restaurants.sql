-- What a restaurant is: its tables, its hours, its menu. Ids are UUIDs in text; times end in `_ms` and count from 1970
-- in UTC; minutes count from midnight on the restaurant's own clock.

CREATE TABLE restaurants (
    id            TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    address       TEXT NOT NULL,
    phone         TEXT NOT NULL,
    email         TEXT NOT NULL,
    website       TEXT NOT NULL,
    time_zone     TEXT NOT NULL,
    settings      TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);
CREATE INDEX restaurants_by_name ON restaurants (name, id);

CREATE TABLE tables (
    id            TEXT PRIMARY KEY NOT NULL,
    restaurant_id TEXT NOT NULL REFERENCES restaurants (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    area          TEXT NOT NULL,
    capacity_min  BIGINT NOT NULL CHECK (capacity_min >= 1),
    capacity_max  BIGINT NOT NULL CHECK (capacity_max >= capacity_min),
    is_active     BIGINT NOT NULL CHECK (is_active IN (0, 1)),
    UNIQUE (restaurant_id, name)
);
CREATE INDEX tables_by_fit ON tables (restaurant_id, capacity_max, name);

-- ISO weekdays, 1 is Monday. A period that ends after midnight has `closes_minute` above 1440.
CREATE TABLE opening_hours (
    restaurant_id TEXT NOT NULL REFERENCES restaurants (id) ON DELETE CASCADE,
    weekday       BIGINT NOT NULL CHECK (weekday BETWEEN 1 AND 7),
    opens_minute  BIGINT NOT NULL CHECK (opens_minute BETWEEN 0 AND 1439),
    closes_minute BIGINT NOT NULL CHECK (closes_minute > opens_minute),
    PRIMARY KEY (restaurant_id, weekday, opens_minute)
);

CREATE TABLE closed_days (
    restaurant_id TEXT NOT NULL REFERENCES restaurants (id) ON DELETE CASCADE,
    date          TEXT NOT NULL,
    reason        TEXT NOT NULL,
    PRIMARY KEY (restaurant_id, date)
);

CREATE TABLE menu_categories (
    id            TEXT PRIMARY KEY NOT NULL,
    restaurant_id TEXT NOT NULL REFERENCES restaurants (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    position      BIGINT NOT NULL,
    UNIQUE (restaurant_id, name)
);

CREATE TABLE menu_items (
    id            TEXT PRIMARY KEY NOT NULL,
    category_id   TEXT NOT NULL REFERENCES menu_categories (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    price_cents   BIGINT NOT NULL CHECK (price_cents >= 0),
    allergens     TEXT NOT NULL,
    is_vegetarian BIGINT NOT NULL CHECK (is_vegetarian IN (0, 1)),
    is_available  BIGINT NOT NULL CHECK (is_available IN (0, 1)),
    position      BIGINT NOT NULL
);
CREATE INDEX menu_items_by_category ON menu_items (category_id, position, name);
