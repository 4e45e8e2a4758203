import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { HealthClearing } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_0, HealthWorld } from './health-world.ts';

/** Evidence of one GPU counts for the quarantine that this GPU made, however that began. */
const GPU = { kind: HealthSubjectKind.GPU, id: GPU_0 };
let world: HealthWorld;
beforeEach(async () => {
	world = await HealthWorld.start({ quarantine: { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax: 1 } });
});
afterEach(() => world[Symbol.asyncDispose]());

const row = async (node: NodeRow) =>
	present(await world.api.deps.store.read((tx) => tx.nodeHealth.get(node.id)), 'a row');
const serviced = async (node: NodeRow, id: string) => {
	const subject = { ...GPU, id };
	await world.operator.recordNodeHealthEvidence({
		...{ node: node.id, clearing: HealthClearing.SERVICED, taskId: '', reason: 'replaced', subject },
	});
	await world.look();
};
const retire = (node: NodeRow) =>
	world.api.deps.store.unit((tx) => tx.nodes.update(node.id, { state: 'retired', retiredAtMs: 1 }));
/** Its fault is over, and it waits for evidence. */
async function heal(node: NodeRow): Promise<void> {
	world.say(node);
	await world.xid(node, 31, { bootId: 'boot-2' });
	expect(await row(node)).toMatchObject({ state: 'HEALTHY', quarantinedAtMs: expect.any(Number) });
}
async function returnsByItsGpu(node: NodeRow): Promise<void> {
	await serviced(node, GPU_0.replace(/0$/, '1'));
	expect((await row(node)).quarantinedAtMs).not.toBeNull();
	await serviced(node, GPU_0);
	expect((await row(node)).quarantinedAtMs).toBeNull();
}

describe('a quarantine is ended by evidence of the GPU that made it', () => {
	test('where the circuit breaker kept the node out for long, also after a restart', async () => {
		const [first, node] = [await world.addWellNode(), await world.addWellNode()];
		for (const bad of [first, node]) await world.xid(bad, 79);
		world.clock.advance(10_000);
		await world.goOn(node, 90_000);
		expect(await row(node)).toMatchObject({ state: 'UNHEALTHY', quarantinedAtMs: null });
		await retire(first);
		await world.goOn(node, 75_000);
		expect((await row(node)).quarantinedAtMs).not.toBeNull();
		await heal(node);
		await world.restart();
		await returnsByItsGpu(node);
	});

	test('where a drill was there before it', async () => {
		const node = await world.addWellNode({ labels: { 'gpuaas.fault-injection': 'allowed' } });
		const { taskId, endsAt } = await world.operator.injectNodeFault({
			...{ node: node.id, duration: durationFromMs(300_000), reason: 'drill' },
			faults: [{ kind: HealthFactKind.XID, code: 'xid:79', subject: GPU }],
		});
		await world.xid(node, 79, { simulated: true, injection: taskId, injectionEndsAt: present(endsAt, 'an end') });
		await world.goOn(node, 90_000);
		expect((await row(node)).quarantineReason).toMatch(/^simulated: /);
		await world.xid(node, 46);
		expect((await row(node)).quarantineReason).toMatch(/^xid /);
		await world.goOn(node, 240_000);
		await heal(node);
		await returnsByItsGpu(node);
	});
});
