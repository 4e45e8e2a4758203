import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import {
	type QueryTelemetryHistoryRequest,
	QueryTelemetryHistoryResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import { query } from '../use-case.ts';
import { CUSTODY } from '../wire/node.ts';
import { viewDuring } from './caller-view.ts';
import { findHistory, findMetric } from './history.ts';

const POINTS_DEFAULT = 240;
/** As long as rollups can be kept. */
const SPAN_MS_MAX = 31 * 24 * 3_600_000;

export const queryTelemetryHistory = query('node', TelemetryService.method.queryTelemetryHistory, {
	*read(tx, { request, ctx, nowMs }, target) {
		const span = spanOf(request, nowMs);
		const view = yield* viewDuring(tx, ctx, 'telemetry.history', target, span.fromMs, span.untilMs);
		return { node: target.node, view, span };
	},
	async answer({ deps, request, nowMs }, { node, view, span }) {
		const { part, id, pointsMax } = request;
		const question = {
			nodeId: node.id,
			part: part as TelemetryPart,
			id,
			metrics: metricsOf(request),
			...span,
			pointsMax: pointsMax === 0 ? POINTS_DEFAULT : pointsMax,
			nowMs,
		};
		const found = await findHistory(deps.clock, deps.telemetry, question, view);
		return create(QueryTelemetryHistoryResponseSchema, {
			step: durationFromMs(found.stepMs),
			simulated: found.simulated,
			custodies: found.custodies.map((custody) => CUSTODY[custody]),
			...(found.ringFromMs === undefined ? {} : { ringFrom: timestampFromMs(found.ringFromMs) }),
			series: found.series.map(({ metric, steps, ...thing }) => ({
				...thing,
				key: metric.key,
				unit: metric.unit,
				isRate: metric.type === 'counter',
				...steps.points(),
			})),
		});
	},
});

function spanOf({ from, until }: QueryTelemetryHistoryRequest, nowMs: number) {
	const fromMs = from === undefined ? Number.NaN : timestampMs(from);
	const untilMs = Math.min(nowMs, until === undefined ? nowMs : timestampMs(until));
	if (untilMs > fromMs && untilMs - fromMs <= SPAN_MS_MAX) return { fromMs, untilMs };
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'TELEMETRY_RANGE_INVALID',
		message: 'history needs a beginning before its end and before now, at most 31 days apart',
	});
}

function metricsOf({ part, keys }: QueryTelemetryHistoryRequest) {
	return [...new Set(keys)].map((key) => {
		const metric = findMetric(part, key);
		if (metric !== undefined) return metric;
		const known = CURRENT_SCHEMA[part as TelemetryPart].map((one) => one.key);
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'TELEMETRY_METRIC_UNKNOWN',
			message: `${part} has no metric ${JSON.stringify(key)}; it has: ${known.join(', ').slice(0, 1500)}`,
		});
	});
}
