import type { HealthFacts } from '../port/health-facts.ts';
import type { Custody } from '../port/nodes.ts';
import type { Compiler } from './compiler.ts';
import { HEALTH_FACTS } from './schema.ts';

export function healthFactsTable(compiler: Compiler): HealthFacts {
	const insert = compiler.insert(HEALTH_FACTS);
	const trim = compiler.prepare<{ nodeId: string; custody: Custody; keepMax: number; receivedFromMs: number }>(
		(db, slot) =>
			db
				.deleteFrom('node_health_facts')
				.where('node_id', '=', slot('nodeId'))
				.where('custody', '=', slot('custody'))
				.where(({ eb, or, not, selectFrom }) =>
					or([
						eb('received_at_ms', '<', slot('receivedFromMs')),
						not(
							eb(
								'id',
								'in',
								selectFrom('node_health_facts')
									.select('id')
									.where('node_id', '=', slot('nodeId'))
									.where('custody', '=', slot('custody'))
									.orderBy('id', 'desc')
									.limit(slot('keepMax')),
							),
						),
					]),
				),
	);
	const ofNode = compiler.prepare<{ nodeId: string; limit: number }>((db, slot) =>
		db
			.selectFrom('node_health_facts')
			.select(HEALTH_FACTS.columns)
			.where('node_id', '=', slot('nodeId'))
			.orderBy('id', 'desc')
			.limit(slot('limit')),
	);
	const ofNodeAfter = compiler.select(HEALTH_FACTS, 'where node_id = ? and id > ? order by id limit ?');
	return {
		*insert(row) {
			yield insert(row);
		},
		*trim(nodeId, custody, keepMax, receivedFromMs) {
			yield trim({ nodeId, custody, keepMax, receivedFromMs });
		},
		*ofNode(nodeId, limit) {
			return HEALTH_FACTS.all(yield ofNode({ nodeId, limit }));
		},
		*ofNodeAfter(nodeId, afterId, limit) {
			return HEALTH_FACTS.all(yield ofNodeAfter(nodeId, afterId, limit));
		},
	};
}
