import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import { healthFamilies } from '../../control-plane/ops/health-metrics.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { InjectFaultSpecSchema, TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthState } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { eventually } from '../eventually.ts';
import { GPU_0, HealthWorld } from './health-world.ts';
import { refusalOf } from './refusal.ts';

/** Faults that an operator ordered: judged as real ones are, and always said to be none. */
let world: HealthWorld;
beforeAll(async () => {
	world = await HealthWorld.start({ quarantine: { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax: 1000 } });
});
afterAll(() => world[Symbol.asyncDispose]());

const assign = (node: NodeRow) =>
	world.api.client(NodeService, world.api.operatorKey).assignNode({
		...{ node: node.id, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR },
	});
const row = (node: NodeRow) => world.api.deps.store.read((tx) => tx.nodeHealth.get(node.id));
const wellNode = (patch: Partial<NodeRow> = {}) => world.addWellNode(patch);
const gpuOf = (node: NodeRow) => world.gpuOf(node);

describe('injected faults', () => {
	const inject = (node: NodeRow, lastsMs = 60_000) =>
		world.operator.injectNodeFault({
			node: node.id,
			faults: [{ kind: HealthFactKind.XID, code: 'xid:79', subject: { kind: HealthSubjectKind.GPU, id: GPU_0 } }],
			duration: durationFromMs(lastsMs),
			reason: 'drill',
		});
	const LABEL = { 'gpuaas.fault-injection': 'allowed' };

	test('need the label of the node, and come by their own method alone', async () => {
		const node = await wellNode();
		expect(await refusalOf(inject(node))).toMatchObject({
			reason: 'FAULT_INJECTION_FORBIDDEN',
			message: expect.stringMatching(/gpuaas\.fault-injection=allowed/),
		});
		const value = create(InjectFaultSpecSchema, { faults: [{ kind: 1, subject: {} }], endsAt: {} });
		const spec = { kind: { case: 'injectFault' as const, value } };
		const tasks = world.api.client(TaskService, world.api.operatorKey);
		const labelled = await wellNode({ labels: LABEL });
		expect((await refusalOf(tasks.createTask({ node: labelled.id, spec }))).reason).toBe('FAULT_INJECTION_FORBIDDEN');
	});

	test('wait in the queue of their node as any task does, which has an end', async () => {
		const node = await wellNode({ labels: LABEL });
		const { store, rng, limits } = world.api.deps;
		const { taskId } = await inject(node);
		const task = present(await store.read((tx) => tx.tasks.get(taskId)), 'the task');
		await store.unit(function* (tx) {
			for (let open = 1; open < limits.tasksOpenPerNodeMax; open += 1)
				yield* tx.tasks.insert({ ...task, id: uuidv7(world.clock.now(), rng) });
		});
		expect((await refusalOf(inject(node))).reason).toBe('QUEUE_FULL');
	});

	test('are so many at once on a node: one more is refused and says so, until some are over', async () => {
		const node = await wellNode({ labels: LABEL });
		for (let count = 0; count < 16; count += 1) await inject(node, count === 0 ? 30_000 : 300_000);
		expect(await refusalOf(inject(node))).toMatchObject({
			reason: 'FAULT_INJECTION_LIMIT',
			message: expect.stringMatching(/16 injections.*nothing was done/),
		});
		const other = await wellNode({ labels: LABEL });
		await inject(other);
		expect(await world.api.audit()).toContainEqual(
			expect.objectContaining({ action: 'health.inject', target: `nodes/${other.id}`, result: 'ok' }),
		);
		world.clock.advance(31_000);
		await inject(node);
		expect((await refusalOf(inject(node))).reason).toBe('FAULT_INJECTION_LIMIT');
	});

	test('that come after the node was handed over are claims that end with them', async () => {
		const node = await wellNode({ labels: LABEL });
		const { taskId, endsAt } = await inject(node);
		await world.api.deps.store.unit((tx) => tx.nodes.update(node.id, { custody: 'tenant' }));
		world.api.deps.bus.publish({ topic: 'nodes.changed', key: node.id });
		const { directory } = world.api.deps.telemetry;
		// Its hints settle on the clock of telemetry.
		await eventually('it is known', () => {
			world.clock.advance(25);
			return directory.get(node.id)?.node.custody === 'tenant';
		});
		const more = { simulated: true, injection: taskId, injectionEndsAt: present(endsAt, 'an end') };
		world.say(node);
		await world.xid(node, 79, more);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', claimed: 'UNHEALTHY', quarantinedAtMs: null });
		await world.goOn(node, 75_000);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', claimed: '' });
		await world.restart();
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', claimed: '' });
	});

	test('hide nothing that is real and lend it no name', async () => {
		const node = await wellNode({ labels: LABEL });
		const { taskId, endsAt } = await inject(node);
		await world.xid(node, 31, { simulated: true, injectionEndsAt: present(endsAt, 'an end'), injection: taskId });
		await world.xid(node, 79);
		expect(await row(node)).toMatchObject({ state: 'UNHEALTHY', simulated: false, quarantineReason: 'xid xid:79' });
		const gpu = await gpuOf(node);
		expect(gpu).toMatchObject({ simulated: false, realState: HealthState.UNHEALTHY });
		expect(gpu.reasons.map(({ code, simulated }) => [code, simulated])).toEqual([
			['xid:79', false],
			['xid:31', true],
		]);
		const families = [...healthFamilies(node.id, () => '0', world.monitor)];
		const bad = families
			.flatMap(({ series }) => series)
			.filter(({ value, labels }) => value === 1 && labels.some(([, text]) => text === 'UNHEALTHY'));
		expect(bad.length).toBeGreaterThan(0);
		expect(bad.flatMap(({ labels }) => labels.map(([name]) => name))).not.toContain('simulated');
	});

	test('are judged, say simulated, gate, and end with their time; what an agent makes up alone is no injection', async () => {
		const node = await wellNode({ labels: LABEL });
		const { taskId, endsAt } = await inject(node);
		const more = { simulated: true, injectionEndsAt: present(endsAt, 'an end') };
		await world.xid(node, 79, { ...more, injection: taskId });
		expect(await row(node)).toMatchObject({
			...{ state: 'UNHEALTHY', simulated: true, quarantineReason: 'simulated: xid xid:79', quarantines: [] },
		});
		expect((await refusalOf(assign(node))).message).toMatch(/simulated/);
		await world.restart();
		await world.goOn(node, 75_000);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', simulated: false, quarantinedAtMs: null });
		// Nor is that of an order with another end, or of one that is long over.
		const later = timestampFromMs(world.clock.now() + 60_000);
		await world.xid(node, 46, { ...more, injection: taskId, injectionEndsAt: later });
		expect((await gpuOf(node)).reasons).toMatchObject([{ code: 'xid:46' }]);
		world.clock.advance(700_000);
		await world.xid(node, 74, { ...more, injection: taskId });
		expect((await gpuOf(node)).reasons.map(({ code }) => code)).toEqual(expect.arrayContaining(['xid:46', 'xid:74']));
		await world.xid(node, 79, { ...more, injection: '0197b0a0-0000-7000-8000-000000000000' });
		await world.goOn(node, 75_000);
		expect((await row(node))?.state).toBe('UNHEALTHY');
	});

	test('that a journal held back until long after their end are over, and nothing real', async () => {
		const node = await wellNode({ labels: LABEL });
		const { taskId, endsAt } = await inject(node);
		const more = { simulated: true, injection: taskId, injectionEndsAt: present(endsAt, 'an end') };
		const observedAt = timestampFromMs(world.clock.now() + 1000);
		world.clock.advance(780_000);
		await world.goOn(node, 30_000);
		await world.xid(node, 79, { ...more, observedAt });
		await world.goOn(node, 15_000);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', simulated: false, quarantinedAtMs: null });
		await world.restart();
		expect((await row(node))?.state).toBe('HEALTHY');
	});
});
