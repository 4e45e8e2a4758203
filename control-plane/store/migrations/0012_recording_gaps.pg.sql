-- Where output never came from the node: it was a sentence in `truncated`, which is about the end.
ALTER TABLE recordings ADD COLUMN gaps bigint NOT NULL DEFAULT 0;
ALTER TABLE recordings ADD COLUMN gap_bytes bigint NOT NULL DEFAULT 0;
