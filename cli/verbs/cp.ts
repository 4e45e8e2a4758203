import { resolve } from 'node:path';
import { receiveTree } from '../../channel/copy-receiver.ts';
import { sendTree } from '../../channel/copy-sender.ts';
import { present } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { FileService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import type { Terminal } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { type Api, connect } from '../client.ts';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { endAbandoned } from '../copy/abandoned.ts';
import { CopyMeter, sizeText } from '../copy/meter.ts';
import { type Place, parsePlace } from '../copy/place.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printable, printJson, write } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { openChannelPipe } from '../terminal/channel-pipe.ts';
import { OPEN_OPTIONS } from '../terminal/open-options.ts';

/** Free space that a download leaves here: a full home locks its owner out of much more than this copy. */
const LOCAL_FREE_FLOOR_BYTES = 64 * 1024 * 1024;

const cp: Command = {
	name: 'cp',
	summary: 'Copy files to a node, or from it',
	usage: 'SOURCE DESTINATION',
	description:
		'One side is NODE:PATH; a path there that is not absolute starts at the home of the account. A file is there whole or not at all: it is written beside, checked (SHA-256) and then renamed. Run again after an interruption, it goes on where it stopped. Permissions and times are kept, links are copied as links.',
	options: {
		...OPEN_OPTIONS,
		recursive: { type: 'boolean', short: 'r', help: 'Folders with all that is in them' },
		force: { type: 'boolean', short: 'f', help: 'Replace files that are there' },
		quiet: { type: 'boolean', short: 'q', help: 'No progress' },
	},
	examples: [
		['gpuaas cp model.safetensors gpu-07:models/', 'To a folder below the home there'],
		['gpuaas cp -r gpu-07:/var/tmp/run-12 .', 'A folder with all in it, from there'],
	],
	async run(args, io) {
		const [from = '', to = ''] = take(cp, args, 'SOURCE', 'DESTINATION');
		const [source, destination] = [parsePlace(from), parsePlace(to)];
		if (source.kind === destination.kind) {
			throw usageError(
				cp,
				source.kind === 'node'
					? 'one side must be here; copy through this machine in two steps'
					: 'neither side is on a node; write NODE:PATH (a path here that has a colon begins with ./)',
			);
		}
		const api = await connect(io, args);
		const meter = new CopyMeter(io, args.flag('quiet') || args.flag('json'));
		if (source.kind === 'node') await download(io, api, args, source, destination.path, meter);
		else if (destination.kind === 'node') await upload(io, api, args, source.path, destination, meter);
		const { skipped, ...sums } = meter.sums();
		for (const message of skipped) await write(io.stderr, `gpuaas: skipped: ${printable(message)}\n`);
		if (args.flag('json')) await printJson(io, { ...sums, skipped });
		else if (!args.flag('quiet'))
			await write(
				io.stderr,
				`${sums.files} copied (${sizeText(sums.bytes)})${sums.unchanged === 0 ? '' : `, ${sums.unchanged} there already`}\n`,
			);
		return EXIT.ok;
	},
};

type RemotePlace = Extract<Place, { readonly kind: 'node' }>;

async function upload(
	io: Io,
	api: Api,
	args: Arguments,
	from: string,
	to: RemotePlace,
	meter: CopyMeter,
): Promise<void> {
	const request = { ...common(io, args, to), force: args.flag('force') };
	await endAbandoned(api, io.clock, to.node, `write ${to.path}`);
	const { terminal } = await api.client(FileService).writeFiles(request);
	await over(io, api, terminal, meter, (pipe) =>
		sendTree(pipe, { path: resolve(io.cwd, from), recursive: args.flag('recursive') }, meter.take),
	);
}

async function download(
	io: Io,
	api: Api,
	args: Arguments,
	from: RemotePlace,
	to: string,
	meter: CopyMeter,
): Promise<void> {
	const asked = { path: from.path, recursive: args.flag('recursive') };
	const { terminal } = await api
		.client(FileService)
		.readFiles({ ...common(io, args, from), recursive: asked.recursive });
	const owner = present(processIdentity(process.pid), '/proc shows this process');
	// `resolve` drops the slash that says that a folder is meant.
	const path = `${resolve(io.cwd, to)}${to.endsWith('/') ? '/' : ''}`;
	const destination = {
		path,
		force: args.flag('force'),
		freeFloorBytes: LOCAL_FREE_FLOOR_BYTES,
		owner,
		clock: io.clock,
		asked,
	};
	await over(io, api, terminal, meter, (pipe) => receiveTree(pipe, destination, meter.take));
}

function common(io: Io, args: Arguments, { node, path }: RemotePlace) {
	const [user, purpose] = [args.text('user') ?? '', args.text('purpose') ?? ''];
	return { node, path, user, purpose, requestId: newRequestId(io) };
}

/** Copies over the channel of `terminal`; Ctrl-C ends it in a way that the next run goes on from. */
async function over(
	io: Io,
	api: Api,
	terminal: Terminal | undefined,
	meter: CopyMeter,
	copy: (pipe: ReturnType<typeof openChannelPipe>['pipe']) => Promise<void>,
): Promise<void> {
	await using channel = openChannelPipe(io, api, present(terminal, 'the answer has a terminal'));
	const interrupted = new Promise<never>((_, reject) => {
		io.interrupt.addEventListener('abort', () => reject(interruption()), { once: true });
	});
	interrupted.catch(() => {});
	try {
		await Promise.race([copy(channel.pipe), interrupted]);
	} catch (error) {
		throw error instanceof GpuaasError && error.reason === 'COPY_INTERRUPTED' && channel.complaint() !== ''
			? new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'COPY_INTERRUPTED', message: channel.complaint() })
			: error;
	} finally {
		await meter.finish();
	}
}

function interruption(): GpuaasError {
	return new GpuaasError({
		code: 'CANCELLED',
		reason: 'COPY_INTERRUPTED',
		message: 'interrupted; run the same command again, it goes on where it stopped',
		metadata: { exit: String(EXIT.interrupted) },
	});
}

export const commands: readonly Command[] = [cp];
