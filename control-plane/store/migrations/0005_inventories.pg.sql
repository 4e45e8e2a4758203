-- Inventories of nodes: the newest a custody, and the newest differences. Bounded by nodes, custodies and a trim.
CREATE TABLE node_inventories (
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  custody text COLLATE "C" NOT NULL,
  digest text COLLATE "C" NOT NULL,
  inventory bytea NOT NULL,
  received_at_ms bigint NOT NULL,
  PRIMARY KEY (node_id, custody)
);

CREATE TABLE node_inventory_changes (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  node_id text COLLATE "C" NOT NULL REFERENCES nodes (id),
  custody text COLLATE "C" NOT NULL,
  digest text COLLATE "C" NOT NULL,
  changes bytea NOT NULL,
  received_at_ms bigint NOT NULL
);
CREATE INDEX node_inventory_changes_node ON node_inventory_changes (node_id, id);

-- History is clipped to the assignments that a node ever had.
CREATE INDEX assignments_node ON assignments (node_id, from_ms);
