import { type Command, optionsOf } from './command.ts';
import { EXIT_HELP } from './exit-codes.ts';
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
		...(command.description === undefined ? [] : ['', command.description]),
		'',
		`Usage: gpuaas ${command.name} [OPTIONS]${command.usage === undefined ? '' : ` ${command.usage}`}`,
		'',
		'Options:',
		...options.map(([left, help]) => `${left.padEnd(width)}  ${help}`),
		'',
		'Examples:',
		...command.examples.flatMap(([line, does]) => [`  ${line}`, `      ${does}`]),
		'',
		(command.failureExit === undefined
			? [EXIT_HELP, ...(command.exitCodes ?? [])]
			: [
					`Exit codes: 0 done, ${command.failureExit} refused, failed or wrong command line`,
					...(command.exitCodes ?? []),
				]
		).join(', '),
		'',
	].join('\n');
}
