import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { CONTROL_LIMITS_DEFAULT } from '../../agent/control/control-deps.ts';
import { GRPC_TRANSPORT_LIMITS_DEFAULT, GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { GATEWAY_WIRE_LIMITS_DEFAULT } from '../../control-plane/gateway/server.ts';
import { systemClock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { createLogger } from '../../kit/log.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { CloseCode, RenewCertificateRequestSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TelemetryFrameSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { eventually } from '../eventually.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';
import { auditFacts, startWorld, type TestAgent, type World } from './link-world.ts';
import { RawLink } from './raw-link.ts';

async function relayed(world: World, rttMs = 0): Promise<{ relay: DelayRelay; identity: StoredIdentity }> {
	const relay = await DelayRelay.listen({ host: '127.0.0.1', port: world.gateway.port }, rttMs);
	return { relay, identity: await world.enroll({ gateways: [`127.0.0.1:${relay.port}`] }) };
}

const connected = (agent: TestAgent, epoch = 1) =>
	eventually(`epoch ${epoch}`, () => {
		const state = agent.control.state();
		return state.phase === 'connected' && state.epoch >= epoch;
	});

/** What the audit log holds of the agent's facts: each must be there once. */
async function recorded(world: World, nodeId: string): Promise<number> {
	const rows = await world.store.read((tx) => tx.audit.listUnchained(10_000));
	return rows.filter((row) => row.target === `nodes/${nodeId}` && /test/.test(Buffer.from(row.leaf).toString())).length;
}

test('facts are committed exactly once through ten cut connections', async () => {
	// A short lease: Node 24 may miss a reset that meets a write (its HTTP/2 reads nothing while it writes), and then the
	// lease is what ends the link.
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 1000 } });
	const { relay, identity } = await relayed(world, 4);
	await using _ = relay;
	const agent = world.agent(identity);
	agent.start();
	for (let cuts = 0; cuts < 10; cuts += 1) {
		await connected(agent, cuts + 1);
		agent.journal.appendFacts(auditFacts(200));
		const upTo = BigInt(cuts * 200 + 1);
		await eventually('some are on the way', async () => {
			const node = await world.store.read((tx) => tx.nodes.get(identity.nodeId));
			return BigInt(node?.factSeq ?? 0) >= upTo;
		});
		relay.cut();
	}
	await eventually('all are acknowledged', () => agent.journal.usage().unackedFacts === 0);
	const node = await world.store.read((tx) => tx.nodes.get(identity.nodeId));
	expect(node?.factSeq).toBe(2000);
	expect(await recorded(world, identity.nodeId)).toBe(2000);
	expect(node?.epoch).toBeGreaterThanOrEqual(11);
});

test('a half-open link is noticed by both ends, and a new connection is made', async () => {
	await using world = await startWorld({
		appLimits: { leaseTtlFloorMs: 2000 },
		gateway: { wire: { keepaliveMs: 100, keepaliveTimeoutMs: 500 } },
	});
	const { relay, identity } = await relayed(world);
	await using _ = relay;
	const agent = world.agent(identity, {
		// Only the lease may notice it here.
		transport: new GrpcTransport(systemClock, { keepaliveMs: 3_600_000 }),
		limits: {
			...CONTROL_LIMITS_DEFAULT,
			backoffBaseMs: 20,
			backoffMaxMs: 50,
			leaseTtlFloorMs: 100,
			welcomeTimeoutMs: 5000,
		},
	});
	agent.start();
	await connected(agent);
	relay.halfOpen(true);
	await eventually('the server has let go', () => !world.registry.isConnected(identity.nodeId));
	await eventually('the agent has let go', () => agent.control.state().phase !== 'connected');
	expect(agent.control.state().lastEnd?.code).toBe('DEADLINE_EXCEEDED');
	relay.halfOpen(false);
	relay.cut();
	agent.journal.appendFacts(auditFacts(1));
	await connected(agent, 2);
	await eventually('facts go again', () => agent.journal.usage().unackedFacts === 0);
});

const HOUR_MS = 3_600_000;

const SILENT = { keepaliveMs: HOUR_MS };
const QUICK = { keepaliveMs: 100, keepaliveTimeoutMs: 3000 };
const PATIENT = { keepaliveMs: 10, keepaliveTimeoutMs: HOUR_MS };

test.each(['gateway', 'agent'])(
	'a dead connection is noticed by the %s alone, by its own pings and after its own wait, long before the lease',
	async (who) => {
		await using worlds = new AsyncDisposableStack();
		/** A connection that is dead from now on, of which one end asks. */
		const dead = async (pings: Partial<typeof QUICK>) => {
			const wire = who === 'gateway' ? pings : SILENT;
			const world = worlds.use(await startWorld({ appLimits: { leaseTtlFloorMs: HOUR_MS }, gateway: { wire } }));
			const { relay, identity } = await relayed(world);
			worlds.use(relay);
			const transport = new GrpcTransport(systemClock, who === 'agent' ? pings : SILENT);
			const agent = world.agent(identity, { transport });
			agent.start();
			await connected(agent);
			relay.halfOpen(true);
			return () => ({
				gateway: !world.registry.isConnected(identity.nodeId),
				agent: agent.control.state().phase !== 'connected',
			});
		};
		// Has asked long before the other is there.
		const patient = await dead(PATIENT);
		const quick = await dead(QUICK);
		await eventually('it has let go', () => quick()[who === 'gateway' ? 'gateway' : 'agent']);
		expect(quick()).toEqual({ gateway: who === 'gateway', agent: who === 'agent' });
		expect(patient()).toEqual({ gateway: false, agent: false });
	},
);

test('each end pings every 10 seconds and waits 5 for the answer', () => {
	const promised = { keepaliveMs: 10_000, keepaliveTimeoutMs: 5000 };
	expect(GATEWAY_WIRE_LIMITS_DEFAULT).toMatchObject(promised);
	expect(GRPC_TRANSPORT_LIMITS_DEFAULT).toMatchObject(promised);
});

test('a slow control plane holds the agent back: bounded queues, nothing lost, no reconnect', async () => {
	let release = () => {};
	const gate = new Promise<void>((resolve) => {
		release = resolve;
	});
	await using world = await startWorld({
		appLimits: { leaseTtlFloorMs: 5000 },
		limits: { factsQueuedMax: 64, factBytesQueuedMax: 64 * 1024, factsPerUnitMax: 16 },
		recordFacts: (app) => async (ctx, from, facts) => {
			await gate;
			return await recordFacts({ ...app, appendAudit: world.appendAudit }, ctx, from, facts);
		},
	});
	const identity = await world.enroll();
	const link = new RawLink(new GrpcTransport(systemClock), identity, `127.0.0.1:${world.gateway.port}`);
	await link.hello({ factSeq: 100_000n }).welcomed();
	let seq = 0n;
	const detail = 'x'.repeat(2000);
	// Stream windows and socket buffers fill up, then `send` says so for good.
	let takesMore = true;
	for (let rounds = 0; rounds < 20_000 && takesMore; rounds += 1) {
		seq += 1n;
		takesMore = link.fact(seq, detail);
		if (!takesMore) takesMore = await writableAgain(link);
	}
	expect(takesMore).toBe(false);
	expect(seq).toBeLessThan(4000n);
	// Its silence is the server's doing: no lease is held against it.
	const lease = async () => (await world.store.read((tx) => tx.sessions.get(identity.nodeId)))?.leaseUntilMs ?? 0;
	const until = (await lease()) + 2000;
	await eventually('its lease is renewed for longer than it lasts', async () => (await lease()) > until);
	expect(link.end).toBeUndefined();
	release();
	const committed = () => {
		link.send({ case: 'heartbeat', value: {} });
		if (link.end !== undefined) throw new Error(`the link ended with ${link.end.code}: ${link.end.message}`);
		if (link.factAck() < seq) throw new Error(`${link.factAck()} of ${seq}`);
		return true;
	};
	// Hundreds of transactions, one after the other: on a disk that is busy each may take a while.
	await eventually('all are committed', committed, 240_000);
	link.close();
});

/** Whether the stream takes more within a while. By turns, not by the clock: both ends may have stood still for that. */
async function writableAgain(link: RawLink): Promise<boolean> {
	let turns = 0;
	const before = link.writableCount;
	await eventually('drained or not', () => {
		turns += 1;
		return link.writableCount > before || turns > 100;
	});
	return link.writableCount > before;
}

test('while the store is down facts wait and the session stays', async () => {
	let isDown = true;
	let refused = 0;
	await using world = await startWorld({
		recordFacts: (app) => async (ctx, from, facts) => {
			if (isDown) {
				refused += 1;
				throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'STORE_UNAVAILABLE', message: 'down' });
			}
			return await recordFacts({ ...app, appendAudit: world.appendAudit }, ctx, from, facts);
		},
	});
	const agent = world.agent(await world.enroll());
	agent.start();
	await connected(agent);
	agent.journal.appendFacts(auditFacts(10));
	await eventually('it was tried more than once', () => refused > 2);
	expect(agent.journal.usage().unackedFacts).toBe(10);
	isDown = false;
	await eventually('all are acknowledged', () => agent.journal.usage().unackedFacts === 0);
	expect(agent.control.state().epoch).toBe(1);
});

test('a store that is down for long is counted in the log, not written there at every try', async () => {
	const lines: Record<string, unknown>[] = [];
	const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
	const log = createLogger({ name: 'test', destination });
	let refused = 0;
	await using world = await startWorld({ limits: { tickMs: 5 } });
	const gateway = await world.startGateway({
		app: { ...world.app, log },
		recordFacts: async () => {
			refused += 1;
			throw new GpuaasError({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL', message: 'no room' });
		},
	});
	const agent = world.agent(await world.enroll({ gateways: [`127.0.0.1:${gateway.port}`] }));
	agent.start();
	await connected(agent);
	agent.journal.appendFacts(auditFacts(10));
	await eventually('it was tried often', () => refused > 100);
	const told = lines.filter(({ message }) => message === 'facts were not committed');
	expect(told.length).toBeLessThan(50);
	expect(told[0]).toMatchObject({ level: 'warn', node: agent.identity.nodeId, error: 'no room' });
});

test('500 Hellos at once: the admitted rate opens sessions, the rest are told when to return, live streams go on', async () => {
	await using world = await startWorld({ appLimits: { hellosPerSecondMax: 5 } });
	const transport = new GrpcTransport(systemClock);
	const address = `127.0.0.1:${world.gateway.port}`;
	const live = new RawLink(transport, await world.enroll(), address);
	await live.hello({ factSeq: 1000n }).welcomed();
	const identity = await world.enroll();
	// Handshakes of 500 connections take this process longer than the admission of their Hellos: 25 share one.
	const connections = Array.from({ length: 20 }, () => new RawLink(transport, identity, address).hello());
	const storm = [...connections];
	for (const { connection } of connections)
		for (let streams = 1; streams < 25; streams += 1)
			storm.push(new RawLink(transport, identity, address, connection).hello());
	expect(storm.length).toBe(500);
	let seq = 0n;
	await eventually('every one has an answer', () => {
		seq += 1n;
		if (seq <= 1000n) live.fact(seq);
		return storm.every((link) => link.frames.length > 0);
	});
	const refused = storm.filter((link) => link.frames[0]?.message.case === 'close');
	expect(refused.length).toBeGreaterThan(100);
	const [first] = refused;
	expect(await first?.closed()).toMatchObject({
		code: CloseCode.OVERLOADED,
		retryAfter: true,
		end: { code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_HELLOS' },
	});
	const waits = refused.map((link) => {
		const message = link.frames[0]?.message;
		return message?.case === 'close' ? Number(message.value.retryAfter?.seconds ?? 0n) : 0;
	});
	// 5 a second: whoever is far behind is told seconds, and they don't all come at once.
	expect(Math.max(...waits)).toBeGreaterThanOrEqual(2);
	expect(new Set(waits).size).toBeGreaterThan(2);
	await eventually('the live stream was acknowledged meanwhile', () => live.factAck() > 0n);
	expect(live.end).toBeUndefined();
	for (const link of [live, ...storm]) link.close();
});

test('an agent that is refused for load comes back and gets in', async () => {
	await using world = await startWorld({ appLimits: { hellosPerSecondMax: 1 } });
	const agents = await Promise.all(Array.from({ length: 4 }, async () => world.agent(await world.enroll())));
	for (const agent of agents) agent.start();
	const closes = new Set<unknown>();
	await eventually('all are in', () => {
		for (const agent of agents) closes.add(agent.control.state().lastEnd?.closeCode);
		return agents.every((agent) => agent.control.state().phase === 'connected');
	});
	expect([...closes]).toContain(CloseCode.OVERLOADED);
});

test('after a renewal the link moves to a second connection and nothing is interrupted', async () => {
	await using world = await startWorld();
	const { relay, identity } = await relayed(world);
	await using _ = relay;
	const agent = world.agent(identity);
	agent.start();
	await connected(agent);
	const before = identity.credential().serial;
	const phases = new Set<string>();
	agent.journal.appendFacts(auditFacts(100));

	const key = generateNodeKey();
	const request = create(RenewCertificateRequestSchema, {
		csr: createCsr(key.signer),
		joinState: identity.joinState(),
	});
	const issued = await agent.control.renewCertificate(request, new AbortController().signal);
	identity.storeRenewal({ chain: issued.chain, keyPem: key.privateKeyPem, joinState: issued.joinState });
	await eventually('it has moved', () => {
		phases.add(agent.control.state().phase);
		return agent.control.state().epoch === 2;
	});
	expect([...phases]).toEqual(['connected']);
	expect(relay.accepted).toBe(2);
	const after = identity.credential().serial;
	expect(after).not.toBe(before);
	const slots = await world.store.read((tx) => tx.certificates.slots(identity.nodeId));
	expect(slots.current?.serial).toBe(after);
	expect((await world.store.read((tx) => tx.certificates.get(before)))?.state).toBe('superseded');
	await eventually('facts go on', () => agent.journal.usage().unackedFacts === 0);
	expect(await recorded(world, identity.nodeId)).toBe(100);
	expect(agent.control.state().lastEnd).toBeUndefined();
});

test('a control plane that restarts is found again, at another gateway of the list', async () => {
	await using world = await startWorld();
	const second = await world.startGateway();
	const identity = await world.enroll({
		gateways: [`127.0.0.1:${world.gateway.port}`, `127.0.0.1:${second.port}`],
	});
	const agent = world.agent(identity);
	agent.start();
	await connected(agent);
	expect(agent.control.state().gateway).toBe(`127.0.0.1:${world.gateway.port}`);
	await world.gateway[Symbol.asyncDispose]();
	agent.journal.appendFacts(auditFacts(5));
	await connected(agent, 2);
	expect(agent.control.state().gateway).toBe(`127.0.0.1:${second.port}`);
	await eventually('facts go on', () => agent.journal.usage().unackedFacts === 0);
});

test('a newer bundle is sent with Welcome and by broadcast, acknowledged, and moves the link', async () => {
	await using world = await startWorld();
	const stored: number[] = [];
	const identity = await world.enroll();
	const agent = world.agent(identity, {
		identity: new Proxy(identity, {
			get(target, name) {
				if (name === 'storeBundle') return (bytes: Uint8Array) => stored.push(bytes.length) > 0;
				const value = Reflect.get(target, name, target) as unknown;
				return typeof value === 'function' ? value.bind(target) : value;
			},
		}),
	});
	agent.start();
	await connected(agent);
	world.registry.broadcastTrust(new Uint8Array([1, 2, 3]));
	world.registry.broadcastTrust(new Uint8Array([4, 5, 6]));
	await eventually('both came', () => stored.length === 2);
	await eventually('the acknowledged bundle is recorded', async () => {
		const node = await world.store.read((tx) => tx.nodes.get(identity.nodeId));
		return (
			node?.bundleSeqAcked === identity.bundle().seq && node.issuerKeyIdAcked === identity.credential().issuerKeyId
		);
	});
});

test('an agent learns why it was refused, by code and by reason, until it is let in', async () => {
	await using world = await startWorld();
	const identity = await world.enroll({ node: { locked: true, lockReason: 'looked odd' } });
	const agent = world.agent(identity);
	agent.start();
	await eventually('it was refused', () => agent.control.state().lastEnd !== undefined);
	expect(agent.control.state().lastEnd).toMatchObject({ closeCode: CloseCode.LOCKED, reason: 'NODE_LOCKED' });
	await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { locked: false, lockReason: '' }));
	await connected(agent);
	expect(agent.control.state().lastEnd).toBeUndefined();

	const unknown = await world.enroll();
	await world.store.unit((tx) => tx.certificates.update(unknown.credential().serial, { state: 'superseded' }));
	const forgotten = world.agent(unknown);
	forgotten.start();
	await eventually('it was refused', () => forgotten.control.state().lastEnd?.reason === 'CERTIFICATE_SUPERSEDED');
});

test('telemetry is droppable: taken while connected, refused while not', async () => {
	await using world = await startWorld();
	const agent = world.agent(await world.enroll());
	const frame = create(TelemetryFrameSchema, { schema: 1, values: [1], at: { seconds: 1n } });
	expect(agent.control.sendTelemetry(frame)).toBe(false);
	agent.start();
	await connected(agent);
	expect(agent.control.sendTelemetry(frame)).toBe(true);
	await eventually('it was taken in', () => world.telemetry.includes(agent.identity.nodeId));
});
