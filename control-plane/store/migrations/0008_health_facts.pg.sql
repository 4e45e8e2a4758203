-- The same logical model as the file beside it, in PostgreSQL.
-- What agents said about health, as they said it: the newest of each node and custody. Bounded by a trim at each insert.
CREATE TABLE node_health_facts (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  custody text COLLATE "C" NOT NULL,
  fact_seq bigint NOT NULL,
  kind text COLLATE "C" NOT NULL,
  subject_id text COLLATE "C" NOT NULL,
  code text COLLATE "C" NOT NULL,
  fact bytea NOT NULL,
  received_at_ms bigint NOT NULL
);
CREATE INDEX node_health_facts_node ON node_health_facts (node_id, custody, id);
