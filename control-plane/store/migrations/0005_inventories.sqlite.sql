-- Inventories of nodes: the newest a custody, and the newest differences. Bounded by nodes, custodies and a trim.
CREATE TABLE node_inventories (
  node_id TEXT NOT NULL REFERENCES nodes (id),
  custody TEXT NOT NULL,
  digest TEXT NOT NULL,
  inventory BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (node_id, custody)
) STRICT;

CREATE TABLE node_inventory_changes (
  id TEXT NOT NULL PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  custody TEXT NOT NULL,
  digest TEXT NOT NULL,
  changes BLOB NOT NULL,
  received_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX node_inventory_changes_node ON node_inventory_changes (node_id, id);

-- History is clipped to the assignments that a node ever had.
CREATE INDEX assignments_node ON assignments (node_id, from_ms);
