import { create } from '@bufbuild/protobuf';
import { GpuGlanceSchema, type NodeGlance } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import type { NodeHealthRow } from '../../store/port/node-health.ts';
import type { CallerView } from '../telemetry/caller-view.ts';
import type { NodeIdentities } from '../telemetry/identities.ts';
import { glanceMessage, gpuVerdicts, type StoredHealth } from './glance.ts';

/**
 * Puts health into the line of a node and of its GPUs. A GPU that has a verdict and no values, because it is lost or its
 * node silent, gets a line too: it must not vanish from sight with its numbers.
 */
export function withHealth(
	glance: NodeGlance,
	stored: StoredHealth<NodeHealthRow> | undefined,
	view: CallerView,
	isPlatform: boolean,
	nowMs: number,
	identities: NodeIdentities | undefined,
): NodeGlance {
	if (stored === undefined) return glance;
	const health = view.sees('host', '', nowMs) ? glanceMessage(stored, isPlatform) : undefined;
	if (health !== undefined) glance.health = health;
	const verdicts = gpuVerdicts(stored.row);
	for (const gpu of glance.gpus) {
		const verdict = verdicts.get(gpu.uuid);
		if (verdict === undefined) continue;
		gpu.health = verdict.state;
		gpu.healthSimulated = verdict.simulated;
	}
	const shown = new Set(glance.gpus.map(({ uuid }) => uuid));
	for (const [uuid, { gpuUuid, state: gpuHealth, simulated: healthSimulated }] of verdicts) {
		if (shown.has(uuid) || !view.sees(gpuUuid === '' ? 'gpu' : 'slice', uuid, nowMs)) continue;
		const { index, name: model } = identities?.gpus.get(gpuUuid === '' ? uuid : gpuUuid) ?? { index: 0, name: '' };
		const profile = gpuUuid === '' ? '' : (identities?.slices.get(uuid)?.profile ?? 'MIG');
		const what = { uuid, gpuUuid, index, model, profile };
		glance.gpus.push(create(GpuGlanceSchema, { ...what, health: gpuHealth, healthSimulated }));
	}
	return glance;
}
