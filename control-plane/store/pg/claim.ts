import type { Tasks } from '../port/tasks.ts';

/** The node's row is the lock: whoever raised its counter meanwhile makes this claim nothing. */
const CLAIM = `with raised as (
		update nodes set fencing_seq = fencing_seq + cardinality($5::text[])
		where id = $1 and fencing_seq = $2 and generation = $3 and custody = $4 and not locked and retired_at_ms is null
		returning id
	), picked as (
		select * from unnest($5::text[], $6::bigint[]) with ordinality as picked(id, attempt, place)
	)
	update tasks set state = 'leased', attempt = tasks.attempt + 1, fencing_token = $2 + picked.place,
		lease_until_ms = $7, accepted_at_ms = null
	from picked, raised where tasks.id = picked.id and tasks.attempt = picked.attempt and tasks.state = 'queued'
		and tasks.cancel_requested_at_ms is null and tasks.node_id = $1
	returning tasks.id as "id"`;

export const pgClaim: Tasks['claim'] = function* claim({ id, fencingSeq, generation, custody }, tasks, leaseUntilMs) {
	if (tasks.length === 0) return new Set();
	const ids = tasks.map((task) => task.id);
	const attempts = tasks.map((task) => task.attempt);
	const parameters = [id, fencingSeq, generation, custody, ids, attempts, leaseUntilMs];
	return new Set((yield { sql: CLAIM, parameters }).rows.map((row) => String(row.id)));
};
