-- Tasks that are called lost because their node wasn't heard of may run there still: whoever ends them must find them.
CREATE INDEX tasks_unanswered ON tasks (node_id, id) WHERE state = 'lost' AND reason = 'LEASE_LOST';
