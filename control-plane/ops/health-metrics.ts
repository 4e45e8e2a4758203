import type { Verdict } from '../../health/verdict.ts';
import { STATES } from '../../health/verdict.ts';
import type { Emit, Registry } from '../../kit/exposition.ts';
import type { HealthMonitor } from '../app/health/monitor.ts';
import type { Labels } from '../app/telemetry/labels.ts';

/** What this replica's health monitor says of the fleet, on /metrics; of one node, on its page. */
export function registerHealth(registry: Registry, health: HealthMonitor): void {
	const gauge = (name: string, help: string, labelNames: readonly string[], callback: (emit: Emit) => void) =>
		registry.collect({ name, type: 'gauge', help, labelNames }, callback);
	gauge(
		'gpuaas_health_nodes',
		'Nodes by their verdict, of what was heard in platform custody; add up those of all replicas.',
		['state'],
		(emit) => {
			for (const [state, count] of Object.entries(health.counts().states)) emit(count, state);
		},
	);
	gauge(
		'gpuaas_health_nodes_quarantined',
		'Nodes that are out of service until evidence brings them back.',
		[],
		(emit) => emit(health.counts().quarantined),
	);
	gauge(
		'gpuaas_health_nodes_simulated',
		'Nodes whose verdict comes from a test double or an injected fault.',
		[],
		(emit) => emit(health.counts().simulated),
	);
	gauge('gpuaas_health_nodes_claimed', 'Nodes of which a tenant’s agent claims that something is wrong.', [], (emit) =>
		emit(health.counts().claimed),
	);
	gauge(
		'gpuaas_health_breaker_open',
		'So many GPU nodes of the fleet or of a fault domain are in quarantine that others, UNHEALTHY too, are kept out of it.',
		[],
		(emit) => emit(health.isBreakerOpen ? 1 : 0),
	);
	registry.collect(
		{ name: 'gpuaas_health_changes_total', type: 'counter', help: 'Verdicts that changed their state.' },
		(emit) => emit(health.changes),
	);
}

export interface HealthFamily {
	readonly name: string;
	readonly type: 'gauge';
	readonly help: string;
	readonly series: readonly { readonly labels: Labels; readonly value: number }[];
}

/** One series a state, of which one is 1; what was only claimed in a tenant's custody is not in them. */
export function* healthFamilies(
	nodeId: string,
	indexOf: (uuid: string) => string,
	health: Pick<HealthMonitor, 'verdictsOf' | 'isQuarantined'>,
): Generator<HealthFamily> {
	const verdicts = health.verdictsOf(nodeId).filter(({ custody }) => custody === 'platform');
	if (verdicts.length === 0) return;
	const node = ['node', nodeId] as const;
	const of = (kinds: readonly string[], labelsOf: (verdict: Verdict) => Labels) =>
		verdicts
			.filter(({ subject }) => kinds.includes(subject.kind))
			.flatMap((verdict) =>
				shownOf(verdict).flatMap(({ is, more }) =>
					STATES.map((state) => ({
						value: is === state ? 1 : 0,
						labels: [node, ...labelsOf(verdict), ['state', state], ...more] as Labels,
					})),
				),
			);
	const help = 'The verdict by the health policy: 1 for the state that it is, 0 for the others.';
	yield { name: 'gpuaas_node_health', type: 'gauge', help, series: of(['node'], () => []) };
	yield {
		name: 'gpuaas_gpu_health',
		type: 'gauge',
		help,
		series: of(['gpu'], ({ subject }) => [
			['gpu', indexOf(subject.id)],
			['uuid', subject.id],
		]),
	};
	const quarantined = 'Out of service until evidence brings it back.';
	const value = health.isQuarantined(nodeId) ? 1 : 0;
	yield { name: 'gpuaas_node_quarantined', type: 'gauge', help: quarantined, series: [{ labels: [node], value }] };
}

/** What is real without a label, so that a drill hides nothing; what it would be with the drill beside it. */
function shownOf({ state, realState, simulated, isDouble }: Verdict) {
	const marked = { is: state, more: [['simulated', 'true']] as Labels };
	if (isDouble) return [marked];
	return simulated ? [{ is: realState, more: [] as Labels }, marked] : [{ is: state, more: [] as Labels }];
}
