import { type Command, optionsOf } from './command.ts';
import { exitHelp } from './exit-codes.ts';
import { VERBS, type Verb } from './verbs.ts';

/** Help texts, made from the same data as parsing, so that they can't drift. */
export function overview(): string {
	const width = Math.max(...VERBS.map((verb) => verb.name.length));
	return [
		'GPUaaS: bare-metal GPU hosts as a cloud whose operator can prove it is honest.',
		'',
		'Usage: gpuaas VERB [ARGUMENTS]',
		'',
		...VERBS.map((verb) => `  ${verb.name.padEnd(width)}  ${verb.summary}`),
		'',
		'Start here:  gpuaas up',
		'Then:        gpuaas run -- hostname',
		'More:        gpuaas VERB --help',
		'',
	].join('\n');
}

export function groupHelp(verb: Verb, commands: readonly Command[]): string {
	const width = Math.max(...commands.map((command) => command.name.length));
	return [
		`${verb.summary}.`,
		'',
		`Usage: gpuaas ${verb.name} VERB [ARGUMENTS]`,
		'',
		...commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`),
		'',
		`More: gpuaas ${verb.name} VERB --help`,
		'',
	].join('\n');
}

export function commandHelp(command: Command): string {
	const options = Object.entries(optionsOf(command)).map(([name, option]) => {
		const short = option.short === undefined ? '    ' : `-${option.short}, `;
		const value = option.type === 'string' ? ` ${option.value ?? 'TEXT'}` : '';
		return [`  ${short}--${name}${value}`, option.help] as const;
	});
	const width = Math.max(...options.map(([left]) => left.length));
	return [
		`${command.summary}.`,
		...(command.description === undefined ? [] : ['', ...wrap(command.description)]),
		'',
		`Usage: gpuaas ${command.name} [OPTIONS] ${command.usage ?? ''}`.trimEnd(),
		'',
		'Options:',
		...options.flatMap(([left, help]) => wrap(help, `${left.padEnd(width)}  `, ' '.repeat(width + 2))),
		'',
		'Examples:',
		...command.examples.flatMap(([line, does]) => [`  ${line}`, `      ${does}`]),
		'',
		'Exit codes:',
		...[...exitHelp(command.failureExit), ...(command.exitCodes ?? [])].flatMap((line) => wrap(line, '  ', '      ')),
		'',
	].join('\n');
}

const WIDTH = 100;

/** Lines of whole words, the first and all others behind their own beginnings. */
function wrap(text: string, first = '', rest = first): readonly string[] {
	const lines: string[] = [];
	let words: string[] = [];
	const line = () => (lines.length === 0 ? first : rest) + words.join(' ');
	for (const word of text.split(' ')) {
		if (words.length > 0 && line().length + 1 + word.length > WIDTH) {
			lines.push(line());
			words = [];
		}
		words.push(word);
	}
	return [...lines, line()];
}
