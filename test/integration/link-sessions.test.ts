import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { SqliteJournal } from '../../agent/journal/sqlite.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { LeaseReconciler } from '../../control-plane/reconcilers/leases.ts';
import { systemClock } from '../../kit/clock.ts';
import { CloseCode } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { eventually } from '../eventually.ts';
import { auditFacts, startWorld, type World } from './link-world.ts';
import { RawLink } from './raw-link.ts';

let world: World;
let address: string;
const links: RawLink[] = [];
const transport = new GrpcTransport(systemClock);

beforeAll(async () => {
	world = await startWorld();
	address = `127.0.0.1:${world.gateway.port}`;
});
afterAll(async () => {
	for (const link of links) link.close();
	await world[Symbol.asyncDispose]();
});

async function connect(gateway = address, identity?: Awaited<ReturnType<World['enroll']>>) {
	const known = identity ?? (await world.enroll());
	const link = new RawLink(transport, known, gateway);
	links.push(link);
	return { link, identity: known };
}

test('a newer session closes the older one with a typed code, and keeps its own epoch', async () => {
	const { link: first, identity } = await connect();
	expect((await first.hello().welcomed()).epoch).toBe(1n);
	const { link: second } = await connect(address, identity);
	expect((await second.hello().welcomed()).epoch).toBe(2n);
	const { code, end } = await first.closed();
	expect(code).toBe(CloseCode.SUPERSEDED);
	expect(end).toMatchObject({ code: 'ABORTED', reason: 'SESSION_SUPERSEDED' });
	expect(world.registry.get(identity.nodeId)?.epoch).toBe(2);
	const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
	expect(row).toMatchObject({ epoch: 2, disconnectedAtMs: null });
});

test('a session that was superseded on another replica learns it with its next heartbeat', async () => {
	const { link, identity } = await connect();
	await link.hello().welcomed();
	const elsewhere = await world.startGateway({
		registry: new SessionRegistry(),
	});
	const { link: other } = await connect(`127.0.0.1:${elsewhere.port}`, identity);
	expect((await other.hello().welcomed()).epoch).toBe(2n);
	link.send({ case: 'heartbeat', value: { epoch: 1n } });
	expect((await link.closed()).code).toBe(CloseCode.SUPERSEDED);
});

test('an image of an older generation is refused', async () => {
	const identity = await world.enroll({ node: { generation: 3 } });
	const { link } = await connect(address, identity);
	const { code, end } = await link.hello({ generation: 2 }).closed();
	expect(code).toBe(CloseCode.STALE_GENERATION);
	expect(end.reason).toBe('STALE_GENERATION');
	const row = await world.store.read((tx) => tx.nodes.get(identity.nodeId));
	expect(row?.epoch).toBe(0);
});

test('a Hello that names another node is refused, whatever its certificate is worth', async () => {
	const victim = await world.enroll();
	const { link } = await connect();
	expect((await link.hello({ nodeId: victim.nodeId }).closed()).code).toBe(CloseCode.PROTOCOL);
	expect(world.registry.isConnected(victim.nodeId)).toBe(false);
});

test('what breaks the protocol ends the stream: no Hello first, facts before Welcome, falling facts, unknown acks', async () => {
	const { link: heartbeatFirst } = await connect();
	heartbeatFirst.send({ case: 'heartbeat', value: {} });
	expect((await heartbeatFirst.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: eager } = await connect();
	eager.hello().fact(1n);
	expect((await eager.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: falling } = await connect();
	await falling.hello({ factSeq: 9n }).welcomed();
	falling.fact(5n);
	falling.fact(4n);
	expect((await falling.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: fallingInside } = await connect();
	await fallingInside.hello({ factSeq: 9n }).welcomed();
	fallingInside.facts(5n, 6n, 6n);
	expect((await fallingInside.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: empty } = await connect();
	await empty.hello().welcomed();
	empty.facts();
	expect((await empty.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: acker } = await connect();
	await acker.hello().welcomed();
	acker.send({ case: 'commandAck', value: 7n });
	expect((await acker.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: ackerWithFacts } = await connect();
	await ackerWithFacts.hello().welcomed();
	const fact = { case: 'agentAudit', value: { action: 'test.happened', detail: '' } } as const;
	ackerWithFacts.send({ case: 'facts', value: { facts: [{ seq: 1n, fact }], commandAck: 7n } });
	expect((await ackerWithFacts.closed()).code).toBe(CloseCode.PROTOCOL);

	const { link: invalid } = await connect();
	expect((await invalid.hello({ instanceId: '' }).closed()).code).toBe(CloseCode.PROTOCOL);
});

test('facts in one message are recorded in order and acknowledged together, also beside single ones', async () => {
	const { link } = await connect();
	await link.hello().welcomed();
	link.facts(1n, 2n, 3n);
	link.fact(4n);
	link.facts(5n, 9n);
	await eventually('all are acknowledged', () => link.factAck() === 9n);
});

test('a stream that says nothing is closed, and one that nobody ends is cut', async () => {
	const gateway = await world.startGateway({
		limits: { ...world.linkDeps.limits, helloTimeoutMs: 2000, closeGraceMs: 100 },
	});
	const { link } = await connect(`127.0.0.1:${gateway.port}`);
	link.send({ case: undefined } as never);
	const { code } = await link.closed();
	expect(code).toBe(CloseCode.PROTOCOL);
	await eventually('nothing is left of it', () => gateway.link.streamCount === 0);
});

test('a frame above the limit ends its stream and nothing else', async () => {
	const { link: other } = await connect();
	await other.hello().welcomed();
	// An agent would not even send it.
	const lavish = new GrpcTransport(systemClock, { messageBytesMax: 64 * 1024 * 1024 });
	const link = new RawLink(lavish, await world.enroll(), address);
	links.push(link);
	await link.hello().welcomed();
	link.send({ case: 'telemetry', value: { schema: 1, values: new Array(600_000).fill(1) } });
	expect((await link.closed()).end.code).toBe('RESOURCE_EXHAUSTED');
	other.fact(1n);
	await eventually('the other goes on', () => other.factAck() === 1n);
});

test('a revoked certificate ends its live stream at once and opens no other', async () => {
	const { link, identity } = await connect();
	await link.hello().welcomed();
	const { serial } = identity.credential();
	await world.store.unit(function* (tx) {
		yield* tx.certificates.update(serial, {
			state: 'revoked',
			revokedAtMs: systemClock.now(),
			revocationReason: 'test',
		});
	});
	world.app.bus.publish({ topic: 'certificates.revoked', key: serial });
	const { code } = await link.closed();
	expect(code).toBe(CloseCode.REVOKED);
	const { link: again } = await connect(address, identity);
	expect((await again.hello().closed()).code).toBe(CloseCode.REVOKED);
});

test('a locked node is refused until it is unlocked', async () => {
	const identity = await world.enroll();
	await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { locked: true, lockReason: 'looked odd' }));
	const { link } = await connect(address, identity);
	expect((await link.hello().closed()).code).toBe(CloseCode.LOCKED);
	await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { locked: false, lockReason: '' }));
	const { link: again } = await connect(address, identity);
	await again.hello().welcomed();
});

test('a certificate of an issuer that issues no more is renewed at once, and one of the present issuer is not', async () => {
	const { link, identity } = await connect();
	expect((await link.hello().welcomed()).renewNow).toBe(false);
	const authority = new Proxy(world.authority, {
		get(target, name) {
			if (name === 'activeNodeIssuer') return () => 'the next';
			const value = Reflect.get(target, name, target) as unknown;
			return typeof value === 'function' ? value.bind(target) : value;
		},
	});
	const rotated = await world.startGateway({ app: { ...world.app, authority } });
	const { link: late } = await connect(`127.0.0.1:${rotated.port}`, identity);
	expect((await late.hello().welcomed()).renewNow).toBe(true);
});

test('a stream ends with its certificate', async () => {
	let aheadMs = 0;
	const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
	const gateway = await world.startGateway({ app: { ...world.app, clock } });
	const { link } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	aheadMs = 25 * 3_600_000;
	expect((await link.closed()).code).toBe(CloseCode.CERTIFICATE_EXPIRED);
});

test('commands are numbered, bounded while unacknowledged, and not doubled', async () => {
	const gateway = await world.startGateway({
		app: { ...world.app, limits: { ...world.app.limits, offersInFlightPerNodeMax: 3 } },
	});
	const { link, identity } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	const offer = (taskId: string) =>
		world.registry.offer(identity.nodeId, { taskId, attempt: 1, correlationId: 'c', envelope: new Uint8Array() });
	expect(['a', 'b', 'c', 'd'].map(offer)).toEqual([true, true, true, false]);
	expect(offer('a')).toBe(true);
	expect(world.registry.renewNow(identity.nodeId, 'rotation')).toBe(true);
	await eventually('four commands came', () => link.commands().length === 4);
	expect(link.commands()).toEqual([1n, 2n, 3n, 4n]);
	link.send({ case: 'commandAck', value: 1n });
	await eventually('there is room again', () => offer('d'));
	expect(
		world.registry.offer('nobody', { taskId: 'x', attempt: 1, correlationId: '', envelope: new Uint8Array() }),
	).toBe(false);
});

test("an agent's impossible numbers harm nobody's lease", async () => {
	const { link: liar, identity: liarIdentity } = await connect();
	await liar.hello({ bundleSeq: 2n ** 63n }).welcomed();
	const { link: honest, identity } = await connect();
	await honest.hello().welcomed();
	const leaseOf = async ({ nodeId } = identity) =>
		(await world.store.read((tx) => tx.sessions.get(nodeId)))?.leaseUntilMs ?? 0;
	const before = await leaseOf();
	const liarBefore = await leaseOf(liarIdentity);
	liar.send({ case: 'heartbeat', value: { bundleSeq: 2n ** 40n, issuerKeyId: 'x'.repeat(1000) } });
	honest.send({ case: 'heartbeat', value: {} });
	await eventually('the lease of the other is renewed', async () => (await leaseOf()) > before);
	await eventually('so is its own', async () => (await leaseOf(liarIdentity)) > liarBefore);
	const node = await world.store.read((tx) => tx.nodes.get(liarIdentity.nodeId));
	expect(node).toMatchObject({
		bundleSeqAcked: world.authority.bundle().seq,
		issuerKeyIdAcked: liarIdentity.credential().issuerKeyId,
	});
});

test('a session that is silent for a whole lease is closed', async () => {
	const gateway = await world.startGateway({
		app: { ...world.app, limits: { ...world.app.limits, leaseTtlFloorMs: 60 } },
	});
	const { link } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	expect((await link.closed()).code).toBe(CloseCode.LEASE_EXPIRED);
});

test('a node is lost after its lease and the grace of a restart, once, and its tasks are settled', async () => {
	const gateway = await world.startGateway({
		app: { ...world.app, limits: { ...world.app.limits, leaseTtlFloorMs: 60 } },
	});
	const { link, identity } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	link.close();
	await eventually('the lease ran out', async () => {
		const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
		return (row?.leaseUntilMs ?? Number.POSITIVE_INFINITY) < systemClock.now();
	});
	const settled: string[] = [];
	let nowMs = 0;
	const reconciler = (lostGraceMs: number) =>
		new LeaseReconciler({
			app: { ...world.app, clock: { ...systemClock, monotonic: () => nowMs } },
			appendAudit: world.appendAudit,
			loseTasksOfNode: async (_app, _ctx, nodeId) => settled.push(nodeId),
			lostGraceMs,
			periodMs: 1000,
			leaseTtlMs: () => 10_000,
		});
	const started = reconciler(300_000);
	const twoLeases = reconciler(1);
	nowMs = 19_999;
	expect(await twoLeases.runOnce()).toEqual([]);
	nowMs = 299_999;
	expect(await started.runOnce()).toEqual([]);
	nowMs = 300_000;
	expect(await started.runOnce()).toContain(identity.nodeId);
	expect(settled).toContain(identity.nodeId);
	expect(await started.runOnce()).not.toContain(identity.nodeId);

	const { link: back } = await connect(address, identity);
	await back.hello().welcomed();
	const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
	expect(row).toMatchObject({ epoch: 2, lostAtMs: null });
});

test('an agent whose journal is new loses none of its facts', async () => {
	const { link, identity } = await connect();
	await link.hello({ factSeq: 20n }).welcomed();
	for (let seq = 1n; seq <= 20n; seq += 1n) link.fact(seq);
	await eventually('all are committed', () => link.factAck() === 20n);
	const { link: late } = await connect(address, identity);
	expect((await late.hello({ factSeq: 2n }).welcomed()).factAck, 'a late Hello of the same process').toBe(20n);
	const { link: restarted } = await connect(address, identity);
	expect((await restarted.hello({ factSeq: 2n, instanceId: 'restarted' }).welcomed()).factAck).toBe(0n);
	restarted.fact(1n);
	restarted.fact(2n);
	await eventually('the new ones are committed', () => restarted.factAck() === 2n);
});

test('a goodbye takes the node out of the registry and its lease runs on', async () => {
	// Longer than any test may take: nothing but the goodbye takes it out.
	const limits = { ...world.app.limits, leaseTtlFloorMs: 3_600_000 };
	const gateway = await world.startGateway({ app: { ...world.app, limits } });
	const { link, identity } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	link.send({ case: 'goodbye', value: { reason: 'stopped' } });
	await eventually('no more work for it', () => !world.registry.isConnected(identity.nodeId));
	const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
	expect(row?.lostAtMs).toBeNull();
});

test('a gateway that stops sends its agents away with a time to return, and waits for none', async () => {
	const gateway = await world.startGateway();
	const { link, identity } = await connect(`127.0.0.1:${gateway.port}`);
	await link.hello().welcomed();
	await gateway[Symbol.asyncDispose]();
	const { code, retryAfter } = await link.closed();
	expect(code).toBe(CloseCode.SHUTTING_DOWN);
	expect(retryAfter).toBe(true);
	const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
	expect(row?.disconnectedAtMs).not.toBeNull();
	expect(gateway.connections()).toBe(0);
});

test('a journal on disk is followed the same way', async () => {
	const identity = await world.enroll();
	const journal = new SqliteJournal({ path: world.folder('agent-journal.db') });
	const agent = world.agent(identity, { journal });
	agent.start();
	journal.appendFacts(auditFacts(300));
	await eventually('all are acknowledged', () => journal.usage().unackedFacts === 0);
	await agent.stop();
	journal.close();
});
