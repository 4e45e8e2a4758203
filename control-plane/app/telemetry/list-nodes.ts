import { create } from '@bufbuild/protobuf';
import {
	ListNodeTelemetryRequestSchema,
	ListNodeTelemetryResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { wholeHealthOfNodes } from '../health/glance.ts';
import { withHealth } from '../health/in-glance.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { isPlatform, SEES_ALL, viewsOfNodes } from './caller-view.ts';
import { nodeGlanceMessage } from './messages.ts';

/** A line of each node that the caller may see; the numbers are in memory. */
export const listNodeTelemetry = query('any', TelemetryService.method.listNodeTelemetry, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListNodeTelemetryRequestSchema);
		const { afterId, limit } = page;
		const { selector } = call.request;
		const nodes = yield* tx.nodes.list({ afterId, limit, selector, visibility, includeRetired: false });
		const ids = nodes.map(({ id }) => id);
		const health = yield* wholeHealthOfNodes(tx, ids, call.nowMs);
		return { page, nodes, health, views: yield* viewsOfNodes(tx, visibility, ids), all: visibility.all };
	},
	answer: ({ deps, ctx, nowMs }, { page, nodes, health, views, all }) =>
		create(ListNodeTelemetryResponseSchema, {
			nodes: nodes.flatMap((node) => {
				const view = all ? SEES_ALL : views.get(node.id);
				if (view === undefined) return [];
				const glance = nodeGlanceMessage(deps.telemetry, node, view);
				const { identities } = deps.telemetry.directory.get(node.id) ?? {};
				const isPlatformCaller = isPlatform(ctx, 'telemetry.get');
				return [withHealth(glance, health.get(node.id), view, isPlatformCaller, nowMs, identities)];
			}),
			nextPageToken: nextPageToken(page, nodes.at(-1)?.id, nodes.length),
		}),
});
