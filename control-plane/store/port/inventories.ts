import type { Custody } from './nodes.ts';
import type { Plan } from './unit.ts';

/**
 * What a node consists of, as its agent reported it: the newest one a custody, so that what a tenant's agent says
 * doesn't replace what the platform saw.
 */
export interface InventoryRow {
	readonly nodeId: string;
	/** Of the node when it was reported. */
	readonly custody: Custody;
	/** Hex SHA-256 that the agent gave. */
	readonly digest: string;
	/** Binary telemetry.v1.Inventory. */
	readonly inventory: Uint8Array;
	readonly receivedAtMs: number;
}

/** Tells one inventory from another without its content. */
export type InventoryVersion = Omit<InventoryRow, 'inventory'>;

/** A difference between two reports. */
export interface InventoryChangeRow {
	/** UUIDv7: rises with time. */
	readonly id: string;
	readonly nodeId: string;
	readonly custody: Custody;
	readonly digest: string;
	/** Binary link.v1.InventoryReport without its inventory. */
	readonly changes: Uint8Array;
	readonly receivedAtMs: number;
}

export interface Inventories {
	/** Replaces the one of the same node and custody. */
	put(row: InventoryRow): Plan<void>;
	/** Newest first. */
	ofNode(nodeId: string): Plan<readonly InventoryRow[]>;
	/** By node, newest first. */
	ofNodes(nodeIds: readonly string[]): Plan<readonly InventoryRow[]>;
	/** As `ofNodes`. */
	versionsOfNodes(nodeIds: readonly string[]): Plan<readonly InventoryVersion[]>;
	/** Keeps the newest `keepMax` of the node. */
	insertChange(row: InventoryChangeRow, keepMax: number): Plan<void>;
	/** Newest first. */
	listChanges(nodeId: string, limit: number): Plan<readonly InventoryChangeRow[]>;
}
