import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { assertTyped } from '../argument-bytes.ts';
import { connect } from '../client.ts';
import { type Command, takeProgram, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { broughtEnv, OPEN_OPTIONS, windowSize } from '../terminal/open-options.ts';
import { attachTo, present } from '../terminal/session.ts';

const exec: Command = {
	name: 'exec',
	summary: 'Run one command on a node, with its standard streams here',
	usage: 'NODE -- ARGV...',
	description:
		"Without a shell around it. Standard input, output and error are kept apart and pass as they are, so pipes work; the exit code is the command's. Unlike a task it lives with the person at its end: for what must go on, there is gpuaas run. Ctrl-C, SIGTERM, SIGHUP and SIGQUIT get to it; after SIGTERM and SIGHUP it has 5 s. An installation that records everything (fail-closed) may refuse it without -t. With --json standard output has an event a line, as of gpuaas run --json: created, output (bytes in base64) of either stream, ended with the exit code and the reason.",
	options: {
		...OPEN_OPTIONS,
		tty: { type: 'boolean', short: 't', help: 'With a terminal, for programs that want one (vim, htop)' },
		'no-stdin': { type: 'boolean', short: 'n', help: 'Its standard input is empty' },
		cwd: { type: 'string', value: 'DIR', help: 'Working directory (default: home)' },
	},
	examples: [
		['gpuaas exec gpu-07 -- nvidia-smi', 'One command'],
		['tar c . | gpuaas exec gpu-07 -- tar x', 'A pipe through it'],
		['gpuaas exec gpu-07 -t -- htop', 'With a terminal'],
		['gpuaas exec gpu-07 --json -- nvidia-smi -q', 'For a program: its output and how it ended, as events'],
	],
	failureExit: EXIT.channelFailed,
	exitCodes: [
		"the command's own",
		'126 not executable, 127 not found',
		'128+n ended by signal n',
		'141 ended, because nobody read its output any more',
		'255 also not run',
	],
	async run(args, io) {
		const [node = ''] = takeProgram(exec, args, 'NODE');
		const argv = args.rest ?? [];
		await assertTyped(argv, [node, args.text('user') ?? '', args.text('cwd') ?? '']);
		const [tty, asEvents] = [args.flag('tty'), args.flag('json')];
		if (tty && asEvents) throw usageError(exec, 'what a terminal shows is no document: --json goes without --tty');
		if (tty && (io.stdin.isTTY !== true || io.stdout.isTTY !== true))
			throw usageError(exec, '--tty needs a terminal on both sides; leave it out for pipes');
		const api = await connect(io, args);
		const { terminal } = await api.client(TerminalService).openTerminal({
			node,
			spec: {
				kind: {
					case: 'exec',
					value: { argv: [...argv], cwd: args.text('cwd') ?? '', ...(tty ? { size: windowSize(io) } : {}) },
				},
				user: args.text('user') ?? '',
				env: broughtEnv(io),
			},
			purpose: args.text('purpose') ?? '',
			requestId: newRequestId(io),
		});
		const opened = present(terminal);
		if (asEvents) await printJson(io, { event: 'created', terminalId: opened.id, node: opened.nodeName });
		const readsStdin = !args.flag('no-stdin');
		return await attachTo(io, api, opened, {
			mode: AttachMode.CONTROL,
			readsStdin,
			endsWithReader: true,
			asEvents,
		});
	},
};

export const commands: readonly Command[] = [exec];
