import { parseArgs } from 'node:util';
import { GpuaasError } from '../kit/error.ts';
import { nearest } from '../kit/suggest.ts';
import type { Io } from './io.ts';

/** One verb: what it is called, what it takes, what it does. Help and completion are made from this alone. */
export interface Command {
	/** `node drain`. */
	readonly name: string;
	readonly summary: string;
	/** Positional arguments as help shows them: `NODE`, `[NODE...]`, `-- ARGV...`. */
	readonly usage?: string;
	/** A paragraph for help, where the summary isn't enough. */
	readonly description?: string;
	readonly options?: Readonly<Record<string, Option>>;
	/** Line after line: command, then what it does. */
	readonly examples: readonly (readonly [string, string])[];
	/** Calls no control plane that a context names: `--context` and `--approval` mean nothing to it. */
	readonly isLocal?: true;
	/** Where what it shows is no document: it has no `--json`, and this says what a program uses instead. */
	readonly noJson?: string;
	/** What it ends with when we refuse or fail, where 1 and 2 could be taken for something else. */
	readonly failureExit?: number;
	/** Beyond 0, 1 and 2. */
	readonly exitCodes?: readonly string[];
	run(args: Arguments, io: Io): Promise<number>;
}

export interface Option {
	readonly type: 'string' | 'boolean';
	readonly short?: string;
	readonly multiple?: boolean;
	/** What the value is called in help: `DIR`. */
	readonly value?: string;
	readonly help: string;
}

export interface Arguments {
	/** Before `--`. */
	readonly positionals: readonly string[];
	/** After `--`; undefined when there was no `--`. */
	readonly rest: readonly string[] | undefined;
	text(name: string): string | undefined;
	texts(name: string): readonly string[];
	flag(name: string): boolean;
}

/** Of every verb. */
export const COMMON: Readonly<Record<string, Option>> = {
	help: { type: 'boolean', short: 'h', help: 'Show this help' },
	json: { type: 'boolean', help: 'One JSON document on standard output (NDJSON for streams)' },
};

/** Of every verb that calls a control plane. */
export const OF_CALLS: Readonly<Record<string, Option>> = {
	approval: { type: 'string', value: 'ID', help: 'Send with this two-person approval' },
	context: { type: 'string', value: 'NAME', help: 'Use this context instead of the current one' },
};

export function optionsOf(command: Command): Readonly<Record<string, Option>> {
	const { json, ...others } = COMMON;
	return {
		...command.options,
		...others,
		...(json === undefined || command.noJson !== undefined ? {} : { json }),
		...(command.isLocal === true ? {} : OF_CALLS),
	};
}

/** Throws INVALID_ARGUMENT, with the way to the help, for anything that the command doesn't know. */
export function parseCommandLine(command: Command, argv: readonly string[]): Arguments {
	const dashes = argv.indexOf('--');
	const own = dashes === -1 ? argv : argv.slice(0, dashes);
	const options = optionsOf(command);
	try {
		const { values, positionals } = parseArgs({
			args: [...own],
			options: Object.fromEntries(
				Object.entries(options).map(([name, option]) => [
					name,
					{
						type: option.type,
						multiple: option.multiple ?? false,
						...(option.short === undefined ? {} : { short: option.short }),
					},
				]),
			),
			allowPositionals: true,
			strict: true,
		});
		const given = values as Record<string, string | boolean | (string | boolean)[] | undefined>;
		return {
			positionals,
			rest: dashes === -1 ? undefined : argv.slice(dashes + 1),
			text: (name) => (typeof given[name] === 'string' ? given[name] : undefined),
			texts: (name) => {
				const value = given[name];
				return Array.isArray(value) ? value.map(String) : typeof value === 'string' ? [value] : [];
			},
			flag: (name) => given[name] === true,
		};
	} catch (error) {
		throw usageError(command, problemOf(error, command, Object.keys(options), dashes !== -1));
	}
}

function problemOf(
	error: unknown,
	{ noJson, usage = '' }: Command,
	names: readonly string[],
	hasProgram: boolean,
): string {
	if (!(error instanceof Error)) return String(error);
	const [detail = ''] = error.message.split('. To specify');
	const unknown = /^Unknown option '(-[^']*)'/.exec(detail)?.[1];
	if (unknown === undefined) return detail;
	if (unknown === '--json' && noJson !== undefined) return noJson;
	const [near] = nearest(unknown.replace(/^--/, ''), names);
	// `exec gpu-07 ls -l`: most likely the program's.
	if (near === undefined && !hasProgram && usage.includes('-- '))
		return `there is no option ${unknown}; those of the program go after --`;
	return `there is no option ${unknown}${near === undefined ? '' : `, did you mean --${near}?`}`;
}

export function usageError(command: Pick<Command, 'name'>, detail: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `${detail}; see: gpuaas ${command.name} --help`,
		metadata: { exit: '2' },
	});
}

/** What comes before a program's command line, which must be there; where `--` was forgotten, how it is called with it. */
export function takeProgram(command: Command, args: Arguments, ...names: readonly string[]): readonly string[] {
	const { positionals, rest } = args;
	if (rest === undefined && positionals.length > names.length) {
		const program = positionals.slice(names.length).map(quoted).join(' ');
		throw usageError(command, `the program comes after --, as in: -- ${program}`);
	}
	const given = take(command, args, ...names);
	if (rest === undefined || rest.length === 0) throw usageError(command, 'the program is missing: put it after --');
	return given;
}

/** For a POSIX shell. */
function quoted(word: string): string {
	return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Exactly these positionals, each named for the message. */
export function take(command: Command, args: Arguments, ...names: readonly string[]): readonly string[] {
	const missing = names[args.positionals.length];
	if (missing !== undefined) throw usageError(command, `${missing} is missing`);
	if (args.positionals.length > names.length) {
		throw usageError(command, `unexpected argument ${JSON.stringify(args.positionals[names.length])}`);
	}
	return args.positionals;
}

const DURATION = /^(\d{1,9})(ms|s|m|h|d)$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `10m` -> ms. */
export function durationMs(command: Command, name: string, text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	const match = DURATION.exec(text);
	if (match === null)
		throw usageError(command, `--${name} ${JSON.stringify(text)} is not a duration such as 90s, 10m, 24h`);
	return Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0);
}

/** `k=v` pairs. */
export function pairs(command: Command, name: string, texts: readonly string[]): Record<string, string> {
	const result: Record<string, string> = {};
	for (const text of texts) {
		const at = text.indexOf('=');
		if (at <= 0) throw usageError(command, `--${name} ${JSON.stringify(text)} is not KEY=VALUE`);
		result[text.slice(0, at)] = text.slice(at + 1);
	}
	return result;
}

export function port(command: Command, name: string, text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	const value = Number(text);
	if (!Number.isInteger(value) || value < 1 || value > 65_535) {
		throw usageError(command, `--${name} ${JSON.stringify(text)} is not a port (1 to 65535)`);
	}
	return value;
}
