import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { SILENCE_CHECK } from '../../../health/judge.ts';
import {
	GetNodeHealthResponseSchema,
	HealthAction,
	HealthChangeSchema,
	HealthQuarantineSchema,
	HealthService,
	HealthState,
	type HealthVerdict,
	HealthVerdictSchema,
	NodeHealthSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { HealthChangeRow, NodeHealthRow } from '../../store/port/node-health.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { type CallerView, currentView, isPlatform } from '../telemetry/caller-view.ts';
import { query } from '../use-case.ts';
import { glanceMessage, healthOfNode, type StoredHealth, verdictSeen, verdictsSeen } from './glance.ts';
import { attemptsOf, type QuarantineLimits, quarantineNext } from './quarantine.ts';
import { stateMessage } from './wire.ts';

const CHANGES_MAX = 50;

/** Everything that is known of a node's health, as far as the caller may see it. */
export const getNodeHealth = query('node', HealthService.method.getNodeHealth, {
	*read(tx, { ctx, nowMs }, target) {
		return {
			node: target.node,
			stored: yield* healthOfNode(tx, target.node, nowMs),
			changes: yield* changesOf(tx, target.node.id),
			view: currentView(ctx, 'health.get', target),
		};
	},
	answer: ({ deps, ctx, nowMs }, { node, stored, changes, view }) => {
		const isPlatformCaller = isPlatform(ctx, 'health.get');
		const seesNode = view.sees('host', '', nowMs);
		const glance = seesNode ? glanceMessage(stored, isPlatformCaller) : undefined;
		const verdicts = stored.row === undefined ? [] : verdictsSeen(stored.row, view, nowMs);
		const { quarantine: limits } = deps.limits;
		const quarantine = seesNode && stored.row !== undefined ? quarantineMessage(stored.row, nowMs, limits) : undefined;
		return create(GetNodeHealthResponseSchema, {
			health: create(NodeHealthSchema, {
				nodeId: node.id,
				name: node.name,
				...(glance === undefined ? {} : { glance }),
				verdicts: [...verdicts],
				...(quarantine === undefined ? {} : { quarantine }),
				changes: changes.flatMap((row) => changeMessage(row, view)),
				next: isPlatformCaller ? nextSteps(stored, verdicts[0], quarantine?.next, node.name) : [],
			}),
		});
	},
});

function* changesOf(tx: Tx, nodeId: string): Plan<readonly HealthChangeRow[]> {
	const all: HealthChangeRow[] = [];
	for (const custody of ['platform', 'tenant', 'transit'] as const)
		all.push(...(yield* tx.nodeHealth.listChanges(nodeId, custody, CHANGES_MAX)));
	return all.sort((left, right) => (left.id < right.id ? 1 : -1));
}

function quarantineMessage(row: NodeHealthRow, nowMs: number, limits: QuarantineLimits) {
	if (row.quarantinedAtMs === null) return undefined;
	return create(HealthQuarantineSchema, {
		since: timestampFromMs(row.quarantinedAtMs),
		reason: row.quarantineReason,
		attempts: attemptsOf(row, nowMs, limits).length,
		attemptsMax: limits.attemptsMax,
		next: quarantineNext(row, nowMs, limits),
	});
}

function changeMessage(row: HealthChangeRow, view: CallerView) {
	const verdict = verdictSeen(fromBinary(HealthVerdictSchema, row.verdict), view, row.atMs);
	if (verdict === undefined) return [];
	const before = row.before === '' ? HealthState.UNSPECIFIED : stateMessage(row.before);
	return [create(HealthChangeSchema, { at: timestampFromMs(row.atMs), before, verdict })];
}

const STEPS: Readonly<Partial<Record<HealthAction, string>>> = {
	[HealthAction.RESTART_APP]: 'restart the program on that GPU: by the driver it is its fault',
	[HealthAction.DRAIN]: 'gpuaas node drain NODE',
	[HealthAction.RESET_GPU]:
		'reset the GPU (nvidia-smi --gpu-reset -i UUID), then gpuaas health evidence NODE gpu-reset --gpu UUID --task ID',
	[HealthAction.RESTART_FABRIC_MANAGER]: 'restart nvidia-fabricmanager on the host',
	[HealthAction.REBOOT_NODE]: 'reboot the host; another boot id is evidence',
	[HealthAction.POWER_CYCLE]: 'take the power from the host and give it back',
	[HealthAction.RUN_DIAG]:
		'run a diagnostic (dcgmi diag -r 3) as a task, then gpuaas health evidence NODE diagnostic-passed --task ID',
	[HealthAction.INSPECT_HW]: 'look at the hardware, then gpuaas health evidence NODE serviced --reason TEXT',
	[HealthAction.RMA]: 'replace it, then gpuaas health evidence NODE serviced --reason TEXT',
};

function nextSteps(
	{ row, override }: StoredHealth,
	node: HealthVerdict | undefined,
	quarantine: string | undefined,
	name: string,
): string[] {
	const steps = (node?.actions ?? []).map((action) => STEPS[action] ?? '');
	const isSilent = row?.state === 'UNKNOWN' && node?.reasons.some(({ checkId }) => checkId === SILENCE_CHECK) === true;
	if (isSilent) steps.unshift('find out why nothing is heard: gpuaas node why NODE');
	if (quarantine !== undefined) steps.push(`quarantine: ${quarantine}`);
	if (override !== undefined)
		steps.push(
			`the override ends at ${new Date(override.expiresAtMs).toISOString()}; sooner: gpuaas health override clear NODE`,
		);
	return steps.filter((step) => step !== '').map((step) => step.replaceAll('NODE', name));
}
