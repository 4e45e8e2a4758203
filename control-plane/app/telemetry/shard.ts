/** One part of several of a fleet, the same nodes each time, for Prometheus servers that share it. */
export interface Shard {
	readonly index: number;
	readonly of: number;
}

/** By the random end of a UUIDv7: its beginning is a time. */
export function isInShard(nodeId: string, { index, of }: Shard): boolean {
	return of === 1 || Number.parseInt(nodeId.slice(-8), 16) % of === index;
}
