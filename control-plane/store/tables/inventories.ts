import type { Inventories, InventoryChangeRow, InventoryRow, InventoryVersion } from '../port/inventories.ts';
import { snake, Table } from './columns.ts';
import type { Compiler } from './compiler.ts';
import { INVENTORIES, INVENTORY_CHANGES } from './schema.ts';

const INVENTORY_VERSIONS = new Table<InventoryVersion>('node_inventories', {
	nodeId: 'text',
	custody: 'text',
	digest: 'text',
	receivedAtMs: 'int',
});

export function inventoriesTable(compiler: Compiler): Inventories {
	const insert = compiler.insert(INVENTORIES);
	const replaced = INVENTORIES.fields.map(snake).filter((column) => column !== 'node_id' && column !== 'custody');
	const replace = ` on conflict (node_id, custody) do update set ${replaced
		.map((column) => `${column} = excluded.${column}`)
		.join(', ')}`;
	const ofNodes = compiler.prepare<{ nodeIds: readonly string[] }>((db, slot) =>
		db
			.selectFrom('node_inventories')
			.select(INVENTORIES.columns)
			.where(compiler.inList('node_id', slot('nodeIds')))
			.orderBy('node_id')
			.orderBy('received_at_ms', 'desc')
			.orderBy('custody'),
	);
	const versionsOfNodes = compiler.prepare<{ nodeIds: readonly string[] }>((db, slot) =>
		db
			.selectFrom('node_inventories')
			.select(INVENTORY_VERSIONS.columns)
			.where(compiler.inList('node_id', slot('nodeIds')))
			.orderBy('node_id')
			.orderBy('received_at_ms', 'desc')
			.orderBy('custody'),
	);
	const insertChange = compiler.insert(INVENTORY_CHANGES);
	const trim = compiler.prepare<{ nodeId: string; keepMax: number }>((db, slot) =>
		db
			.deleteFrom('node_inventory_changes')
			.where('node_id', '=', slot('nodeId'))
			.where('id', 'not in', (inner) =>
				inner
					.selectFrom('node_inventory_changes')
					.select('id')
					.where('node_id', '=', slot('nodeId'))
					.orderBy('id', 'desc')
					.limit(slot('keepMax')),
			),
	);
	const changesOf = compiler.prepare<{ nodeId: string; limit: number }>((db, slot) =>
		db
			.selectFrom('node_inventory_changes')
			.select(INVENTORY_CHANGES.columns)
			.where('node_id', '=', slot('nodeId'))
			.orderBy('id', 'desc')
			.limit(slot('limit')),
	);
	return {
		*put(row: InventoryRow) {
			const { sql, parameters } = insert(row);
			yield { sql: sql + replace, parameters };
		},
		*ofNode(nodeId) {
			return INVENTORIES.all(yield ofNodes({ nodeIds: [nodeId] }));
		},
		*ofNodes(nodeIds) {
			return nodeIds.length === 0 ? [] : INVENTORIES.all(yield ofNodes({ nodeIds }));
		},
		*versionsOfNodes(nodeIds) {
			return nodeIds.length === 0 ? [] : INVENTORY_VERSIONS.all(yield versionsOfNodes({ nodeIds }));
		},
		*insertChange(row: InventoryChangeRow, keepMax) {
			yield insertChange(row);
			yield trim({ nodeId: row.nodeId, keepMax });
		},
		*listChanges(nodeId, limit) {
			return INVENTORY_CHANGES.all(yield changesOf({ nodeId, limit }));
		},
	};
}
