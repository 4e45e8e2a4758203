import { sql } from 'kysely';
import { GpuaasError } from '../../../kit/error.ts';
import type { NodeFence, NodePatch, NodeRow, Nodes } from '../port/nodes.ts';
import type { Result } from '../port/unit.ts';
import type { Compiler, Condition } from './compiler.ts';
import { NODES } from './schema.ts';
import { inVisible, type VisibilityShape, visibilityShape, visibilityText } from './visibility.ts';

interface ListValues {
	readonly afterId: string;
	readonly limit: number;
	readonly visibility: string;
	readonly [entry: `key${number}` | `value${number}`]: string;
}

export function nodesTable(compiler: Compiler): Nodes {
	return { ...lookups(compiler), ...changes(compiler) };
}

type Lookups =
	| 'get'
	| 'getFence'
	| 'getByName'
	| 'getBySerial'
	| 'list'
	| 'count'
	| 'listBundleLaggards'
	| 'listIssuerLaggards';

function lookups(compiler: Compiler): Pick<Nodes, Lookups> {
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('nodes').select(NODES.columns).where('id', '=', slot('id'))),
	);
	const fence = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('nodes')
				.select(['id', 'custody', 'epoch', 'fact_seq as factSeq', 'retired_at_ms as retiredAtMs'])
				.where('id', '=', slot('id')),
		),
	);
	const byName = compiler.prepare<{ name: string }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('nodes')
				.select(NODES.columns)
				.where('name', '=', slot('name'))
				.where(sql<boolean>`state <> 'retired'`),
		),
	);
	// The newest of those with one serial, and those in use before the retired: a machine may have been enrolled before.
	const bySerial = compiler.prepare<{ serial: string }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('nodes')
				.select(NODES.columns)
				.where('serial', '=', slot('serial'))
				.orderBy(sql`case when state = 'retired' then 1 else 0 end`)
				.orderBy('id', 'desc')
				.limit(1),
		),
	);
	const count = compiler.prepare((db) =>
		db
			.selectFrom('nodes')
			.select((of) => of.fn.countAll<number>().as('count'))
			.where(sql<boolean>`state <> 'retired'`),
	);
	const bundleLaggards = compiler.prepare<{ seq: number; limit: number }>((db, slot) =>
		db
			.selectFrom('nodes')
			.select(NODES.columns)
			.where('state', 'not in', ['retired', 'quarantined'])
			.where((of) => of.or([of('bundle_seq_acked', '<', slot('seq')), of('custody', '<>', 'platform')]))
			.orderBy('id')
			.limit(slot('limit')),
	);
	// A node that has not promoted its first certificate yet will come back with the pending one.
	const issuerLaggards = compiler.prepare<{ issuer: string; limit: number }>((db, slot) =>
		db
			.selectFrom('nodes')
			.select(NODES.columns)
			.where('nodes.state', 'not in', ['retired', 'quarantined'])
			.where((of) =>
				of.exists(
					of
						.selectFrom('certificates as used')
						.select(sql`1`.as('one'))
						.whereRef('used.subject_id', '=', 'nodes.id')
						.where('used.kind', '=', 'node')
						.where('used.issuer_key_id', '<>', slot('issuer'))
						.where(sql<boolean>`(used.state = 'current' or (used.state = 'pending' and not exists (
							select 1 from certificates as newer
							where newer.subject_id = nodes.id and newer.kind = 'node' and newer.state = 'current')))`),
				),
			)
			.orderBy('nodes.id')
			.limit(slot('limit')),
	);
	const list = compiler.prepareShapes<ListValues, string>((db, slot, shape) => {
		const [pairs, visible, retired] = shape.split(',');
		let query = db
			.selectFrom('nodes')
			.select(NODES.columns)
			.where('id', '>', slot('afterId'))
			.orderBy('id')
			.limit(slot('limit'));
		if (retired !== 'retired') query = query.where(sql<boolean>`state <> 'retired'`);
		for (let index = 0; index < Number(pairs); index += 1) {
			query = query.where(compiler.hasEntry('nodes.labels', slot(`key${index}`), slot(`value${index}`)));
		}
		if (visible === 'all') return query;
		const project = ['held.organization', 'held.project'] as const;
		return query.where((of) => {
			const held = of
				.selectFrom('assignments as held')
				.select(sql`1`.as('one'))
				.whereRef('held.node_id', '=', 'nodes.id')
				.where('held.until_ms', 'is', null);
			const seen = of.exists(held.where(inVisible(compiler, project, visible as VisibilityShape, slot('visibility'))));
			return visible === 'projects+deleted+unowned' ? of.or([of.not(of.exists(held)), seen]) : seen;
		});
	});
	return {
		*get(id) {
			return NODES.first(yield byId({ id }));
		},
		*getFence(id) {
			return (yield fence({ id })).rows[0] as NodeFence | undefined;
		},
		*getByName(name) {
			return NODES.first(yield byName({ name }));
		},
		*getBySerial(serial) {
			return NODES.first(yield bySerial({ serial }));
		},
		*list({ afterId, limit, selector, visibility, includeRetired }) {
			const values: Record<string, string | number> = { afterId, limit, visibility: visibilityText(visibility) };
			const entries = Object.entries(selector);
			for (const [index, [key, value]] of entries.entries()) {
				values[`key${index}`] = key;
				values[`value${index}`] = value;
			}
			const shape = `${entries.length},${visibilityShape(visibility)},${includeRetired ? 'retired' : ''}`;
			return NODES.all(yield list(shape, values as unknown as ListValues));
		},
		*count() {
			return Number((yield count({})).rows[0]?.count);
		},
		*listBundleLaggards(seq, limit) {
			return NODES.all(yield bundleLaggards({ seq, limit }));
		},
		*listIssuerLaggards(issuer, limit) {
			return NODES.all(yield issuerLaggards({ issuer, limit }));
		},
	};
}

type Changes = 'insert' | 'update' | 'nextEpoch' | 'setFactSeq' | 'setLastSeen';

function changes(compiler: Compiler): Pick<Nodes, Changes> {
	const insert = compiler.insert(NODES);
	const nextEpoch = compiler.prepare<{ id: string }>((db, slot) =>
		db
			.updateTable('nodes')
			.set((of) => ({ epoch: of('epoch', '+', 1) }))
			.where('id', '=', slot('id'))
			.returning('epoch as value'),
	);
	const setFactSeq = compiler.prepare<{ id: string; factSeq: number }>((db, slot) =>
		db
			.updateTable('nodes')
			.set({ fact_seq: slot('factSeq') })
			.where('id', '=', slot('id')),
	);
	const setLastSeen = compiler.prepare<{ ids: readonly string[]; atMs: number }>((db, slot) =>
		db
			.updateTable('nodes')
			.set({ last_seen_at_ms: slot('atMs') })
			.where(compiler.inList('id', slot('ids')))
			.where((of) => of.or([of('last_seen_at_ms', 'is', null), of('last_seen_at_ms', '<', slot('atMs'))])),
	);
	return {
		*insert(row: NodeRow) {
			yield insert(row);
		},
		*update(id: string, patch: NodePatch, ifVersion?: number) {
			const conditions: Condition[] = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			return yield* compiler.patch<NodeRow>(NODES, ['id', id], patch, conditions, 'version = version + 1');
		},
		*nextEpoch(id) {
			return counter(yield nextEpoch({ id }), id);
		},
		*setFactSeq(id, factSeq) {
			yield setFactSeq({ id, factSeq });
		},
		*setLastSeen(ids, atMs) {
			if (ids.length > 0) yield setLastSeen({ ids, atMs });
		},
	};
}

function counter(result: Result, id: string): number {
	const value = result.rows[0]?.value;
	if (typeof value === 'number') return value;
	throw new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NODE_NOT_FOUND',
		message: `there is no node ${id}; look up its id with \`gpuaas nodes list\``,
	});
}
