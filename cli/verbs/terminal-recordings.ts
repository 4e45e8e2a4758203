import { readFile } from 'node:fs/promises';
import { fromJsonString, toJsonString } from '@bufbuild/protobuf';
import { GpuaasError } from '../../kit/error.ts';
import { verifyRecording } from '../../pki/verify/recording.ts';
import { type DsseEnvelope, DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	type Recording,
	RecordingSchema,
	RecordingService,
	RecordingState,
} from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { collect, connect } from '../client.ts';
import { type Arguments, type Command, durationMs, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, paint, printable, printJson, printTable, write } from '../io.ts';
import { AlternateScreen } from '../recording/alternate-screen.ts';
import { findParts, keptOf } from '../recording/parts.ts';
import { PLAYER_KEYS, Player, pressed } from '../recording/player.ts';
import { savePair } from '../recording/save.ts';
import { fileBytes, isFile, type RecordingClient, readCast, recordingBytes } from '../recording/source.ts';
import { TypedKeys } from '../recording/typed-keys.ts';
import { ago, enumName, fields, json } from '../show.ts';
import { MODES_RESET } from '../terminal/local-terminal.ts';
import { setCooked, setRaw } from '../terminal/raw-mode.ts';
import { readAuditKey } from '../verify-audit.ts';

const MANIFEST_SUFFIX = '.manifest.json';
const CONTENT_GONE: ReadonlySet<string> = new Set(['RECORDING_PURGED', 'RECORDING_UNAVAILABLE']);

const recordings: Command = {
	name: 'terminal recordings',
	summary: 'List what was recorded, newest first',
	options: {
		node: { type: 'string', value: 'NODE', help: 'Only of this node' },
		terminal: { type: 'string', value: 'ID', help: 'Only of this terminal' },
		limit: { type: 'string', value: 'N', help: 'At most this many (default 50)' },
	},
	examples: [['gpuaas terminal recordings --node gpu-07', 'What was recorded on one node']],
	async run(args, io) {
		take(recordings, args);
		const limit = Number(args.text('limit') ?? '50');
		if (!Number.isInteger(limit) || limit < 1) throw usageError(recordings, '--limit is a whole number from 1');
		const { client } = await connect(io, args);
		const filter = { node: args.text('node') ?? '', terminalId: args.text('terminal') ?? '' };
		const { items } = await collect(
			(pageToken) => client(RecordingService).listRecordings({ ...filter, pageToken, pageSize: Math.min(limit, 1000) }),
			(response) => response.recordings,
			limit,
		);
		if (args.flag('json')) await printJson(io, { recordings: items.map((item) => json(RecordingSchema, item)) });
		else {
			await printTable(
				io,
				['ID', 'TERMINAL', 'NODE', 'BY', 'STARTED', 'STATE', 'BYTES', 'NOTE'],
				items.map((item) => [
					item.id,
					item.part === 1 ? item.terminalId : `${item.terminalId}/${item.part}`,
					item.nodeName,
					item.createdBy,
					ago(io, item.startedAt),
					enumName(RecordingState, item.state).replace('recording state ', ''),
					String(item.bytes),
					[
						item.truncated === '' ? '' : 'incomplete',
						item.gaps === 0n ? '' : `${item.gaps} gaps`,
						item.heldAt === undefined ? '' : 'held',
					]
						.filter(Boolean)
						.join(', ') || '-',
				]),
				'nothing was recorded, or you may see none of it',
			);
		}
		return EXIT.ok;
	},
};

const replay: Command = {
	name: 'terminal replay',
	summary: 'Show again what a terminal showed',
	noJson: 'a replay is for people; programs read the recording itself: gpuaas terminal export ID -o -',
	usage: 'ID|FILE',
	description: `ID is that of a recording, or of a terminal: then all its parts, and a warning for each that was lost. While it plays, ${PLAYER_KEYS}. Into a pipe it goes without pauses.`,
	options: {
		speed: { type: 'string', value: 'N', help: 'So many times as fast (default 1)' },
		'idle-limit': { type: 'string', value: 'DURATION', help: 'No pause is longer (default 2s)' },
	},
	examples: [
		['gpuaas terminal replay ID --speed 4', 'Four times as fast'],
		['gpuaas terminal replay ID | less -R', 'All at once'],
	],
	async run(args, io) {
		const [id = ''] = take(replay, args, 'ID');
		const speed = Number(args.text('speed') ?? '1');
		if (!(speed > 0) || !Number.isFinite(speed)) throw usageError(replay, '--speed is a number above 0');
		const sources = await sourcesOf(io, args, id);
		if (sources.length === 0) return EXIT.failed;
		const isLive = io.stdout.isTTY === true;
		const screen = new AlternateScreen();
		const player = new Player({
			clock: io.clock,
			speed: isLive ? speed : Number.POSITIVE_INFINITY,
			idleLimitMs: durationMs(replay, 'idle-limit', args.text('idle-limit')) ?? 2000,
			show: (text) => {
				screen.saw(text);
				return write(io.stdout, text);
			},
		});
		const stop = isLive ? listenToKeys(io, player) : () => {};
		const quit = () => player.quit();
		io.interrupt.addEventListener('abort', quit, { once: true });
		try {
			for (const { name, bytes } of sources) await player.play((await readCast(bytes, name)).events);
		} finally {
			io.interrupt.removeEventListener('abort', quit);
			stop();
			// Screen, modes and colours of whatever was shown last must not stay.
			if (isLive) await write(io.stdout, `${screen.leave}${MODES_RESET}\r\n`);
		}
		return io.interrupt.aborted ? EXIT.interrupted : EXIT.ok;
	},
};

interface Source {
	readonly name: string;
	readonly bytes: AsyncIterable<Uint8Array>;
}

/** A file, or what is kept of a recording or terminal; the warnings come before the first of it is shown. */
async function sourcesOf(io: Io, args: Arguments, id: string): Promise<readonly Source[]> {
	if (await isFile(id)) return [{ name: id, bytes: fileBytes(id) }];
	const client = (await connect(io, args)).client(RecordingService);
	return (await keptParts(io, client, id)).map(({ id: name }) => ({ name, bytes: recordingBytes(client, name) }));
}

/** With a warning of each that was lost: what is shown or written is not all of it. */
async function keptParts(io: Io, client: RecordingClient, id: string): Promise<readonly Recording[]> {
	const parts = await findParts(client, id);
	for (const part of parts)
		if (part.kind === 'lost') await write(io.stderr, `gpuaas: ${printable(part.name)}: ${printable(part.message)}\n`);
	return keptOf(parts);
}

function listenToKeys(io: Io, player: Player): () => void {
	const stdin = io.stdin as NodeJS.ReadStream;
	if (stdin.isTTY !== true) return () => {};
	const keys = new TypedKeys();
	const onData = (bytes: Buffer) => {
		for (const key of keys.of(bytes.toString('latin1'))) pressed(player, key);
	};
	setRaw(stdin);
	stdin.on('data', onData);
	return () => {
		stdin.off('data', onData);
		setCooked(stdin);
		stdin.pause();
	};
}

const exportRecording: Command = {
	name: 'terminal export',
	summary: 'Write a recording (asciicast v2) and its signed manifest to files',
	usage: 'ID',
	description: `The manifest is written beside it, as FILE${MANIFEST_SUFFIX}; with both, gpuaas terminal verify needs nothing else but the audit key.`,
	options: {
		output: {
			type: 'string',
			short: 'o',
			value: 'FILE',
			help: 'Where to (default: ID.cast); - writes the recording alone to standard output',
		},
		force: { type: 'boolean', help: 'Replace files that are there' },
	},
	examples: [['gpuaas terminal export ID -o session.cast', `session.cast and session.cast${MANIFEST_SUFFIX}`]],
	async run(args, io) {
		const [id = ''] = take(exportRecording, args, 'ID');
		const client = (await connect(io, args)).client(RecordingService);
		const found = await keptParts(io, client, id);
		if (found.length === 0) return EXIT.failed;
		const output = args.text('output');
		if (output === '-') {
			for (const { id: recordingId } of found)
				for await (const bytes of recordingBytes(client, recordingId)) await write(io.stdout, bytes);
			return EXIT.ok;
		}
		if (found.length > 1 && output !== undefined)
			throw usageError(exportRecording, 'this terminal has several parts; leave out --output, or name one recording');
		const files: string[] = [];
		for (const { id: recordingId } of found) {
			const path = output ?? `${recordingId}.cast`;
			const { manifest } = await client.getRecording({ recordingId });
			const text = manifest === undefined ? '' : `${toJsonString(DsseEnvelopeSchema, manifest, { prettySpaces: 2 })}\n`;
			const bytes = recordingBytes(client, recordingId);
			await savePair({ path, bytes }, { path: `${path}${MANIFEST_SUFFIX}`, text }, args.flag('force'));
			files.push(path, `${path}${MANIFEST_SUFFIX}`);
		}
		if (args.flag('json')) await printJson(io, { files });
		else await write(io.stdout, files.map((file) => `${file}\n`).join(''));
		return EXIT.ok;
	},
};

const verify: Command = {
	name: 'terminal verify',
	summary: 'Check a recording against its signed manifest',
	usage: 'ID|FILE',
	description:
		'Finds a changed byte, a missing end, another file in its place and a changed manifest. Of a file it works offline. What it can not show is that the control plane recorded everything; a recording that is cut off or has gaps says so. ID is that of a recording, or of a terminal: then a part that was lost is not verified.',
	options: {
		manifest: { type: 'string', value: 'FILE', help: `Of a file (default: FILE${MANIFEST_SUFFIX})` },
		key: {
			type: 'string',
			value: 'FILE',
			help: 'Verifier key of the audit log (default: audit.vkey of a local control plane)',
		},
	},
	examples: [
		['gpuaas terminal verify ID', 'What the control plane has'],
		['gpuaas terminal verify session.cast --key audit.vkey', 'A file, offline'],
	],
	exitCodes: ['1 also when anything was tampered with'],
	async run(args, io) {
		const [id = ''] = take(verify, args, 'ID');
		const results = (await isFile(id)) ? [await verifyFile(args, id)] : await verifyStored(io, args, id);
		if (args.flag('json')) await printJson(io, { results });
		else for (const result of results) await showVerdict(io, result);
		return results.every(({ ok }) => ok) ? EXIT.ok : EXIT.failed;
	},
};

interface Verified {
	readonly name: string;
	readonly ok: boolean;
	readonly message: string;
	readonly facts: readonly (readonly [string, string])[];
}

async function verifyFile(args: Arguments, path: string): Promise<Verified> {
	const manifest = args.text('manifest') ?? `${path}${MANIFEST_SUFFIX}`;
	const key = args.text('key');
	if (key === undefined)
		throw usageError(verify, 'a file is checked with --key FILE, the audit.vkey of its control plane');
	let envelope: DsseEnvelope;
	try {
		envelope = fromJsonString(DsseEnvelopeSchema, await readFile(manifest, 'utf8'));
	} catch (error) {
		const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'is not there' : 'can not be read';
		return { name: path, ok: false, message: `NOT verified: the manifest ${manifest} ${why}`, facts: [] };
	}
	return await verdictOf(path, envelope, fileBytes(path), key);
}

async function verifyStored(io: Io, args: Arguments, id: string): Promise<readonly Verified[]> {
	const api = await connect(io, args);
	const client = api.client(RecordingService);
	const keyPath =
		args.text('key') ?? (api.context.data === undefined ? undefined : `${api.context.data}/control-plane/audit.vkey`);
	if (keyPath === undefined) throw usageError(verify, 'name the key of the audit log: --key FILE; the operator has it');
	const results: Verified[] = [];
	for (const part of await findParts(client, id)) {
		if (part.kind === 'lost') {
			results.push({ name: part.name, ok: false, message: `NOT verified: ${part.message}`, facts: [] });
			continue;
		}
		const recordingId = part.recording.id;
		const { manifest } = await client.getRecording({ recordingId });
		if (manifest === undefined)
			results.push({ name: recordingId, ok: false, message: 'NOT verified: it is not sealed yet', facts: [] });
		else
			results.push(
				await verdictOf(recordingId, manifest, recordingBytes(client, recordingId), keyPath, recordingId).catch(
					(error: unknown) => unreadable(recordingId, error),
				),
			);
	}
	return results;
}

/** Whatever became of the content of one, the other parts are looked at. */
function unreadable(name: string, error: unknown): Verified {
	if (!(error instanceof GpuaasError) || !CONTENT_GONE.has(error.reason)) throw error;
	return { name, ok: false, message: `NOT verified: ${error.message}`, facts: [] };
}

async function verdictOf(
	name: string,
	envelope: DsseEnvelope,
	bytes: AsyncIterable<Uint8Array>,
	keyPath: string,
	/** What was asked for; a file may have any name. */
	wantedId?: string,
): Promise<Verified> {
	const { key } = await readAuditKey(keyPath);
	const verdict = await verifyRecording(envelope, bytes, [key]);
	if (verdict.kind === 'tampered') return { name, ok: false, message: `NOT verified: ${verdict.what}`, facts: [] };
	const { manifest } = verdict;
	// Whole and signed, and of something else: whoever swapped the two hopes that only the file is looked at.
	if (wantedId !== undefined && manifest.recordingId !== wantedId) {
		const message = `NOT verified: it is recording ${manifest.recordingId}, whole and signed, in the place of this one`;
		return { name, ok: false, message, facts: [] };
	}
	const facts = [
		['terminal', `${manifest.terminalId}, part ${manifest.part}`],
		['node', `${manifest.nodeName} (${manifest.nodeId}), in ${manifest.custody} custody`],
		['opened by', manifest.openedBy],
		['time', `${new Date(manifest.startedAtMs).toISOString()} to ${new Date(manifest.endedAtMs).toISOString()}`],
		['input', manifest.inputRecorded ? 'recorded where it was shown' : 'not recorded'],
		['incomplete', manifest.truncated],
		[
			'gaps',
			manifest.gaps === 0
				? ''
				: `${manifest.gaps}, of ${manifest.gapBytes} bytes as far as that is known; each is marked where it is`,
		],
		['sha256', manifest.sha256],
	] as const;
	return { name, ok: true, message: `verified: exactly what was sealed, ${manifest.events} events`, facts };
}

async function showVerdict(io: Io, { name, ok, message, facts }: Verified): Promise<void> {
	const shown = `${printable(name)}: ${printable(message)}`;
	await write(ok ? io.stdout : io.stderr, `${ok ? paint(io, 'green', shown) : shown}\n`);
	if (facts.length > 0) await write(io.stdout, printable(fields(facts)));
}

function holding(name: 'hold' | 'release', summary: string): Command {
	const command: Command = {
		name: `terminal ${name}`,
		summary,
		usage: 'RECORDING',
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why; kept in the audit log' } },
		examples: [[`gpuaas terminal ${name} ID --reason "case 2026-17"`, summary]],
		async run(args, io) {
			const [recordingId = ''] = take(command, args, 'RECORDING');
			const reason = args.text('reason');
			if (reason === undefined || reason === '') throw usageError(command, 'say why: --reason TEXT');
			const client = (await connect(io, args)).client(RecordingService);
			const request = { recordingId, reason };
			const { recording } =
				name === 'hold' ? await client.holdRecording(request) : await client.releaseRecording(request);
			if (args.flag('json'))
				await printJson(io, { recording: recording === undefined ? null : json(RecordingSchema, recording) });
			else
				await write(
					io.stdout,
					`${recordingId} is ${name === 'hold' ? 'held: retention leaves it' : 'released: retention counts again'}\n`,
				);
			return EXIT.ok;
		},
	};
	return command;
}

export const commands: readonly Command[] = [
	recordings,
	replay,
	exportRecording,
	verify,
	holding('hold', 'Keep a recording whatever retention says (legal hold)'),
	holding('release', 'End a legal hold'),
];
