import type { Tasks } from '../port/tasks.ts';
import type { Compiler } from '../tables/compiler.ts';

/** BEGIN IMMEDIATE is the lock: nobody else writes between these statements. */
export function sqliteClaim(compiler: Compiler): Tasks['claim'] {
	const raise = `update nodes set fencing_seq = fencing_seq + ?
		where id = ? and fencing_seq = ? and generation = ? and custody = ? and locked = 0 and retired_at_ms is null`;
	const lease = `update tasks set state = 'leased', attempt = attempt + 1, fencing_token = ? + picked.key,
		lease_until_ms = ?, accepted_at_ms = null
		from json_each(?) as picked where tasks.id = (picked.value ->> 0) and tasks.attempt = (picked.value ->> 1)
		and tasks.state = 'queued' and tasks.cancel_requested_at_ms is null and tasks.node_id = ? returning tasks.id as "id"`;
	return function* claim({ id, fencingSeq, generation, custody }, tasks, leaseUntilMs) {
		if (tasks.length === 0) return new Set();
		const raised = yield { sql: raise, parameters: [tasks.length, id, fencingSeq, generation, custody] };
		if (raised.changes === 0) return new Set();
		const picked = JSON.stringify(tasks.map((task) => [task.id, task.attempt]));
		const parameters = [fencingSeq + 1, compiler.bind(leaseUntilMs), picked, id];
		return new Set((yield { sql: lease, parameters }).rows.map((row) => String(row.id)));
	};
}
