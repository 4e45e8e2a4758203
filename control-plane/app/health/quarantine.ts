import type { HealthEvidenceRow, HealthFleet, NodeHealthRow } from '../../store/port/node-health.ts';

/**
 * Quarantine: a GPU node whose own verdict turned UNHEALTHY is given to nobody until evidence brings it back, not merely
 * until the verdict is well again. A circuit breaker bounds what this does to a fleet by itself: past it nodes are still
 * refused while they are UNHEALTHY, and come back with their verdict. Pure: the reconciler writes what it says.
 */
export interface QuarantineLimits {
	/** Of the GPU nodes; one is always allowed. */
	readonly percentMax: number;
	readonly nodesMax: number;
	/**
	 * The node label whose value names its fault domain: a rack, a zone. What breaks there breaks many at once, and must
	 * neither empty it nor use up what the whole fleet may have in quarantine. Empty: there are none.
	 */
	readonly domainLabel: string;
	/** Of the GPU nodes of one domain; one is always allowed. */
	readonly domainPercentMax: number;
	/** Quarantines of one node within the window; past it only SERVICED brings it back. */
	readonly attemptsMax: number;
	readonly attemptsWithinMs: number;
}

export const QUARANTINE_LIMITS_DEFAULT: QuarantineLimits = Object.freeze({
	percentMax: 20,
	nodesMax: 64,
	domainLabel: 'gpuaas.fault-domain',
	domainPercentMax: 50,
	attemptsMax: 3,
	attemptsWithinMs: 7 * 86_400_000,
});

/** How many GPU nodes may be in quarantine at once. */
export function quarantineCap({ gpuNodes }: HealthFleet, { percentMax, nodesMax }: QuarantineLimits): number {
	return Math.min(nodesMax, Math.max(1, Math.floor((gpuNodes * percentMax) / 100)));
}

/** A fault domain that holds the node has as many in quarantine as it may. */
export function isDomainOpen(domain: HealthFleet, limits: QuarantineLimits): boolean {
	return isBreakerOpen(domain, { ...limits, percentMax: limits.domainPercentMax });
}

export function isBreakerOpen(fleet: HealthFleet, limits: QuarantineLimits): boolean {
	return fleet.quarantined >= quarantineCap(fleet, limits);
}

export type Judged = Pick<
	NodeHealthRow,
	'state' | 'schedulable' | 'gpus' | 'quarantinedAtMs' | 'quarantineReason' | 'quarantines'
>;

/** What the verdict says beyond its row. */
export interface Findings {
	/** UNHEALTHY also without what is simulated. */
	readonly isReal: boolean;
	/** In few words. */
	readonly reason: string;
	/** Things whose newest finding was ended by load without its coming back, and when. */
	readonly loadCleared: readonly { readonly key: string; readonly atMs: number }[];
}
export type Quarantine = Pick<NodeHealthRow, 'quarantinedAtMs' | 'quarantineReason' | 'quarantines'>;

export type QuarantineStep =
	| { readonly kind: 'stays' }
	| { readonly kind: 'enters'; readonly quarantine: Quarantine }
	/** It should, and too many are: somebody has to look at the fleet, or at the fault domain. */
	| { readonly kind: 'breaker'; readonly of: 'fleet' | 'domain' }
	| { readonly kind: 'returns'; readonly quarantine: Quarantine; readonly by: string };

/** Begins the reason of a quarantine that only simulated findings made. */
const SIMULATED = 'simulated: ';

/** What may show that a node in quarantine is well. */
export interface Shown {
	/** Of the node, oldest first. */
	readonly evidence: readonly HealthEvidenceRow[];
	/** Things that were UNHEALTHY in this quarantine: `kind/id/index`. What is shown of others counts for nothing. */
	readonly subjects: ReadonlySet<string>;
}

export interface Counted {
	readonly fleet: HealthFleet;
	/** Of the node; undefined: it has none. */
	readonly domain: HealthFleet | undefined;
}

export function stepQuarantine(
	row: Judged,
	findings: Findings,
	{ fleet, domain }: Counted,
	shown: Shown,
	nowMs: number,
	limits: QuarantineLimits,
): QuarantineStep {
	const { isReal, reason } = findings;
	// What began as a drill and is real now has to be earned back as anything real.
	const isIn = row.quarantinedAtMs !== null && !(isDrill(row) && isReal);
	if (isIn) return whetherBack(row, row.quarantinedAtMs ?? nowMs, shown, findings, nowMs, limits);
	if (row.state !== 'UNHEALTHY' || row.gpus === 0) return { kind: 'stays' };
	if (isReal && isBreakerOpen(fleet, limits)) return { kind: 'breaker', of: 'fleet' };
	if (isReal && domain !== undefined && isDomainOpen(domain, limits)) return { kind: 'breaker', of: 'domain' };
	const quarantines = isReal ? [...attemptsOf(row, nowMs, limits), nowMs] : row.quarantines;
	return {
		kind: 'enters',
		quarantine: {
			quarantinedAtMs: nowMs,
			quarantineReason: `${isReal ? '' : SIMULATED}${reason}`,
			quarantines: quarantines.slice(-ATTEMPTS_KEPT),
		},
	};
}

const ATTEMPTS_KEPT = 16;

function whetherBack(
	row: Judged,
	sinceMs: number,
	{ evidence, subjects }: Shown,
	{ loadCleared }: Findings,
	nowMs: number,
	limits: QuarantineLimits,
): QuarantineStep {
	const back = (by: string): QuarantineStep => ({
		kind: 'returns',
		by,
		quarantine: { quarantinedAtMs: null, quarantineReason: '', quarantines: attemptsOf(row, nowMs, limits) },
	});
	if (!row.schedulable) return { kind: 'stays' };
	if (isDrill(row)) return back('the end of what was simulated');
	const fresh = evidence.filter(
		({ atMs, kind, subjectId, subjectIndex }) =>
			atMs >= sinceMs && (kind === 'node' || subjects.has(`${kind}/${subjectId}/${subjectIndex}`)),
	);
	const has = (clearing: string) => fresh.some((one) => one.clearing === clearing);
	if (has('serviced')) return back('serviced');
	if (isPastAttempts(row, nowMs, limits)) return { kind: 'stays' };
	if (has('diagnostic_passed')) return back('diagnostic_passed');
	const isLoaded = loadCleared.some(({ key, atMs }) => atMs >= sinceMs && subjects.has(key));
	return isLoaded ? back('clean_load') : { kind: 'stays' };
}

/** It was made by what is simulated alone. */
export function isDrill({ quarantineReason }: Pick<NodeHealthRow, 'quarantineReason'>): boolean {
	return quarantineReason.startsWith(SIMULATED);
}

export function attemptsOf(
	{ quarantines }: Pick<NodeHealthRow, 'quarantines'>,
	nowMs: number,
	{ attemptsWithinMs }: QuarantineLimits,
): readonly number[] {
	return quarantines.filter((atMs) => nowMs - atMs < attemptsWithinMs);
}

export function isPastAttempts(
	row: Pick<NodeHealthRow, 'quarantines'>,
	nowMs: number,
	limits: QuarantineLimits,
): boolean {
	return attemptsOf(row, nowMs, limits).length > limits.attemptsMax;
}

/** What still has to happen, for a person. */
export function quarantineNext(row: Judged, nowMs: number, limits: QuarantineLimits): string {
	if (isDrill(row)) return 'it ends with the injected fault';
	const node = 'gpuaas health evidence NODE';
	if (isPastAttempts(row, nowMs, limits))
		return `it came back and failed ${attemptsOf(row, nowMs, limits).length} times: repair it, then ${node} serviced --reason TEXT`;
	if (!row.schedulable)
		return `do what the verdict asks for; then run a load test on it and ${node} diagnostic-passed --task ID`;
	return `run a load test on it, then ${node} diagnostic-passed --task ID`;
}
