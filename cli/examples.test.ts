import { describe, expect, it } from 'vitest';
import { type Command, parseCommandLine } from './command.ts';
import { dispatch } from './dispatch.ts';
import { testIo } from './test-io.ts';
import { VERBS } from './verbs.ts';

/** Every verb's help, as a person gets it: what it shows must be what the verb takes. */
const commands = (await Promise.all(VERBS.map(async (verb) => (await verb.load()).commands))).flat();

async function helpOf(command: Command): Promise<string> {
	const io = testIo();
	expect(await dispatch([...command.name.split(' '), '--help'], io)).toBe(0);
	expect(io.err()).toBe('');
	return io.out();
}

/** Lines between a heading and the next empty line. */
function section(help: string, heading: string): readonly string[] {
	const lines = help.split('\n');
	const from = lines.indexOf(heading);
	expect(from, `${heading} in\n${help}`).toBeGreaterThan(0);
	const to = lines.indexOf('', from);
	return lines.slice(from + 1, to);
}

/** The words of each `gpuaas` in a line for a POSIX shell; a command in `$()` counts as one word. */
function commandLines(line: string): string[][] {
	const found: string[][] = [];
	let words: string[] | undefined;
	let isRedirect = false;
	const tokens =
		line.replace(/\$\([^)]*\)/g, 'SUBSTITUTED').match(/'[^']*'|"[^"]*"|[|;&()]+|[<>]+|[^\s|;&()<>'"]+/g) ?? [];
	for (const token of tokens) {
		if (/^[|;&()]+$/.test(token)) {
			words = undefined;
			isRedirect = false;
		} else if (/^[<>]+$/.test(token)) isRedirect = true;
		else if (isRedirect) isRedirect = false;
		else if (token === 'gpuaas' && words === undefined) {
			words = [];
			found.push(words);
		} else words?.push(token.replace(/^(['"])(.*)\1$/, '$2'));
	}
	return found;
}

function commandOf(words: readonly string[]): Command | undefined {
	const fits = commands.filter(({ name }) => name.split(' ').every((word, index) => words[index] === word));
	return fits.sort((a, b) => b.name.length - a.name.length)[0];
}

/** How many words a usage such as `NODE METRIC...` or `[ID]` takes. */
function arity(usage: string): { readonly min: number; readonly max: number } {
	const [own = ''] = usage.split(/(?:^| )--/);
	const parts = own.split(' ').filter((part) => part !== '');
	const isOpen = parts.some((part) => part.includes('...'));
	const needed = parts.filter((part) => !part.startsWith('[') && part !== '...');
	return { min: needed.length, max: isOpen ? Number.POSITIVE_INFINITY : parts.length };
}

describe.each(commands)('gpuaas $name --help', (command) => {
	it('says what it does, how it is called, its options and its exit codes, in lines that fit', async () => {
		const help = await helpOf(command);
		expect(help.startsWith(`${command.summary}.\n`)).toBe(true);
		expect(help).toMatch(new RegExp(`^Usage: gpuaas ${command.name} \\[OPTIONS\\]( \\S.*)?$`, 'm'));
		expect(section(help, 'Options:').join('\n')).toContain('-h, --help');
		const codes = section(help, 'Exit codes:').map((line) => line.trim());
		expect(codes[0]).toBe('0 done');
		expect(codes.some((line) => /^(1|125|255) /.test(line))).toBe(true);
		for (const line of help.split('\n')) expect(line).toMatch(/^\S?.{0,119}$/);
		expect(help).not.toMatch(/[ \t]$|’|undefined/m);
	});

	it('has examples that it takes itself', async () => {
		const shown = section(await helpOf(command), 'Examples:').filter((_, index) => index % 2 === 0);
		expect(shown.length).toBeGreaterThan(0);
		let own = 0;
		for (const line of shown) {
			const lines = commandLines(line);
			expect(lines.length, line).toBeGreaterThan(0);
			for (const words of lines) {
				const called = commandOf(words);
				if (called === undefined) throw new Error(`no verb takes: ${line}`);
				if (called === command) own += 1;
				const args = parseCommandLine(called, words.slice(called.name.split(' ').length));
				const { min, max } = arity(called.usage ?? '');
				expect(args.positionals.length, line).toBeGreaterThanOrEqual(min);
				expect(args.positionals.length, line).toBeLessThanOrEqual(max);
				expect((args.rest ?? []).length > 0, line).toBe((called.usage ?? '').includes('-- '));
			}
		}
		expect(own, 'examples of the verb itself').toBeGreaterThan(0);
	});
});

it('finds the command lines of a shell line', () => {
	expect(commandLines("tar c . | gpuaas exec gpu-07 -- sh -c 'a | b' > out; gpuaas version")).toEqual([
		['exec', 'gpu-07', '--', 'sh', '-c', 'a | b'],
		['version'],
	]);
	expect(arity('NODE METRIC...')).toEqual({ min: 2, max: Number.POSITIVE_INFINITY });
	expect(arity('[ID]')).toEqual({ min: 0, max: 1 });
	expect(arity('NODE --reason TEXT')).toEqual({ min: 1, max: 1 });
});
