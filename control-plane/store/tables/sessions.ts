import { sql } from 'kysely';
import type { SessionRow, Sessions } from '../port/sessions.ts';
import { snake } from './columns.ts';
import type { Compiler } from './compiler.ts';
import { SESSIONS } from './schema.ts';

export function sessionsTable(compiler: Compiler): Sessions {
	const byNode = compiler.prepare<{ nodeId: string }>((db, slot) =>
		compiler.locked(db.selectFrom('sessions').select(SESSIONS.columns).where('node_id', '=', slot('nodeId'))),
	);
	const byNodes = compiler.prepare<{ nodeIds: readonly string[] }>((db, slot) =>
		db
			.selectFrom('sessions')
			.select(SESSIONS.columns)
			.where(compiler.inList('node_id', slot('nodeIds')))
			.orderBy('node_id'),
	);
	const insert = compiler.insert(SESSIONS);
	const replaced = SESSIONS.fields.map(snake).filter((column) => column !== 'node_id');
	const replace = ` on conflict (node_id) do update set ${replaced
		.map((column) => `${column} = excluded.${column}`)
		.join(', ')} where sessions.epoch < excluded.epoch`;
	const marked = <Column extends 'disconnected_at_ms' | 'lost_at_ms'>(column: Column) =>
		compiler.prepare<{ nodeId: string; epoch: number; atMs: number }>((db, slot) =>
			db
				.updateTable('sessions')
				.set(column, slot('atMs') as never)
				.where('node_id', '=', slot('nodeId'))
				.where('epoch', '=', slot('epoch'))
				.where(column, 'is', null),
		);
	const disconnect = marked('disconnected_at_ms');
	const markLost = marked('lost_at_ms');
	const expired = compiler.prepare<{ nowMs: number; limit: number }>((db, slot) =>
		db
			.selectFrom('sessions')
			.select(SESSIONS.columns)
			.where(sql<boolean>`lost_at_ms is null`)
			.where('lease_until_ms', '<', slot('nowMs'))
			.orderBy('lease_until_ms')
			.orderBy('node_id')
			.limit(slot('limit')),
	);
	const renew = renewText(compiler);
	return {
		*get(nodeId) {
			return SESSIONS.first(yield byNode({ nodeId }));
		},
		*getMany(nodeIds) {
			return nodeIds.length === 0 ? [] : SESSIONS.all(yield byNodes({ nodeIds }));
		},
		*put(row: SessionRow) {
			const { sql: text, parameters } = insert(row);
			return (yield { sql: text + replace, parameters }).changes > 0;
		},
		*renew(sessions, leaseUntilMs) {
			if (sessions.length === 0) return [];
			const list = JSON.stringify(sessions.map(({ nodeId, epoch }) => [nodeId, epoch]));
			const parameters = [leaseUntilMs, list];
			const renewed = new Set((yield { sql: renew, parameters }).rows.map((row) => row.nodeId));
			return sessions.map(({ nodeId }) => nodeId).filter((nodeId) => !renewed.has(nodeId));
		},
		*disconnect(nodeId, epoch, atMs) {
			return (yield disconnect({ nodeId, epoch, atMs })).changes > 0;
		},
		*listExpired(nowMs, limit) {
			return SESSIONS.all(yield expired({ nowMs, limit }));
		},
		*markLost(nodeId, epoch, atMs) {
			return (yield markLost({ nodeId, epoch, atMs })).changes > 0;
		},
	};
}

/** A session that was declared lost may not come back to life: its node must open a new one. */
function renewText(compiler: Compiler): string {
	const from =
		compiler.dialect === 'sqlite'
			? 'from json_each(?) as renewed where sessions.epoch = (renewed.value ->> 1)'
			: 'from jsonb_array_elements(?::jsonb) as renewed(value) where sessions.epoch = (renewed.value ->> 1)::bigint';
	return compiler.text(
		`update sessions set lease_until_ms = ? ${from} and sessions.node_id = (renewed.value ->> 0)
		and sessions.lost_at_ms is null returning sessions.node_id as "nodeId"`,
	);
}
