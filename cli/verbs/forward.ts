import { Mux } from '../../channel/mux.ts';
import { present } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { type Api, connect } from '../client.ts';
import { type Arguments, type Command, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { listenFor } from '../forward/listener.ts';
import { type ForwardSpec, parseForward } from '../forward/target.ts';
import { type Io, printable, printJson, write } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { openChannelPipe } from '../terminal/channel-pipe.ts';
import { OPEN_OPTIONS } from '../terminal/open-options.ts';

const forward: Command = {
	name: 'forward',
	summary: 'Reach a port of a node from here',
	usage: 'NODE PORT[:HOST:PORT]...',
	description:
		"Listens here and connects there, as the account, until Ctrl-C. Without HOST it reaches what the account itself listens on, on the node's loopback; other hosts only where the node's policy lists them.",
	options: {
		...OPEN_OPTIONS,
		bind: { type: 'string', value: 'ADDRESS', help: 'Address to listen on here (default 127.0.0.1)' },
	},
	examples: [
		['gpuaas forward gpu-07 8888', 'A notebook on the node, at http://127.0.0.1:8888'],
		['gpuaas forward gpu-07 5433:db.internal:5432', 'A database that the node may reach'],
		['gpuaas forward gpu-07 0:8888', 'At a port that is free here'],
	],
	async run(args, io) {
		const [node, ...texts] = args.positionals;
		if (node === undefined || texts.length === 0) throw usageError(forward, 'name a node and at least one port');
		const specs = texts.map((text) => {
			const spec = parseForward(text);
			if (spec === undefined)
				throw usageError(forward, `${JSON.stringify(text)} is not PORT, PORT:PORT or PORT:HOST:PORT`);
			return spec;
		});
		const api = await connect(io, args);
		const stop = new AbortController();
		const carried = specs.map((spec) => carry(io, api, args, node, spec, stop.signal));
		try {
			await Promise.race(carried);
		} finally {
			// One that ends ends them all, and none leaves its program on the node.
			stop.abort();
			await Promise.allSettled(carried);
		}
		return EXIT.ok;
	},
};

/** Resolves at Ctrl-C and when `stop` is aborted; throws when the node ends it. */
async function carry(
	io: Io,
	api: Api,
	args: Arguments,
	node: string,
	spec: ForwardSpec,
	stop: AbortSignal,
): Promise<void> {
	const { host, port } = spec;
	const [user, purpose] = [args.text('user') ?? '', args.text('purpose') ?? ''];
	const request = { node, host, port, user, purpose, requestId: newRequestId(io) };
	const { terminal } = await api.client(PortService).forwardPort(request);
	await using channel = openChannelPipe(io, api, present(terminal, 'the answer has a terminal'));
	const mux = new Mux({ pipe: channel.pipe });
	const running = mux.run();
	running.catch(() => {});
	const told = new Set<string>();
	const onRefused = ({ message }: GpuaasError) => {
		// A browser tries again and again: each sentence once.
		if (told.has(message)) return;
		told.add(message);
		void write(io.stderr, `gpuaas: ${printable(message)}\n`);
	};
	await using listener = await listenFor(
		mux,
		{ host: args.text('bind') ?? '127.0.0.1', port: spec.localPort },
		onRefused,
	);
	await announce(io, args, node, spec, listener.port);
	const over = AbortSignal.any([io.interrupt, stop]);
	const interrupted = new Promise<void>((resolve) => {
		if (over.aborted) resolve();
		else over.addEventListener('abort', () => resolve(), { once: true });
	});
	const ended = running.then(() => {
		throw new GpuaasError({
			code: 'UNAVAILABLE',
			reason: 'FORWARD_UNREACHABLE',
			message: `the forward ended on the node${channel.complaint() === '' ? '' : `: ${channel.complaint()}`}`,
		});
	});
	await Promise.race([interrupted, ended]);
}

async function announce(
	io: Io,
	args: Arguments,
	node: string,
	{ host, port }: ForwardSpec,
	localPort: number,
): Promise<void> {
	const bind = args.text('bind') ?? '127.0.0.1';
	if (args.flag('json')) {
		await printJson(io, { listening: { host: bind, port: localPort }, node, target: { host, port } });
		return;
	}
	await write(
		io.stderr,
		`${bind}:${localPort} leads to ${host === '' ? 'port' : host} ${port} on ${printable(node)}; Ctrl-C ends it\n`,
	);
}

export const commands: readonly Command[] = [forward];
