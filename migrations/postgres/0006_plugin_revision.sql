-- Tells a change that began from an older state of the plugin.

ALTER TABLE plugins ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
