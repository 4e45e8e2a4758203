import { timestampMs } from '@bufbuild/protobuf/wkt';
import {
	AttachMode,
	type Terminal,
	TerminalKind,
	TerminalSchema,
	TerminalService,
	TerminalState,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printable, printJson, printTable, relativeTime, write } from '../io.ts';
import { enumName, json } from '../show.ts';
import { signalName } from '../signal-name.ts';
import { attachTo, present } from '../terminal/session.ts';

const ITEMS_MAX = 1000;

const list: Command = {
	name: 'terminal list',
	summary: 'Terminals that are open, newest first',
	options: {
		node: { type: 'string', short: 'n', value: 'NODE', help: 'Of one node' },
		all: { type: 'boolean', short: 'a', help: 'Also those that have ended' },
	},
	examples: [['gpuaas terminal list', 'Everything that is open and that you may see']],
	async run(args, io) {
		take(list, args);
		const client = (await connect(io, args)).client(TerminalService);
		const { items, more } = await collect(
			(pageToken) =>
				client.listTerminals({
					pageToken,
					pageSize: 200,
					node: args.text('node') ?? '',
					includeClosed: args.flag('all'),
				}),
			(response) => response.terminals,
			ITEMS_MAX,
		);
		if (args.flag('json'))
			await printJson(io, { terminals: items.map((terminal) => json(TerminalSchema, terminal)), more });
		else {
			const node = args.text('node');
			const on = node === undefined ? '' : ` on ${node}; nodes are listed by: gpuaas node list`;
			const none = args.flag('all') ? 'there was no terminal' : 'no terminal is open';
			await printTerminals(io, items, `${none}${on}`);
		}
		return EXIT.ok;
	},
};

async function printTerminals(io: Io, terminals: readonly Terminal[], none: string): Promise<void> {
	const nowMs = io.clock.now();
	const rows = terminals.map((terminal) => [
		terminal.id,
		terminal.nodeName,
		enumName(TerminalKind, terminal.kind),
		terminal.user,
		stateText(terminal),
		String(terminal.viewers),
		terminal.createdAt === undefined ? '' : relativeTime(nowMs, timestampMs(terminal.createdAt)),
		terminal.command,
	]);
	await printTable(io, ['ID', 'NODE', 'KIND', 'USER', 'STATE', 'ATTACHED', 'OPENED', 'COMMAND'], rows, none);
}

function stateText(terminal: Terminal): string {
	if (terminal.state !== TerminalState.CLOSED) return enumName(TerminalState, terminal.state);
	return `closed, ${endText(terminal)}`;
}

/** How it ended: the program by itself, or why it was ended. */
function endText({ exitCode, signal, reason }: Terminal): string {
	if (reason !== 'TERMINAL_EXITED') return reason;
	if (signal !== undefined) return signalName(signal);
	return exitCode === undefined ? 'exited' : `exit ${exitCode}`;
}

const attach: Command = {
	name: 'terminal attach',
	summary: 'Come back to a terminal, with its screen as it is',
	usage: '[ID]',
	description:
		'Without an id: to the only one that is open. --observe looks on; leave with q. With --json, of a command without a terminal: its output and end as events, as of gpuaas exec --json.',
	options: { observe: { type: 'boolean', help: 'Look on without typing' } },
	examples: [['gpuaas terminal attach', 'To the only one that is open']],
	failureExit: EXIT.channelFailed,
	exitCodes: ["the program's own when it ends", '0 also when you detach', '255 also when it was ended from outside'],
	async run(args, io) {
		if (args.positionals.length > 1) throw usageError(attach, 'unexpected argument');
		const api = await connect(io, args);
		const client = api.client(TerminalService);
		const [id] = args.positionals;
		const terminal =
			id === undefined ? await theOnlyOne(client) : present((await client.getTerminal({ terminalId: id })).terminal);
		if (terminal.tty && io.stdout.isTTY !== true)
			throw usageError(attach, 'the terminal is a full-screen one; attach from a terminal');
		const mode = args.flag('observe') ? AttachMode.OBSERVE : AttachMode.CONTROL;
		const asEvents = args.flag('json');
		if (terminal.tty && asEvents)
			throw usageError(attach, 'what a terminal shows is no document: --json is for commands without one');
		// Else what it ended with would be all that is seen of it.
		if (terminal.state === TerminalState.CLOSED && !asEvents && terminal.reason === 'TERMINAL_EXITED')
			await write(io.stderr, `gpuaas: terminal ${terminal.id} has ended already: ${endText(terminal)}\n`);
		return await attachTo(io, api, terminal, { mode, readsStdin: true, asEvents });
	},
};

async function theOnlyOne(client: {
	listTerminals(request: { pageSize: number }): Promise<{ readonly terminals: readonly Terminal[] }>;
}): Promise<Terminal> {
	const { terminals } = await client.listTerminals({ pageSize: 100 });
	const open = terminals.filter(({ tty, state }) => tty && state === TerminalState.OPEN);
	const [only] = open;
	if (only !== undefined && open.length === 1) return only;
	throw usageError(attach, open.length === 0 ? 'no terminal is open' : `${open.length} terminals are open; say which`);
}

const share: Command = {
	name: 'terminal share',
	summary: 'Let somebody else into a terminal of yours, or no longer',
	usage: 'ID PRINCIPAL',
	options: {
		control: { type: 'boolean', help: 'They may type, too (default: look on)' },
		withdraw: { type: 'boolean', help: 'No longer' },
	},
	examples: [['gpuaas terminal share ID principal-42', 'They find their principal id with gpuaas whoami']],
	async run(args, io) {
		const [terminalId = '', principalId = ''] = take(share, args, 'ID', 'PRINCIPAL');
		const mode = args.flag('withdraw')
			? AttachMode.UNSPECIFIED
			: args.flag('control')
				? AttachMode.CONTROL
				: AttachMode.OBSERVE;
		const client = (await connect(io, args)).client(TerminalService);
		const { terminal } = await client.shareTerminal({ terminalId, principalId, mode });
		if (args.flag('json')) await printJson(io, { terminal: json(TerminalSchema, present(terminal)) });
		else if (args.flag('withdraw')) await write(io.stdout, `${printable(principalId)} can attach no longer\n`);
		else
			await write(
				io.stdout,
				`they can attach with: gpuaas terminal attach ${terminalId}${args.flag('control') ? '' : ' --observe'}\n`,
			);
		return EXIT.ok;
	},
};

const kill: Command = {
	name: 'terminal kill',
	summary: 'End a terminal, with all that runs in it',
	usage: 'ID',
	options: { reason: { type: 'string', value: 'TEXT', help: 'Shown to whoever is attached; kept in the audit log' } },
	examples: [['gpuaas terminal kill ID --reason maintenance', 'Whoever is attached reads why']],
	async run(args, io) {
		const [terminalId = ''] = take(kill, args, 'ID');
		const client = (await connect(io, args)).client(TerminalService);
		const ended = present((await client.killTerminal({ terminalId, reason: args.text('reason') ?? '' })).terminal);
		if (args.flag('json')) await printJson(io, { terminal: json(TerminalSchema, ended) });
		else {
			const how = ended.message === '' ? endText(ended) : printable(ended.message);
			await write(io.stdout, `terminal ${ended.id} on ${printable(ended.nodeName)} has ended: ${how}\n`);
		}
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [list, attach, share, kill];
