import { create } from '@bufbuild/protobuf';
import {
	HealthService,
	ListNodeHealthRequestSchema,
	ListNodeHealthResponseSchema,
	type NodeHealthLine,
	NodeHealthLineSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSubjectKind } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { NodeHealthRow } from '../../store/port/node-health.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { type CallerView, isPlatform, SEES_ALL, viewsOfNodes } from '../telemetry/caller-view.ts';
import { query } from '../use-case.ts';
import { glanceMessage, type StoredHealth, verdictsSeen, wholeHealthOfNodes } from './glance.ts';

/** A line of each node that the caller may see. */
export const listNodeHealth = query('any', HealthService.method.listNodeHealth, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListNodeHealthRequestSchema);
		const { afterId, limit } = page;
		const { selector } = call.request;
		const nodes = yield* tx.nodes.list({ afterId, limit, selector, visibility, includeRetired: false });
		const ids = nodes.map(({ id }) => id);
		return {
			page,
			nodes,
			views: yield* viewsOfNodes(tx, visibility, ids),
			health: yield* wholeHealthOfNodes(tx, ids, call.nowMs),
		};
	},
	answer: ({ ctx, nowMs }, { page, nodes, views, health }) =>
		create(ListNodeHealthResponseSchema, {
			nodes: nodes.map(({ id, name }) =>
				lineOf({ id, name }, health.get(id), views.get(id) ?? SEES_ALL, isPlatform(ctx, 'health.get'), nowMs),
			),
			nextPageToken: nextPageToken(page, nodes.at(-1)?.id, nodes.length),
		}),
});

function lineOf(
	{ id: nodeId, name }: { readonly id: string; readonly name: string },
	stored: StoredHealth<NodeHealthRow> | undefined,
	view: CallerView,
	isPlatformCaller: boolean,
	nowMs: number,
): NodeHealthLine {
	// Who has a slice is told of that slice, not of the host and its neighbours.
	if (stored === undefined || !view.sees('host', '', nowMs)) return create(NodeHealthLineSchema, { nodeId, name });
	const health = glanceMessage(stored, isPlatformCaller);
	const verdicts = stored.row === undefined ? [] : verdictsSeen(stored.row, view, nowMs);
	const node = verdicts.find(({ subject }) => subject?.kind === HealthSubjectKind.NODE);
	return create(NodeHealthLineSchema, {
		nodeId,
		name,
		...(health === undefined ? {} : { health }),
		actions: node?.actions ?? [],
		reasons: node?.reasons ?? [],
	});
}
