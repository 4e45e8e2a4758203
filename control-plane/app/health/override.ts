import { create } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { present } from '../../../kit/assert.ts';
import {
	ClearNodeHealthOverrideResponseSchema,
	HealthService,
	SetNodeHealthOverrideResponseSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { HealthOverrideRow } from '../../store/port/node-health.ts';
import { NOT_RETIRED } from '../nodes/gates.ts';
import { mutation } from '../use-case.ts';
import { HEALTH_TOPIC } from './commit.ts';
import { glanceMessage, healthOfNode } from './glance.ts';

/** Somebody's word against the verdict, until a time; shown as such wherever health is. */
export const setNodeHealthOverride = mutation('node', HealthService.method.setNodeHealthOverride, {
	prepare: () => undefined,
	gates: [NOT_RETIRED],
	*apply(tx, { ctx, request, nowMs }, { node }) {
		const { schedulable, reason } = request;
		const row: HealthOverrideRow = {
			nodeId: node.id,
			schedulable,
			reason,
			createdBy: ctx.actor.id,
			createdAtMs: nowMs,
			expiresAtMs: nowMs + durationMs(present(request.duration, 'the contract demands it')),
		};
		yield* tx.nodeHealth.putOverride(row);
		const health = glanceMessage(yield* healthOfNode(tx, node, nowMs), true);
		return {
			response: create(SetNodeHealthOverrideResponseSchema, health === undefined ? {} : { health }),
			audit: {
				action: 'health.override',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				custody: node.custody,
				detail: { name: node.name, schedulable, until: new Date(row.expiresAtMs).toISOString() },
				personal: { reason },
			},
			events: [{ topic: HEALTH_TOPIC, key: node.id }],
		};
	},
});

/** The verdict decides again. */
export const clearNodeHealthOverride = mutation('node', HealthService.method.clearNodeHealthOverride, {
	prepare: () => undefined,
	*apply(tx, { nowMs }, { node }) {
		const wasThere = yield* tx.nodeHealth.deleteOverride(node.id);
		const health = glanceMessage(yield* healthOfNode(tx, node, nowMs), true);
		return {
			response: create(ClearNodeHealthOverrideResponseSchema, health === undefined ? {} : { health }),
			audit: {
				action: 'health.override_clear',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				custody: node.custody,
				detail: { name: node.name, wasThere },
			},
			events: [{ topic: HEALTH_TOPIC, key: node.id }],
		};
	},
});
