import { chmodSync, cpSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONTROL_LIMITS_DEFAULT } from '../../agent/control/control-deps.ts';
import { enroll } from '../../agent/identity/enroll.ts';
import { EnrollConnection } from '../../agent/identity/enroll-connection.ts';
import { Renewal } from '../../agent/identity/renewal.ts';
import { identityStatus } from '../../agent/identity/status.ts';
import { loadIdentity, type StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import { listCertificates } from '../../control-plane/app/certificates/list.ts';
import { revokeCertificate } from '../../control-plane/app/certificates/revoke.ts';
import { StreamGuard, SUPERSEDED_GRACE_MS } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { enrollHelloTranscript } from '../../pki/keys/enroll-transcript.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import type { SyncSigner } from '../../pki/keys/signer.ts';
import { decodeBundle, encodeBundle } from '../../pki/trust/bundle.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { certificatesOfPem } from '../../pki/x509/pem.ts';
import { CertificateState } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { EnrollmentService } from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { eventually } from '../eventually.ts';
import { World } from './enrollment-world.ts';

const HOUR_MS = 3_600_000;
const ACCEPTED = { kind: 'accepted' };

function refused(reason: string) {
	return { kind: 'refused', reason };
}

/** The same host's state folder on another host: a restored disk. */
function clone(world: World, identity: StoredIdentity): StoredIdentity {
	const copy = join(world.folder, 'agents', 'copy');
	cpSync(identity.folder().path, copy, { recursive: true });
	chmodSync(copy, 0o700);
	return present(loadIdentity(copy, systemRng), 'the copy');
}

function stateOf(world: World, identity: StoredIdentity) {
	return world.certificate(identity.credential().serial).then((row) => row?.state);
}

describe('two slots', () => {
	it('makes a certificate current on its first use and not before', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		expect(await stateOf(world, identity)).toBe('pending');
		expect(await world.authorize(identity)).toMatchObject({ ...ACCEPTED, serial: identity.credential().serial });
		expect(await stateOf(world, identity)).toBe('current');
		expect(await world.node(identity.nodeId)).toMatchObject({ state: 'available' });
		const first = identity.credential();
		await world.renew(identity);
		expect(identity.renewalSeq()).toBe(2);
		expect(await stateOf(world, identity)).toBe('pending');
		expect(await world.guard.authorizeStream(world.ctx(), first.leafDer)).toMatchObject(ACCEPTED);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		expect(await world.certificate(first.serial)).toMatchObject({ state: 'superseded' });
		expect(await world.audited()).toEqual(expect.arrayContaining(['certificates.renew', 'certificates.promote']));
	});

	it('locks nobody out when the answer to a renewal is lost', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		for (let times = 0; times < 3; times += 1) await world.renew(identity, { isLost: true });
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		await world.renew(identity);
		expect(identity.renewalSeq()).toBe(5);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		expect(await world.node(identity.nodeId)).toMatchObject({ locked: false, renewalSeq: 5 });
	});

	it('promotes once when many streams open at once', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const opened = await Promise.all(Array.from({ length: 20 }, () => world.authorize(identity)));
		expect(opened.every(({ kind }) => kind === 'accepted')).toBe(true);
		expect((await world.audited()).filter((action) => action === 'certificates.promote')).toHaveLength(1);
	});

	it('renews only with a key that is new and held, and with its own join state', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const other = await world.enroll(await world.token(), { name: 'other', hostname: 'other' });
		const peer = await world.authorize(identity);
		if (peer.kind === 'refused') throw new Error(peer.message);
		const { nodeId, serial } = peer;
		const ask = (csr: Uint8Array, joinState: string) =>
			renewCertificate(world.deps, world.ctx(), { nodeId, serial, csr, joinState });
		const csr = createCsr(generateNodeKey().signer);
		const broken = csr.slice();
		broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1;
		await expect(ask(broken, identity.joinState())).rejects.toMatchObject({ reason: 'CSR_INVALID' });
		const used = createCsr(identity.key().signer);
		await expect(ask(used, identity.joinState())).rejects.toMatchObject({ reason: 'CSR_INVALID' });
		await expect(ask(csr, other.joinState())).rejects.toMatchObject({ reason: 'JOIN_STATE_INVALID' });
		const forged = `${identity.joinState().slice(0, -4)}AAAA`;
		await expect(ask(csr, forged)).rejects.toMatchObject({ reason: 'JOIN_STATE_INVALID' });
		expect(await world.node(nodeId)).toMatchObject({ locked: false, renewalSeq: 1 });
		const once = await ask(csr, identity.joinState());
		const again = await ask(csr, identity.joinState());
		expect(again.chain).toEqual(once.chain);
		expect(await world.node(nodeId)).toMatchObject({ renewalSeq: 2 });
	});
});

describe('clones', () => {
	it('locks that node alone when a superseded certificate opens a stream', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const other = await world.enroll(await world.token(), { name: 'other', hostname: 'other' });
		const copy = clone(world, identity);
		await world.renew(identity);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		// A stream of the old connection that crossed the promotion: refused, and no reason to lock.
		expect(await world.authorize(copy)).toMatchObject(refused('CERTIFICATE_SUPERSEDED'));
		expect(await world.node(identity.nodeId)).toMatchObject({ locked: false });
		// While the agent waits for a Welcome, a pause, and another Welcome, it goes on with its old connection.
		const { welcomeTimeoutMs, backoffMaxMs } = CONTROL_LIMITS_DEFAULT;
		const waitsMs = 2 * welcomeTimeoutMs + backoffMaxMs;
		world.clock.shiftMs += waitsMs;
		expect(await world.authorize(copy)).toMatchObject(refused('CERTIFICATE_SUPERSEDED'));
		expect(await world.node(identity.nodeId)).toMatchObject({ locked: false });
		world.clock.shiftMs += SUPERSEDED_GRACE_MS - waitsMs;
		expect(await world.authorize(copy)).toMatchObject(refused('CERTIFICATE_SUPERSEDED'));
		expect(await world.node(identity.nodeId)).toMatchObject({ locked: true });
		expect(world.sessions.closed).toEqual([identity.nodeId]);
		for (const holder of [identity, copy]) expect(await world.authorize(holder)).toMatchObject(refused('NODE_LOCKED'));
		expect(await world.authorize(other)).toMatchObject(ACCEPTED);
		expect((await world.audited()).filter((action) => action.startsWith('nodes.lock'))).toHaveLength(1);
		await expect(world.enroll(await world.token(), { name: 'third' })).resolves.toBeDefined();
	});

	it('locks it when the copy was first and the original comes after', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const copy = clone(world, identity);
		await world.renew(copy);
		expect(await world.authorize(copy)).toMatchObject(ACCEPTED);
		world.clock.shiftMs += SUPERSEDED_GRACE_MS;
		expect(await world.authorize(identity)).toMatchObject(refused('CERTIFICATE_SUPERSEDED'));
		expect(await world.node(identity.nodeId)).toMatchObject({ locked: true });
	});

	it('locks it on a renewal with the join state of another certificate', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const outdated = identity.joinState();
		await world.renew(identity);
		const peer = await world.authorize(identity);
		if (peer.kind === 'refused') throw new Error(peer.message);
		const { nodeId, serial } = peer;
		const csr = createCsr(generateNodeKey().signer);
		const renewal = renewCertificate(world.deps, world.ctx(), { nodeId, serial, csr, joinState: outdated });
		await expect(renewal).rejects.toMatchObject({ reason: 'JOIN_STATE_OUTDATED' });
		expect(await world.node(nodeId)).toMatchObject({ locked: true });
	});
});

describe('revocation', () => {
	it('ends live streams and refuses new ones at once', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		const { serial } = identity.credential();
		const answer = await world.call(revokeCertificate, { serial, reason: 'stolen' });
		expect(answer).toMatchObject({ streamsClosed: 1, certificate: { state: CertificateState.REVOKED } });
		expect(world.sessions.closedSerials[0]).toBe(serial);
		expect(await world.authorize(identity)).toMatchObject(refused('CERTIFICATE_REVOKED'));
		await eventually('the denylist has it', () => world.denylist.has(serial));
		expect(await world.audited()).toContain('certificates.revoke');
		await expect(world.call(revokeCertificate, { serial, reason: 'again' })).resolves.toMatchObject({
			certificate: { revocationReason: 'stolen' },
		});
		const unknown = { serial: 'ab'.repeat(16), reason: 'x' };
		await expect(world.call(revokeCertificate, unknown)).rejects.toMatchObject({ reason: 'CERTIFICATE_NOT_FOUND' });
		const replica = { serial: world.replica.serial, reason: 'x' };
		await expect(world.call(revokeCertificate, replica)).rejects.toMatchObject({ reason: 'CERTIFICATE_WRONG_KIND' });
		await expect(world.recover(identity)).rejects.toMatchObject({ reason: 'CERTIFICATE_REVOKED' });
	});

	it('reaches a replica that heard no announcement, and one that starts later', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const { serial } = identity.credential();
		// Another bus: nothing is announced to it.
		using deaf = await Denylist.open({ ...world.deps, bus: new InProcessBus() });
		// Nor does this one look by itself: then the store still says it, whenever a stream is opened.
		const stopped = new VirtualClock(systemClock.now());
		using blind = await Denylist.open({ ...world.deps, bus: new InProcessBus(), clock: stopped });
		using guard = new StreamGuard(world.deps, blind);
		await world.call(revokeCertificate, { serial, reason: 'stolen' });
		const { leafDer } = identity.credential();
		expect(await guard.authorizeStream(world.ctx(), leafDer)).toMatchObject(refused('CERTIFICATE_REVOKED'));
		expect(blind.has(serial)).toBe(false);
		await eventually('it looks by itself', () => deaf.has(serial));
		using late = await Denylist.open({ ...world.deps, bus: new InProcessBus() });
		expect(late.has(serial)).toBe(true);
		world.clock.shiftMs = 26 * HOUR_MS;
		await late.refresh();
		expect(late.size).toBe(0);
	});

	it('lists certificates of a node by name and by id', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		await world.authorize(identity);
		await world.renew(identity);
		for (const node of [identity.nodeName, identity.nodeId]) {
			const { certificates } = await world.call(listCertificates, { node });
			const states = certificates.map(({ state }) => state).sort();
			expect(states).toEqual([CertificateState.PENDING, CertificateState.CURRENT]);
		}
		expect((await world.call(listCertificates, { node: 'nobody' })).certificates).toEqual([]);
		expect((await world.call(listCertificates, {})).certificates).toHaveLength(4);
	});
});

describe('who may open a stream', () => {
	it('refuses replicas, strangers, removed nodes and unknown certificates', async () => {
		await using world = await World.start();
		await using stranger = await World.start();
		const judge = (leaf: Uint8Array | undefined) => world.guard.authorizeStream(world.ctx(), present(leaf, 'a leaf'));
		// Its DNS names alone give it away; without them its kind would.
		const [replica] = certificatesOfPem(world.replica.chainPem);
		expect(await judge(replica)).toMatchObject(refused('CERTIFICATE_PROFILE_INVALID'));
		const foreign = await stranger.enroll(await stranger.token());
		expect(await judge(foreign.credential().leafDer)).toMatchObject(refused('CERTIFICATE_ISSUER_NOT_ACCEPTED'));
		expect(await judge(Buffer.from('no certificate'))).toMatchObject(refused('CERTIFICATE_MALFORMED'));
		const identity = await world.enroll(await world.token());
		// Ours, but in no slot: what a control plane says that was restored from before it issued this.
		const csrDer = createCsr(generateNodeKey().signer);
		const { nodeId } = identity;
		const unknown = await world.authority.issueNodeCertificate({ csrDer, nodeId, ttlMs: HOUR_MS });
		expect(await judge(unknown.der)).toMatchObject(refused('CERTIFICATE_NOT_FOUND'));
		// Nor is a serial enough: the key is part of what was issued.
		const row = present(await world.certificate(identity.credential().serial), 'its row');
		await world.store.unit((tx) => tx.certificates.insert({ ...row, serial: unknown.serial, state: 'superseded' }));
		expect(await judge(unknown.der)).toMatchObject(refused('CERTIFICATE_NOT_FOUND'));
		// A reimage whose revocation of the image before is not there: the generation alone shuts that out.
		await world.store.unit((tx) => tx.nodes.update(nodeId, { generation: 2 }));
		expect(await world.authorize(identity)).toMatchObject(refused('STALE_GENERATION'));
		await world.store.unit((tx) => tx.nodes.update(nodeId, { state: 'retired', retiredAtMs: 1 }));
		expect(await world.authorize(identity)).toMatchObject(refused('NODE_RETIRED'));
	});

	it('lets a changed node wait for no cache', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { locked: true, lockReason: 'test' }));
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		world.deps.bus.publish({ topic: 'nodes.changed', key: identity.nodeId });
		expect(await world.authorize(identity)).toMatchObject(refused('NODE_LOCKED'));
	});
});

describe('recovery', () => {
	it('brings back a node that was off past its expiry, once', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		world.clock.shiftMs = 25 * HOUR_MS;
		expect(await world.authorize(identity)).toMatchObject(refused('CERTIFICATE_EXPIRED'));
		await world.recover(identity);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		expect(await world.node(identity.nodeId)).toMatchObject({ recoveries: 1, renewalSeq: 2 });
		expect(await world.audited()).toContain('nodes.recover');
		world.clock.shiftMs = 50 * HOUR_MS;
		await expect(world.recover(identity)).rejects.toMatchObject({ reason: 'RECOVERY_LIMIT' });
	});

	it('counts from the last renewal in time', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		for (let days = 1; days < 3; days += 1) {
			world.clock.shiftMs += 25 * HOUR_MS;
			await world.recover(identity);
			await world.renew(identity);
			expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		}
		expect(await world.node(identity.nodeId)).toMatchObject({ recoveries: 0 });
	});

	it('tells a host with a wrong clock that its certificate is valid', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		await expect(world.recover(identity)).rejects.toMatchObject({
			reason: 'CLOCK_SKEW',
			metadata: { server_time_ms: expect.stringMatching(/^\d{13}$/) },
		});
	});

	it('refuses and locks a copy that comes with an outdated join state', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const copy = clone(world, identity);
		await world.renew(identity);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
		world.clock.shiftMs = 25 * HOUR_MS;
		await expect(world.recover(copy)).rejects.toMatchObject({ reason: 'JOIN_STATE_OUTDATED' });
		await expect(world.recover(identity)).rejects.toMatchObject({ reason: 'NODE_LOCKED' });
	});

	it('recovers with a certificate that was renewed and never used', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		await world.renew(identity);
		world.clock.shiftMs = 25 * HOUR_MS;
		await world.recover(identity);
		expect(await world.authorize(identity)).toMatchObject(ACCEPTED);
	});

	it('refuses a recovery that another key signs, and keeps its challenge to its connection', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		await world.authorize(identity);
		world.clock.shiftMs = 25 * HOUR_MS;
		const peer = { address: world.address, trustDomain: world.trustDomain, rootsPem: identity.bundle().rootsPem };
		using connection = await EnrollConnection.open(peer);
		const csr = createCsr(generateNodeKey().signer);
		const joinState = identity.joinState();
		const begin = (signer: SyncSigner, exporter = connection.exporter) => {
			const transcript = enrollHelloTranscript({ exporter, tokenId: joinState, csrDer: csr });
			const value = { joinState, signature: signer.signSync(transcript) };
			const credential = { case: 'joinState' as const, value };
			return connection.call(EnrollmentService.method.beginEnrollment, { credential, csr, facts: {} });
		};
		// Whoever has read a join state off a disk or a wire, and not the key.
		const mismatch = { reason: 'CHANNEL_MISMATCH' };
		await expect(begin(generateNodeKey().signer)).rejects.toMatchObject(mismatch);
		await expect(begin(identity.key().signer, systemRng.bytes(32))).rejects.toMatchObject(mismatch);
		const { challengeId } = await begin(identity.key().signer);
		const signature = generateNodeKey().signer.signSync(systemRng.bytes(32));
		const complete = connection.call(EnrollmentService.method.completeEnrollment, { challengeId, signature });
		await expect(complete).rejects.toMatchObject(mismatch);
		expect(await world.node(identity.nodeId)).toMatchObject({ recoveries: 0, renewalSeq: 1, locked: false });
	});

	it('does not recover a locked or removed node', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		world.clock.shiftMs = 25 * HOUR_MS;
		await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { locked: true, lockReason: 'test' }));
		await expect(world.recover(identity)).rejects.toMatchObject({ reason: 'NODE_LOCKED' });
		await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { state: 'retired', retiredAtMs: 1 }));
		await expect(world.recover(identity)).rejects.toMatchObject({ reason: 'NODE_RETIRED' });
	});
});

describe('renewal', () => {
	/** A host whose clock is its own, and starts right. */
	async function renewing(world: World, offsetMs = 0) {
		const identity = await world.enroll(await world.token());
		const clock = new VirtualClock(systemClock.now() + offsetMs);
		const calls: string[] = [];
		const renewal = new Renewal({
			identity,
			clock,
			rng: { ...systemRng, float: () => 0.5 },
			log: silentLogger,
			renew: async (csr, joinState) => {
				calls.push('renew');
				world.clock.shiftMs = clock.now() - offsetMs - systemClock.now();
				const peer = await world.authorize(identity);
				if (peer.kind === 'refused') throw Object.assign(new Error(peer.message), { reason: peer.reason });
				const { nodeId, serial } = peer;
				const answer = await renewCertificate(world.deps, world.ctx(), { nodeId, serial, csr, joinState });
				return { ...answer, serverTimeMs: world.clock.now() };
			},
			recover: () => {
				calls.push('recover');
				world.clock.shiftMs = clock.now() - offsetMs - systemClock.now();
				return world.recover(identity);
			},
		});
		const stop = new AbortController();
		const ended = renewal.run(stop.signal);
		const advance = async (byMs: number) => {
			for (let doneMs = 0; doneMs < byMs; doneMs += 600_000) {
				await eventually('it waits', () => clock.pending > 0);
				clock.advance(600_000);
			}
			await eventually('it waits', () => clock.pending > 0);
		};
		const end = async () => {
			stop.abort();
			await ended;
		};
		return { identity, clock, calls, renewal, advance, [Symbol.asyncDispose]: end };
	}

	it('renews at half life, again and again', async () => {
		await using world = await World.start();
		await using host = await renewing(world);
		await host.advance(11 * HOUR_MS);
		expect(host.calls).toEqual([]);
		await host.advance(2 * HOUR_MS);
		expect(host.calls).toEqual(['renew']);
		await host.advance(24 * HOUR_MS);
		expect(host.calls).toEqual(['renew', 'renew', 'renew']);
		expect(host.identity.renewalSeq()).toBe(4);
		expect(host.renewal.facts()).toMatchObject({ lastError: '', isRecovering: false });
	});

	it('recovers when it slept past its expiry', async () => {
		await using world = await World.start();
		await using host = await renewing(world);
		await eventually('it waits', () => host.clock.pending > 0);
		host.clock.advance(30 * HOUR_MS);
		await eventually('it recovered', () => host.identity.renewalSeq() === 2);
		expect(host.calls).toContain('recover');
		expect(host.renewal.facts()).toMatchObject({ isRecovering: false });
	});

	it('learns from the control plane that its own clock is the wrong one', async () => {
		await using world = await World.start();
		// This host believes that a day and more has passed.
		await using host = await renewing(world, 30 * HOUR_MS);
		await eventually('it asked', () => host.calls.includes('recover'));
		await eventually('it knows', () => host.renewal.facts().clockOffsetMs !== null);
		const status = identityStatus(host.identity, host.clock.now(), host.renewal.facts());
		expect(status).toMatchObject({ state: 'valid', clockMessage: expect.stringContaining('clock is 1 d ahead of') });
	});
});

describe('what is kept on the host', () => {
	it('is readable by its owner alone, and refused otherwise', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const folder = identity.folder().path;
		const file = join(folder, 'identity.json');
		expect(statSync(folder).mode & 0o777).toBe(0o700);
		expect(statSync(file).mode & 0o777).toBe(0o600);
		chmodSync(file, 0o640);
		expect(() => loadIdentity(folder, systemRng)).toThrow(expect.objectContaining({ reason: 'KEY_FILE_UNSAFE' }));
		chmodSync(file, 0o600);
		writeFileSync(file, readFileSync(file, 'utf8').slice(0, 100));
		expect(() => loadIdentity(folder, systemRng)).toThrow(expect.objectContaining({ reason: 'KEY_FILE_INVALID' }));
		chmodSync(folder, 0o755);
		const options = { token: await world.token(), addresses: [world.address], facts: {}, agentVersion: '' };
		const again = enroll({ ...options, directory: folder, clock: systemClock, rng: systemRng, log: silentLogger });
		await expect(again).rejects.toMatchObject({ reason: 'KEY_FILE_UNSAFE' });
	});

	it('keeps the older certificate until the newer was used, across restarts', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token());
		const first = identity.credential().serial;
		await world.renew(identity);
		const second = identity.credential().serial;
		const reload = () => present(loadIdentity(identity.folder().path, systemRng), 'the identity');
		expect(reload().credential().serial).toBe(second);
		const abandoning = reload();
		expect(abandoning.abandonCandidate(second)).toBe(true);
		expect(abandoning.credential().serial).toBe(first);
		expect(abandoning.renewalSeq()).toBe(1);
		identity.storeRenewal({ ...(await issued(world, identity)) });
		const third = identity.credential().serial;
		identity.confirmCredential(third);
		expect(reload().abandonCandidate(third)).toBe(false);
		expect(reload().credential().serial).toBe(third);
	});

	it('takes newer bundles of its own roots and no others', async () => {
		await using world = await World.start();
		await using stranger = await World.start();
		const identity = await world.enroll(await world.token());
		const current = decodeBundle(world.authority.bundle().bytes);
		const other = decodeBundle(stranger.authority.bundle().bytes);
		let changes = 0;
		identity.onChange(() => {
			changes += 1;
		});
		expect(identity.storeBundle(encodeBundle(current))).toBe(false);
		const invalid = expect.objectContaining({ reason: 'TRUST_BUNDLE_INVALID' });
		expect(() => identity.storeBundle(encodeBundle({ ...other, sequence: 9 }))).toThrow(invalid);
		const mixed = [...current.authorities, ...other.authorities.filter(({ role }) => role !== 'root')];
		expect(() => identity.storeBundle(encodeBundle({ ...current, sequence: 9, authorities: mixed }))).toThrow(invalid);
		expect(() => identity.storeBundle(Buffer.from('{}'))).toThrow(invalid);
		expect(identity.storeBundle(encodeBundle({ ...current, sequence: 2 }))).toBe(true);
		expect(identity.storeBundle(encodeBundle(current))).toBe(false);
		expect(loadIdentity(identity.folder().path, systemRng)?.bundle().seq).toBe(2);
		expect(changes).toBe(1);
	});
});

async function issued(world: World, identity: StoredIdentity) {
	const peer = await world.authorize(identity);
	if (peer.kind === 'refused') throw new Error(peer.message);
	const key = generateNodeKey();
	const csr = createCsr(key.signer);
	const { nodeId, serial } = peer;
	const joinState = identity.joinState();
	const answer = await renewCertificate(world.deps, world.ctx(), { nodeId, serial, csr, joinState });
	return { chain: answer.chain, joinState: answer.joinState, keyPem: key.privateKeyPem };
}
