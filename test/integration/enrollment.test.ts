import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { enrollByToken } from '../../agent/identify.ts';
import { IdentityFolder } from '../../agent/identity/state-file.ts';
import { loadIdentity } from '../../agent/identity/stored-identity.ts';
import { readPlatformFacts } from '../../agent/platform/facts.ts';
import { loadSettings } from '../../agent/settings.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { encodeJoinToken } from '../../pki/keys/join-token.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { assignmentRow } from '../contract/store/rows.ts';
import { lacks, tool } from '../tools.ts';
import { World } from './enrollment-world.ts';
import { RawJoiner } from './raw-joiner.ts';
import { taskRow } from './tasks-world.ts';

const PENDING = { state: 'pending', generation: 1 };

describe('enrollment', () => {
	it('gives a host an identity in one transaction', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token({ id: 't-1', labels: { rack: 'r1' } }), { serial: 'SN1' });
		const node = await world.node(identity.nodeId);
		expect(node).toMatchObject({ name: 'gpu-01', state: 'enrolling', generation: 1, serial: 'SN1', renewalSeq: 1 });
		expect(node.labels).toEqual({ rack: 'r1' });
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'used', nodeId: identity.nodeId });
		expect(await world.certificate(identity.credential().serial)).toMatchObject(PENDING);
		expect(await world.audited()).toEqual(['ca.create', 'certificates.issue', 'nodes.enroll']);
		expect(loadIdentity(identity.folder().path, systemRng)?.credential()).toEqual(identity.credential());
		expect(identity).toMatchObject({ nodeName: 'gpu-01', gateways: ['127.0.0.1:9443'], generation: 1 });
		expect(identity.renewalSeq()).toBe(1);
	});

	it.skipIf(lacks('openssl'))('issues chains that OpenSSL accepts for client and server use', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const file = (name: string, text: string) => {
			writeFileSync(join(world.folder, name), text);
			return join(world.folder, name);
		};
		const roots = file('roots.pem', identity.bundle().rootsPem);
		const openssl = (...args: string[]) => execFileSync(tool('openssl'), args, { encoding: 'utf8' });
		for (const [name, chain] of [
			['node', identity.credential().chainPem],
			['replica', world.replica.chainPem],
		] as const) {
			const path = file(`${name}.pem`, chain);
			for (const purpose of ['sslclient', 'sslserver']) {
				const verified = openssl(
					'verify',
					'-x509_strict',
					'-purpose',
					purpose,
					'-CAfile',
					roots,
					'-untrusted',
					path,
					path,
				);
				expect(verified).toContain('OK');
			}
		}
		const text = openssl('x509', '-in', join(world.folder, 'node.pem'), '-noout', '-text');
		expect(text).toContain(`URI:spiffe://${world.trustDomain}/node/${identity.nodeId}`);
		expect(text).toMatch(/Subject Alternative Name: critical/);
		expect(text).toMatch(/CA:FALSE/);
	});

	it('refuses a host that has an identity, unless it is to be replaced', async () => {
		await using world = await World.start();
		const first = await world.enroll(await world.token());
		const token = await world.token();
		await expect(world.enroll(token)).rejects.toMatchObject({
			reason: 'ALREADY_EXISTS',
			message: expect.stringContaining(`is node ${first.nodeName} `),
		});
		const second = await world.enroll(token, { replace: true });
		expect(second.nodeId).not.toBe(first.nodeId);
		expect(second.nodeName).toMatch(/^gpu-01-[0-9a-f]{6}$/);
	});

	it('tells a host that has an identity so, whatever became of the token that gave it', async () => {
		await using world = await World.start();
		const { nodeName } = await world.enroll(await world.token(), { name: 'identity' });
		const overrides = {
			'core.data': join(world.folder, 'agents'),
			'enroll.token_file': join(world.folder, 'used-and-removed'),
		};
		const args = { configPath: undefined, overrides, printConfig: false, json: false, positionals: [] };
		const again = enrollByToken({
			config: loadSettings(args, {}).values,
			facts: readPlatformFacts(),
			version: '0.0.0',
			clock: systemClock,
			rng: systemRng,
			log: silentLogger,
		});
		await expect(again).rejects.toMatchObject({
			reason: 'ALREADY_EXISTS',
			message: expect.stringContaining(`this host is node ${nodeName} `),
		});
	});

	it('makes a host name free, and keeps the name that an operator gave', async () => {
		await using world = await World.start();
		const named = await world.enroll(await world.token({ nodeName: 'rack1-a' }), { name: 'a' });
		expect(named.nodeName).toBe('rack1-a');
		const other = await world.enroll(await world.token(), { name: 'b', hostname: 'Rack1-A.dc.example' });
		expect(other.nodeName).toMatch(/^rack1-a-[0-9a-f]{6}$/);
		const nameless = await world.enroll(await world.token(), { name: 'c', hostname: '..' });
		expect(nameless.nodeName).toMatch(/^node-[0-9a-f]{6}$/);
	});
});

describe('join tokens', () => {
	it('burns a token that a second key uses, and says so to both', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		await world.enroll(token, { name: 'a' });
		await expect(world.enroll(token, { name: 'b' })).rejects.toMatchObject({ reason: 'TOKEN_USED' });
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'burned' });
		expect((await world.audited()).at(-1)).toBe('tokens.burn denied TOKEN_USED');
		await expect(world.enroll(token, { name: 'c' })).rejects.toMatchObject({ reason: 'TOKEN_USED' });
	});

	it.each([
		['TOKEN_EXPIRED', { expiresAtMs: 1_000_000_000_000 }],
		['TOKEN_REVOKED', { state: 'revoked' as const }],
		['TOKEN_USED', { state: 'burned' as const }],
	])('refuses %s and records it', async (reason, fields) => {
		await using world = await World.start();
		await expect(world.enroll(await world.token(fields))).rejects.toMatchObject({ reason, code: 'PERMISSION_DENIED' });
		expect((await world.audited()).at(-1)).toBe(`nodes.enroll denied ${reason}`);
	});

	it('binds a token to the expected machine, and burns it elsewhere', async () => {
		await using world = await World.start();
		const right = await world.token({ expectedSerial: 'SN-7' });
		await expect(world.enroll(right, { serial: ' sn-7 ' })).resolves.toMatchObject({ nodeName: 'gpu-01' });
		const wrong = await world.token({ id: 't-2', expectedSerial: 'SN-8' });
		await expect(world.enroll(wrong, { name: 'b', serial: 'SN-9' })).rejects.toMatchObject({
			reason: 'TOKEN_WRONG_MACHINE',
		});
		expect(await world.tokenRow('t-2')).toMatchObject({ state: 'burned', nodeId: null });
		const unreadable = await world.token({ expectedSerial: 'SN-8' });
		await expect(world.enroll(unreadable, { name: 'c' })).rejects.toMatchObject({ reason: 'TOKEN_WRONG_MACHINE' });
	});

	it('tells nothing to whoever lacks the secret, and lets nobody burn a token by its id', async () => {
		await using world = await World.start();
		using joiner = await RawJoiner.connect(world.address, await world.token({ id: 't-1', state: 'revoked' }));
		await expect(joiner.begin({ secret: new Uint8Array(32) })).rejects.toMatchObject({ reason: 'CHANNEL_MISMATCH' });
		const pins = world.authority.pins();
		const { trustDomain } = world;
		const unknown = { id: 'nobody', secret: systemRng.bytes(32), caPins: pins, trustDomain, expiresAtMs: 2e12 };
		await expect(world.enroll(encodeJoinToken(unknown))).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
		await expect(world.enroll('gpu_jt_AAAA')).rejects.toMatchObject({ reason: 'TOKEN_INVALID' });
		expect(await world.audited()).toEqual(['ca.create', 'certificates.issue']);
	});

	it('gives the same certificate again to the key that lost the answer', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		const key = generateNodeKey();
		using joiner = await RawJoiner.connect(world.address, token, key);
		const lost = await joiner.complete(await joiner.begin());
		// The agent had stored its key before it asked, and asks again.
		const folder = new IdentityFolder(join(world.folder, 'agents', 'host'), systemRng);
		folder.writePendingKey({ purpose: 'token/t-1', keyPem: key.privateKeyPem });
		const identity = await world.enroll(token);
		expect(identity.nodeId).toBe(lost.nodeId);
		expect(identity.credential().leafDer).toEqual(lost.chain[0]);
		expect(identity.renewalSeq()).toBe(1);
		expect(folder.readPendingKey('token/t-1')).toBeUndefined();
		expect((await world.audited()).filter((action) => action === 'nodes.enroll')).toHaveLength(1);
		// Past the token's end not even that.
		world.clock.shiftMs = 601_000;
		await expect(joiner.begin()).rejects.toMatchObject({ reason: 'TOKEN_EXPIRED' });
	});

	it('has its key on disk before it sends anything, and asks again with the same one', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		const { address } = world;
		await world.crash();
		await expect(world.enroll(token, { address })).rejects.toMatchObject({ reason: 'UNREACHABLE' });
		const folder = new IdentityFolder(join(world.folder, 'agents', 'host'), systemRng);
		const keyPem = folder.readPendingKey('token/t-1');
		expect(keyPem).toContain('PRIVATE KEY');
		expect(folder.readPendingKey('token/t-2')).toBeUndefined();
		await world.open();
		const identity = await world.enroll(token);
		expect(identity.credential().keyPem).toBe(keyPem);
	});

	it('survives a crash of the control plane between Begin and Complete', async () => {
		await using world = await World.start();
		const token = await world.token();
		using joiner = await RawJoiner.connect(world.address, token);
		const challenge = await joiner.begin();
		await world.crash();
		await expect(joiner.complete(challenge)).rejects.toMatchObject({ reason: 'UNREACHABLE' });
		await world.open();
		using again = await RawJoiner.connect(world.address, token, joiner.key);
		await expect(again.complete(challenge)).rejects.toMatchObject({ reason: 'CHALLENGE_UNKNOWN' });
		await expect(again.complete(await again.begin())).resolves.toMatchObject({ nodeName: 'raw' });
	});

	it('lets one of two hosts win that use a token at once', async () => {
		await using world = await World.start();
		const token = await world.token();
		const tries = await Promise.allSettled(['a', 'b', 'c'].map((name) => world.enroll(token, { name })));
		expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
	});

	it('lets one of two hosts win for whom it was unused until their certificates were made', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		const issue = world.authority.issueNodeCertificate.bind(world.authority);
		const both = Promise.withResolvers<void>();
		let asked = 0;
		Object.assign(world.authority, {
			issueNodeCertificate: async (request: Parameters<typeof issue>[0]) => {
				asked += 1;
				if (asked === 2) both.resolve();
				await both.promise;
				return await issue(request);
			},
		});
		const tries = await Promise.allSettled(['a', 'b'].map((name) => world.enroll(token, { name })));
		expect(asked).toBe(2);
		expect(tries.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
		expect(await world.store.read((tx) => tx.nodes.count())).toBe(1);
	});
});

describe('proof of possession', () => {
	it('refuses a request whose key the host does not hold', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		using joiner = await RawJoiner.connect(world.address, token);
		const broken = createCsr(generateNodeKey().signer);
		broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1;
		await expect(joiner.begin({ csr: broken })).rejects.toMatchObject({ reason: 'CSR_INVALID' });
		await expect(joiner.begin({ csr: Buffer.from('no request') })).rejects.toMatchObject({ reason: 'CSR_INVALID' });
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'unused' });
	});

	it('refuses another nonce, another connection, and a second time', async () => {
		await using world = await World.start();
		const token = await world.token({ id: 't-1' });
		using joiner = await RawJoiner.connect(world.address, token);
		const mismatch = { reason: 'CHANNEL_MISMATCH' };
		const unknown = { reason: 'CHALLENGE_UNKNOWN' };
		const one = await joiner.begin();
		await expect(joiner.complete(one, joiner.connection, systemRng.bytes(32))).rejects.toMatchObject(mismatch);
		await expect(joiner.complete(one)).rejects.toMatchObject(unknown);
		const two = await joiner.begin();
		using elsewhere = await RawJoiner.connect(world.address, token);
		await expect(joiner.complete(two, elsewhere.connection)).rejects.toMatchObject(mismatch);
		await expect(joiner.complete(two)).rejects.toMatchObject(unknown);
		const three = await joiner.begin();
		world.clock.shiftMs += 31_000;
		await expect(joiner.complete(three)).rejects.toMatchObject(unknown);
		await expect(joiner.begin({ exporter: systemRng.bytes(32) })).rejects.toMatchObject(mismatch);
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'unused' });
	});
});

describe('enrolling a machine again', () => {
	it('takes a node over when the token names it, and shuts the image before out', async () => {
		await using world = await World.start();
		const old = await world.enroll(await world.token(), { name: 'old', serial: 'SN1' });
		expect(await world.authorize(old)).toMatchObject({ kind: 'accepted' });
		const token = await world.token({ nodeName: old.nodeName });
		const fresh = await world.enroll(token, { name: 'new', serial: 'SN1' });
		expect(fresh).toMatchObject({ nodeId: old.nodeId, generation: 2, nodeName: old.nodeName });
		expect(await world.authorize(old)).toMatchObject({ kind: 'refused', reason: 'CERTIFICATE_REVOKED' });
		expect(await world.authorize(fresh)).toMatchObject({ kind: 'accepted', generation: 2 });
		expect(world.sessions.closed).toEqual([old.nodeId]);
		await expect(world.recover(old)).rejects.toMatchObject({ reason: 'STALE_GENERATION' });
		expect(await world.audited()).toContain('nodes.reenroll');
	});

	it('ends the assignment of the image before, and its tasks, with the takeover', async () => {
		await using world = await World.start();
		const { nodeId, nodeName } = await world.enroll(await world.token(), { name: 'old', serial: 'SN1' });
		const spec = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['true'] } } });
		const queued = taskRow(nodeId, spec, { assignmentId: 's1' });
		const running = taskRow(nodeId, spec, { assignmentId: 's1', state: 'running', attempt: 1 });
		const platforms = taskRow(nodeId, spec);
		await world.store.unit(function* (tx) {
			yield* tx.assignments.insert(assignmentRow('s1', nodeId, { mode: 'host' }));
			yield* tx.nodes.update(nodeId, { custody: 'tenant' });
			for (const row of [queued, running, platforms]) yield* tx.tasks.insert(row);
		});
		await world.enroll(await world.token({ nodeName }), { name: 'new', serial: 'SN1' });
		const after = await world.store.unit(function* (tx) {
			const tasks = [];
			for (const { id } of [queued, running, platforms]) tasks.push((yield* tx.tasks.get(id))?.state);
			const documents = yield* tx.tasks.getDocuments(queued.id, 0);
			const events = yield* tx.outbox.take(100);
			return { tasks, documents, events, assignment: yield* tx.assignments.get('s1') };
		});
		expect(after.assignment?.untilMs).toEqual(expect.any(Number));
		expect(await world.node(nodeId)).toMatchObject({ generation: 2, custody: 'transit' });
		expect(after.tasks).toEqual(['cancelled', 'cancelling', 'queued']);
		expect(after.documents?.closing).toBeInstanceOf(Uint8Array);
		const told = after.events.map(({ topic, key }) => `${topic} ${key}`);
		expect(told).toContain('assignments.ended s1');
		expect(told).toContain(`tasks.changed ${queued.id}`);
		expect(told).toContain(`tasks.changed ${running.id}`);
	});

	it('takes it over by serial only when the token is bound to that serial', async () => {
		await using world = await World.start();
		const old = await world.enroll(await world.token(), { name: 'old', serial: 'SN1' });
		const plain = await world.enroll(await world.token(), { name: 'plain', serial: 'SN1', hostname: 'other' });
		expect(plain.nodeId).not.toBe(old.nodeId);
		await world.store.unit((tx) => tx.nodes.update(plain.nodeId, { state: 'retired', retiredAtMs: 1 }));
		const bound = await world.enroll(await world.token({ expectedSerial: 'SN1' }), { name: 'bound', serial: 'SN1' });
		expect(bound).toMatchObject({ nodeId: old.nodeId, generation: 2 });
	});

	it('refuses the name of another machine, and a locked node', async () => {
		await using world = await World.start();
		const old = await world.enroll(await world.token(), { name: 'old', serial: 'SN1' });
		const token = await world.token({ id: 't-2', nodeName: old.nodeName });
		await expect(world.enroll(token, { name: 'b', serial: 'SN2' })).rejects.toMatchObject({
			reason: 'NODE_NAME_TAKEN',
		});
		expect(await world.tokenRow('t-2')).toMatchObject({ state: 'unused' });
		await world.store.unit((tx) => tx.nodes.update(old.nodeId, { locked: true, lockReason: 'test' }));
		await expect(world.enroll(token, { name: 'c', serial: 'SN1' })).rejects.toMatchObject({ reason: 'NODE_LOCKED' });
		expect(await world.node(old.nodeId)).toMatchObject({ generation: 1 });
	});
});
