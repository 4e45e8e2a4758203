import { GpuaasError } from '../../../kit/error.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { assertEntitled } from '../entitlements/assert-entitled.ts';
import { ANY_GPU_MODEL, gpuModel, HOST_MODE } from '../entitlements/subjects.ts';
import { lockChain } from '../quotas/chain.ts';
import { releaseQuota, takeQuota } from '../quotas/reserve.ts';
import { gpusOf } from './gpus.ts';

/**
 * What a project needs to be given a node, beside a node that can be given: entitlement to its GPU models (all of them
 * while nobody knows which it has) and to host mode, then room for the node and its GPUs. Throws ENTITLEMENT_MISSING,
 * INVENTORY_MISSING, QUOTA_EXCEEDED.
 */
export function* takeForAssignment(tx: Tx, row: AssignmentRow, project: ScopeRow, nowMs: number): Plan<void> {
	const gpus = yield* gpusOf(tx, row.nodeId);
	const models = modelsOf(gpus);
	yield* assertEntitled(tx, project, row.mode === 'host' ? [...models, HOST_MODE] : models, nowMs);
	const wish = { holder: row.id, scope: project.name, organization: row.organization, nowMs };
	yield* takeQuota(tx, { ...wish, kind: 'nodes', amount: 1 });
	if (gpus !== undefined) return yield* takeQuota(tx, { ...wish, kind: 'gpus', amount: gpus.length });
	const limited = yield* lockChain(tx, row.organization, project.name, 'gpus');
	if (limited.some(({ limitMax }) => limitMax !== null)) throw uncounted();
}

/** What it takes to be given these GPUs; all models, while nobody knows which they are. */
export function modelsOf(gpus: readonly string[] | undefined): readonly string[] {
	return gpus === undefined ? [ANY_GPU_MODEL] : [...new Set(gpus)].map(gpuModel);
}

/** With the end of the assignment. */
export function* giveBackAssignment(tx: Tx, assignmentIds: readonly string[]): Plan<void> {
	yield* releaseQuota(tx, 'nodes', assignmentIds);
	yield* releaseQuota(tx, 'gpus', assignmentIds);
}

function uncounted(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVENTORY_MISSING',
		message:
			'the agent of this node has not reported its GPUs yet, and the project has a limit of them, so it is not known whether the node fits; nothing was done. Wait for its inventory (gpuaas node inventory), or have the limit lifted',
	});
}
