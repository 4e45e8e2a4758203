import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { recordRefusal } from '../../control-plane/app/enrollment/burn.ts';
import { refusalRecords } from '../../control-plane/app/enrollment/deps.ts';
import type { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { AgentAuditLimit } from '../../control-plane/app/tasks/agent-audit-limit.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { FACT_BUDGET_DEFAULT, type FactBudget } from '../../control-plane/app/telemetry/fact-budget.ts';
import { fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { systemContext } from '../../control-plane/context.ts';
import { OpsMetrics } from '../../control-plane/ops/metrics.ts';
import { systemClock } from '../../kit/clock.ts';
import { Registry } from '../../kit/exposition.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { CloseCode, type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import {
	HealthFactKind,
	HealthFactSchema,
	HealthSource,
	HealthSubjectKind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { ApiWorld } from './api-world.ts';
import { startWorld } from './link-world.ts';
import { RawLink } from './raw-link.ts';

/** One agent that shouts: what of it becomes rows, and that nobody else pays for it. */
const HOUR_MS = 3_600_000;
const BATCH = 256;
const clock = new VirtualClock(systemClock.now());
const ctx = systemContext('test', systemClock, silentLogger, 'test');
let world: ApiWorld;
let budget: FactBudget;
/** Health facts that were stored, by node. */
const stored = new Map<string, number>();

beforeAll(async () => {
	world = await ApiWorld.start({ telemetryClock: clock });
	budget = world.deps.telemetry.facts;
});
afterAll(() => world[Symbol.asyncDispose]());

const record = (nodeId: string, facts: readonly Fact[], epoch = 0) =>
	recordFacts(
		{
			...world.deps,
			budget,
			agentAudit: new AgentAuditLimit(systemClock),
			onHealthFacts: (node, health) => void stored.set(node, (stored.get(node) ?? 0) + health.length),
		},
		ctx,
		{ nodeId, epoch },
		facts,
	);

function xid(seq: number): Fact {
	const health = create(HealthFactSchema, {
		kind: HealthFactKind.XID,
		subject: { kind: HealthSubjectKind.GPU, id: `GPU-${seq}` },
		source: HealthSource.KMSG,
		observedAt: timestampFromMs(1),
		code: 'xid:31',
		raw: 'NVRM: Xid (PCI:0000:1b:00): 31',
		count: 1,
	});
	return create(FactSchema, { seq: BigInt(seq), fact: { case: 'health', value: health } });
}

function inventory(seq: number): Fact {
	const value = { inventory: { ...fixtureInventory({ gpus: 1 }), digest: `d${seq}` }, previousDigest: 'before' };
	return create(FactSchema, { seq: BigInt(seq), fact: { case: 'inventory', value } });
}

/** `count` facts in the batches in which a session commits them. */
async function shout(
	nodeId: string,
	from: number,
	count: number,
	make: (seq: number) => Fact,
	between = async () => {},
) {
	let acked = 0n;
	for (let seq = from; seq < from + count; seq += BATCH) {
		const size = Math.min(BATCH, from + count - seq);
		acked = await record(
			nodeId,
			Array.from({ length: size }, (_, index) => make(seq + index)),
		);
		await between();
	}
	return acked;
}

const auditOf = async (nodeId: string) =>
	(await world.audit()).filter(({ target }) => target === `nodes/${nodeId}`).map(({ action }) => action);
const count = (all: readonly string[], action: string) => all.filter((one) => one === action).length;

test('at a hundred times the rate a node leaves as many rows as it may, is acknowledged, and others lose nothing', async () => {
	const [loud, quiet] = [await world.addNode(), await world.addNode()];
	const perHour = FACT_BUDGET_DEFAULT.health.perHour;
	let said = 0;
	// An hour's worth a hundred times over, and a quiet node in between.
	const acked = await shout(loud.id, 1, perHour * 100, xid, async () => {
		said += 1;
		await record(quiet.id, [xid(said)]);
	});
	expect(acked).toBe(BigInt(perHour * 100));
	expect(stored.get(loud.id)).toBe(FACT_BUDGET_DEFAULT.health.burst);
	expect(stored.get(quiet.id)).toBe(said);
	expect(budget.refusedOf(quiet.id)).toEqual([]);
	expect(budget.refusedOf(loud.id)).toMatchObject([
		{ kind: 'health', count: perHour * 100 - FACT_BUDGET_DEFAULT.health.burst },
	]);
	// One record says so, not one a fact; the next comes in a minute.
	expect(await auditOf(loud.id)).toEqual(['agent.facts_refused']);
	clock.advance(HOUR_MS);
	await shout(loud.id, perHour * 100 + 1, 2000, xid);
	// The bucket is full again, and holds no more than its burst.
	expect(stored.get(loud.id)).toBe(2 * FACT_BUDGET_DEFAULT.health.burst);
	expect(await auditOf(loud.id)).toEqual(['agent.facts_refused', 'agent.facts_refused']);
});

test('inventories are rows of the audit log for ever: so many, of a batch the newest', async () => {
	const node = await world.addNode();
	expect(await shout(node.id, 1, 1000, inventory)).toBe(1000n);
	const { burst, perHour } = FACT_BUDGET_DEFAULT.inventory;
	expect(count(await auditOf(node.id), 'nodes.inventory_changed')).toBe(burst);
	const newest = async () => (await world.deps.store.read((tx) => tx.inventories.ofNode(node.id)))[0]?.digest;
	// All went with the first batch.
	expect(await newest()).toBe(`d${BATCH}`);
	clock.advance(HOUR_MS / perHour + 1);
	await record(node.id, [inventory(1001), inventory(1002)]);
	expect(await newest()).toBe('d1002');
	expect(count(await auditOf(node.id), 'nodes.inventory_changed')).toBe(burst + 1);
});

test('a unit that fails takes nothing from the budget: its facts come again', async () => {
	const node = await world.addNode();
	const facts = Array.from({ length: BATCH }, (_, index) => xid(index + 1));
	for (let tries = 0; tries < 10; tries += 1)
		await expect(record(node.id, facts, 9)).rejects.toMatchObject({ reason: 'SESSION_SUPERSEDED' });
	expect(budget.refusedOf(node.id)).toEqual([]);
	await record(node.id, facts);
	expect(stored.get(node.id)).toBe(BATCH);
});

test('what was refused is on the metrics page, and said by node why with what to do', async () => {
	const node = await world.addNode();
	await shout(node.id, 1, 100, inventory);
	const agent = Array.from({ length: 150 }, (_, index) =>
		create(FactSchema, {
			seq: BigInt(101 + index),
			fact: { case: 'agentAudit', value: { action: 'test', detail: '' } },
		}),
	);
	await record(node.id, agent);
	const { explanations } = await world.client(NodeService, world.operatorKey).explainNode({ node: node.id });
	const lines = explanations.filter(({ subject }) => subject.endsWith(' facts'));
	expect(lines).toMatchObject([
		{ subject: 'inventory facts', finding: expect.stringMatching(/^70 were not stored \(RATE_LIMITED\)/) },
		{ subject: 'audit facts', finding: expect.stringMatching(/^50 were not stored \(RATE_LIMITED\)/) },
	]);
	expect(lines[0]?.next).toMatch(/restart its agent/);
	const registry = new Registry();
	using metrics = new OpsMetrics(world.deps, registry, world.deps.telemetry);
	await metrics.refresh();
	const page = registry.render('text');
	expect(page).toContain(`gpuaas_agent_facts_refused_total{kind="inventory"} ${budget.totals.get('inventory')}\n`);
	expect(page).toContain('gpuaas_agent_facts_refused_total{kind="audit"} 50\n');
});

test('a task that a full disk kept from being taken is said by node why, on the replica that has the agent', async () => {
	const node = await world.addNode();
	const nodes = world.client(NodeService, world.operatorKey);
	const lineOf = async () =>
		(await nodes.explainNode({ node: node.id })).explanations.find(({ subject }) => subject === 'journal');
	expect(await lineOf()).toBeUndefined();
	const declined = { reason: 'DISK_FULL', message: 'the journal is on a full disk', atMs: systemClock.now() };
	const sessions = world.deps.sessions as SessionRegistry;
	const session = { nodeId: node.id, epoch: 1, serial: '', declined, command: () => false, close: () => {} };
	sessions.add(session);
	expect(await lineOf()).toMatchObject({
		finding: expect.stringMatching(/^a task was declined \d+ s ago \(DISK_FULL\): the journal is on a full disk$/),
		next: expect.stringContaining('data folder'),
	});
	sessions.remove(session);
	expect(await lineOf()).toBeUndefined();
});

test('sessions of one node are bounded, and take no admission from the others', async () => {
	const limits = { sessionsBurstPerNode: 3, sessionsPerMinutePerNode: 0.001 };
	await using link = await startWorld({ limits });
	const transport = new GrpcTransport(systemClock);
	const address = `127.0.0.1:${link.gateway.port}`;
	const loud = await link.enroll();
	const open = [];
	for (let tries = 0; tries < 3; tries += 1) {
		const raw = new RawLink(transport, loud, address).hello();
		await raw.welcomed();
		open.push(raw);
	}
	for (let tries = 0; tries < 5; tries += 1) {
		const raw = new RawLink(transport, loud, address).hello();
		expect(await raw.closed()).toMatchObject({ code: CloseCode.OVERLOADED, retryAfter: true });
		raw.close();
	}
	const session = await link.store.read((tx) => tx.sessions.get(loud.nodeId));
	expect(session?.epoch).toBe(3);
	const other = new RawLink(transport, await link.enroll(), address).hello();
	await other.welcomed();
	for (const raw of [...open, other]) raw.close();
});

test('refusals of one node leave a few records, whatever comes', async () => {
	const deps = { ...world.deps, refusalRecords: refusalRecords(clock) };
	const about = { ...ctx, method: 'gpuaas.enrollment.v1.EnrollmentService/Complete' };
	for (let tries = 0; tries < 100; tries += 1) await recordRefusal(deps, about, 'nodes/loud', 'CLOCK_SKEW');
	await recordRefusal(deps, about, 'nodes/quiet', 'CLOCK_SKEW');
	const audit = await world.audit();
	expect(audit.filter(({ target }) => target === 'nodes/loud')).toHaveLength(20);
	expect(audit.filter(({ target }) => target === 'nodes/quiet')).toHaveLength(1);
});
