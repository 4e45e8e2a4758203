import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import type { AssignmentMode } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { HealthClearing, HealthState } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_0, HealthWorld, ROOMY } from './health-world.ts';
import { refusalOf } from './refusal.ts';

/** What a verdict decides: who gets a node, what takes it out of service, and what brings it back. */
let world: HealthWorld;
let tenantKey: string;
beforeAll(async () => {
	world = await HealthWorld.start({ quarantine: ROOMY });
	tenantKey = await world.tenantViewer();
});
afterAll(() => world[Symbol.asyncDispose]());

const assign = (node: NodeRow, mode?: AssignmentMode) => world.assign(node, mode);
const row = (node: NodeRow) => world.row(node);
const wellNode = (patch: Partial<NodeRow> = {}) => world.addWellNode(patch);
const gpuOf = (node: NodeRow, id = GPU_0) => world.gpuOf(node, id);

describe('assignments', () => {
	test('of a node that is UNHEALTHY are refused with what to do; an override allows it, shown and with an end', async () => {
		const node = await wellNode();
		await world.xid(node, 79);
		expect(await refusalOf(assign(node))).toMatchObject({
			code: 'FailedPrecondition',
			reason: 'NODE_QUARANTINED',
			message: expect.stringMatching(/xid:79.*override set.*gpuaas node health/),
		});
		const { health } = await world.operator.setNodeHealthOverride({
			...{ node: node.id, schedulable: true, reason: 'we know', duration: durationFromMs(3_600_000) },
		});
		expect(health).toMatchObject({
			state: HealthState.UNHEALTHY,
			schedulable: true,
			override: { schedulable: true, reason: 'we know', createdBy: 'bootstrap-operator' },
		});
		await assign(node);
		expect((await world.nodes().getNode({ node: node.id })).node?.health?.override?.reason).toBe('we know');
		expect(await world.api.audit()).toContainEqual(
			expect.objectContaining({ action: 'health.override', target: `nodes/${node.id}`, result: 'ok' }),
		);
		const { explanations } = await world.nodes().explainNode({ node: node.id });
		expect(explanations.map(({ subject }) => subject)).toEqual(
			expect.arrayContaining(['health', 'quarantine', 'health override']),
		);
		// Its project sees that there is one, not whose word it is.
		const tenant = (await world.nodes(tenantKey).getNode({ node: node.id })).node?.health?.override;
		expect(tenant).toMatchObject({ schedulable: true, reason: '', createdBy: '' });
	});

	test('an override that holds back refuses a node that is well, until it is cleared or over', async () => {
		const node = await wellNode();
		const hold = (lastsMs: number) =>
			world.operator.setNodeHealthOverride({
				...{ node: node.id, schedulable: false, reason: 'wrong results', duration: durationFromMs(lastsMs) },
			});
		await hold(3_600_000);
		expect((await refusalOf(assign(node))).reason).toBe('NODE_HELD');
		await world.operator.clearNodeHealthOverride({ node: node.id });
		await assign(node);
		await world.nodes().unassignNode({ node: node.id });
		// The end is looked at by whoever asks; its record is written by the reconciler.
		await hold(1000);
		world.clock.advance(1001);
		await assign(node);
		await world.look();
		const ends = (await world.api.audit()).filter(({ action }) => action === 'health.override_expired');
		expect(ends.filter(({ target }) => target === `nodes/${node.id}`)).toHaveLength(1);
		expect(await world.api.deps.store.read((tx) => tx.nodeHealth.overridesOf([node.id]))).toEqual([]);
	});

	test('of a node that is silent are refused too; one that nobody judged yet may be given', async () => {
		const node = await wellNode();
		await world.pass(48_000);
		expect(await refusalOf(assign(node))).toMatchObject({
			reason: 'NODE_UNHEALTHY',
			message: expect.stringMatching(/UNKNOWN/),
		});
		await assign(await world.api.addNode());
	});

	test('a drain, a cordon and quarantine are three things: each is said by its own reason', async () => {
		const node = await wellNode();
		await world.xid(node, 79);
		await world.nodes().cordonNode({ node: node.id, reason: 'x' });
		expect((await refusalOf(assign(node))).reason).toBe('NODE_CORDONED');
		await world.nodes().uncordonNode({ node: node.id });
		expect((await refusalOf(assign(node))).reason).toBe('NODE_QUARANTINED');
	});
});

describe('return to service', () => {
	test('needs a load test after it is well, not silence and not the verdict alone', async () => {
		const node = await wellNode();
		await world.xid(node, 79);
		const early = await world.passedTask(node);
		await world.goOn(node, 15_000);
		await world.xid(node, 31, { bootId: 'boot-2' });
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', quarantineReason: 'xid xid:79' });
		expect((await refusalOf(assign(node))).reason).toBe('NODE_QUARANTINED');
		await world.goOn(node, 60_000);
		expect((await row(node))?.quarantinedAtMs).not.toBeNull();
		expect(await refusalOf(world.evidence(node, HealthClearing.DIAGNOSTIC_PASSED, early))).toMatchObject({
			reason: 'HEALTH_EVIDENCE_INVALID',
			message: expect.stringMatching(/before/),
		});
		await world.evidence(node, HealthClearing.DIAGNOSTIC_PASSED, await world.passedTask(node));
		expect((await row(node))?.quarantinedAtMs).toBeNull();
		await assign(node);
		const actions = (await world.api.audit()).filter(({ target }) => target === `nodes/${node.id}`);
		expect(actions.map(({ action }) => action)).toEqual(
			expect.arrayContaining(['health.quarantine', 'health.evidence', 'health.return']),
		);
	});

	test.each([
		['no task', async () => '', /names no task/],
		['a task of another node', async () => await world.passedTask(await wellNode()), /no such task on this node/],
		[
			'a task that did not succeed',
			async (node: NodeRow) => {
				const id = await world.passedTask(node);
				await world.api.deps.store.unit((tx) => tx.tasks.update(id, { state: 'failed' }));
				return id;
			},
			/has not succeeded/,
		],
		[
			'a task that ran in a tenant’s hands',
			async (node: NodeRow) => {
				const id = await world.passedTask(node);
				await world.api.deps.store.unit((tx) => tx.tasks.update(id, { custody: 'tenant' }));
				return id;
			},
			/not in platform custody/,
		],
	])('%s is no evidence', async (_, taskOf, message) => {
		const node = await wellNode();
		await world.xid(node, 119);
		const taskId = await taskOf(node);
		expect(await refusalOf(world.evidence(node, HealthClearing.GPU_RESET, taskId))).toMatchObject({
			reason: 'HEALTH_EVIDENCE_INVALID',
			message: expect.stringMatching(message),
		});
	});

	test('a task that ran no program is no evidence', async () => {
		const node = await wellNode({ labels: { 'gpuaas.fault-injection': 'allowed' } });
		await world.xid(node, 119);
		const faults = [{ kind: HealthFactKind.PROBE_SLOW, subject: { kind: HealthSubjectKind.NODE } }];
		const duration = durationFromMs(60_000);
		const { taskId } = await world.operator.injectNodeFault({ node: node.id, faults, duration, reason: 'drill' });
		const atMs = world.clock.now();
		const done = { state: 'succeeded', startedAtMs: atMs, endedAtMs: atMs } as const;
		await world.api.deps.store.unit((tx) => tx.tasks.update(taskId, done));
		const refused = await refusalOf(world.evidence(node, HealthClearing.DIAGNOSTIC_PASSED, taskId));
		expect(refused.message).toMatch(/ran no program/);
	});

	test('a task ends nothing that came after it began', async () => {
		const node = await wellNode();
		await world.xid(node, 119);
		world.clock.advance(1000);
		const taskId = await world.passedTask(node);
		world.clock.advance(300_000);
		await world.fact(node, { kind: HealthFactKind.ECC_UNCORRECTED, raw: 'ecc.volatile.uncorrected 0 -> 1' });
		await world.evidence(node, HealthClearing.GPU_RESET, taskId);
		const gpu = await gpuOf(node);
		expect(gpu.state).toBe(HealthState.UNHEALTHY);
		expect(gpu.reasons.map(({ checkId }) => checkId)).toContain('ecc.uncorrected');
		expect(gpu.reasons.map(({ checkId }) => checkId)).not.toContain('xid');
	});

	test('what only a repair ends is ended by a repair', async () => {
		const node = await wellNode();
		await world.xid(node, 54);
		await world.xid(node, 31, { bootId: 'boot-2' });
		expect((await gpuOf(node)).state).toBe(HealthState.UNHEALTHY);
		await world.evidence(node, HealthClearing.SERVICED);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', schedulable: true, quarantinedAtMs: null });
	});
});

describe('the circuit breaker', () => {
	test('keeps a bad policy or a bad driver from taking the whole fleet, and lets go when there is room', async () => {
		const limits = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, nodesMax: 2 };
		await using other = await HealthWorld.start({ quarantine: limits });
		const fleet: NodeRow[] = [];
		for (let n = 0; n < 4; n += 1) {
			const node = await other.addGpuNode();
			other.say(node);
			await other.look();
			other.say(node);
			await other.look();
			fleet.push(node);
		}
		for (const node of fleet) await other.xid(node, 79);
		const inQuarantine = async () => {
			const rows = await other.api.deps.store.read((tx) => tx.nodeHealth.ofNodes(fleet.map(({ id }) => id)));
			expect(rows.every(({ state, schedulable }) => state === 'UNHEALTHY' && !schedulable)).toBe(true);
			return rows.filter(({ quarantinedAtMs }) => quarantinedAtMs !== null).length;
		};
		expect(await inQuarantine()).toBe(2);
		other.clock.advance(10_000);
		await other.look();
		expect(other.monitor.isBreakerOpen).toBe(true);
		await other.restart();
		expect([await inQuarantine(), other.monitor.isBreakerOpen]).toEqual([2, true]);
		expect(other.monitor.counts()).toMatchObject({ quarantined: 2, states: { UNHEALTHY: 4 } });
		const { store } = other.api.deps;
		const gone = present(fleet[0], 'a node');
		await store.unit((tx) => tx.nodes.update(gone.id, { retiredAtMs: 1 }));
		await other.pass(75_000);
		expect(await inQuarantine()).toBe(3);
	});

	test('is not open where all that should be in quarantine are', async () => {
		const limits = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 50, nodesMax: 1 };
		await using other = await HealthWorld.start({ quarantine: limits });
		const node = await other.addWellNode();
		await other.xid(node, 79);
		await other.goOn(node, 15_000);
		expect([other.monitor.counts().quarantined, other.monitor.isBreakerOpen]).toEqual([1, false]);
	});
});
