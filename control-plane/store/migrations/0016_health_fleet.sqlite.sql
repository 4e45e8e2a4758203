-- The circuit breakers of quarantine count GPU nodes often: without reading rows of verdicts.
CREATE INDEX node_health_fleet ON node_health (node_id, gpus, quarantined_at_ms, quarantine_reason) WHERE gpus > 0;
