import type { Page } from './page.ts';
import type { Visibility } from './scopes.ts';
import type { Plan } from './unit.ts';

/** Names of nodes.v1.NodeState in lower case. */
export type NodeState =
	| 'declared'
	| 'enrolling'
	| 'validating'
	| 'available'
	| 'reserved'
	| 'provisioning'
	| 'allocated'
	| 'releasing'
	| 'erasing'
	| 'reprovisioning'
	| 'attesting'
	| 'draining'
	| 'quarantined'
	| 'maintenance'
	| 'rescue'
	| 'retired'
	| 'failed';

/** Who controls a node's software now (design 02): set only by the control plane. */
export type Custody = 'platform' | 'tenant' | 'transit';

export interface NodeRow {
	readonly id: string;
	/** Unique among nodes that aren't retired. */
	readonly name: string;
	readonly state: NodeState;
	readonly custody: Custody;
	readonly generation: number;
	readonly cordoned: boolean;
	readonly cordonReason: string;
	readonly locked: boolean;
	readonly lockReason: string;
	readonly labels: Readonly<Record<string, string>>;
	readonly hostname: string;
	readonly serial: string;
	readonly agentVersion: string;
	readonly bootId: string;
	readonly instanceId: string;
	readonly capabilities: readonly string[];
	readonly enrolledAtMs: number;
	readonly lastSeenAtMs: number | null;
	/** Newest session; rises by one with each. */
	readonly epoch: number;
	/** Newest fencing token given out; rises with every claim. */
	readonly fencingSeq: number;
	/** Highest fact of the agent that is committed. */
	readonly factSeq: number;
	/** Of the newest join state. */
	readonly renewalSeq: number;
	/** Recoveries by join state since the last renewal in time. */
	readonly recoveries: number;
	readonly bundleSeqAcked: number;
	readonly issuerKeyIdAcked: string;
	readonly retiredAtMs: number | null;
	/** Rises with every change but those of liveness and counters: the etag. */
	readonly version: number;
}

/** Fields whose change moves the etag. */
export type NodePatch = Partial<
	Omit<NodeRow, 'id' | 'version' | 'epoch' | 'fencingSeq' | 'factSeq' | 'lastSeenAtMs' | 'enrolledAtMs'>
>;

export interface ProjectRef {
	readonly organization: string;
	readonly project: string;
}

/** What an agent's facts are held against. */
export type NodeFence = Pick<NodeRow, 'id' | 'custody' | 'epoch' | 'factSeq' | 'retiredAtMs'>;

export interface Nodes {
	insert(row: NodeRow): Plan<void>;
	get(id: string): Plan<NodeRow | undefined>;
	/** As `get`, for the units that come with every batch of facts. */
	getFence(id: string): Plan<NodeFence | undefined>;
	/** Not retired. */
	getByName(name: string): Plan<NodeRow | undefined>;
	getBySerial(serial: string): Plan<NodeRow | undefined>;
	/** The changed row, or undefined when there is none or `ifVersion` is given and isn't its version. */
	update(id: string, patch: NodePatch, ifVersion?: number): Plan<NodeRow | undefined>;
	/** By id; `selector` pairs must all match; retired nodes only when asked for. */
	list(
		page: Page & {
			readonly selector: Readonly<Record<string, string>>;
			readonly visibility: Visibility;
			readonly includeRetired: boolean;
		},
	): Plan<readonly NodeRow[]>;
	/** Not retired. */
	count(): Plan<number>;
	/** Raises and returns the epoch. */
	nextEpoch(id: string): Plan<number>;
	setFactSeq(id: string, factSeq: number): Plan<void>;
	setLastSeen(ids: readonly string[], atMs: number): Plan<void>;
	/**
	 * Not retired, not quarantined, whose acknowledged bundle is below `bundleSeq`, or whose acknowledgement counts for
	 * nothing because the host isn't in platform custody; by id, at most `limit`.
	 */
	listBundleLaggards(bundleSeq: number, limit: number): Plan<readonly NodeRow[]>;
	/** Not retired, not quarantined, whose certificate in use has another issuer. */
	listIssuerLaggards(issuerKeyId: string, limit: number): Plan<readonly NodeRow[]>;
}
