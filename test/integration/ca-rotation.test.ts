import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { parseLeaf } from '../../control-plane/app/audit/leaf.ts';
import { getCertificateAuthority } from '../../control-plane/app/certificates/get-authority.ts';
import {
	issueReplicaCertificate,
	keepReplicaCertificate,
	type ReplicaCredential,
} from '../../control-plane/app/certificates/replica-certificate.ts';
import { rotateCertificateAuthority } from '../../control-plane/app/certificates/rotate.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { replaceEnded } from '../../control-plane/app/certificates/self-rotate.ts';
import { runAuthorityUpkeep, SIGNER_DELAY_MS } from '../../control-plane/app/certificates/upkeep.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { decodeBundle, taskSignerKeys } from '../../pki/trust/bundle.ts';
import { verifyDsse } from '../../pki/verify/dsse.ts';
import { RotationPhase, RotationStep } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { eventually } from '../eventually.ts';
import { TRUST_DOMAIN, World } from './enrollment-world.ts';

const { PREPARE, ACTIVATE, DRAIN, TAINT, REVOKE, ROLLBACK } = RotationStep;
const BLOCKED = { reason: 'ROTATION_BLOCKED' };
const INVALID = { reason: 'ROTATION_STEP_INVALID' };
/** In the order in which a first start makes them. */
const KEY_NAMES = ['root', 'audit', 'join-state', 'node-ca-1', 'replica-ca-1', 'task-signer-1-1'];
const DAY_MS = 24 * 3_600_000;

async function rotate(world: World, step: RotationStep, waiveNodes: readonly string[] = [], reason = '') {
	const { authority } = await world.call(rotateCertificateAuthority, { step, waiveNodes: [...waiveNodes], reason });
	await world.authority.reload();
	return authority;
}

/** As a live session does: takes the bundle and says so in its heartbeat. */
async function acknowledge(world: World, identity: StoredIdentity): Promise<void> {
	identity.storeBundle(world.authority.bundle().bytes);
	const bundleSeqAcked = identity.bundle().seq;
	await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { bundleSeqAcked }));
}

async function renewAndUse(world: World, identity: StoredIdentity): Promise<void> {
	await world.renew(identity);
	expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
}

async function swapListener(world: World): Promise<void> {
	const names = { replicaId: 'replica-1', dnsNames: [], ipAddresses: [] };
	world.server.swap(await issueReplicaCertificate(world.deps, world.authority, names));
}

async function twoNodes(world: World) {
	const one = await world.enroll(await world.token({ nodeName: 'one' }), { name: 'one' });
	const two = await world.enroll(await world.token({ nodeName: 'two' }), { name: 'two' });
	for (const identity of [one, two]) {
		expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
		await acknowledge(world, identity);
	}
	return [one, two] as const;
}

describe('rotation of the issuing CAs', () => {
	it('goes all the way when every node follows, and cuts nobody off', async () => {
		await using world = await World.start();
		const nodes = await twoNodes(world);
		const before = world.authority.activeNodeIssuer();
		const pins = world.authority.pins();
		const all = (follow: (world: World, identity: StoredIdentity) => Promise<void>) =>
			Promise.all(nodes.map((identity) => follow(world, identity)));

		expect(await rotate(world, PREPARE)).toMatchObject({ phase: RotationPhase.PREPARED, laggards: ['one', 'two'] });
		expect(world.authority.activeNodeIssuer()).toBe(before);
		expect(world.authority.acceptedNodeIssuers().size).toBe(2);
		await all(acknowledge);
		expect(await rotate(world, ACTIVATE)).toMatchObject({ phase: RotationPhase.ACTIVATED });
		const after = world.authority.activeNodeIssuer();
		expect(after).not.toBe(before);
		await all(acknowledge);
		await rotate(world, DRAIN);
		await all(acknowledge);
		await expect(rotate(world, TAINT)).rejects.toMatchObject(BLOCKED);
		await all(renewAndUse);
		expect(nodes.map((identity) => identity.credential().issuerKeyId)).toEqual([after, after]);
		expect(await rotate(world, TAINT)).toMatchObject({ phase: RotationPhase.TAINTED });
		expect([...world.authority.acceptedNodeIssuers()]).toEqual([after]);
		await all(acknowledge);
		await expect(rotate(world, ROLLBACK)).rejects.toMatchObject(INVALID);
		expect(await rotate(world, REVOKE)).toMatchObject({ phase: RotationPhase.REVOKED, laggards: [] });
		await all(acknowledge);
		for (const identity of nodes) expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
		expect(world.authority.pins()).toEqual(pins);
		expect((await world.audited()).filter((action) => action === 'ca.rotate')).toHaveLength(5);

		// And again, with yet another set; a restart in between changes nothing.
		await world.crash();
		await world.open();
		expect(world.authority.activeNodeIssuer()).toBe(after);
		expect(await rotate(world, PREPARE)).toMatchObject({ phase: RotationPhase.PREPARED });
		expect(world.authority.document().document.sets.map(({ number }) => number)).toEqual([2, 3]);
	});

	it('refuses steps out of order', async () => {
		await using world = await World.start();
		for (const step of [ACTIVATE, DRAIN, TAINT, REVOKE, ROLLBACK]) {
			await expect(rotate(world, step)).rejects.toMatchObject(INVALID);
		}
		await rotate(world, PREPARE);
		for (const step of [PREPARE, DRAIN, TAINT, REVOKE]) {
			await expect(rotate(world, step)).rejects.toMatchObject(INVALID);
		}
		expect(world.authority.bundle().seq).toBe(2);
	});

	it('waits for every node or a waiver that names all that lag, and nobody else', async () => {
		await using world = await World.start();
		const [one, two] = await twoNodes(world);
		await rotate(world, PREPARE);
		const names = { metadata: expect.objectContaining({ laggards: 'one,two' }) };
		await expect(rotate(world, ACTIVATE)).rejects.toMatchObject({ ...BLOCKED, ...names });
		await expect(rotate(world, ACTIVATE, ['one'], 'off for repair')).rejects.toMatchObject(BLOCKED);
		await acknowledge(world, two);
		await expect(rotate(world, ACTIVATE, ['one', 'two'], 'off for repair')).rejects.toMatchObject(INVALID);
		await expect(rotate(world, ACTIVATE, ['one', 'nobody'], 'off for repair')).rejects.toMatchObject(INVALID);
		await expect(rotate(world, ACTIVATE, ['one'])).rejects.toMatchObject(INVALID);
		await rotate(world, ACTIVATE, ['one'], 'off for repair');
		const { rotation } = world.authority.document().document;
		expect(rotation?.waivers).toEqual([{ step: 'activate', nodeIds: [one.nodeId], reason: 'off for repair' }]);
		const leaves = await world.store.read((tx) => tx.audit.listUnchained(1000));
		const details = leaves.filter(({ action }) => action === 'ca.rotate').map(({ leaf }) => parseLeaf(leaf)?.detail);
		expect(details.at(-1)).toMatchObject({ step: 'activate', waived: 'one' });
		await acknowledge(world, one);
		await acknowledge(world, two);
		await rotate(world, DRAIN);
	});

	it('believes no acknowledgement of a host in other hands: it is waived or waited for', async () => {
		await using world = await World.start();
		const [one, two] = await twoNodes(world);
		await rotate(world, PREPARE);
		await acknowledge(world, one);
		await acknowledge(world, two);
		for (const custody of ['tenant', 'transit'] as const) {
			await world.store.unit((tx) => tx.nodes.update(one.nodeId, { custody }));
			await expect(rotate(world, ACTIVATE)).rejects.toMatchObject({
				...BLOCKED,
				message: expect.stringContaining('outside platform custody'),
				metadata: expect.objectContaining({ laggards: 'one' }),
			});
		}
		await rotate(world, ACTIVATE, ['one'], 'in the hands of a tenant');
		await world.store.unit((tx) => tx.nodes.update(one.nodeId, { custody: 'platform' }));
		await acknowledge(world, one);
		await acknowledge(world, two);
		await rotate(world, DRAIN);
	});

	it('does not wait for quarantined and removed nodes', async () => {
		await using world = await World.start();
		const [one, two] = await twoNodes(world);
		await rotate(world, PREPARE);
		await world.store.unit((tx) => tx.nodes.update(one.nodeId, { state: 'quarantined' }));
		await world.store.unit((tx) => tx.nodes.update(two.nodeId, { state: 'retired', retiredAtMs: 1 }));
		await rotate(world, ACTIVATE);
	});

	it('refuses the certificates of a tainted CA, and lets their holders recover', async () => {
		await using world = await World.start();
		const [one, two] = await twoNodes(world);
		await rotate(world, PREPARE);
		await rotate(world, ACTIVATE, ['one', 'two'], 'test');
		await rotate(world, DRAIN, ['one', 'two'], 'test');
		await acknowledge(world, two);
		await renewAndUse(world, two);
		await rotate(world, TAINT, ['one'], 'off for repair');
		const refused = { kind: 'refused', reason: 'CERTIFICATE_ISSUER_NOT_ACCEPTED' };
		expect(await world.authorize(one)).toMatchObject(refused);
		expect(await world.authorize(two)).toMatchObject({ kind: 'accepted' });
		// Its listener must have moved on, too: the host refuses one whose CA the new bundle has tainted.
		await expect(world.recover(one)).rejects.toThrow('does not know the listener');
		await swapListener(world);
		await world.recover(one);
		expect(await world.node(one.nodeId)).toMatchObject({ recoveries: 1 });
		expect(await world.authorize(one)).toMatchObject({ kind: 'accepted' });
		expect(one.bundle().seq).toBe(world.authority.bundle().seq);
	});

	it('goes back step by step until tainted, and forward again', async () => {
		await using world = await World.start();
		const [one, two] = await twoNodes(world);
		const before = world.authority.activeNodeIssuer();
		const both = ['one', 'two'];
		await rotate(world, PREPARE);
		await rotate(world, ACTIVATE, both, 'test');
		await rotate(world, DRAIN, both, 'test');
		await renewAndUse(world, one);
		expect(await rotate(world, ROLLBACK)).toMatchObject({ phase: RotationPhase.ACTIVATED });
		expect(await rotate(world, ROLLBACK)).toMatchObject({ phase: RotationPhase.PREPARED });
		expect(world.authority.activeNodeIssuer()).toBe(before);
		for (const identity of [one, two]) await acknowledge(world, identity);
		// One has a certificate of the CA that would leave the bundle.
		await expect(rotate(world, ROLLBACK)).rejects.toMatchObject(BLOCKED);
		await renewAndUse(world, one);
		expect(await rotate(world, ROLLBACK)).toMatchObject({ phase: RotationPhase.STANDBY });
		expect(world.authority.acceptedNodeIssuers().size).toBe(1);
		for (const identity of [one, two]) expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
		expect(await rotate(world, PREPARE)).toMatchObject({ phase: RotationPhase.PREPARED });
		expect(world.authority.document().document.sets).toHaveLength(2);
	});

	it('enrolls hosts in every phase, with certificates of the CA that issues', async () => {
		await using world = await World.start();
		let hosts = 0;
		const enrolled = async () => {
			hosts += 1;
			const name = `host-${hosts}`;
			const identity = await world.enroll(await world.token({ nodeName: name }), { name });
			expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
			expect(identity.credential().issuerKeyId).toBe(world.authority.activeNodeIssuer());
			return name;
		};
		await enrolled();
		for (const step of [PREPARE, ACTIVATE, DRAIN, TAINT, REVOKE]) {
			const { authority } = await world.call(getCertificateAuthority, {});
			await rotate(world, step, authority?.laggards ?? [], 'test');
			await swapListener(world);
			await enrolled();
		}
	});

	it('shows its keys, what they are for, and who holds the next step up', async () => {
		await using world = await World.start();
		await twoNodes(world);
		await rotate(world, PREPARE);
		const { authority } = await world.call(getCertificateAuthority, {});
		expect(authority).toMatchObject({ phase: RotationPhase.PREPARED, bundleSeq: 2n, laggards: ['one', 'two'] });
		expect(authority?.keys.map(({ purpose, status, custody }) => `${purpose} ${status} ${custody}`)).toEqual([
			'root active software',
			'audit active software',
			'join-state active software',
			'issuing active software',
			'replica active software',
			'task-signing active software',
			'issuing next software',
			'replica next software',
			'task-signing next software',
		]);
	});
});

describe('upkeep', () => {
	it('sends new bundles to live nodes and tells them to renew while draining', async () => {
		await using world = await World.start();
		const stop = new AbortController();
		const { authority, sessions } = world;
		sessions.connectedNodes = ['n-1', 'n-2'];
		const upkeep = runAuthorityUpkeep({ deps: world.deps, authority, signal: stop.signal });
		for (const step of [PREPARE, ACTIVATE, DRAIN] as const) {
			await world.call(rotateCertificateAuthority, { step });
			const { bundleSeq } = (await world.call(getCertificateAuthority, {})).authority ?? {};
			await eventually('the bundle was sent', () => {
				const last = sessions.trust.at(-1);
				return last !== undefined && BigInt(decodeBundle(last).sequence) === bundleSeq;
			});
			await eventually('nodes were told', () => sessions.renewed.length === (step === DRAIN ? 2 : 0));
		}
		stop.abort();
		await upkeep;
	});

	it('replaces the task signer at half its life, and signs with it only when nodes have it', async () => {
		await using world = await World.start();
		const { authority, clock } = world;
		const [first] = authority.document().document.sets[0]?.taskSigners ?? [];
		clock.shiftMs = 16 * DAY_MS;
		const stop = new AbortController();
		const upkeep = runAuthorityUpkeep({ deps: world.deps, authority, signal: stop.signal });
		await eventually('there is another', () => decodeBundle(authority.bundle().bytes).taskSigners.length === 2);
		stop.abort();
		await upkeep;
		const signerOf = async () => {
			const { envelope } = await authority.signTaskDocument('test', Buffer.from('payload'));
			const keys = taskSignerKeys(decodeBundle(authority.bundle().bytes), clock.now());
			const result = verifyDsse(fromBinary(DsseEnvelopeSchema, envelope), { payloadType: 'test', keys });
			return result.kind === 'ok' ? result.keyIds[0] : result.message;
		};
		expect(await signerOf()).toBe(first?.keyId);
		clock.shiftMs += SIGNER_DELAY_MS;
		const next = await signerOf();
		expect(next).toMatch(/^[0-9a-f]{64}$/);
		expect(next).not.toBe(first?.keyId);
	});

	it('has no task signers one after the other when the CA ends anyway', async () => {
		await using world = await World.start();
		const { authority, clock } = world;
		const signers = () => decodeBundle(authority.bundle().bytes).taskSigners.length;
		const stop = new AbortController();
		const looks: number[] = [];
		const own = authority.reload;
		authority.reload = async () => {
			looks.push(signers());
			await own.call(authority);
		};
		clock.shiftMs = authority.issuersEndMs().replica - clock.now() - 10 * DAY_MS;
		const upkeep = runAuthorityUpkeep({ deps: world.deps, authority, signal: stop.signal });
		// The first signer ended long ago, so another takes its place; it ends with the CA.
		await eventually('another signs', () => authority.document().version === 2);
		clock.shiftMs += 9 * DAY_MS;
		const before = looks.length;
		await eventually('it looks again', () => {
			world.deps.bus.publish({ topic: 'authority.changed', key: '' });
			return looks.length > before + 2;
		});
		stop.abort();
		await upkeep;
		expect(authority.document().version).toBe(2);
		expect(signers()).toBe(1);
	});

	it('keeps the certificate of listeners young, and of the CA that issues', async () => {
		await using world = await World.start();
		const { authority, deps } = world;
		const got: ReplicaCredential[] = [];
		const stop = new AbortController();
		const names = { replicaId: 'replica-1', dnsNames: [], ipAddresses: [] };
		const keeping = keepReplicaCertificate({
			deps,
			authority,
			names,
			first: world.replica,
			onCredential: (credential) => got.push(credential),
			signal: stop.signal,
		});
		await rotate(world, PREPARE);
		await rotate(world, ACTIVATE);
		await eventually('a new one came', () => got.length === 1);
		expect(got[0]?.issuerKeyId).toBe(authority.activeReplicaIssuer());
		expect(got[0]?.issuerKeyId).not.toBe(world.replica.issuerKeyId);
		world.clock.shiftMs = DAY_MS / 2 + 60_000;
		await rotate(world, DRAIN);
		await eventually('another came at half life', () => got.length === 2);
		stop.abort();
		await keeping;
	});
});

describe('the last minute of a CA', () => {
	it('has one certificate of listeners, not one after the other', async () => {
		await using world = await World.start();
		const { authority, clock } = world;
		clock.shiftMs = authority.issuersEndMs().replica - clock.now() - 30_000;
		const pausesMs: number[] = [];
		const counted: Clock = {
			now: () => clock.now(),
			monotonic: () => clock.monotonic(),
			setTimer: (callback, delayMs) => {
				pausesMs.push(delayMs);
				return clock.setTimer(callback, delayMs);
			},
			defer: (callback) => clock.defer(callback),
		};
		const got: ReplicaCredential[] = [];
		const stop = new AbortController();
		const keeping = keepReplicaCertificate({
			deps: { ...world.deps, clock: counted },
			authority,
			names: { replicaId: 'replica-1', dnsNames: [], ipAddresses: [] },
			first: world.replica,
			onCredential: (credential) => got.push(credential),
			signal: stop.signal,
		});
		await eventually('it waits, or makes another', () => got.length > 1 || (got.length === 1 && pausesMs.length > 0));
		stop.abort();
		await keeping;
		expect(got.map(({ notAfterMs }) => notAfterMs)).toEqual([authority.issuersEndMs().replica]);
		expect(pausesMs).toEqual([60_000]);
	});
});

describe('a CA that has ended', () => {
	it('gives listeners a certificate as soon as it was replaced, whatever they waited for', async () => {
		await using world = await World.start();
		const { authority, clock } = world;
		clock.shiftMs = authority.issuersEndMs().replica - clock.now() + DAY_MS;
		// Nothing but the change ends a wait.
		const waits: number[] = [];
		const still: Clock = {
			now: () => clock.now(),
			monotonic: () => clock.monotonic(),
			setTimer: (_callback, delayMs) => {
				waits.push(delayMs);
				return { cancel: () => {} };
			},
			defer: (callback) => clock.defer(callback),
		};
		const got: ReplicaCredential[] = [];
		const stop = new AbortController();
		const keeping = keepReplicaCertificate({
			deps: { ...world.deps, clock: still },
			authority,
			names: { replicaId: 'replica-1', dnsNames: [], ipAddresses: [] },
			first: world.replica,
			onCredential: (credential) => got.push(credential),
			signal: stop.signal,
		});
		await eventually('it failed once', () => waits.length === 1);
		await replaceEnded({ ...world.deps, authority });
		await eventually('there is one', () => got.length === 1);
		stop.abort();
		await keeping;
		expect(got[0]?.issuerKeyId).toBe(authority.activeReplicaIssuer());
	});
});

describe('the keys folder', () => {
	const open = (world: World, folder = join(world.folder, 'keys'), trustDomain = world.trustDomain) => {
		const { clock, deps, store } = world;
		const keys = new KeyFolder(folder, systemRng);
		const { appendAudit } = deps;
		return openCertificateAuthority({
			store,
			keys,
			clock,
			rng: systemRng,
			log: silentLogger,
			trustDomain,
			appendAudit,
		});
	};

	it('is private', async () => {
		await using world = await World.start();
		expect(statSync(join(world.folder, 'keys')).mode & 0o777).toBe(0o700);
		for (const name of KEY_NAMES) {
			expect(statSync(join(world.folder, 'keys', `${name}.pem`)).mode & 0o777).toBe(0o600);
		}
	});

	it('opens as what it was, on any replica', async () => {
		await using world = await World.start();
		const again = await open(world);
		expect(again.bundle()).toEqual(world.authority.bundle());
		expect(again.auditSigner.keyId).toBe(world.authority.auditSigner.keyId);
	});

	it('goes on with the same keys after kill -9 at any step of the first start', async () => {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-authority-'));
		const program = join(import.meta.dirname, 'authority-crash.ts');
		const keyIds = new Map<string, string>();
		const keys = new KeyFolder(join(folder, 'keys'), systemRng);
		for (let step = 0; step <= KEY_NAMES.length; step += 1) {
			const run = spawnSync(process.execPath, [program, folder, String(step)], { encoding: 'utf8' });
			expect(run.signal, run.stderr).toBe('SIGKILL');
			const made = KEY_NAMES.filter((name) => keys.load(name) !== undefined);
			expect(made).toHaveLength(step);
			for (const name of made) {
				const keyId = keys.load(name)?.keyId ?? '';
				expect(keyIds.get(name) ?? keyId).toBe(keyId);
				keyIds.set(name, keyId);
			}
		}
		const deps = { clock: systemClock, rng: systemRng, log: silentLogger };
		await using store = await openStore(join(folder, 'store.db'), deps);
		const appendAudit = createAppendAudit(deps);
		const options = { ...deps, store, keys, trustDomain: TRUST_DOMAIN, appendAudit };
		// Two replicas at once agree on one.
		const [one, two] = await Promise.all([openCertificateAuthority(options), openCertificateAuthority(options)]);
		expect(one.pins()).toEqual([keyIds.get('root')]);
		expect(one.activeNodeIssuer()).toBe(keyIds.get('node-ca-1'));
		expect(two.bundle()).toEqual(one.bundle());
		rmSync(folder, { recursive: true });
	});

	it('is not made anew in silence when it is lost or belongs to another store', async () => {
		await using world = await World.start();
		const lost = { reason: 'KEY_FILE_INVALID', message: expect.stringContaining('restore the keys folder') };
		await expect(open(world, join(world.folder, 'empty'))).rejects.toMatchObject(lost);
		await using other = await World.start();
		await expect(open(world, join(other.folder, 'keys'))).rejects.toMatchObject(lost);
	});

	it('is not used under another trust domain', async () => {
		await using world = await World.start();
		const keys = join(world.folder, 'keys');
		await expect(open(world, keys, 'other.example')).rejects.toMatchObject({ reason: 'CONFIG_INVALID' });
	});
});
