import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { parseLeaf } from '../../control-plane/app/audit/leaf.ts';
import { getCertificateAuthority } from '../../control-plane/app/certificates/get-authority.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import { rotateCertificateAuthority } from '../../control-plane/app/certificates/rotate.ts';
import { LAST_CALL_MS, SELF_ROTATION_DEFAULT } from '../../control-plane/app/certificates/rotation-plan.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { replaceEnded, replaceUnusable, rotateBySelf } from '../../control-plane/app/certificates/self-rotate.ts';
import { APP_LIMITS_DEFAULT } from '../../control-plane/app/deps.ts';
import { checkHealth } from '../../control-plane/app/system/health.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { systemContext } from '../../control-plane/context.ts';
import { AuthorityReconciler } from '../../control-plane/reconcilers/authority.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { RotationStep } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { openAt } from '../contract/store/stores.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { lacks } from '../tools.ts';
import { ShiftedClock, TRUST_DOMAIN, World } from './enrollment-world.ts';

const DAY_MS = 24 * 3_600_000;
/** Due from the first moment on, so that certificates of 24 h and a rotation fit into one hour of a test. */
const DUE = { selfRotation: { ...SELF_ROTATION_DEFAULT, beforeMs: 90 * DAY_MS } };
const SETTLE_MS = SELF_ROTATION_DEFAULT.settleMs;

function deps(world: World) {
	return { ...world.deps, authority: world.authority };
}

const phaseOf = (world: World) => world.authority.document().document.rotation?.phase ?? 'none';

/** A look of the reconciler, once the phase has settled. */
async function look(world: World): Promise<string> {
	world.clock.shiftMs += SETTLE_MS;
	const done = await rotateBySelf(deps(world));
	return done.kind === 'done' ? done.phase : done.kind;
}

async function acknowledge(world: World, identity: StoredIdentity): Promise<void> {
	identity.storeBundle(world.authority.bundle().bytes);
	const bundleSeqAcked = identity.bundle().seq;
	await world.store.unit((tx) => tx.nodes.update(identity.nodeId, { bundleSeqAcked }));
}

async function enrolled(world: World, name: string): Promise<StoredIdentity> {
	const identity = await world.enroll(await world.token({ nodeName: name }), { name });
	expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
	await acknowledge(world, identity);
	return identity;
}

async function renewAndUse(world: World, identity: StoredIdentity): Promise<void> {
	await world.renew(identity);
	expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
}

async function swapListener(world: World): Promise<void> {
	const names = { replicaId: 'replica-1', dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] };
	world.server.swap(await issueReplicaCertificate(world.deps, world.authority, names));
}

async function rotations(store: Store) {
	const leaves = await store.read((tx) => tx.audit.listUnchained(1000));
	return leaves
		.filter(({ action }) => action === 'ca.rotate')
		.map(({ leaf }) => parseLeaf(leaf))
		.map((leaf): Record<string, unknown> => ({ actor: leaf?.actor, ...leaf?.detail }));
}

describe('the rotation that nobody has to think of', () => {
	it('goes all the way while every node follows, waits for each step, and is on record as the system', async () => {
		await using world = await World.start({ limits: DUE });
		const nodes = [await enrolled(world, 'one'), await enrolled(world, 'two')];
		const pins = world.authority.pins();
		const before = world.authority.activeNodeIssuer();
		expect(await look(world)).toBe('prepared');
		expect(await look(world)).toBe('nothing');
		for (const phase of ['activated', 'draining'] as const) {
			for (const identity of nodes) {
				expect(await look(world)).toBe('nothing');
				await acknowledge(world, identity);
			}
			expect(await look(world)).toBe(phase);
		}
		for (const identity of nodes) await acknowledge(world, identity);
		for (const identity of nodes) {
			expect(await look(world)).toBe('nothing');
			await renewAndUse(world, identity);
		}
		expect(await look(world)).toBe('tainted');
		expect(await look(world)).toBe('nothing');
		for (const identity of nodes) await acknowledge(world, identity);
		expect(await look(world)).toBe('revoked');
		for (const identity of nodes) expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted' });
		expect(world.authority.activeNodeIssuer()).not.toBe(before);
		expect(world.authority.pins()).toEqual(pins);
		const records = await rotations(world.store);
		expect(records.map(({ step }) => step)).toEqual(['prepare', 'activate', 'drain', 'taint', 'revoke']);
		for (const { actor, waived_count: waived } of records) {
			expect(actor).toMatchObject({ kind: 'system', id: 'certificates/self-rotate' });
			expect(waived).toBe(0);
		}
	});

	it('takes no step before the one before it has settled', async () => {
		await using world = await World.start({ limits: DUE });
		expect(await look(world)).toBe('prepared');
		world.clock.shiftMs += SETTLE_MS - 60_000;
		expect(await rotateBySelf(deps(world))).toMatchObject({ kind: 'nothing', plan: { why: 'settling' } });
		world.clock.shiftMs += 60_000;
		expect(await rotateBySelf(deps(world))).toEqual({ kind: 'done', phase: 'activated' });
	});

	it('waits for a node that is off until the old set ends, which cuts nobody else off', async () => {
		await using world = await World.start();
		const [one, two] = [await enrolled(world, 'one'), await enrolled(world, 'two')];
		const endMs = world.authority.issuersEndMs().node;
		const at = (ms: number) => {
			world.clock.shiftMs = ms - systemClock.now() - SETTLE_MS;
		};
		at(endMs - 30 * DAY_MS + 60_000);
		expect(await look(world)).toBe('prepared');
		await acknowledge(world, two);
		at(endMs - LAST_CALL_MS - 60_000);
		expect(await look(world)).toBe('nothing');
		at(endMs - LAST_CALL_MS + 60_000);
		expect(await look(world)).toBe('activated');
		expect(await look(world)).toBe('draining');
		expect(await look(world)).toBe('nothing');
		at(endMs - 60_000);
		expect(await look(world)).toBe('nothing');
		at(endMs + 60_000);
		expect(await look(world)).toBe('tainted');
		expect(await look(world)).toBe('revoked');
		const records = await rotations(world.store);
		expect(records.map(({ step, waived, old_ends: ends }) => `${step} ${waived} ${ends}`)).toEqual([
			'prepare  false',
			'activate one true',
			'drain one two true',
			'taint one two true',
			'revoke one two true',
		]);
		expect(one.nodeId).not.toBe(two.nodeId);
		// And nothing more until the new set is old.
		expect(await look(world)).toBe('nothing');
	});

	it('leaves a step that a person took back to that person', async () => {
		await using world = await World.start({ limits: DUE });
		const step = async (wanted: RotationStep) => {
			await world.call(rotateCertificateAuthority, { step: wanted, reason: 'test' });
			await world.authority.reload();
		};
		expect(await look(world)).toBe('prepared');
		expect(await look(world)).toBe('activated');
		await step(RotationStep.ROLLBACK);
		expect(await look(world)).toBe('nothing');
		expect(phaseOf(world)).toBe('prepared');
		await step(RotationStep.ACTIVATE);
		expect(await look(world)).toBe('draining');
	});

	it('says what comes next, and tells a person whom it waits for once that has lasted', async () => {
		await using world = await World.start();
		const one = await enrolled(world, 'one');
		const endMs = world.authority.issuersEndMs().node;
		const toSeeTo = async () => (await checkHealth(world.deps)).find(({ name }) => name === 'ca')?.toSeeTo;
		const status = async () => (await world.call(getCertificateAuthority, {})).authority;
		const atOf = async () => timestampMs((await status())?.nextStepAt ?? timestampFromMs(0));
		const lastCallMs = endMs - LAST_CALL_MS;
		expect(await status()).toMatchObject({
			nextStep: RotationStep.PREPARE,
			outlook: `the next rotation begins by itself at ${new Date(endMs - 30 * DAY_MS).toISOString()}`,
		});
		expect(await atOf()).toBe(endMs - 30 * DAY_MS);
		world.clock.shiftMs = endMs - 29 * DAY_MS - systemClock.now();
		expect(await look(world)).toBe('prepared');
		world.clock.shiftMs += SETTLE_MS;
		expect(await toSeeTo()).toBeUndefined();
		world.clock.shiftMs += 3_600_000 - SETTLE_MS;
		const waits = `activate waits for the node one; bring them back, or name each: gpuaas ca rotate activate --waive NODE --reason TEXT; it goes on without them at ${new Date(lastCallMs).toISOString()}`;
		expect(await toSeeTo()).toBe(waits);
		expect(await status()).toMatchObject({ nextStep: RotationStep.ACTIVATE, outlook: waits, laggards: ['one'] });
		expect(await atOf()).toBe(lastCallMs);
		await acknowledge(world, one);
		expect(await toSeeTo()).toBeUndefined();
		expect((await status())?.outlook).toBe('activate comes by itself within minutes');
		world.authority.rotationTrouble = 'the private key root is missing';
		expect(await toSeeTo()).toContain("can't go on by itself: the private key root is missing");
	});

	it('makes a replica that has no key of the next set not ready, before anything depends on it', async () => {
		await using world = await World.start({ limits: DUE });
		const copy = join(world.folder, 'keys of another replica');
		mkdirSync(copy, { mode: 0o700 });
		cpSync(join(world.folder, 'keys'), copy, { recursive: true });
		const { store, clock, rng, log, appendAudit } = deps(world);
		const keys = new KeyFolder(copy, rng);
		const options = { store, keys, clock, rng, log, appendAudit, trustDomain: TRUST_DOMAIN };
		const other = { ...world.deps, authority: await openCertificateAuthority(options) };
		const caOf = async () => (await checkHealth(other)).find(({ name }) => name === 'ca');
		expect(await caOf()).toMatchObject({ ok: true });
		expect(await look(world)).toBe('prepared');
		expect(await caOf()).toMatchObject({
			ok: false,
			message: expect.stringMatching(/private key \S+-2\S* is missing/),
		});
		// Nor does it activate what it couldn't issue from.
		world.clock.shiftMs += SETTLE_MS;
		const self = { ...deps(world), authority: other.authority };
		await expect(rotateBySelf(self)).rejects.toMatchObject({ reason: 'KEY_FILE_INVALID' });
		await deps(world).authority.reload();
		expect(phaseOf(world)).toBe('prepared');
		cpSync(join(world.folder, 'keys'), copy, { recursive: true });
		expect(await caOf()).toMatchObject({ ok: true });
	});

	it('says that a person rotates where it is turned off', async () => {
		await using world = await World.start({ limits: { selfRotation: { ...SELF_ROTATION_DEFAULT, isOn: false } } });
		const { authority } = await world.call(getCertificateAuthority, {});
		expect(authority?.outlook).toBe('a person begins the next rotation: gpuaas ca rotate prepare');
		expect(authority?.nextStepAt).toBeUndefined();
	});

	it('does nothing by two clocks of which one is wrong, and says so', async () => {
		await using world = await World.start({ limits: DUE });
		const own = world.store.now;
		world.store.now = async () => (await own.call(world.store)) - 6000;
		try {
			await expect(rotateBySelf(deps(world))).rejects.toMatchObject({ reason: 'CLOCK_SKEW' });
			expect(phaseOf(world)).toBe('none');
		} finally {
			world.store.now = own;
		}
	});
});

describe('an issuing set that has ended', () => {
	const ended = async (world: World) => {
		world.clock.shiftMs = world.authority.issuersEndMs().node - systemClock.now() + 10 * DAY_MS;
		return await replaceEnded(deps(world));
	};

	it('is replaced in one unit, and everything is issued again', async () => {
		await using world = await World.start();
		await enrolled(world, 'one');
		expect(await replaceEnded(deps(world))).toBeUndefined();
		const before = world.authority.document().document;
		expect(await ended(world)).toEqual({ kind: 'done', phase: 'draining' });
		const after = world.authority.document();
		expect(after.version).toBe(2);
		expect(after.document.sets.map(({ number }) => number)).toEqual([1, 2]);
		expect(after.document.root).toEqual(before.root);
		expect(world.authority.issuersEndMs().replica).toBeGreaterThan(world.clock.now() + 89 * DAY_MS);
		const { envelope } = await world.authority.signTaskDocument('test', Buffer.from('payload'));
		expect(envelope.length).toBeGreaterThan(0);
		expect((await rotations(world.store)).map(({ step, waived_count: count }) => `${step} ${count}`)).toEqual([
			'prepare 0',
			'activate 1',
			'drain 1',
		]);
		expect(await replaceEnded(deps(world))).toBeUndefined();
	});

	it('is replaced by the next one where that one lives, else by another', async () => {
		await using world = await World.start({ limits: DUE });
		await look(world);
		world.clock.shiftMs = 0;
		expect(phaseOf(world)).toBe('prepared');
		// Made at one time, both have ended.
		expect(await ended(world)).toEqual({ kind: 'done', phase: 'draining' });
		expect(world.authority.document().document.sets.map(({ number }) => number)).toEqual([1, 3]);

		await using other = await World.start();
		const endMs = other.authority.issuersEndMs().node;
		other.clock.shiftMs = endMs - 20 * DAY_MS - systemClock.now();
		expect(await look(other)).toBe('prepared');
		expect(await ended(other)).toEqual({ kind: 'done', phase: 'draining' });
		expect(other.authority.document().document.sets.map(({ number }) => number)).toEqual([1, 2]);
	});
});

describe('an issuing set that a clock made which was ahead', () => {
	it('is replaced by a person alone, by the clock that is right', async () => {
		await using world = await World.start({ limits: DUE });
		world.clock.shiftMs = 40 * DAY_MS;
		for (const phase of ['prepared', 'activated', 'draining']) expect(await look(world)).toBe(phase);
		world.clock.shiftMs = 0;
		// As `ca renew` is one: a process knows no time before that which it has seen.
		await world.crash();
		await world.open();
		expect(await replaceEnded(deps(world))).toBeUndefined();
		const ctx = systemContext('renew-authority', world.clock, silentLogger, 'test');
		expect(await replaceUnusable(deps(world), ctx)).toEqual({ kind: 'done', phase: 'draining' });
		expect(world.authority.document().document.sets.map(({ number }) => number)).toEqual([2, 3]);
		// What it issues now holds in TLS.
		await swapListener(world);
		await enrolled(world, 'one');
		expect(await replaceUnusable(deps(world), ctx)).toBeUndefined();
	});
});

describe('kill -9', () => {
	/** A dozen programs, one after the other. */
	const KILLS_MS_MAX = 280_000;
	const program = join(import.meta.dirname, 'authority-step-crash.ts');
	const begin = () => {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-authority-'));
		const run = (days: number, point: string) =>
			spawnSync(process.execPath, [program, folder, String(days * DAY_MS), point], { encoding: 'utf8' });
		const keys = () => readdirSync(join(folder, 'keys')).length;
		expect(run(0, 'none')).toMatchObject({ stdout: 'none', status: 0 });
		return { folder, run, keys };
	};
	const recorded = async (folder: string) => {
		const store = await openAt(join(folder, 'store.db'));
		const steps = (await rotations(store)).map(({ step }) => step);
		await store[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true });
		return steps;
	};

	it(
		'at any point of any step changes nothing but the moment',
		async () => {
			const { folder, run, keys } = begin();
			const before = keys();
			for (const made of [0, 1, 2]) {
				expect(run(61, `key ${made}`).signal).toBe('SIGKILL');
				expect(keys()).toBe(before + made);
			}
			let day = 61;
			for (const point of ['unit', 'committed', 'committed', 'unit', 'committed', 'committed', 'committed']) {
				expect(run(day, point).signal).toBe('SIGKILL');
				day += 1;
			}
			expect(run(day, 'none').stdout).toBe('revoked');
			expect(keys()).toBe(before + 3);
			expect(await recorded(folder)).toEqual(['prepare', 'activate', 'drain', 'taint', 'revoke']);
		},
		KILLS_MS_MAX,
	);

	it(
		'while an ended set is replaced leaves the old one or the new one',
		async () => {
			const { folder, run, keys } = begin();
			const before = keys();
			for (const point of ['key 1', 'unit', 'committed']) expect(run(100, point).signal).toBe('SIGKILL');
			expect(run(100, 'none').stdout).toBe('draining');
			expect(keys()).toBe(before + 3);
			expect(await recorded(folder)).toEqual(['prepare', 'activate', 'drain']);
		},
		KILLS_MS_MAX,
	);
});

describe('the reconciler', () => {
	const replica = (world: World, replicaId: string) =>
		new AuthorityReconciler({ ...deps(world), replicaId }, { periodMs: 3_600_000 });

	it('is one replica at a time, and another once that one has gone', async () => {
		await using world = await World.start({ limits: DUE });
		const one = replica(world, 'replica-1');
		await one.once();
		expect(phaseOf(world)).toBe('prepared');
		world.clock.shiftMs += SETTLE_MS / 2;
		// The lease was renewed a moment ago.
		await one.once();
		world.clock.shiftMs += SETTLE_MS / 2;
		await one.once();
		expect(phaseOf(world)).toBe('activated');
		world.clock.shiftMs += 60_000;
		await one.once();
		world.clock.shiftMs += SETTLE_MS - 120_000;
		await one.once();
		world.clock.shiftMs += 60_001;
		await using two = replica(world, 'replica-2');
		await two.once();
		expect(phaseOf(world)).toBe('activated');
		await one[Symbol.asyncDispose]();
		await two.once();
		expect(phaseOf(world)).toBe('draining');
	});

	it('shows what keeps it from a step, until it has taken it', async () => {
		await using world = await World.start({ limits: DUE });
		const [there, away] = ['root.pem', 'root.away'].map((name) => join(world.folder, 'keys', name));
		renameSync(there ?? '', away ?? '');
		await using reconciler = replica(world, 'replica-1');
		await reconciler.once();
		expect(world.authority.rotationTrouble).toMatch(/private key root is missing/);
		expect(phaseOf(world)).toBe('none');
		renameSync(away ?? '', there ?? '');
		await reconciler.once();
		expect(world.authority.rotationTrouble).toBe('');
		expect(phaseOf(world)).toBe('prepared');
	});
});

describe.skipIf(lacks('postgres', 'initdb'))('two replicas on one PostgreSQL', () => {
	it('take each step once, whoever is first', async () => {
		await using server = await PostgresServer.start();
		const url = await server.createDatabase();
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-authority-'));
		const keys = new KeyFolder(folder, systemRng);
		const clock = new ShiftedClock();
		const appendAudit = createAppendAudit({ clock, rng: systemRng });
		const shared = { clock, rng: systemRng, log: silentLogger, keys, trustDomain: TRUST_DOMAIN, appendAudit };
		const stores = [await openAt(url), await openAt(url)];
		// PostgreSQL has a clock of its own, which a test can't move.
		for (const store of stores) store.now = () => Promise.resolve(clock.now());
		const first = stores[0] as Store;
		await openCertificateAuthority({ ...shared, store: first });
		const replicas = await Promise.all(
			stores.map(async (store) => {
				const authority = await openCertificateAuthority({ ...shared, store });
				return { ...shared, store, authority, bus: new InProcessBus(), limits: { ...APP_LIMITS_DEFAULT, ...DUE } };
			}),
		);
		for (const phase of ['prepared', 'activated', 'draining', 'tainted', 'revoked']) {
			// Without the lease: the document's version alone decides.
			const outcomes = await Promise.all(replicas.map((replica) => rotateBySelf(replica)));
			expect(outcomes.filter(({ kind }) => kind === 'done')).toEqual([{ kind: 'done', phase }]);
			clock.shiftMs += SETTLE_MS;
			for (const { authority } of replicas) {
				await authority.reload();
				expect(authority.document().document.rotation?.phase).toBe(phase);
			}
		}
		expect((await rotations(first)).map(({ step }) => step)).toEqual([
			'prepare',
			'activate',
			'drain',
			'taint',
			'revoke',
		]);
		for (const store of stores) await store[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true });
	});
});
