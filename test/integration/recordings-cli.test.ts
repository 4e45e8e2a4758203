import {
	appendFileSync,
	copyFileSync,
	existsSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeContexts } from '../../cli/contexts.ts';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import type { RecordingRow } from '../../control-plane/store/port/recordings.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { noteKey, noteKeyText } from '../../pki/verify/signed-note.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { ApiWorld } from './api-world.ts';
import { addRecording, auditSigner } from './recordings-world.ts';

/** The command against a real API, in this process. */
let world: ApiWorld;
let folder = '';
let nodeId = '';
let id = '';
let keyFile = '';
beforeAll(async () => {
	world = await ApiWorld.start();
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-recordings-cli-'));
	const context = { address: world.url, caPem: world.rootPem, key: world.operatorKey };
	await writeContexts({ env: { GPUAAS_CONFIG_DIR: folder } }, { current: 'test', contexts: { test: context } });
	keyFile = join(folder, 'audit.vkey');
	writeFileSync(keyFile, `${noteKeyText(noteKey('test.gpuaas.example/audit', auditSigner.spki()))}\n`);
	nodeId = (await world.addNode()).id;
	const assignment = { node: nodeId, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR };
	await world.client(NodeService, world.operatorKey).assignNode(assignment);
	id = await addRecording(world, nodeId, 'hello from a terminal ü\r\n');
});
afterAll(async () => {
	rmSync(folder, { recursive: true, force: true });
	await world[Symbol.asyncDispose]();
});

async function gpuaas(...argv: string[]) {
	const io = testIo({ GPUAAS_CONFIG_DIR: folder });
	const code = await dispatch(argv, io);
	return { code, out: io.out(), err: io.err() };
}

test('recordings are listed, for people and for programs', async () => {
	const table = await gpuaas('terminal', 'recordings');
	expect(table).toMatchObject({ code: 0, out: expect.stringMatching(new RegExp(`${id}.*sealed`)) });
	const { recordings } = JSON.parse((await gpuaas('terminal', 'recordings', '--node', nodeId, '--json')).out) as {
		recordings: { id: string; terminalId: string }[];
	};
	expect(recordings[0]?.id).toBe(id);
});

test('one is replayed by its id, by its terminal, and from a file', async () => {
	const expected = { code: 0, out: 'hello from a terminal ü\r\n', err: '' };
	expect(await gpuaas('terminal', 'replay', id)).toEqual(expected);
	const row = await world.deps.store.read((tx) => tx.recordings.get(id));
	expect(await gpuaas('terminal', 'replay', row?.terminalId ?? '')).toEqual(expected);
	const file = join(folder, 'replay.cast');
	await gpuaas('terminal', 'export', id, '-o', file);
	expect(await gpuaas('terminal', 'replay', file)).toEqual(expected);
});

test('what is no recording is said to be none', async () => {
	const file = join(folder, 'noise');
	for (const noise of ['', 'x', '{"version":1}\n', '\0\0\0', '[]\n']) {
		writeFileSync(file, noise);
		expect(await gpuaas('terminal', 'replay', file)).toMatchObject({
			code: 2,
			err: expect.stringContaining('is no recording'),
		});
	}
	expect(await gpuaas('terminal', 'replay', 'nonsense')).toMatchObject({
		code: 1,
		err: expect.stringContaining('no such recording'),
	});
	expect(await gpuaas('terminal', 'replay', id, '--speed', '0')).toMatchObject({ code: 2 });
});

describe('verify', () => {
	const file = () => join(folder, 'session.cast');
	const manifest = () => `${file()}.manifest.json`;
	beforeEach(async () => {
		await gpuaas('terminal', 'export', id, '-o', file(), '--force');
	});
	const verify = () => gpuaas('terminal', 'verify', file(), '--key', keyFile);

	test('what was sealed, on the control plane and offline', async () => {
		expect(await gpuaas('terminal', 'verify', id, '--key', keyFile)).toMatchObject({
			code: 0,
			out: expect.stringContaining('exactly what was sealed'),
		});
		expect(await verify()).toMatchObject({ code: 0, out: expect.stringContaining(nodeId) });
	});

	test('a changed byte, a cut tail, something added', async () => {
		const bytes = readFileSync(file());
		bytes.writeUInt8(bytes.readUInt8(bytes.length - 10) ^ 1, bytes.length - 10);
		writeFileSync(file(), bytes);
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('SHA-256 differs') });
		truncateSync(file(), statSync(file()).size - 1);
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('its end is missing') });
		appendFileSync(file(), 'xx');
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('was added') });
	});

	test('another recording in its place', async () => {
		const other = join(folder, 'other.cast');
		await gpuaas(
			'terminal',
			'export',
			await addRecording(world, nodeId, 'HELLO FROM A TERMINAL ü\r\n'),
			'-o',
			other,
			'--force',
		);
		copyFileSync(other, file());
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringMatching(/not the one|added|missing/) });
	});

	test('another recording with its own manifest in its place, on the control plane', async () => {
		const otherId = await addRecording(world, nodeId, 'nothing happened here\r\n');
		const { store } = world.deps;
		const rowOf = async (recordingId: string) =>
			present(await store.read((tx) => tx.recordings.get(recordingId)), 'its row');
		const put = (row: RecordingRow) => {
			const { sha256, manifest: signed, bytes, events } = row;
			return store.unit((tx) => tx.recordings.update(id, { sha256, manifest: signed, bytes, events }, 'sealed'));
		};
		const own = await rowOf(id);
		await put(await rowOf(otherId));
		expect(await gpuaas('terminal', 'verify', id, '--key', keyFile)).toMatchObject({
			code: 1,
			err: expect.stringContaining(`it is recording ${otherId}, whole and signed`),
		});
		await put(own);
		expect((await gpuaas('terminal', 'verify', id, '--key', keyFile)).code).toBe(0);
	});

	test('a manifest that was changed, is missing, or was signed with another key', async () => {
		const text = readFileSync(manifest(), 'utf8');
		const envelope = JSON.parse(text) as { payload: string };
		const payload = Buffer.from(envelope.payload, 'base64').toString().replace('"truncated":""', '"truncated":"x"');
		writeFileSync(manifest(), JSON.stringify({ ...envelope, payload: Buffer.from(payload).toString('base64') }));
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('the manifest') });
		writeFileSync(manifest(), '{"nonsense": 1');
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('can not be read') });
		rmSync(manifest());
		expect(await verify()).toMatchObject({ code: 1, err: expect.stringContaining('is not there') });
		writeFileSync(manifest(), text);
		const { generateSigner } = await import('../../pki/keys/signer.ts');
		const stranger = join(folder, 'stranger.vkey');
		writeFileSync(stranger, `${noteKeyText(noteKey('x/audit', generateSigner('ed25519').spki()))}\n`);
		expect(await gpuaas('terminal', 'verify', file(), '--key', stranger)).toMatchObject({
			code: 1,
			err: expect.stringContaining('no key that is trusted'),
		});
	});
});

const PURGED = 'retention has deleted the content of this recording; its manifest and digest remain';

describe('a terminal of which a part was lost', () => {
	/** Parts of one terminal in these states; `undefined`: also its row is gone. */
	async function parts(...states: readonly ('sealed' | 'failed' | undefined)[]): Promise<string> {
		const { store, clock, rng } = world.deps;
		const terminalId = uuidv7(clock.now(), rng);
		for (const [index, state] of states.entries()) {
			if (state === undefined) continue;
			const own = await addRecording(world, nodeId, `part ${index + 1}\r\n`);
			const row = present(await store.read((tx) => tx.recordings.get(own)), 'its row');
			const truncated = state === 'failed' ? 'its file is gone' : '';
			const part = { ...row, id: uuidv7(clock.now(), rng), terminalId, part: index + 1, state, truncated };
			// Whole and signed, under the id that was sealed.
			await store.unit((tx) => tx.recordings.insert(part));
		}
		return terminalId;
	}

	test.each([
		['failed', ['sealed', 'failed', 'sealed'], 'part 2 was lost: its file is gone'],
		['not even known', ['sealed', undefined, undefined, 'sealed'], 'parts 2 to 3 were lost: nothing is known of it'],
		['the first', [undefined, 'sealed'], 'part 1 was lost'],
		['the only one', ['failed'], 'part 1 was lost: its file is gone'],
	] as const)('is not verified, and whoever replays or exports it is told: %s', async (_, states, lost) => {
		const terminalId = await parts(...states);
		const verified = await gpuaas('terminal', 'verify', terminalId, '--key', keyFile);
		expect(verified).toMatchObject({ code: 1, err: expect.stringContaining(`NOT verified: ${lost}`) });
		const shown = states.flatMap((state, index) => (state === 'sealed' ? [`part ${index + 1}\r\n`] : []));
		const code = shown.length === 0 ? 1 : 0;
		expect(await gpuaas('terminal', 'replay', terminalId)).toEqual({
			code,
			out: shown.join(''),
			err: expect.stringContaining(lost),
		});
		const exported = await gpuaas('terminal', 'export', terminalId, '-o', '-');
		expect(exported).toMatchObject({ code, err: expect.stringContaining(lost) });
		expect(exported.out.match(/part \d/g) ?? []).toEqual(shown.map((text) => text.trim()));
	});

	test('is not verified though all others are, nor is it by its own id', async () => {
		const { store, clock, rng } = world.deps;
		const terminal = { id: uuidv7(clock.now(), rng) };
		const ids = [];
		for (const part of ['1', '2', '3']) ids.push(await addRecording(world, nodeId, part, terminal));
		const [, lost = '', purged = ''] = ids;
		const verify = (name: string) => gpuaas('terminal', 'verify', name, '--key', keyFile);
		expect((await verify(terminal.id)).code).toBe(0);
		const failed = { state: 'failed', truncated: 'its file is gone' } as const;
		await store.unit((tx) => tx.recordings.update(lost, failed, 'sealed'));
		const err = `${lost}: NOT verified: part 2 was lost: its file is gone\n`;
		const verified = await verify(terminal.id);
		expect(verified).toMatchObject({ code: 1, err });
		expect(verified.out.match(/exactly what was sealed/g)).toHaveLength(2);
		expect(await verify(lost)).toMatchObject({ code: 1, err });
		// Nor does one whose content is gone keep the others from being looked at.
		await store.unit((tx) => tx.recordings.update(purged, { state: 'purged' }, 'sealed'));
		const both = await verify(terminal.id);
		expect(both).toMatchObject({ code: 1, err: `${err}${purged}: NOT verified: ${PURGED}\n` });
		expect(both.out.match(/exactly what was sealed/g)).toHaveLength(1);
	});
});

test('an export replaces nothing without --force', async () => {
	const file = join(folder, 'mine.cast');
	writeFileSync(file, 'mine');
	expect(await gpuaas('terminal', 'export', id, '-o', file)).toMatchObject({
		code: 1,
		err: expect.stringContaining('--force'),
	});
	expect(readFileSync(file, 'utf8')).toBe('mine');
	expect(existsSync(`${file}.manifest.json`)).toBe(false);
});

test('a hold needs a reason, is shown, and is released', async () => {
	expect(await gpuaas('terminal', 'hold', id)).toMatchObject({ code: 2 });
	expect(await gpuaas('terminal', 'hold', id, '--reason', 'case 7')).toMatchObject({ code: 0 });
	expect((await gpuaas('terminal', 'recordings')).out).toMatch(/held/);
	expect(await gpuaas('terminal', 'release', id, '--reason', 'over')).toMatchObject({ code: 0 });
});
