import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HealthMonitor } from '../../control-plane/app/health/monitor.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { fixtureFrame } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { DEFAULT_POLICY } from '../../health/default-policy.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { AssignmentMode } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import {
	HealthAction,
	HealthClearing,
	HealthService,
	HealthState,
} from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { eventually } from '../eventually.ts';
import { monitorDeps } from '../health-monitor.ts';
import { GPU_0, HealthWorld, ROOMY } from './health-world.ts';
import { refusalOf } from './refusal.ts';

/** From facts and samples to verdicts that are stored, shown and decide. */
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

describe('verdicts', () => {
	test('of many nodes are made in slices, between which others have their turn', async () => {
		const nodes = [await wellNode(), await wellNode(), await wellNode()];
		let [turns, elapsedMs] = [0, 0];
		const defer = (callback: () => void) => {
			turns += 1;
			systemClock.defer(callback);
		};
		// Each look at it takes longer than a slice.
		const slow = { ...systemClock, now: () => world.clock.now(), monotonic: () => (elapsedMs += 20), defer };
		const monitor = new HealthMonitor(monitorDeps(world.api.deps, { clock: slow, quarantine: ROOMY }));
		const off = monitor.listen();
		await monitor.tick();
		const loaded = turns;
		for (const node of nodes) await world.xid(node, 45);
		for (const node of nodes) monitor.onRecord(node.id);
		await monitor.tick();
		off();
		expect(loaded).toBeGreaterThan(nodes.length);
		// Each is read, and each is judged.
		expect(turns - loaded).toBeGreaterThanOrEqual(2 * nodes.length);
	});

	test('are made of frames and facts, stored with why, and listed with what is wrong', async () => {
		const node = await wellNode();
		expect((await world.health(node)).glance).toMatchObject({ state: HealthState.HEALTHY, schedulable: true });
		await world.xid(node, 45);
		await world.xid(node, 79);
		const health = await world.health(node);
		expect(health.glance).toMatchObject({ state: HealthState.UNHEALTHY, schedulable: false, quarantined: true });
		const gpu = await gpuOf(node);
		expect(gpu.actions).toEqual([HealthAction.DRAIN, HealthAction.REBOOT_NODE]);
		// A burst is one incident, of which the severest speaks.
		expect(gpu.reasons.map(({ code }) => code)).toEqual(['xid:79']);
		expect(gpu.evidence.map(({ raw }) => raw)).toEqual([
			expect.stringContaining(' 45,'),
			expect.stringContaining(' 79,'),
		]);
		expect(gpu).toMatchObject({ policyVersion: DEFAULT_POLICY.version, simulated: false });
		expect(health.next.join('\n')).toMatch(/gpuaas node drain.*reboot the host.*quarantine/s);
		expect(
			health.changes.map(({ before, verdict }) => [before, verdict?.state, verdict?.subject?.kind]),
		).toContainEqual([HealthState.DEGRADED, HealthState.UNHEALTHY, HealthSubjectKind.GPU]);
		const { nodes: lines } = await world.operator.listNodeHealth({});
		expect(lines.find(({ nodeId }) => nodeId === node.id)).toMatchObject({
			health: { state: HealthState.UNHEALTHY },
			reasons: [{ checkId: 'xid', code: 'xid:79' }],
		});
	});

	test('survive a restart: what is open stays, what comes next counts, and nothing is silent that nobody could hear', async () => {
		const node = await wellNode();
		await world.xid(node, 46);
		const before = await row(node);
		world.clock.advance(3_600_000);
		await world.restart();
		expect(await row(node)).toEqual(before);
		await world.goOn(node, 15_000);
		expect((await gpuOf(node)).actions).toEqual([HealthAction.DRAIN, HealthAction.RESET_GPU]);
		await world.xid(node, 31, { bootId: 'boot-2' });
		expect(await gpuOf(node)).toMatchObject({ state: HealthState.HEALTHY, clearedBy: HealthClearing.BOOT });
		// The same reset-class XID again, within a day and after another restart: history counts.
		await world.restart();
		await world.xid(node, 46, { bootId: 'boot-2' });
		expect((await gpuOf(node)).actions).toEqual([HealthAction.DRAIN, HealthAction.REBOOT_NODE]);
	});

	test('end by another boot that its session tells, without a word about health', async () => {
		const node = await wellNode({ bootId: 'boot-1' });
		await world.xid(node, 79);
		await world.goOn(node, 15_000);
		expect((await gpuOf(node)).state).toBe(HealthState.UNHEALTHY);
		const { store, bus, telemetry } = world.api.deps;
		await store.unit((tx) => tx.nodes.update(node.id, { bootId: 'boot-2' }));
		bus.publish({ topic: 'nodes.changed', key: node.id });
		await eventually('the directory knows', () => {
			world.clock.advance(25);
			return telemetry.directory.get(node.id)?.node.bootId === 'boot-2';
		});
		await world.goOn(node, 15_000);
		expect(await gpuOf(node)).toMatchObject({ state: HealthState.HEALTHY, clearedBy: HealthClearing.BOOT });
	});

	test('of what came while nobody judged are made at the next start', async () => {
		const node = await wellNode();
		const { id: nodeId } = node;
		const judged = present(await row(node), 'a row');
		await world.xid(node, 119);
		// As if the process had died between the commit of the fact and that of the verdict.
		const later = present(await row(node), 'a row');
		const undone = { ...judged, version: later.version + 1 };
		expect(await world.api.deps.store.unit((tx) => tx.nodeHealth.put(undone, later.version))).toBe(true);
		await world.restart();
		expect((await world.api.deps.store.read((tx) => tx.nodeHealth.get(nodeId)))?.state).toBe('UNHEALTHY');
	});

	test('are UNKNOWN after three periods of silence, not before, and HEALTHY when it is heard again', async () => {
		const node = await wellNode();
		await world.pass(42_000);
		expect((await row(node))?.state).toBe('HEALTHY');
		await world.pass(3000);
		expect(await row(node)).toMatchObject({ state: 'UNKNOWN', schedulable: false });
		expect((await world.health(node)).next[0]).toMatch(/^find out why nothing is heard/);
		await world.goOn(node, 15_000);
		expect((await row(node))?.state).toBe('HEALTHY');
	});

	test('are UNKNOWN though everything is heard where a disk does not answer: what is to be done is about the disk', async () => {
		const node = await wellNode();
		const subject = { kind: HealthSubjectKind.DISK, id: 'S1' };
		await world.fact(node, { kind: HealthFactKind.DISK, code: 'hung', after: 1, subject });
		const { glance, next } = await world.health(node);
		expect(glance?.state).toBe(HealthState.UNKNOWN);
		expect(next).toEqual([expect.stringMatching(/^gpuaas node drain/), expect.stringMatching(/^look at the hardware/)]);
	});

	test('of a process that began just now wait for agents to come back, except where one was silent before', async () => {
		const [heard, silent] = [await wellNode(), await wellNode()];
		await world.goOn(heard, 60_000);
		expect((await row(silent))?.state).toBe('UNKNOWN');
		await world.restart({ startGraceMs: 300_000 });
		await world.pass(290_000);
		expect([(await row(heard))?.state, (await row(silent))?.state]).toEqual(['HEALTHY', 'UNKNOWN']);
		await world.pass(15_000);
		expect((await row(heard))?.state).toBe('UNKNOWN');
		await world.restart({ startGraceMs: 0 });
	});

	test('are given of all nodes but one whose record cannot be read', async () => {
		const [bad, good] = [await wellNode(), await wellNode()];
		const { store } = world.api.deps;
		const found = present(await row(bad), 'a row');
		await store.unit((tx) => tx.nodeHealth.put({ ...found, saved: new Uint8Array([1]), version: 99 }, found.version));
		await world.restart();
		await world.goOn(good, 15_000);
		await world.xid(good, 79);
		expect([(await row(good))?.state, (await row(bad))?.state]).toEqual(['UNHEALTHY', 'HEALTHY']);
		expect([world.monitor.verdictsOf(good.id).length > 0, world.monitor.verdictsOf(bad.id)]).toEqual([true, []]);
		await store.unit((tx) => tx.nodeHealth.put({ ...found, version: 100 }, 99));
	});

	test('of a process that stood still wait for what its nodes said meanwhile', async () => {
		const node = await wellNode();
		world.clock.advance(50_000);
		await world.look();
		expect((await row(node))?.state).toBe('HEALTHY');
		await world.pass(15_000);
		expect((await row(node))?.state).toBe('UNKNOWN');
	});

	test('of one GPU that says nothing are UNKNOWN while the node goes on', async () => {
		const node = await wellNode();
		await world.goOn(node, 60_000, { gpus: 1 });
		const { verdicts } = await world.health(node);
		const states = verdicts.map(({ subject, state }) => [subject?.kind, state]);
		expect(states).toEqual([
			[HealthSubjectKind.NODE, HealthState.UNKNOWN],
			[HealthSubjectKind.GPU, HealthState.HEALTHY],
			[HealthSubjectKind.GPU, HealthState.UNKNOWN],
		]);
		const { nodes: glances } = await world.api
			.client(TelemetryService, world.api.operatorKey)
			.listNodeTelemetry({ pageSize: 1000 });
		const gpus = glances.find(({ nodeId }) => nodeId === node.id)?.gpus ?? [];
		expect(gpus.map(({ health }) => health)).toEqual([HealthState.HEALTHY, HealthState.UNKNOWN]);
	});

	test('of a port are made once something was said of it, and it is heard by every frame from then on', async () => {
		const node = await wellNode();
		await world.goOn(node, 30_000, { symbolErrors: 3 });
		const subject = { kind: HealthSubjectKind.NIC, id: 'mlx5_0', index: 1 };
		const more = {
			kind: HealthFactKind.IB_PORT_ERRORS,
			code: 'link_downed',
			raw: 'errors.link_downed 0 -> 2',
			subject,
		};
		await world.fact(node, more);
		await world.goOn(node, 240_000, { symbolErrors: 3 });
		expect((await row(node))?.state).toBe('HEALTHY');
		expect((await gpuOf(node, 'mlx5_0')).state).toBe(HealthState.HEALTHY);
		// One that is not in the frames any more is silent.
		await world.goOn(node, 195_000);
		expect((await gpuOf(node, 'mlx5_0')).state).toBe(HealthState.UNKNOWN);
	});

	test('are not written for samples that say what the last ones said', async () => {
		const node = await wellNode();
		const { version } = present(await row(node), 'a row');
		await world.goOn(node, 300_000);
		expect((await row(node))?.version).toBe(version);
	});
});

describe('custody', () => {
	test('what a tenant’s agent says alerts and decides nothing, also after a restart', async () => {
		const node = await wellNode();
		await world.api.deps.store.unit((tx) => tx.nodes.update(node.id, { custody: 'tenant' }));
		await world.xid(node, 79);
		const claimed = { state: 'HEALTHY', schedulable: true, claimed: 'UNHEALTHY', quarantinedAtMs: null };
		expect(await row(node)).toMatchObject(claimed);
		await world.restart();
		await world.xid(node, 46);
		expect(await row(node)).toMatchObject(claimed);
		const { verdicts } = await world.health(node);
		expect(
			verdicts.filter(({ state }) => state === HealthState.UNHEALTHY).map(({ schedulable }) => schedulable),
		).toEqual([true, true]);
	});

	test('a node that a tenant has is not UNKNOWN because nothing is heard as ours', async () => {
		const node = await wellNode();
		await assign(node, AssignmentMode.HOST);
		await eventually('the directory knows', () => {
			world.clock.advance(25);
			return world.api.deps.telemetry.directory.get(node.id)?.node.custody === 'tenant';
		});
		await world.pass(120_000);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', claimed: '' });
	});

	test('nothing that is found in a tenant’s hands is evidence', async () => {
		const node = await wellNode();
		await world.xid(node, 54);
		await world.api.deps.store.unit((tx) => tx.nodes.update(node.id, { custody: 'tenant' }));
		expect(await refusalOf(world.evidence(node, HealthClearing.SERVICED))).toMatchObject({
			reason: 'HEALTH_EVIDENCE_INVALID',
		});
	});
});

describe('what tenants see', () => {
	test('is their node while they have it, with the evidence of that time and no word of others', async () => {
		const node = await wellNode();
		await world.xid(node, 13, { raw: 'before anybody had it' });
		const client = world.api.client(HealthService, tenantKey);
		expect((await refusalOf(client.getNodeHealth({ node: node.id }))).reason).toBe('NODE_NOT_FOUND');
		expect((await client.listNodeHealth({})).nodes.map(({ nodeId }) => nodeId)).not.toContain(node.id);
		world.clock.advance(1000);
		await assign(node);
		const other = { kind: HealthSubjectKind.GPU, id: GPU_0.replace(/0$/, '1') };
		await world.xid(node, 31, { raw: 'while they had it', subject: other });
		const health = await world.health(node, client);
		const seen = health.verdicts.flatMap(({ evidence: lines }) => lines.map(({ raw }) => raw));
		expect(seen).toContain('while they had it');
		expect(seen).not.toContain('before anybody had it');
		const codes = health.verdicts.flatMap(({ reasons }) => reasons.map(({ code }) => code));
		expect(codes).toContain('xid:31');
		expect(codes).not.toContain('xid:13');
		expect((await gpuOf(node)).reasons.map(({ code }) => code)).toContain('xid:13');
		expect(health.next).toEqual([]);
		expect((await client.listNodeHealth({})).nodes.find(({ nodeId }) => nodeId === node.id)?.health?.state).toBe(
			HealthState.HEALTHY,
		);
		expect((await refusalOf(client.getNodeHealthRecords({ node: node.id }))).reason).toBe('PERMISSION_DENIED');
	});
});

describe('records', () => {
	test('hold facts and evidence as they came, to be replayed', async () => {
		const node = await wellNode();
		await world.xid(node, 46);
		await world.evidence(node, HealthClearing.SERVICED);
		const { records } = await world.operator.getNodeHealthRecords({ node: node.id });
		expect(records.map(({ record }) => record)).toMatchObject([
			{ case: 'fact', value: { code: 'xid:46', injection: '' } },
			{ case: 'evidence', value: { clearing: HealthClearing.SERVICED, createdBy: 'bootstrap-operator' } },
		]);
	});
});

describe('policy', () => {
	test('is that of the node’s fleet, and a new one judges what is open again', async () => {
		const policy = { ...DEFAULT_POLICY, version: 'mine', fleets: { lab: { xids: { 79: 'note' } } } };
		const node = await wellNode({ labels: { 'gpuaas.fleet': 'lab' } });
		await world.xid(node, 79);
		expect((await row(node))?.state).toBe('UNHEALTHY');
		await world.restart({ policy });
		await world.goOn(node, 15_000);
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', policyVersion: 'mine+lab' });
		await world.restart({ policy: DEFAULT_POLICY });
	});

	test('that is wrong is refused as a whole, with its place', async () => {
		const policy = { ...DEFAULT_POLICY, recoveryActions: {} };
		await expect(HealthWorld.start({ policy })).rejects.toMatchObject({
			reason: 'HEALTH_POLICY_INVALID',
			message: expect.stringMatching(/recoveryActions/),
		});
	});
});

describe('two replicas', () => {
	test('what one stored and told nobody else of is found in turn', async () => {
		const node = await wellNode();
		await storeXid(node, 79);
		await world.goOn(node, 30_000);
		expect((await row(node))?.state).toBe('UNHEALTHY');
	});

	test('judge a node one after the other: who has its session writes, and a newer row is read first', async () => {
		const node = await wellNode();
		const { deps } = world.api;
		const session = (replicaId: string, epoch: number) =>
			deps.store.unit((tx) =>
				tx.sessions.put({
					...{
						nodeId: node.id,
						replicaId,
						epoch,
						instanceId: 'i',
						connectedAtMs: 1,
						leaseUntilMs: Number.MAX_SAFE_INTEGER,
					},
					...{ disconnectedAtMs: null, lostAtMs: null },
				}),
			);
		await session('replica-1', 1);
		const { store, bus, rng, log } = deps;
		const sessions = new SessionRegistry();
		const more = { store, bus, clock: world.clock, rng, log, sessions };
		await using telemetry = new Telemetry({ ...more, periodMs: 15_000 });
		await telemetry.start();
		const over = { clock: world.clock, sessions, telemetry, replicaId: 'replica-2', quarantine: ROOMY };
		await using second = new NodeHealthReconciler(monitorDeps(deps, over), { periodMs: 1e12 });
		// It hears nothing of the node, and leaves it to who does.
		world.alongside.add(second);
		await world.goOn(node, 75_000);
		expect(second.monitor.verdictsOf(node.id)).toEqual([]);
		expect((await row(node))?.state).toBe('HEALTHY');
		world.alongside.delete(second);
		// Its session moves, and what comes next comes there.
		await session('replica-2', 2);
		sessions.add({ nodeId: node.id, epoch: 2, serial: '', command: () => true, close: () => {} });
		for (const code of [46, 79]) {
			const frame = fixtureFrame({ atMs: world.clock.now(), gpus: 2 });
			frame.simulated = false;
			telemetry.ingest.ingest(node.id, frame);
			await storeXid(node, code);
			second.monitor.onRecord(node.id);
			for (let look = 0; look < 3; look += 1) await second.once();
		}
		expect((await row(node))?.state).toBe('UNHEALTHY');
		const reasons = (await gpuOf(node)).reasons.map(({ code }) => code);
		expect(reasons).toEqual(['xid:79']);
		// The first had it before: what it has in memory is old, and it finds out when it writes.
		await world.xid(node, 31, { bootId: 'boot-2' });
		expect(await row(node)).toMatchObject({ state: 'HEALTHY', quarantineReason: expect.stringMatching(/xid/) });
	});

	/** As `world.xid`, and the first replica is told nothing. */
	async function storeXid(node: NodeRow, code: number): Promise<void> {
		await world.store(node, { kind: HealthFactKind.XID, code: `xid:${code}`, raw: `NVRM: Xid: ${code},` });
	}
});
