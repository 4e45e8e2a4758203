import { create } from '@bufbuild/protobuf';
import {
	GetNodeTelemetryResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { query } from '../use-case.ts';
import { currentView } from './caller-view.ts';
import { nodeTelemetryMessage } from './messages.ts';

export const getNodeTelemetry = query('node', TelemetryService.method.getNodeTelemetry, {
	*read(_tx, { ctx }, target) {
		return { node: target.node, view: currentView(ctx, 'telemetry.get', target) };
	},
	answer: ({ deps }, { node, view }) =>
		create(GetNodeTelemetryResponseSchema, { telemetry: nodeTelemetryMessage(deps.telemetry, node, view) }),
});
