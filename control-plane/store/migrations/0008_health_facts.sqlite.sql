-- The same logical model as the file beside it.
-- What agents said about health, as they said it: the newest of each node and custody. Bounded by a trim at each insert.
CREATE TABLE node_health_facts (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  custody TEXT NOT NULL,
  fact_seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  code TEXT NOT NULL,
  fact BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX node_health_facts_node ON node_health_facts (node_id, custody, id);
