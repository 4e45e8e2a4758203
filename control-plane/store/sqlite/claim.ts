import type { Nodes } from '../port/nodes.ts';
import type { Tasks } from '../port/tasks.ts';
import type { Compiler } from '../tables/compiler.ts';
import { TASKS } from '../tables/schema.ts';
import { OPEN_SQL } from '../tables/tasks.ts';

/** BEGIN IMMEDIATE is the lock: nobody else writes between these statements. */
export function sqliteClaim(compiler: Compiler, nodes: Pick<Nodes, 'nextFencingTokens'>): Tasks['claim'] {
	const pick = `select id from tasks where ${OPEN_SQL} and state = 'queued' and node_id = ? order by id limit ?`;
	const lease = `update tasks set state = 'leased', attempt = attempt + 1, fencing_token = picked.key + ?,
		lease_until_ms = ?, accepted_at_ms = null
		from json_each(?) as picked where tasks.id = picked.value returning ${TASKS.columnsSql}`;
	return function* claim(nodeId, limit, leaseUntilMs) {
		const ids = (yield { sql: pick, parameters: [nodeId, limit] }).rows.map((row) => row.id);
		if (ids.length === 0) return [];
		const firstToken = yield* nodes.nextFencingTokens(nodeId, ids.length);
		const parameters = [firstToken, compiler.bind(leaseUntilMs), JSON.stringify(ids)];
		const claimed = TASKS.all(yield { sql: lease, parameters });
		return claimed.sort((a, b) => a.fencingToken - b.fencingToken);
	};
}
