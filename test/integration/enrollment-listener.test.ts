import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect as connectHttp2, createSecureServer } from 'node:http2';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { EnrollConnection, findPinnedRoot } from '../../agent/identity/enroll-connection.ts';
import { writeContexts } from '../../cli/contexts.ts';
import { dispatch } from '../../cli/dispatch.ts';
import type { Finding } from '../../cli/doctor/finding.ts';
import { testIo } from '../../cli/test-io.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import { mintApiKey } from '../../control-plane/app/iam/api-key.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { createLogger } from '../../kit/log.ts';
import { encodeJoinToken } from '../../pki/keys/join-token.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { EKU_CLIENT_AUTH, EKU_SERVER_AUTH } from '../../pki/trust/identity.ts';
import { gatewayDnsName, spiffeId } from '../../pki/trust/spiffe.ts';
import { makeCertificate, randomSerial } from '../../pki/x509/certificate.ts';
import { parseCertificate } from '../../pki/x509/parse.ts';
import { certificatePem, certificatesOfPem } from '../../pki/x509/pem.ts';
import { EnrollmentService } from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { credentialRow, principalRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { World } from './enrollment-world.ts';
import { openAndReset, opening } from './raw-http2.ts';
import { RawJoiner } from './raw-joiner.ts';

/** Ends TLS as an L7 proxy does, and passes the bytes on over a connection of its own. */
async function relay(toPort: number, identity: TlsOptions) {
	let received = 0;
	const server = createTlsServer({ ALPNProtocols: ['h2'], minVersion: 'TLSv1.3', ...identity }, (socket) => {
		const onward = connectTls({ port: toPort, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false });
		for (const end of [socket, onward]) end.on('error', () => {});
		socket.on('data', (chunk: Buffer) => {
			received += chunk.length;
		});
		socket.pipe(onward).pipe(socket);
	});
	server.on('tlsClientError', () => {});
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	return {
		address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
		received: () => received,
		[Symbol.dispose]: () => void server.close(),
	};
}

/** What `gpuaas doctor` says of the listener at `address`, with the roots of `world`. */
async function doctor(world: World, address: string): Promise<Finding | undefined> {
	const [, , caPem = ''] = world.replica.chainPem.split(/(?=-----BEGIN)/);
	const io = testIo({ GPUAAS_CONFIG_DIR: mkdtempSync(join(world.folder, 'cli-')) });
	const context = { address: 'https://127.0.0.1:1', caPem, key: 'none' };
	await writeContexts(io, { current: 'test', contexts: { test: context } });
	await dispatch(['doctor', '--json', '--data', world.folder, '--enroll', address], io);
	const { findings } = JSON.parse(io.out()) as { findings: Finding[] };
	return findings.find(({ check }) => check === 'enrollment');
}

/** However it ends: `once` of node:events would reject on a reset. */
function closed(end: { once(event: 'close', listener: () => void): unknown }): Promise<void> {
	return new Promise((resolve) => void end.once('close', resolve));
}

function handshake(port: number, maxVersion: 'TLSv1.2' | 'TLSv1.3'): Promise<string | null> {
	return new Promise((resolve, reject) => {
		const options = { port, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false, maxVersion };
		const socket: TLSSocket = connectTls(options, () => {
			resolve(socket.getProtocol());
			socket.destroy();
		});
		socket.on('error', reject);
	});
}

describe('who may pose as the enrollment listener', () => {
	it('sends nothing to another control plane than the one that the token pins', async () => {
		await using world = await World.start();
		await using stranger = await World.start();
		const token = await world.token({ id: 't-1' });
		const { chainPem: cert, keyPem: key } = stranger.replica;
		using middle = await relay(world.server.port, { cert, key });
		await expect(world.enroll(token, { address: middle.address })).rejects.toMatchObject({
			reason: 'CHANNEL_MISMATCH',
		});
		await expect(world.enroll(token, { address: stranger.address })).rejects.toMatchObject({
			reason: 'CHANNEL_MISMATCH',
		});
		expect(middle.received()).toBe(0);
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'unused' });
		await expect(world.enroll(token)).resolves.toMatchObject({ nodeName: 'gpu-01' });
	});

	it('believes no chain that only carries the pinned root', async () => {
		await using world = await World.start();
		await using stranger = await World.start();
		const [, , root = ''] = world.replica.chainPem.split(/(?=-----BEGIN)/);
		const { chainPem, keyPem: key } = stranger.replica;
		using middle = await relay(world.server.port, { cert: chainPem + root, key });
		await expect(world.enroll(await world.token(), { address: middle.address })).rejects.toThrow();
		expect(middle.received()).toBe(0);
	});

	it('believes no leaf that names our own CA as its issuer and that somebody else signed', async () => {
		await using world = await World.start();
		const [, ca, root] = certificatesOfPem(world.replica.chainPem);
		const caDer = present(ca, 'the replica CA');
		const key = generateNodeKey();
		const thief = generateSigner('ecdsa-p256-sha256');
		const parsed = parseCertificate(caDer);
		if (parsed.kind !== 'ok') throw new Error(parsed.detail);
		const nowMs = systemClock.now();
		const forged = await makeCertificate(
			{
				serialHex: randomSerial(systemRng),
				subject: '',
				spki: key.signer.spki(),
				notBeforeMs: nowMs - 60_000,
				notAfterMs: nowMs + 3_600_000,
				ekus: [EKU_SERVER_AUTH, EKU_CLIENT_AUTH],
				sans: [
					{ type: 'url', value: spiffeId(world.trustDomain, 'replica', 'replica-1') },
					{ type: 'dns', value: gatewayDnsName(world.trustDomain) },
				],
			},
			// Every name in it is right, and what follows it in the chain is public: only the signature is not ours.
			{
				certificateDer: caDer,
				signer: {
					keyId: parsed.certificate.spkiSha256Hex,
					algorithm: thief.algorithm,
					custody: thief.custody,
					spki: () => thief.spki(),
					sign: (bytes) => thief.sign(bytes),
				},
			},
		);
		const cert = [forged, caDer, present(root, 'the root')].map(certificatePem).join('');
		using middle = await relay(world.server.port, { cert, key: key.privateKeyPem });
		const token = await world.token();
		// It gets as far as the second connection, on which something would be sent.
		await expect(findPinnedRoot(middle.address, world.trustDomain, world.authority.pins())).resolves.toBeDefined();
		const refusal = { reason: 'UNREACHABLE', message: expect.stringContaining('signature failure') };
		await expect(world.enroll(token, { address: middle.address })).rejects.toMatchObject(refusal);
		expect(middle.received()).toBe(0);
	});

	it('finds a proxy that ends TLS, even with a certificate of our own CA', async () => {
		await using world = await World.start();
		const names = { replicaId: 'proxy', dnsNames: [], ipAddresses: [] };
		const { chainPem: cert, keyPem: key } = await issueReplicaCertificate(world.deps, world.authority, names);
		using middle = await relay(world.server.port, { cert, key });
		const token = await world.token({ id: 't-1' });
		const refusal = { reason: 'CHANNEL_MISMATCH', message: expect.stringContaining('proxy') };
		await expect(world.enroll(token, { address: middle.address })).rejects.toMatchObject(refusal);
		expect(middle.received()).toBeGreaterThan(0);
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'unused' });
	});

	it('gpuaas doctor names a proxy that ends TLS, and finds nothing wrong with the listener itself', async () => {
		await using world = await World.start();
		await using stranger = await World.start();
		const { chainPem: cert, keyPem: key } = stranger.replica;
		using middle = await relay(world.server.port, { cert, key });
		expect(await doctor(world, world.address)).toMatchObject({ result: 'ok' });
		expect(await doctor(world, middle.address)).toMatchObject({
			result: 'fail',
			finding: expect.stringMatching(/certificate of other roots .*: something ends TLS before it/),
			advice: expect.stringContaining('pass TCP through'),
		});
		expect(await doctor(world, '127.0.0.1:1')).toMatchObject({
			result: 'fail',
			finding: expect.stringContaining("can't be reached"),
		});
	});

	it('gpuaas doctor knows a proxy by less than TLS 1.3, whatever its certificate', async () => {
		await using world = await World.start();
		const { chainPem: cert, keyPem: key } = world.replica;
		using old = await relay(world.server.port, { cert, key, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
		expect(await doctor(world, old.address)).toMatchObject({
			result: 'fail',
			finding: expect.stringMatching(/refuses TLS 1\.3 .*something ends TLS before it/),
		});
	});

	it('refuses a node certificate that poses as a gateway', async () => {
		await using world = await World.start();
		const { credential } = await world.enroll(await world.token(), { name: 'thief' }).then((node) => ({
			credential: node.credential(),
		}));
		const [, , root = ''] = world.replica.chainPem.split(/(?=-----BEGIN)/);
		using middle = await relay(world.server.port, { cert: credential.chainPem + root, key: credential.keyPem });
		const token = await world.token();
		const refusal = { message: expect.stringContaining('replica') };
		await expect(world.enroll(token, { name: 'victim', address: middle.address })).rejects.toMatchObject(refusal);
		expect(middle.received()).toBe(0);
	});

	it('accepts TLS 1.3 only, before and after its certificate is swapped', async () => {
		await using world = await World.start();
		const { port } = world.server;
		expect(await handshake(port, 'TLSv1.3')).toBe('TLSv1.3');
		await expect(handshake(port, 'TLSv1.2')).rejects.toThrow();
		const names = { replicaId: 'replica-1', dnsNames: [], ipAddresses: [] };
		const next = await issueReplicaCertificate(world.deps, world.authority, names);
		world.server.swap(next);
		await expect(handshake(port, 'TLSv1.2')).rejects.toThrow();
		using joiner = await RawJoiner.connect(world.address, await world.token());
		await expect(joiner.complete(await joiner.begin())).resolves.toMatchObject({ nodeName: 'raw' });
	});

	it('does not talk to a listener that offers less than TLS 1.3', async () => {
		await using world = await World.start();
		const { chainPem: cert, keyPem: key } = world.replica;
		const old = createSecureServer({ cert, key, maxVersion: 'TLSv1.2' });
		old.on('error', () => {});
		let spoken = 0;
		old.on('secureConnection', () => {
			spoken += 1;
		});
		old.listen(0, '127.0.0.1');
		await once(old, 'listening');
		const address = `127.0.0.1:${(old.address() as AddressInfo).port}`;
		await expect(world.enroll(await world.token(), { address })).rejects.toMatchObject({ reason: 'UNREACHABLE' });
		expect(spoken).toBe(0);
		old.close();
	});

	it('passes over addresses that nobody answers at', async () => {
		await using world = await World.start();
		await expect(world.enroll(await world.token(), { address: '127.0.0.1:1' })).rejects.toMatchObject({
			reason: 'UNREACHABLE',
			message: expect.stringContaining('127.0.0.1:1'),
		});
		const addresses = ['127.0.0.1:1', world.address];
		await expect(world.enroll(await world.token(), { addresses })).resolves.toMatchObject({
			enrollAddresses: addresses,
		});
		// One that answers decides: nobody is asked again for what was refused.
		const revoked = await world.token({ state: 'revoked' });
		await expect(world.enroll(revoked, { name: 'b', addresses: [world.address, '127.0.0.1:1'] })).rejects.toMatchObject(
			{ reason: 'TOKEN_REVOKED' },
		);
		for (const address of ['nowhere', 'host:', 'host:70000', '::1:9444']) {
			await expect(world.enroll(await world.token(), { name: 'c', address })).rejects.toMatchObject({
				reason: 'CONFIG_INVALID',
			});
		}
	});
});

describe('credentials of other doors', () => {
	it('an API key enrolls nobody: not as the token, nor by its id and secret, nor as a bearer', async () => {
		await using world = await World.start();
		const { key, text } = mintApiKey('sk', 'test', systemRng);
		await world.store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('p', { kind: 'service_account' }));
			yield* tx.apiKeys.insertCredential(credentialRow(key.id, 'p', { expiresAtMs: systemClock.now() + 600_000 }));
		});
		const refused = await world.enroll(text).catch((error: unknown) => error);
		expect(refused).toMatchObject({ reason: 'TOKEN_INVALID', message: expect.stringContaining('is an API key') });
		expect(String((refused as Error).message)).not.toContain(text.slice(-20));

		const secret = new Uint8Array(Buffer.from(key.body.slice(-43), 'base64url'));
		const { trustDomain, address } = world;
		const expiresAtMs = systemClock.now() + 600_000;
		const dressed = encodeJoinToken({ id: key.id, secret, caPins: world.authority.pins(), trustDomain, expiresAtMs });
		using joiner = await RawJoiner.connect(address, dressed);
		await expect(joiner.begin()).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });

		const session = connectHttp2(`https://${address}`, { rejectUnauthorized: false });
		const ask = async (path: string) => {
			const stream = session.request({
				':method': 'POST',
				':path': path,
				'content-type': 'application/json',
				authorization: `Bearer ${text}`,
			});
			stream.end('{}');
			const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
			stream.close();
			return headers[':status'];
		};
		expect(await ask(`/${EnrollmentService.typeName}/BeginEnrollment`)).toBe(400);
		expect(await ask('/gpuaas.nodes.v1.NodeService/ListNodes')).toBe(404);
		session.destroy();
		expect(await world.store.read((tx) => tx.nodes.count())).toBe(0);
	});
});

describe('limits of the enrollment listener', () => {
	it('limits the calls of one address and says when to come back', async () => {
		await using world = await World.start({ listener: { callsBurstPerAddress: 1, callsPerSecondPerAddress: 0.001 } });
		using joiner = await RawJoiner.connect(world.address, await world.token());
		const challenge = await joiner.begin();
		await expect(joiner.complete(challenge)).rejects.toMatchObject({
			code: 'RESOURCE_EXHAUSTED',
			reason: 'RATE_LIMITED',
			metadata: { retry_after_ms: expect.stringMatching(/^\d+$/) },
		});
	});

	it('cuts connections that say nothing, in the handshake and after it', async () => {
		// Time enough for a handshake that is not silent.
		const listener = { handshakeTimeoutMs: 2000, idleTimeoutMs: 50, connectionLifeMaxMs: 600_000 };
		await using world = await World.start({ listener });
		const silent = connectTcp(world.server.port, '127.0.0.1');
		silent.on('error', () => {});
		const cut = closed(silent);
		const { port } = world.server;
		const idle = await eventually('one is through', async () => {
			const socket = connectTls({ port, host: '127.0.0.1', ALPNProtocols: ['h2'], rejectUnauthorized: false });
			socket.on('error', () => {}).resume();
			return (await once(socket, 'secureConnect').catch(() => undefined)) && socket;
		});
		await Promise.all([cut, closed(idle)]);
		await eventually('no connection is left', () => world.server.connections === 0);
	});

	it('ends every connection after its time, whatever it sends', async () => {
		// Neither silence nor size shall be what cuts it.
		const listener = { connectionLifeMaxMs: 300, idleTimeoutMs: 600_000, requestBytesMax: 2 ** 32 - 1 };
		await using world = await World.start({ listener });
		const session = connectHttp2(`https://127.0.0.1:${world.server.port}`, { rejectUnauthorized: false });
		session.on('error', () => {});
		const path = `/${EnrollmentService.typeName}/BeginEnrollment`;
		const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/proto' });
		stream.on('error', () => {});
		// A slow-loris: a byte now and then, for ever.
		const drip = () => void (stream.destroyed || stream.write('x', () => systemClock.defer(drip)));
		drip();
		await closed(session);
	});

	it('rapid reset: cuts a connection that opens streams only to reset them', async () => {
		// Neither silence nor age shall be what cuts it.
		await using world = await World.start({ listener: { idleTimeoutMs: 600_000, connectionLifeMaxMs: 600_000 } });
		const socket = connectTls({
			port: world.server.port,
			host: '127.0.0.1',
			ALPNProtocols: ['h2'],
			rejectUnauthorized: false,
		});
		socket.on('error', () => {});
		socket.resume();
		await once(socket, 'secureConnect');
		const over = closed(socket);
		socket.write(opening());
		const path = `/${EnrollmentService.typeName}/BeginEnrollment`;
		let opened = 0;
		// Node's own limit, which would do it later, is a thousand.
		while (socket.writable && opened < 500) {
			socket.write(openAndReset(2 * opened + 1, path, 'localhost'));
			opened += 1;
			if (opened % 10 === 0) await new Promise<void>((resolve) => systemClock.defer(resolve));
		}
		await over;
		await expect(world.enroll(await world.token())).resolves.toBeDefined();
	});

	it('refuses more connections of one address than it may have', async () => {
		await using world = await World.start({ listener: { connectionsPerAddressMax: 2 } });
		const sockets = [1, 2, 3].map(() => connectTcp(world.server.port, '127.0.0.1'));
		for (const socket of sockets) socket.on('error', () => {});
		await Promise.race(sockets.map(closed));
		expect(world.server.connections).toBe(2);
		for (const socket of sockets) socket.destroy();
		await eventually('they are forgotten', () => world.server.connections === 0);
		await expect(world.enroll(await world.token())).resolves.toBeDefined();
	});

	it('writes few lines about a flood of connections or of calls', async () => {
		const lines: { readonly message: string }[] = [];
		const log = createLogger({ name: 'test', destination: { write: (line) => void lines.push(JSON.parse(line)) } });
		const patient = { handshakeTimeoutMs: 600_000, idleTimeoutMs: 600_000, connectionLifeMaxMs: 600_000 };
		const few = { connectionsPerAddressMax: 2, callsBurstPerAddress: 1, callsPerSecondPerAddress: 0.001 };
		await using world = await World.start({ listener: { ...patient, ...few }, log });
		const linesOf = (text: string) => lines.filter(({ message }) => message.includes(text)).length;
		using joiner = await RawJoiner.connect(world.address, await world.token());
		const challenge = await joiner.begin();
		for (let call = 0; call < 100; call += 1) {
			await expect(joiner.complete(challenge)).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
		}
		// The joiner's own connection is one.
		const held = connectTcp(world.server.port, '127.0.0.1');
		await eventually('no other is admitted', () => world.server.connections === 2);
		for (let call = 0; call < 100; call += 1) {
			const socket = connectTcp(world.server.port, '127.0.0.1');
			socket.on('error', () => {});
			await closed(socket);
		}
		// Twenty at once and one every five seconds, however slow this machine is.
		for (const text of ['too many calls', 'too many of one address']) {
			expect(linesOf(text)).toBeGreaterThanOrEqual(20);
			expect(linesOf(text)).toBeLessThan(60);
		}
		held.destroy();
	});

	it('refuses bodies and fields above their limits, and what breaks the contract', async () => {
		await using world = await World.start({ listener: { requestBytesMax: 20_000 } });
		const token = await world.token();
		const { trustDomain, address } = world;
		const rootsPem = await findPinnedRoot(address, trustDomain, world.authority.pins());
		using connection = await EnrollConnection.open({ address, trustDomain, rootsPem });
		const method = EnrollmentService.method.beginEnrollment;
		const proof = { tokenId: 't', signature: new Uint8Array(64) };
		const credential = { case: 'joinToken' as const, value: proof };
		await expect(connection.call(method, { credential, csr: new Uint8Array(30_000) })).rejects.toMatchObject({
			code: 'RESOURCE_EXHAUSTED',
		});
		for (const request of [
			{ credential, csr: new Uint8Array(9000) },
			{ credential, csr: new Uint8Array(0) },
			{ csr: new Uint8Array(9) },
			{ credential, csr: new Uint8Array(9), facts: { hostname: 'x'.repeat(300) } },
		]) {
			await expect(connection.call(method, request)).rejects.toMatchObject({ reason: 'INVALID_REQUEST' });
		}
		await expect(world.enroll(token)).resolves.toBeDefined();
	});
});
