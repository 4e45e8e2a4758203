import { create } from '@bufbuild/protobuf';
import { durationFromMs, durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	RequestFastTelemetryResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import type { Gate } from '../gates.ts';
import { mutation } from '../use-case.ts';

const DURATION_DEFAULT_MS = 60_000;

/** Throws TELEMETRY_FAST_LIMIT, TELEMETRY_NODE_AWAY. */
const CAN_BE_FAST: Gate<'node'> = {
	gate: 'fast',
	check(_tx, { target: { node }, deps }) {
		deps.telemetry.fastPlans.assertRoom(node.id);
		return 'its agent is connected here, and one more node may be sampled each second';
	},
};

export const requestFastTelemetry = mutation('node', TelemetryService.method.requestFastTelemetry, {
	gates: [CAN_BE_FAST],
	prepare: ({ deps, request }, { node }) =>
		deps.telemetry.fastPlans.untilFor(
			node.id,
			request.duration === undefined ? DURATION_DEFAULT_MS : Math.max(1000, durationMs(request.duration)),
		),
	*apply(_tx, { deps }, { node }, untilMs) {
		return {
			response: create(RequestFastTelemetryResponseSchema, {
				until: timestampFromMs(untilMs),
				period: durationFromMs(deps.telemetry.limits.fastPeriodMs),
			}),
			audit: {
				action: 'telemetry.fast',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				custody: node.custody,
				detail: { until: new Date(untilMs).toISOString() },
			},
			effects: () => deps.telemetry.fastPlans.start(node.id, untilMs),
		};
	},
});
