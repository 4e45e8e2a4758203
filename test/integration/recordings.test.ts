import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FileRecordingStore } from '../../control-plane/adapters/object-store/file-recording-store.ts';
import type { RecordingFile, RecordingStore } from '../../control-plane/app/recordings/recording-store.ts';
import { Recordings } from '../../control-plane/app/recordings/recordings.ts';
import { TerminalRecordingsReconciler } from '../../control-plane/reconcilers/terminal-recordings.ts';
import type { RecordingRow } from '../../control-plane/store/port/recordings.ts';
import { assert, present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { verifyRecording } from '../../pki/verify/recording.ts';
import { VerifyKey } from '../../pki/verify/signature.ts';
import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { RecordingService, RecordingState } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { ApiWorld } from './api-world.ts';
import { addRecording, auditSigner, recordingDeps, terminalOf } from './recordings-world.ts';

/** Recordings from the relay's calls to the API, on real files and a real store. */
let world: ApiWorld;
let nodeId = '';
beforeAll(async () => {
	world = await ApiWorld.start();
	nodeId = (await world.addNode()).id;
	const assignment = { node: nodeId, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR };
	await world.client(NodeService, world.operatorKey).assignNode(assignment);
});
afterAll(() => world[Symbol.asyncDispose]());

const keys = [VerifyKey.parse(auditSigner.spki())].filter((key) => key !== undefined);
const operator = () => world.client(RecordingService, world.operatorKey);
const rowOf = async (id: string) => present(await world.deps.store.read((tx) => tx.recordings.get(id)), 'it is there');
const only = async (terminalId: string): Promise<RecordingRow> =>
	present((await world.deps.store.read((tx) => tx.recordings.listParts(terminalId, 10))).at(-1), 'it has a part');

async function content(id: string): Promise<Buffer> {
	const chunks: Uint8Array[] = [];
	for (let offset = 0n; ; ) {
		const page = await operator().readRecording({ recordingId: id, offset, bytesMax: 100 });
		chunks.push(page.data);
		offset = page.nextOffset;
		if (page.complete) return Buffer.concat(chunks);
	}
}

async function* streamOf(bytes: Uint8Array) {
	yield bytes;
}

/** Of this process. */
function openFiles(): readonly string[] {
	const folder = '/proc/self/fd';
	return readdirSync(folder).flatMap((fd) => {
		try {
			return [readlinkSync(join(folder, fd))];
		} catch {
			// That of the look itself.
			return [];
		}
	});
}

function reconciler(
	more: { retentionMs?: number; isLive?: (id: string) => boolean; recordings?: RecordingStore } = {},
) {
	const options = {
		...recordingDeps(world),
		isLive: () => false,
		retentionMs: 3_600_000,
		periodMs: 3_600_000,
		...more,
	};
	return new TerminalRecordingsReconciler(options);
}

describe('a recording', () => {
	test.each([false, true])('has what was typed and shown only where the policy says so: %s', async (recordsInput) => {
		const terminal = terminalOf(world, nodeId);
		const opened = await new Recordings(recordingDeps(world, { recordsInput })).open(terminal, undefined, () => {});
		assert(opened.kind === 'recording', 'it is recorded');
		opened.recorder.input(Buffer.from('ls'));
		opened.recorder.output(Buffer.from('ls'));
		await opened.recorder.end('the shell exited');
		const { id, inputRecorded } = await only(terminal.id);
		expect(inputRecorded).toBe(recordsInput);
		expect(/"i",\s*"ls"/.test(String(await content(id)))).toBe(recordsInput);
	});

	test('is listed, read page by page, and verified offline; the audit log has its digest', async () => {
		const id = await addRecording(world, nodeId, 'hello ü\r\n'.repeat(50));
		const { recordings } = await operator().listRecordings({ node: nodeId });
		expect(recordings[0]).toMatchObject({
			id,
			state: RecordingState.SEALED,
			truncated: '',
			user: 'ubuntu',
			assignment: { project: 'train' },
		});
		const bytes = await content(id);
		expect(bytes.toString().split('\n')).toHaveLength(4);
		const { manifest } = await operator().getRecording({ recordingId: id });
		const envelope = present(manifest, 'it is signed');
		expect(await verifyRecording(envelope, streamOf(bytes), keys)).toMatchObject({
			kind: 'verified',
			manifest: { recordingId: id, events: 2 },
		});
		expect(await verifyRecording(envelope, streamOf(bytes.subarray(1)), keys)).toMatchObject({ kind: 'tampered' });
		const sealed = (await world.audit()).find(
			({ action, target }) => action === 'recordings.seal' && target === `recordings/${id}`,
		);
		expect(sealed?.detail).toMatchObject({ sha256: (await rowOf(id)).sha256, truncated: false });
	});

	test('belongs to the project of its terminal, also after the assignment has ended', async () => {
		const node = (await world.addNode()).id;
		const nodes = world.client(NodeService, world.operatorKey);
		await nodes.assignNode({ node, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR });
		const id = await addRecording(world, node);
		await nodes.unassignNode({ node });
		await nodes.assignNode({ node, organization: 'rival', project: 'train', mode: AssignmentMode.OPERATOR });
		const acme = world.client(
			RecordingService,
			await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train'),
		);
		const rival = world.client(
			RecordingService,
			await world.addPrincipal('user', 'tenant.developer', 'organizations/rival/projects/train'),
		);
		expect((await acme.readRecording({ recordingId: id })).complete).toBe(true);
		await expect(rival.getRecording({ recordingId: id })).rejects.toThrow('no such recording');
		expect((await rival.listRecordings({ node })).recordings).toEqual([]);
	});

	test('of a node in a tenant’s hands says so, in its row and in what is signed', async () => {
		await using recordings = new Recordings(recordingDeps(world));
		const terminal = terminalOf(world, nodeId, { custody: 'tenant' });
		const opened = await recordings.open(terminal, undefined, () => {});
		assert(opened.kind === 'recording', 'it is recorded');
		await opened.recorder.end('over');
		const { id } = await only(terminal.id);
		const { recording, manifest } = await operator().getRecording({ recordingId: id });
		expect(recording?.custody).toBe(Custody.TENANT);
		const verdict = await verifyRecording(present(manifest, 'it is signed'), streamOf(await content(id)), keys);
		expect(verdict).toMatchObject({ kind: 'verified', manifest: { custody: 'tenant' } });
	});

	test('of a terminal that still runs can not be read, and one that is not there is not found', async () => {
		await using recordings = new Recordings(recordingDeps(world));
		const terminal = terminalOf(world, nodeId);
		const opened = await recordings.open(terminal, undefined, () => {});
		assert(opened.kind === 'recording', 'it is recorded');
		const { id } = await only(terminal.id);
		await expect(operator().readRecording({ recordingId: id })).rejects.toMatchObject({
			message: expect.stringContaining('still runs'),
		});
		await expect(operator().readRecording({ recordingId: world.deps.replicaId })).rejects.toThrow('no such recording');
	});

	test('goes on in another part when another process takes the terminal up, where the one before ended', async () => {
		const terminal = terminalOf(world, nodeId);
		for (const part of [1, 2]) {
			await using recordings = new Recordings(recordingDeps(world));
			const opened = await recordings.open(terminal, { columns: 100 + part, rows: 30 }, () => {});
			assert(opened.kind === 'recording', 'it is recorded');
			expect(opened.recorder).toMatchObject({ isLater: part > 1, outputAt: part === 1 ? 0 : 6 });
			opened.recorder.output(Buffer.from(`part ${part}`));
		}
		const parts = await world.deps.store.read((tx) => tx.recordings.listParts(terminal.id, 10));
		const stopped = 'the control plane stopped before the terminal did';
		expect(parts.map(({ part, state, truncated }) => [part, state, truncated])).toEqual([
			[1, 'sealed', stopped],
			[2, 'sealed', stopped],
		]);
		// Each begins with the size that the terminal has then.
		const sizes = parts.map(async ({ id }) => JSON.parse((await content(id)).toString().split('\n')[0] ?? ''));
		expect(await Promise.all(sizes)).toMatchObject([
			{ width: 101, height: 30 },
			{ width: 102, height: 30 },
		]);
	});

	test('says in row, manifest and audit log where output never came, also when a crash cut it', async () => {
		const recordings = new Recordings(recordingDeps(world));
		const terminal = terminalOf(world, nodeId);
		for (const isCut of [false, true]) {
			const opened = await recordings.open(terminal, undefined, () => {});
			assert(opened.kind === 'recording', 'it is recorded');
			const { recorder } = opened;
			recorder.output(Buffer.from('before'));
			recorder.gap(6, 1006, Buffer.from('screen'));
			// A name that reads like a gap is none.
			recorder.marker('gap: output bytes 1 to 9 never came attached (control)');
			recorder.gap(2000, 2500, Buffer.from('screen'));
			if (isCut) await eventually('it is written', () => recorder.backlogBytes === 0);
			else await recorder.end('TERMINAL_EXITED');
			if (isCut) {
				await using left = reconciler();
				await left.once();
			}
			const row = await only(terminal.id);
			expect(row).toMatchObject({ state: 'sealed', gaps: 2, gapBytes: 1500 });
			expect(row.truncated).toMatch(isCut ? /stopped/ : /^$/);
			const { recording, manifest } = await operator().getRecording({ recordingId: row.id });
			expect(recording).toMatchObject({ gaps: 2n, gapBytes: 1500n });
			expect(
				await verifyRecording(present(manifest, 'it is signed'), streamOf(await content(row.id)), keys),
			).toMatchObject({ kind: 'verified', manifest: { gaps: 2, gapBytes: 1500 } });
			const sealed = (await world.audit()).find(
				({ action, target }) => action === 'recordings.seal' && target === `recordings/${row.id}`,
			);
			expect(sealed?.detail).toMatchObject({ gaps: 2, truncated: isCut });
		}
	});
});

test('who read it is in the audit log: one record for each page that was given, none for what was refused', async () => {
	const id = await addRecording(world, nodeId, 'watched');
	const { data } = await operator().readRecording({ recordingId: id });
	await expect(operator().readRecording({ recordingId: world.deps.replicaId })).rejects.toThrow();
	const records = (await world.audit()).filter(
		({ action, target }) => action === 'recordings.read' && target === `recordings/${id}`,
	);
	expect(records).toMatchObject([{ result: 'ok', detail: { offset: 0, bytes: data.length } }]);
	expect(records[0]?.actor).toMatchObject({ id: 'bootstrap-operator' });
});

test('one that begins is not taken for one that a crash left', async () => {
	const deps = recordingDeps(world);
	const looks: boolean[] = [];
	const create: RecordingStore['create'] = async (id) => {
		const rows = await world.deps.store.read((tx) => tx.recordings.listRecording(deps.replicaId, '', 1000));
		looks.push(rows.some((row) => row.id === id) && recordings.isLive(id));
		return await deps.recordings.create(id);
	};
	const slow = { check: () => deps.recordings.check(), create } as RecordingStore;
	await using recordings = new Recordings({ ...deps, recordings: slow });
	await recordings.open(terminalOf(world, nodeId), undefined, () => {});
	expect(looks).toEqual([true]);
});

describe('after a crash', () => {
	/** Its process is gone: nobody seals it. */
	async function crashed(output: string, clock = world.deps.clock): Promise<RecordingRow> {
		const terminal = terminalOf(world, nodeId);
		const deps = { ...recordingDeps(world), clock };
		let file: RecordingFile | undefined;
		const create = async (id: string) => {
			file = await deps.recordings.create(id);
			return file;
		};
		const recordings = { check: () => deps.recordings.check(), create } as RecordingStore;
		const opened = await new Recordings({ ...deps, recordings }).open(terminal, undefined, () => {});
		assert(opened.kind === 'recording', 'it is recorded');
		opened.recorder.output(Buffer.from(output));
		await eventually('it is written', () => opened.recorder.backlogBytes === 0);
		await file?.close();
		return await only(terminal.id);
	}

	test('two that showed nothing, of the same second, are two: what retention deletes of one is not the other’s', async () => {
		const atMs = world.deps.clock.now() - 7_200_000;
		const clock = { ...world.deps.clock, now: () => atMs, monotonic: () => 0 };
		const [old, held] = [await crashed('', clock), await crashed('', clock)];
		await using look = reconciler({ retentionMs: 1e12 });
		await look.once();
		await operator().holdRecording({ recordingId: held.id, reason: 'case 8' });
		await using purge = reconciler();
		await purge.once();
		await eventually('it is gone', async () => (await rowOf(old.id)).purgedAtMs !== null);
		expect((await content(held.id)).toString()).toContain('truncated: ');
		await operator().releaseRecording({ recordingId: held.id, reason: 'over' });
	});

	test('the next part does not pretend to know where the one before ended, sealed or not', async () => {
		for (const isSealed of [false, true]) {
			const { terminalId: id } = await crashed('unsaid');
			if (isSealed) {
				await using look = reconciler();
				await look.once();
			}
			await using recordings = new Recordings(recordingDeps(world));
			const opened = await recordings.open({ ...terminalOf(world, nodeId), id }, undefined, () => {});
			assert(opened.kind === 'recording', 'it is recorded');
			expect(opened.recorder.outputAt).toBeUndefined();
		}
	});

	test('a recording is completed, marked truncated, sealed and verified', async () => {
		const row = await crashed('the last words');
		await using _ = reconciler();
		await eventually('it is sealed', async () => (await rowOf(row.id)).state === 'sealed');
		expect((await rowOf(row.id)).truncated).toMatch(/control plane stopped/);
		const bytes = await content(row.id);
		expect(bytes.toString()).toMatch(/the last words[\s\S]*"m","truncated: the control plane stopped/);
		const { manifest } = await operator().getRecording({ recordingId: row.id });
		expect(await verifyRecording(present(manifest, 'signed'), streamOf(bytes), keys)).toMatchObject({
			kind: 'verified',
			manifest: { truncated: expect.stringContaining('stopped') },
		});
	});

	test.each(['append', 'seal'] as const)(
		'one that can not be completed now is closed until it can be, and marked once: %s',
		async (step) => {
			const { id } = await crashed('the last words');
			const deps = recordingDeps(world);
			let isFull = true;
			const recover: RecordingStore['recover'] = async (recordingId) => {
				const found = await deps.recordings.recover(recordingId);
				if (!isFull || recordingId !== id || found?.state.kind !== 'open') return found;
				const { file } = found.state;
				const open: RecordingFile = {
					bytes: file.bytes,
					append: (text) => file.append(text),
					sync: () => file.sync(),
					seal: () => file.seal(),
					close: () => file.close(),
					[step]: () => Promise.reject(new Error('ENOSPC')),
				};
				return { ...found, state: { kind: 'open', file: open } };
			};
			const recordings = Object.assign(Object.create(deps.recordings) as RecordingStore, { recover });
			await using look = reconciler({ recordings });
			for (let turn = 0; turn < 3; turn += 1) await look.once();
			expect([(await rowOf(id)).state, openFiles().filter((path) => path.includes(id))]).toEqual(['recording', []]);
			isFull = false;
			await look.once();
			const lines = (await content(id)).toString().trimEnd().split('\n');
			expect([(await rowOf(id)).events, lines.filter((line) => line.includes('truncated: ')).length]).toEqual([2, 1]);
			expect(lines).toHaveLength(3);
		},
	);

	test('a torn line is cut off, a lost file is said to be lost, and what grows is left alone', async () => {
		const [torn, lost, live] = [await crashed('torn'), await crashed('lost'), await crashed('live')];
		const file = (id: string) => join(world.folder, 'recordings', 'open', `${id}.cast`);
		truncateSync(file(torn.id), statSync(file(torn.id)).size - 3);
		rmSync(file(lost.id));
		await using look = reconciler({ isLive: (id) => id === live.id });
		await look.once();
		await eventually('it is sealed', async () => (await rowOf(torn.id)).state === 'sealed');
		expect((await content(torn.id)).toString()).not.toContain('torn"');
		expect([(await rowOf(lost.id)).state, (await rowOf(live.id)).state]).toEqual(['failed', 'recording']);
		await expect(operator().readRecording({ recordingId: lost.id })).rejects.toThrow('its file is gone');
	});

	test('one is found behind any number that grow here', async () => {
		const { store, clock, rng } = world.deps;
		const one = await crashed('first');
		const live = new Set(Array.from({ length: 201 }, () => uuidv7(clock.now(), rng)));
		await store.unit(function* (tx) {
			for (const id of live) yield* tx.recordings.insert({ ...one, id, terminalId: id });
		});
		const last = await crashed('last');
		await using look = reconciler({ isLive: (id) => live.has(id) });
		await look.once();
		await eventually('both are sealed', async () =>
			(await Promise.all([one, last].map(({ id }) => rowOf(id)))).every(({ state }) => state === 'sealed'),
		);
		await store.unit(function* (tx) {
			for (const id of live) yield* tx.recordings.update(id, { state: 'failed' }, 'recording');
		});
	});
});

describe('retention', () => {
	test('deletes what is old, never what is held, and says so in the audit log; the manifest stays', async () => {
		const [old, held] = [await addRecording(world, nodeId, 'old'), await addRecording(world, nodeId, 'held')];
		await operator().holdRecording({ recordingId: held, reason: 'case 7' });
		const files = () => readdirSync(join(world.folder, 'recordings', 'sha256'), { recursive: true }).length;
		const before = files();
		await using look = reconciler({ retentionMs: -1000 });
		await look.once();
		await eventually('it is gone', async () => (await rowOf(old)).purgedAtMs !== null);
		expect(files()).toBeLessThan(before);
		expect((await rowOf(held)).state).toBe('sealed');
		await expect(operator().readRecording({ recordingId: old })).rejects.toThrow('retention has deleted');
		expect((await operator().getRecording({ recordingId: old })).manifest).toBeDefined();
		await expect(operator().holdRecording({ recordingId: old, reason: 'too late' })).rejects.toThrow(
			'no content any more',
		);
		expect(
			(await world.audit()).some(
				({ action, target }) => action === 'recordings.purge' && target === `recordings/${old}`,
			),
		).toBe(true);
		await operator().releaseRecording({ recordingId: held, reason: 'over' });
		await look.once();
		expect((await rowOf(held)).state).toBe('purged');
	});
});

test('one whose content can not be deleted is tried again, and holds up no other', async () => {
	const [stuck, other] = [await addRecording(world, nodeId, 'stuck'), await addRecording(world, nodeId, 'other')];
	const deps = recordingDeps(world);
	let isStuck = true;
	const remove: RecordingStore['remove'] = async (id, sha256) => {
		if (isStuck && id === stuck) throw new Error('EIO');
		await deps.recordings.remove(id, sha256);
	};
	const recordings = Object.assign(Object.create(deps.recordings) as RecordingStore, { remove });
	const options = { ...deps, recordings, isLive: () => false, retentionMs: -1000, periodMs: 3_600_000 };
	await using look = new TerminalRecordingsReconciler(options);
	await look.once();
	await eventually('the other is gone', async () => (await rowOf(other)).purgedAtMs !== null);
	// Also when it is the first that is tried again.
	const next = await addRecording(world, nodeId, 'next');
	await look.once();
	expect((await rowOf(next)).purgedAtMs).not.toBeNull();
	expect(await rowOf(stuck)).toMatchObject({ state: 'purged', purgedAtMs: null });
	isStuck = false;
	await look.once();
	expect((await rowOf(stuck)).purgedAtMs).not.toBeNull();
});

test('a hold that comes between the look and the deletion keeps it', async () => {
	const id = await addRecording(world, nodeId, 'just in time');
	const { store } = world.deps;
	const read: typeof store.read = async (plan) => {
		const found = await store.read(plan);
		if (Array.isArray(found) && found.some((row: { id?: string }) => row.id === id))
			await operator().holdRecording({ recordingId: id, reason: 'now' });
		return found;
	};
	const late = {
		...recordingDeps(world),
		store: Object.assign(Object.create(store) as typeof store, { read, unit: store.unit.bind(store) }),
	};
	await using look = new TerminalRecordingsReconciler({
		...late,
		isLive: () => false,
		retentionMs: -1000,
		periodMs: 3_600_000,
	});
	await look.once();
	await look.once();
	expect(await rowOf(id)).toMatchObject({ state: 'sealed', holdReason: 'now' });
});

describe.skipIf(lacks('root', 'mount'))('a full disk', () => {
	let folder = '';
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), 'gpuaas-small-'));
		const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'none', folder]);
		if (mounted.status !== 0) throw new Error(String(mounted.stderr));
	});
	afterAll(() => {
		spawnSync('umount', ['--lazy', folder]);
		rmSync(folder, { recursive: true, force: true });
	});

	async function fill(mode: 'fail_closed' | 'best_effort') {
		const place = join(folder, mode);
		mkdirSync(place);
		const deps = {
			...recordingDeps(world, { mode }),
			recordings: new FileRecordingStore({ folder: place, freeBytesMin: 0 }),
		};
		await using recordings = new Recordings(deps);
		const terminal = terminalOf(world, nodeId);
		const failures: [boolean, string, string][] = [];
		const opened = await recordings.open(terminal, undefined, (...failure) => failures.push(failure));
		assert(opened.kind === 'recording', 'it is recorded');
		const { recorder } = opened;
		while (failures.length === 0) {
			recorder.output(Buffer.alloc(64 * 1024, 'x'));
			if (recorder.backlogBytes > 1 << 20) await new Promise<void>((resolve) => recorder.onDrain(resolve));
			else await Promise.resolve();
		}
		await recorder.end('over');
		const row = await only(terminal.id);
		rmSync(place, { recursive: true });
		return { failures, row };
	}

	test.each([
		['fail_closed', true, 'this one ended'],
		['best_effort', false, 'NOT recorded'],
	] as const)(
		'in the middle, %s: it is told once, and what was written is sealed and marked',
		async (mode, isFatal, says) => {
			const { failures, row } = await fill(mode);
			expect(failures).toEqual([[isFatal, 'RECORDING_UNAVAILABLE', expect.stringContaining(says)]]);
			expect(row).toMatchObject({ state: 'sealed', truncated: expect.stringMatching(/full/) });
			expect(row.bytes).toBeGreaterThan(1 << 20);
		},
	);

	test('below the floor none begins: no terminal, or one that says that it is not recorded', async () => {
		const store = new FileRecordingStore({ folder, freeBytesMin: 2 ** 40 });
		const open = (mode: 'fail_closed' | 'best_effort') =>
			new Recordings({ ...recordingDeps(world, { mode }), recordings: store }).open(
				terminalOf(world, nodeId),
				undefined,
				() => {},
			);
		expect(await open('fail_closed')).toMatchObject({
			kind: 'refused',
			reason: 'RECORDING_UNAVAILABLE',
			message: expect.stringContaining('bytes are free'),
		});
		expect(await open('best_effort')).toMatchObject({
			kind: 'unrecorded',
			why: expect.stringContaining('NOT recorded'),
		});
	});
});
