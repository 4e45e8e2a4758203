import { GpuaasError, messageOf } from '../kit/error.ts';
import { nearest } from '../kit/suggest.ts';
import { type Command, parseCommandLine } from './command.ts';
import { EXIT } from './exit-codes.ts';
import { fileProblem } from './file-problem.ts';
import { commandHelp, groupHelp, helpWidth, overview } from './help.ts';
import { type Io, printable, printJson, write } from './io.ts';
import { VERBS, type Verb } from './verbs.ts';

/** Runs one command line and returns its exit code; never throws. */
export async function dispatch(argv: readonly string[], io: Io): Promise<number> {
	const [name, ...rest] = argv;
	if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
		await write(io.stdout, overview(helpWidth(io)));
		return name === undefined ? EXIT.usage : EXIT.ok;
	}
	const verb = VERBS.find((candidate) => candidate.name === (name === '--version' ? 'version' : name));
	if (verb === undefined) return fail(io, argv, unknownVerb(name, nearVerbs(name)));
	let failureExit: number | undefined;
	try {
		const { commands } = await verb.load();
		const found = select(verb, commands, rest);
		if (found.kind === 'help') {
			await write(io.stdout, groupHelp(verb, commands, helpWidth(io)));
			return found.exit;
		}
		failureExit = found.command.failureExit;
		const own = found.argv.includes('--') ? found.argv.slice(0, found.argv.indexOf('--')) : found.argv;
		if (own.includes('--help') || own.includes('-h')) {
			await write(io.stdout, commandHelp(found.command, helpWidth(io)));
			return EXIT.ok;
		}
		return await found.command.run(parseCommandLine(found.command, found.argv), io);
	} catch (error) {
		return fail(io, argv, error, failureExit);
	}
}

type Selected =
	| { readonly kind: 'command'; readonly command: Command; readonly argv: readonly string[] }
	| { readonly kind: 'help'; readonly exit: number };

/** The longest command name that the words begin with: `task receipt verify` before `task`. */
function select(verb: Verb, commands: readonly Command[], words: readonly string[]): Selected {
	const full = [verb.name, ...words];
	const matches = commands.filter((command) => command.name.split(' ').every((word, index) => full[index] === word));
	const command = matches.sort((a, b) => b.name.split(' ').length - a.name.split(' ').length)[0];
	if (command !== undefined) return { kind: 'command', command, argv: full.slice(command.name.split(' ').length) };
	const word = words[0];
	if (word === undefined) return { kind: 'help', exit: EXIT.usage };
	if (word === '--help' || word === '-h') return { kind: 'help', exit: EXIT.ok };
	if (word.startsWith('-')) return { kind: 'help', exit: EXIT.usage };
	const names = commands.map((candidate) => candidate.name);
	throw unknownVerb(`${verb.name} ${word}`, nearNames(`${verb.name} ${word}`, names), `gpuaas ${verb.name} --help`);
}

const NEAR_MAX = 3;

/** `nods` is node; `assign` is a verb of node. */
function nearVerbs(given: string): readonly string[] {
	const names = VERBS.map((verb) => verb.name);
	const below = VERBS.filter((verb) => verb.verbs?.includes(given)).map((verb) => `${verb.name} ${given}`);
	const near = nearNames(given, names);
	return near.length > 0 ? near : below.slice(0, NEAR_MAX);
}

function nearNames(given: string, names: readonly string[]): readonly string[] {
	const begun = names.filter((name) => name.startsWith(given)).slice(0, NEAR_MAX);
	return begun.length > 0 ? begun : nearest(given, names, NEAR_MAX);
}

function unknownVerb(given: string, near: readonly string[], help = 'gpuaas --help'): GpuaasError {
	const meant = near.length === 0 ? '; see' : `; did you mean ${near.join(' or ')}? See`;
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `there is no verb ${JSON.stringify(given)}${meant}: ${help}`,
		metadata: { exit: '2' },
	});
}

async function fail(io: Io, argv: readonly string[], thrown: unknown, failureExit?: number): Promise<number> {
	const error = thrown instanceof GpuaasError ? thrown : fileProblem(thrown);
	const code = error?.code ?? 'INTERNAL';
	const reason = error?.reason ?? 'INTERNAL';
	const message = error === undefined ? `unexpected: ${messageOf(thrown)}` : `${error.message}${whereToLook(error)}`;
	const own = error?.metadata.exit === undefined ? EXIT.failed : Number(error.metadata.exit);
	const exit = failureExit !== undefined && (own === EXIT.failed || own === EXIT.usage) ? failureExit : own;
	const dashes = argv.indexOf('--');
	if ((dashes === -1 ? argv : argv.slice(0, dashes)).includes('--json')) {
		const { exit: _, ...metadata } = error?.metadata ?? {};
		await printJson(io, { error: { code, reason, message, metadata } });
		return exit;
	}
	const correlationId = error?.metadata.correlation_id;
	const trace = correlationId === undefined || code === 'INVALID_ARGUMENT' ? '' : ` (correlation id ${correlationId})`;
	await write(io.stderr, `gpuaas: ${printable(message)}${trace}\n`);
	if (error === undefined && io.env.GPUAAS_DEBUG === '1' && thrown instanceof Error) {
		await write(io.stderr, `${thrown.stack ?? ''}\n`);
	}
	return exit;
}

const LISTS: Readonly<Record<string, string>> = {
	NODE_NOT_FOUND: 'gpuaas node list',
	TASK_NOT_FOUND: 'gpuaas task list',
	OPERATION_NOT_FOUND: 'gpuaas operation list',
	TERMINAL_NOT_FOUND: 'gpuaas terminal list --all',
	RECORDING_NOT_FOUND: 'gpuaas terminal recordings',
};

/** The control plane says to look at a list; which verb that is, we know. */
function whereToLook({ reason, message }: GpuaasError): string {
	const list = LISTS[reason];
	return list === undefined || !message.endsWith('that you can see') ? '' : `: ${list}`;
}
