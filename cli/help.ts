import { type Command, optionsOf } from './command.ts';
import { exitHelp } from './exit-codes.ts';
import type { Io } from './io.ts';
import { VERBS, type Verb } from './verbs.ts';

/** Lines are no longer, on however wide a terminal: longer ones are hard to read. */
const WIDTH_MAX = 100;
const WIDTH_MIN = 60;

/** As wide as the terminal that reads it; into a file or a pipe as wide as may be. */
export function helpWidth({ stdout }: Pick<Io, 'stdout'>): number {
	if (stdout.isTTY !== true || stdout.columns === undefined) return WIDTH_MAX;
	return Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, stdout.columns));
}

/** Help texts, made from the same data as parsing, so that they can't drift. */
export function overview(width = WIDTH_MAX): string {
	return [
		...wrap('GPUaaS: bare-metal GPU hosts as a cloud whose operator can prove it is honest.', width),
		'',
		'Usage: gpuaas VERB [ARGUMENTS]',
		'',
		...pairs(
			VERBS.map((verb) => [`  ${verb.name}`, verb.summary]),
			width,
		),
		'',
		'Start here:  gpuaas up',
		'Then:        gpuaas run -- hostname',
		'More:        gpuaas VERB --help',
		'',
	].join('\n');
}

export function groupHelp(verb: Verb, commands: readonly Command[], width = WIDTH_MAX): string {
	return [
		...wrap(`${verb.summary}.`, width),
		'',
		`Usage: gpuaas ${verb.name} VERB [ARGUMENTS]`,
		'',
		...pairs(
			commands.map((command) => [`  ${command.name}`, command.summary]),
			width,
		),
		'',
		`More: gpuaas ${verb.name} VERB --help`,
		'',
	].join('\n');
}

export function commandHelp(command: Command, width = WIDTH_MAX): string {
	const options = Object.entries(optionsOf(command)).map(([name, option]) => {
		const short = option.short === undefined ? '    ' : `-${option.short}, `;
		const value = option.type === 'string' ? ` ${option.value ?? 'TEXT'}` : '';
		return [`  ${short}--${name}${value}`, option.help] as const;
	});
	return [
		...wrap(`${command.summary}.`, width),
		...(command.description === undefined ? [] : ['', ...wrap(command.description, width)]),
		'',
		`Usage: gpuaas ${command.name} [OPTIONS] ${command.usage ?? ''}`.trimEnd(),
		'',
		'Options:',
		...pairs(options, width),
		'',
		'Examples:',
		// A command line stays whole: people copy it.
		...command.examples.flatMap(([line, does]) => [`  ${line}`, ...wrap(does, width, '      ')]),
		'',
		'Exit codes:',
		...[...exitHelp(command.failureExit), ...(command.exitCodes ?? [])].flatMap((line) =>
			wrap(line, width, '  ', '      '),
		),
		'',
	].join('\n');
}

/** Two columns, the second wrapped beside the first. */
function pairs(rows: readonly (readonly [string, string])[], width: number): readonly string[] {
	const left = Math.max(...rows.map(([name]) => name.length));
	return rows.flatMap(([name, text]) => wrap(text, width, `${name.padEnd(left)}  `, ' '.repeat(left + 2)));
}

/** Lines of whole words, the first and all others behind their own beginnings. */
function wrap(text: string, width: number, first = '', rest = first): readonly string[] {
	const lines: string[] = [];
	let words: string[] = [];
	const line = () => (lines.length === 0 ? first : rest) + words.join(' ');
	for (const word of text.split(' ')) {
		if (words.length > 0 && line().length + 1 + word.length > width) {
			lines.push(line());
			words = [];
		}
		words.push(word);
	}
	return [...lines, line()];
}
