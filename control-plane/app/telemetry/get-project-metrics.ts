import { create } from '@bufbuild/protobuf';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	type GetProjectMetricsRequest,
	GetProjectMetricsResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { query } from '../use-case.ts';
import type { NameSet } from './families.ts';
import { projectPage } from './project-page.ts';
import { isInShard, type Shard } from './shard.ts';

/** A page of Prometheus for a project. Which nodes are on it is read anew each time: an ended assignment is gone at once. */
export const getProjectMetrics = query('scope', TelemetryService.method.getProjectMetrics, {
	*read(tx, { deps }, { scope, collection }) {
		if (scope.kind !== 'project' || collection !== undefined) throw noProject();
		const { organization, id: project, name } = scope;
		const { nodesMax } = deps.telemetry.limits;
		// After the decision, for nobody takes a turn of a project that they may not see; before its assignments are read.
		deps.telemetry.projectPages.take(name);
		return { name, open: yield* tx.assignments.openOfProject({ organization, project }, nodesMax) };
	},
	async answer({ deps, request, ctx }, { name, open }) {
		const { telemetry, clock } = deps;
		const shard = shardOf(request);
		const own = open.filter(({ nodeId }) => isInShard(nodeId, shard));
		telemetry.projectPages.takeForNodes(name, new Set(own.map(({ nodeId }) => nodeId)).size);
		telemetry.projectPages.enter(name, ctx.signal);
		const names: ReadonlySet<NameSet> = request.names === '' ? ALL_NAMES : new Set([request.names as NameSet]);
		const charactersMax = telemetry.limits.projectPageCharactersMax;
		return create(
			GetProjectMetricsResponseSchema,
			await made(projectPage(telemetry, own, { names, charactersMax }), clock, ctx.signal),
		);
	},
});

const ALL_NAMES: ReadonlySet<NameSet> = new Set(['gpuaas', 'dcgm']);
/** A node takes some 5 ms at most. */
const NODES_AT_ONCE = 4;

/**
 * Lets others have their turn in between: a page of a hundred nodes takes longer than a key of a terminal may wait. Ends
 * when nobody waits for it any more.
 */
async function made<Result>(
	making: Generator<undefined, Result>,
	clock: Pick<Clock, 'defer'>,
	signal: AbortSignal,
): Promise<Result> {
	for (let step = 1; ; step += 1) {
		const { done, value } = making.next();
		if (done === true) return value;
		if (step % NODES_AT_ONCE !== 0) continue;
		await new Promise<void>((resolve) => clock.defer(() => resolve()));
		signal.throwIfAborted();
	}
}

function shardOf({ shard: index, shards: of }: GetProjectMetricsRequest): Shard {
	if (index < Math.max(1, of)) return { index, of: Math.max(1, of) };
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'TELEMETRY_RANGE_INVALID',
		message: `there is no part ${index} of ${Math.max(1, of)}: parts are counted from 0`,
	});
}

function noProject(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'SCOPE_KIND_INVALID',
		message: 'a page of metrics is of a project, such as organizations/acme/projects/train',
	});
}
