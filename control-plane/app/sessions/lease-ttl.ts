/**
 * The server sets the pace of the fleet: how long a lease lasts and how far apart agents spread their reconnects.
 * Both follow the number of nodes, so that the cost of liveness per second stays bounded instead of growing with it.
 */
export interface FleetPace {
	readonly leaseTtlMs: number;
	readonly reconnectMaxMs: number;
}

export interface FleetPaceLimits {
	readonly leaseTtlFloorMs: number;
	readonly hellosPerSecondMax: number;
	/** Heartbeats that one replica takes per second, three a lease. */
	readonly heartbeatsPerSecondMax: number;
	readonly reconnectFloorMs: number;
}

const HEARTBEATS_PER_LEASE = 3;
/** Above this the floor of the reconnect backoff would bring more Hellos per second than are admitted. */
const RECONNECT_SLACK = 1.5;

export function fleetPace(nodes: number, limits: FleetPaceLimits): FleetPace {
	const leaseMs = (nodes * HEARTBEATS_PER_LEASE * 1000) / limits.heartbeatsPerSecondMax;
	const spreadMs = nodes < 10_000 ? 0 : (nodes * RECONNECT_SLACK * 1000) / limits.hellosPerSecondMax;
	return {
		leaseTtlMs: Math.max(limits.leaseTtlFloorMs, Math.ceil(leaseMs)),
		reconnectMaxMs: Math.max(limits.reconnectFloorMs, Math.ceil(spreadMs)),
	};
}
