import { once } from 'node:events';
import {
	type ClientHttp2Session,
	connect as connectHttp2,
	constants,
	createSecureServer,
	type ServerHttp2Session,
} from 'node:http2';
import { connect as connectTcp, createServer } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { create } from '@bufbuild/protobuf';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { GATEWAY_TLS_LIMITS_DEFAULT, GatewayCredentials } from '../../control-plane/gateway/credentials.ts';
import { startGateway } from '../../control-plane/gateway/server.ts';
import { systemClock } from '../../kit/clock.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { certificatePem, certificatesOfPem } from '../../pki/x509/pem.ts';
import {
	CloseCode,
	ConnectRequestSchema,
	RenewCertificateRequestSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { eventually } from '../eventually.ts';
import { startWorld, TRUST_DOMAIN, targetOf, type World } from './link-world.ts';
import { RawLink } from './raw-link.ts';

let world: World;
let identity: StoredIdentity;
const transport = new GrpcTransport(systemClock);
const links: RawLink[] = [];

beforeAll(async () => {
	world = await startWorld();
	identity = await world.enroll();
});
afterAll(async () => {
	for (const link of links) link.close();
	await world[Symbol.asyncDispose]();
});

function raw(who: StoredIdentity, port: number, host = '127.0.0.1'): RawLink {
	const link = new RawLink(transport, who, `${host}:${port}`);
	links.push(link);
	return link;
}

/** The TLS version that was agreed on, or the failure; also one that comes only with the first byte (TLS 1.3). */
async function handshake(port: number, options: ConnectionOptions): Promise<string> {
	const socket = connectTls({
		host: '127.0.0.1',
		port,
		servername: `gateway.${TRUST_DOMAIN}`,
		ca: identity.bundle().rootsPem,
		ALPNProtocols: ['h2'],
		...options,
	});
	try {
		// The server speaks first in HTTP/2 (SETTINGS), once it has accepted the client's certificate.
		const spoke = await Promise.race([once(socket, 'data').then(() => true), once(socket, 'close').then(() => false)]);
		return spoke ? (socket.getProtocol() ?? 'none') : 'refused without a word';
	} catch (error) {
		return `refused ${(error as { code?: string }).code ?? String(error)}`;
	} finally {
		socket.destroy();
	}
}

function nodeTls(who = identity): ConnectionOptions {
	const { chainPem, keyPem } = who.credential();
	return { cert: chainPem, key: keyPem };
}

function leafSerial(port: number): Promise<string> {
	return new Promise((resolve, reject) => {
		const socket = connectTls(
			{ host: '127.0.0.1', port, servername: `gateway.${TRUST_DOMAIN}`, ca: identity.bundle().rootsPem, ...nodeTls() },
			() => {
				resolve(socket.getPeerCertificate().serialNumber.toLowerCase());
				socket.destroy();
			},
		);
		socket.on('error', reject);
	});
}

test('TLS 1.2 is refused before and after a swap; a swap keeps live streams and shows new ones the new chain', async () => {
	const { port } = world.gateway;
	const tls12 = { ...nodeTls(), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
	expect(await handshake(port, nodeTls())).toBe('TLSv1.3');
	expect(await handshake(port, tls12)).toMatch(/^refused/);
	const link = raw(identity, port);
	await link.hello().welcomed();
	const before = await leafSerial(port);

	for (let swaps = 0; swaps < 2; swaps += 1) {
		world.gateway.swapIdentity(await world.newReplicaIdentity());
		expect(await handshake(port, tls12)).toMatch(/^refused/);
		expect(await handshake(port, nodeTls())).toBe('TLSv1.3');
	}
	expect(await leafSerial(port)).not.toBe(before);
	link.fact(1n);
	await eventually('the old stream goes on', () => link.factAck() === 1n);
	expect(link.end).toBeUndefined();
});

test('a swap to what can not be read changes nothing: the certificate before is shown as ever', async () => {
	const gateway = await world.startGateway();
	const before = await leafSerial(gateway.port);
	const next = await world.newReplicaIdentity();
	const broken = [
		{ ...next, chainPem: 'not a certificate' },
		{ ...next, keyPem: world.gatewayIdentity.keyPem },
	];
	for (const unusable of broken) {
		expect(() => gateway.swapIdentity(unusable)).toThrow();
		expect(await handshake(gateway.port, nodeTls())).toBe('TLSv1.3');
		// Whoever names nobody is shown the same.
		expect(await handshake(gateway.port, { ...nodeTls(), servername: '', checkServerIdentity: () => undefined })).toBe(
			'TLSv1.3',
		);
		expect(await leafSerial(gateway.port)).toBe(before);
	}
	gateway.swapIdentity(next);
	expect(await leafSerial(gateway.port)).not.toBe(before);
});

test('an agent speaks nothing below TLS 1.3, link and channels, before and after its certificate is renewed', async () => {
	const who = await world.enroll();
	const { chainPem, keyPem, clientAnchorsPem } = world.gatewayIdentity;
	const tls = { cert: chainPem, key: keyPem, ca: clientAnchorsPem, requestCert: true, allowPartialTrustChain: true };
	/** How many sessions each kind of stream gets with a gateway of that version. */
	const sessionsWith = async (maxVersion: 'TLSv1.2' | 'TLSv1.3') => {
		const server = createSecureServer({ ...tls, maxVersion });
		let sessions = 0;
		server.on('session', (session) => {
			sessions += 1;
			session.destroy();
		});
		server.listen(0, '127.0.0.1');
		await once(server, 'listening');
		const connection = transport.open(targetOf(who, `127.0.0.1:${(server.address() as { port: number }).port}`));
		const counts: number[] = [];
		for (const open of [connection.connect, connection.uploadOutput, connection.channel]) {
			const before = sessions;
			await new Promise<void>((resolve) => {
				open({ onFrame: () => {}, onWritable: () => {}, onClosed: () => resolve() });
			});
			counts.push(Math.sign(sessions - before));
		}
		connection.close();
		server.close();
		return counts;
	};
	expect(await sessionsWith('TLSv1.3')).toEqual([1, 1, 1]);
	expect(await sessionsWith('TLSv1.2')).toEqual([0, 0, 0]);

	const key = generateNodeKey();
	const csr = createCsr(key.signer);
	const { connection } = raw(who, world.gateway.port);
	const request = create(RenewCertificateRequestSchema, { csr, joinState: who.joinState() });
	const issued = await connection.renewCertificate(request, new AbortController().signal);
	who.storeRenewal({ chain: issued.chain, keyPem: key.privateKeyPem, joinState: issued.joinState });
	expect(await sessionsWith('TLSv1.3')).toEqual([1, 1, 1]);
	expect(await sessionsWith('TLSv1.2')).toEqual([0, 0, 0]);
});

test('an issuing CA is an anchor of TLS at both ends, before and after a swap, and only for what it has signed itself', async () => {
	const [, nodeCa] = certificatesOfPem(identity.credential().chainPem).map(certificatePem);
	const [, replicaCa] = certificatesOfPem(world.gatewayIdentity.chainPem).map(certificatePem);
	const gateway = await world.startGateway();
	// Without the root, whose signature over an issuing CA is then nobody's to verify.
	const withAnchor = async (pem = '') => ({ ...(await world.newReplicaIdentity()), clientAnchorsPem: pem });
	for (let swaps = 0; swaps < 2; swaps += 1) {
		gateway.swapIdentity(await withAnchor(nodeCa));
		expect(await handshake(gateway.port, nodeTls())).toBe('TLSv1.3');
		gateway.swapIdentity(await withAnchor(replicaCa));
		expect(await handshake(gateway.port, nodeTls())).toMatch(/^refused/);
	}
	const outcome = async (trustAnchorsPem = '') => {
		const bundle = { ...identity.bundle(), trustAnchorsPem };
		const connection = transport.open({ ...targetOf(identity, `127.0.0.1:${world.gateway.port}`), bundle });
		const seen: string[] = [];
		const stream = connection.connect({
			onFrame: ({ message }) => seen.push(message.case ?? ''),
			onWritable: () => {},
			onClosed: ({ message }) => seen.push(message),
		});
		stream.send(create(ConnectRequestSchema, { message: { case: 'goodbye', value: {} } }));
		await eventually('it is answered', () => seen.length > 0);
		connection.close();
		return seen[0];
	};
	expect(await outcome(replicaCa)).toBe('close');
	expect(await outcome(nodeCa)).toContain('unable to get local issuer certificate');
});

test('a client without certificate, or with one of another trust domain, gets no HTTP/2', async () => {
	const { port } = world.gateway;
	expect(await handshake(port, {})).toMatch(/^refused/);
	await using stranger = await startWorld();
	expect(await handshake(port, nodeTls(await stranger.enroll()))).toMatch(/^refused/);
});

test('a resumed session is not shared with another context: after a swap a ticket means a full handshake', async () => {
	const gateway = await world.startGateway();
	const options = { host: '127.0.0.1', port: gateway.port, servername: `gateway.${TRUST_DOMAIN}` };
	const dial = (session?: Buffer) => {
		const socket = connectTls({
			...options,
			ca: identity.bundle().rootsPem,
			ALPNProtocols: ['h2'],
			...nodeTls(),
			...(session === undefined ? {} : { session }),
		});
		// Tickets come after the handshake, and only to who reads.
		return socket.resume();
	};
	const first = dial();
	const [ticket] = (await once(first, 'session')) as [Buffer];
	first.destroy();
	const isResumed = async () => {
		const socket = dial(ticket);
		await once(socket, 'secureConnect');
		const isReused = socket.isSessionReused();
		socket.destroy();
		return isReused;
	};
	expect(await isResumed()).toBe(true);
	gateway.swapIdentity(await world.newReplicaIdentity());
	expect(await isResumed()).toBe(false);
});

test('a replica certificate opens no agent stream', async () => {
	const { chainPem, keyPem } = await world.newReplicaIdentity();
	const [leafDer = new Uint8Array()] = certificatesOfPem(chainPem);
	const credential = { ...identity.credential(), chainPem, keyPem, leafDer };
	const connection = transport.open({
		gateway: `127.0.0.1:${world.gateway.port}`,
		trustDomain: TRUST_DOMAIN,
		credential,
		bundle: identity.bundle(),
	});
	const ends: string[] = [];
	const codes: (CloseCode | undefined)[] = [];
	const stream = connection.connect({
		onFrame: ({ message }) => codes.push(message.case === 'close' ? message.value.code : undefined),
		onWritable: () => {},
		onClosed: ({ code }) => ends.push(code),
	});
	const hello = { nodeId: identity.nodeId, generation: 1, instanceId: 'replica' };
	stream.send(create(ConnectRequestSchema, { message: { case: 'hello', value: hello } }));
	await eventually('it is over', () => ends.length === 1);
	expect(codes).toEqual([CloseCode.PROTOCOL]);
	const request = create(RenewCertificateRequestSchema, { csr: new Uint8Array([1]), joinState: 'x' });
	await expect(connection.renewCertificate(request, new AbortController().signal)).rejects.toMatchObject({
		reason: 'CERTIFICATE_PROFILE_INVALID',
	});
	connection.close();
});

test('a node certificate that poses as a gateway is refused by the agent', async () => {
	const other = await world.enroll();
	const { chainPem, keyPem } = other.credential();
	const posing = await startGateway(world.linkDeps, {
		host: '127.0.0.1',
		port: 0,
		identity: { chainPem, keyPem, clientAnchorsPem: identity.bundle().trustAnchorsPem },
	});
	const link = raw(identity, posing.port);
	link.hello();
	const { end } = await link.closed();
	expect(end.code).toBe('UNAVAILABLE');
	expect(end.message).toContain('a node certificate was presented where only a replica certificate is accepted');
	expect(posing.link.streamCount).toBe(0);
	await posing[Symbol.asyncDispose]();
});

test('a gateway of a replica issuer that the bundle does not accept is refused', async () => {
	const bundle = { ...identity.bundle(), replicaIssuers: new Set(['00']) };
	const connection = transport.open({
		gateway: `127.0.0.1:${world.gateway.port}`,
		trustDomain: TRUST_DOMAIN,
		credential: identity.credential(),
		bundle,
	});
	const messages: string[] = [];
	connection.connect({ onFrame: () => {}, onWritable: () => {}, onClosed: ({ message }) => messages.push(message) });
	await eventually('it is refused', () => messages.length === 1);
	expect(messages[0]).toContain('which is not accepted here');
	connection.close();
});

const CONNECT = {
	':method': 'POST',
	':path': '/gpuaas.link.v1.AgentLinkService/Connect',
	'content-type': 'application/grpc',
	te: 'trailers',
};

test('a gateway raises the window of the connection too, with its first stream: settings raise those of streams only', async () => {
	const session = connectHttp2(`https://127.0.0.1:${world.gateway.port}`, {
		servername: `gateway.${TRUST_DOMAIN}`,
		ca: identity.bundle().rootsPem,
		checkServerIdentity: () => undefined,
		...nodeTls(),
	});
	session.on('error', () => {});
	await once(session, 'remoteSettings');
	// What we may send before anything is read: 64 KiB by RFC 9113.
	expect(session.state.remoteWindowSize).toBeLessThanOrEqual(65_535);
	session.request(CONNECT).on('error', () => {});
	await eventually('it may be sent 4 MiB', () => (session.state.remoteWindowSize ?? 0) > 4_000_000);
	session.destroy();
});

test.each(['connect', 'uploadOutput', 'channel'] as const)('an agent raises both as well: %s', async (kind) => {
	const { chainPem, keyPem, clientAnchorsPem } = world.gatewayIdentity;
	const server = createSecureServer({ cert: chainPem, key: keyPem, ca: clientAnchorsPem, requestCert: true });
	const sessions: ServerHttp2Session[] = [];
	server.on('session', (session) => sessions.push(session));
	server.on('stream', (stream) => stream.on('error', () => {}));
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	const connection = transport.open(targetOf(identity, `127.0.0.1:${(server.address() as { port: number }).port}`));
	connection[kind]({ onFrame: () => {}, onWritable: () => {}, onClosed: () => {} });
	await eventually('it may be sent 4 MiB', () => (sessions[0]?.state.remoteWindowSize ?? 0) > 4_000_000);
	await eventually('and 1 MiB a stream', () => sessions[0]?.remoteSettings.initialWindowSize === 1024 * 1024);
	connection.close();
	for (const session of sessions) session.destroy();
	server.close();
});

test('opening and resetting streams in a row ends the connection, not the process', async () => {
	const session: ClientHttp2Session = connectHttp2(`https://127.0.0.1:${world.gateway.port}`, {
		servername: `gateway.${TRUST_DOMAIN}`,
		ca: identity.bundle().rootsPem,
		checkServerIdentity: () => undefined,
		...nodeTls(),
	});
	session.on('error', () => {});
	await once(session, 'remoteSettings');
	expect(session.remoteSettings.maxConcurrentStreams).toBe(GATEWAY_TLS_LIMITS_DEFAULT.streamsPerConnectionMax);
	expect(session.remoteSettings.initialWindowSize).toBe(1024 * 1024);
	// Few at a time, each time answered: so many came there, and not more.
	const gone = once(session, 'close');
	const answered = () => new Promise((resolve) => void session.ping(resolve));
	let opened = 0;
	for (; !session.destroyed && opened < 500; opened += 8) {
		for (let burst = 0; burst < 8 && !session.closed; burst += 1) {
			const stream = session.request(CONNECT);
			stream.on('error', () => {});
			stream.close(constants.NGHTTP2_CANCEL);
		}
		if (!session.destroyed) await Promise.race([answered(), gone]);
	}
	expect(session.destroyed, `after ${opened} streams`).toBe(true);
	expect(opened).toBeGreaterThanOrEqual(GATEWAY_TLS_LIMITS_DEFAULT.resetsBurst);
	const link = raw(await world.enroll(), world.gateway.port);
	await link.hello().welcomed();
});

test('addresses above their handshake rate and connections above the cap are cut before TLS', async () => {
	const turned: string[] = [];
	await using busy = await startWorld({
		gateway: {
			acceptor: { handshakesPerSecondPerAddress: 0.001, handshakesBurstPerAddress: 2 },
			onTurnedAway: (why) => turned.push(why),
		},
	});
	const who = await busy.enroll();
	const first = raw(who, busy.gateway.port);
	await first.hello().welcomed();
	const second = raw(await busy.enroll(), busy.gateway.port);
	await second.hello().welcomed();
	expect(
		(
			await raw(await busy.enroll(), busy.gateway.port)
				.hello()
				.closed()
		).end.code,
	).toBe('UNAVAILABLE');
	expect(turned).toEqual(['address_rate']);
	first.close();
	second.close();
	await eventually('connections are forgotten', () => busy.gateway.connections() === 0);

	await using full = await startWorld({
		gateway: { acceptor: { connectionsMax: 1 }, onTurnedAway: (why) => turned.push(why) },
	});
	const only = raw(await full.enroll(), full.gateway.port);
	await only.hello().welcomed();
	expect(
		(
			await raw(await full.enroll(), full.gateway.port)
				.hello()
				.closed()
		).end.code,
	).toBe('UNAVAILABLE');
	expect(turned.at(-1)).toBe('connections');
	only.close();
});

test('one address may hold only so many connections, and gets a place back when one of them ends', async () => {
	const turned: string[] = [];
	await using world = await startWorld({
		gateway: { acceptor: { connectionsPerAddressMax: 2 }, onTurnedAway: (why) => turned.push(why) },
	});
	const first = raw(await world.enroll(), world.gateway.port);
	await first.hello().welcomed();
	const second = raw(await world.enroll(), world.gateway.port);
	await second.hello().welcomed();
	const third = raw(await world.enroll(), world.gateway.port);
	expect((await third.hello().closed()).end.code).toBe('UNAVAILABLE');
	expect(turned).toEqual(['address']);
	first.close();
	await eventually('it is gone', () => world.gateway.connections() === 1);
	const fourth = raw(await world.enroll(), world.gateway.port);
	await fourth.hello().welcomed();
	second.close();
	fourth.close();
});

test('handshakes that are begun and not finished hold the line only until their timeout', async () => {
	await using world = await startWorld({
		// So late that nothing but the timeout of its handshake cuts it.
		gateway: { acceptor: { handshakesAtOnceMax: 1, firstStreamMs: 3_600_000 }, tls: { handshakeTimeoutMs: 6000 } },
	});
	const order: string[] = [];
	const silent = connectTcp({ host: '127.0.0.1', port: world.gateway.port });
	const gone = once(silent, 'close').then(() => order.push('the silent one is cut'));
	await once(silent, 'connect');
	await eventually('it is seen', () => world.gateway.connections() === 1);
	const link = raw(await world.enroll(), world.gateway.port);
	await link.hello().welcomed();
	order.push('welcome');
	await gone;
	expect(order).toEqual(['the silent one is cut', 'welcome']);
	// One that has arrived holds no place: the next is welcomed beside it.
	const next = raw(await world.enroll(), world.gateway.port);
	await next.hello().welcomed();
	link.close();
	next.close();
});

test('a connection that finishes its handshake and opens no stream is cut, and gives its place to the next', async () => {
	await using world = await startWorld({ gateway: { acceptor: { handshakesAtOnceMax: 1, firstStreamMs: 6000 } } });
	const order: string[] = [];
	const who = await world.enroll();
	const idle = connectTls({
		host: '127.0.0.1',
		port: world.gateway.port,
		servername: `gateway.${TRUST_DOMAIN}`,
		ca: who.bundle().rootsPem,
		ALPNProtocols: ['h2'],
		...nodeTls(who),
	});
	idle.on('error', () => {}).resume();
	const gone = once(idle, 'close').then(() => order.push('the idle one is cut'));
	await once(idle, 'secureConnect');
	const link = raw(await world.enroll(), world.gateway.port);
	await link.hello().welcomed();
	order.push('welcome');
	await gone;
	expect(order).toEqual(['the idle one is cut', 'welcome']);
	link.close();
});

/** Where only this test listens: a port that was free a moment ago is another's soon. */
const OWN_HOST = '127.0.0.9';

/** A port of it that nobody listens on now. */
async function closedPort(): Promise<number> {
	const probe = createServer().listen(0, OWN_HOST);
	await once(probe, 'listening');
	const { port } = probe.address() as { port: number };
	probe.close();
	await once(probe, 'close');
	return port;
}

/** Who comes to a port from now on; each is cut. */
async function visitors(port: number) {
	const seen: string[] = [];
	const server = createServer((socket) => {
		seen.push('a connection');
		socket.destroy();
	}).listen(port, OWN_HOST);
	await once(server, 'listening');
	return { seen, [Symbol.dispose]: () => void server.close() };
}

test('a dial that failed and was closed is over: nothing of it comes when the gateway does', async () => {
	const ports = [await closedPort(), await closedPort()] as const;
	const closed = raw(identity, ports[0], OWN_HOST);
	expect((await closed.hello().closed()).end.code).toBe('UNAVAILABLE');
	closed.close();
	// The same, left open, and later: grpc-js comes back about 1 s after its first failure, and again about 1.6 s after
	// that. When it was here twice, one that began earlier would have been here, too.
	const witness = raw(identity, ports[1], OWN_HOST);
	expect((await witness.hello().closed()).end.code).toBe('UNAVAILABLE');
	using comeBack = await visitors(ports[1]);
	using gone = await visitors(ports[0]);
	await eventually('the witness came back twice', () => comeBack.seen.length >= 2);
	expect(gone.seen).toEqual([]);
	witness.close();
});

test('a node that asks for certificates without end is told when to come again; another is not held up', async () => {
	await using world = await startWorld({ limits: { renewalsBurstPerNode: 2 } });
	const request = create(RenewCertificateRequestSchema, { csr: new Uint8Array([1]), joinState: 'x' });
	const ask = async (who: StoredIdentity, times: number) => {
		const connection = transport.open(targetOf(who, `127.0.0.1:${world.gateway.port}`));
		const answers: { reason?: string; metadata?: Record<string, string> }[] = [];
		for (let count = 0; count < times; count += 1)
			await connection.renewCertificate(request, new AbortController().signal).catch((error) => answers.push(error));
		connection.close();
		return answers;
	};
	const greedy = await ask(await world.enroll(), 4);
	expect(greedy.map(({ reason }) => reason === 'RATE_LIMITED')).toEqual([false, false, true, true]);
	const retryAfterMs = Number(greedy[2]?.metadata?.retry_after_ms);
	expect(retryAfterMs).toBeGreaterThan(1000);
	expect(retryAfterMs).toBeLessThanOrEqual(60_000);
	const [other] = await ask(await world.enroll(), 1);
	expect(other?.reason).not.toBe('RATE_LIMITED');
});

test('the credentials of grpc-js alone would not do: this is what the subclass is for', async () => {
	const { chainPem, keyPem, clientAnchorsPem } = world.gatewayIdentity;
	const plain = ServerCredentials.createSsl(
		Buffer.from(clientAnchorsPem),
		[{ cert_chain: Buffer.from(chainPem), private_key: Buffer.from(keyPem) }],
		true,
	);
	expect(plain._getSecureContextOptions()?.minVersion).toBeUndefined();
	expect(plain._getConstructorOptions()?.rejectUnauthorized).toBeUndefined();
	const ours = new GatewayCredentials(world.gatewayIdentity);
	expect(ours._getSecureContextOptions()).toMatchObject({ minVersion: 'TLSv1.3' });
	expect(ours._getSecureContextOptions()).not.toHaveProperty('ticketKeys');
	expect(ours._getConstructorOptions()).toMatchObject({ requestCert: true, rejectUnauthorized: true });
});
