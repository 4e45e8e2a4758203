import { create, type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf';
import {
	type Inventory,
	type InventoryChange,
	InventoryChangeSchema,
	InventorySchema,
	InventoryChangeKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/** What changed between two inventories: parts that came or went, fields of those that stayed. */
const CHANGES_MAX = 1024;
const VALUE_LENGTH_MAX = 256;

/** How the parts of a list are told apart. */
const LISTS: readonly (readonly [list: string, part: string, key: (item: JsonObject) => string])[] = [
	['gpus', 'gpu', (gpu) => text(gpu['uuid'])],
	['slices', 'slice', (slice) => text(slice['uuid'])],
	['disks', 'disk', (disk) => text(disk['id'])],
	['nics', 'nic', (nic) => text(nic['pciAddress']) + text(nic['device'])],
	['memory', 'memory', (module) => text(module['slot'])],
	['cpus', 'cpu', (cpu) => text(cpu['socket'])],
];

export function diffInventories(before: Inventory, after: Inventory): readonly InventoryChange[] {
	const [old, now] = [before, after].map((inventory) => toJson(InventorySchema, inventory) as JsonObject);
	const changes: InventoryChange[] = [];
	for (const [list, part, key] of LISTS)
		changes.push(...diffLists(part, items(old?.[list], key), items(now?.[list], key)));
	for (const part of ['board', 'driver'])
		changes.push(...diffFields(part, '', object(old?.[part]), object(now?.[part])));
	return changes.slice(0, CHANGES_MAX);
}

function diffLists(part: string, before: ReadonlyMap<string, JsonObject>, after: ReadonlyMap<string, JsonObject>) {
	const changes: InventoryChange[] = [];
	for (const id of before.keys()) if (!after.has(id)) changes.push(change(part, id, Kind.REMOVED));
	for (const [id, item] of after) {
		const former = before.get(id);
		if (former === undefined) changes.push(change(part, id, Kind.ADDED));
		else changes.push(...diffFields(part, id, former, item));
	}
	return changes;
}

function diffFields(part: string, id: string, before: JsonObject, after: JsonObject): InventoryChange[] {
	const fields = new Set([...Object.keys(before), ...Object.keys(after)]);
	return [...fields]
		.filter((field) => text(before[field]) !== text(after[field]))
		.map((field) => change(part, id, Kind.CHANGED, { field, before: text(before[field]), after: text(after[field]) }));
}

function change(
	part: string,
	id: string,
	kind: Kind,
	{ field, before, after } = { field: '', before: '', after: '' },
): InventoryChange {
	return create(InventoryChangeSchema, {
		part,
		id: id.slice(0, 128),
		kind,
		field,
		before: before.slice(0, VALUE_LENGTH_MAX),
		after: after.slice(0, VALUE_LENGTH_MAX),
	});
}

function items(list: JsonValue | undefined, key: (item: JsonObject) => string): ReadonlyMap<string, JsonObject> {
	const found = new Map<string, JsonObject>();
	if (Array.isArray(list)) for (const item of list) found.set(key(object(item)), object(item));
	return found;
}

function object(value: JsonValue | undefined): JsonObject {
	return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

function text(value: JsonValue | undefined): string {
	return value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value);
}
