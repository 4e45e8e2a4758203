import type { Tasks } from '../port/tasks.ts';
import { TASKS } from '../tables/schema.ts';
import { OPEN_SQL } from '../tables/tasks.ts';

/** Rows that another replica is claiming are skipped, so that no task is claimed twice and nobody waits. */
const CLAIM = `with locked as (
		select id from tasks where ${OPEN_SQL} and state = 'queued' and node_id = $1
		order by id limit $2 for update skip locked
	), numbered as (
		select id, row_number() over (order by id) as place from locked
	), raised as (
		update nodes set fencing_seq = fencing_seq + (select count(*) from locked)
		where id = $1 and exists (select 1 from locked)
		returning fencing_seq - (select count(*) from locked) as taken
	)
	update tasks set state = 'leased', attempt = attempt + 1, fencing_token = raised.taken + numbered.place,
		lease_until_ms = $3, accepted_at_ms = null
	from numbered, raised where tasks.id = numbered.id returning ${TASKS.columnsSql}`;

export const pgClaim: Tasks['claim'] = function* claim(nodeId, limit, leaseUntilMs) {
	const claimed = TASKS.all(yield { sql: CLAIM, parameters: [nodeId, limit, leaseUntilMs] });
	return claimed.sort((a, b) => a.fencingToken - b.fencingToken);
};
