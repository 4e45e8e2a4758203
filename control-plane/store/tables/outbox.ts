import type { Outbox, OutboxRow } from '../port/outbox.ts';
import type { Compiler } from './compiler.ts';
import { OUTBOX } from './schema.ts';

export function outboxTable(compiler: Compiler): Outbox {
	const insert = compiler.insert(OUTBOX);
	// Two replicas take different rows; what another one is taking now is skipped, not waited for.
	const lock = compiler.dialect === 'sqlite' ? '' : ' for update skip locked';
	const take = compiler.text(
		`delete from outbox where id in (select id from outbox order by id limit ?${lock}) returning ${OUTBOX.columnsSql}`,
	);
	return {
		*append(row: OutboxRow) {
			yield insert(row);
		},
		*take(limit) {
			const rows = OUTBOX.all(yield { sql: take, parameters: [limit] });
			return rows.sort((a, b) => (a.id < b.id ? -1 : 1));
		},
	};
}
