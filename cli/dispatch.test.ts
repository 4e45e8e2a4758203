import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { durationMs, parseCommandLine } from './command.ts';
import { dispatch } from './dispatch.ts';
import { commandHelp } from './help.ts';
import { printable, printJson } from './io.ts';
import { testIo } from './test-io.ts';
import { VERBS } from './verbs.ts';

const empty = () => ({ GPUAAS_CONFIG_DIR: mkdtempSync(join(tmpdir(), 'gpuaas-cli-')) });

describe('every verb', () => {
	it.each(VERBS)('$name declares what help and completion show', async (verb) => {
		const { commands } = await verb.load();
		const subVerbs = new Set(
			commands.map((command) => command.name.split(' ')[1]).filter((word) => word !== undefined),
		);
		expect([...subVerbs]).toEqual([...(verb.verbs ?? [])]);
		for (const command of commands) {
			expect(command.name.split(' ')[0]).toBe(verb.name);
			expect(command.examples.length, command.name).toBeGreaterThan(0);
			for (const [line] of command.examples) expect(line, command.name).toContain('gpuaas');
			const help = commandHelp(command);
			for (const name of Object.keys(command.options ?? {})) expect(help).toContain(`--${name}`);
			const io = testIo();
			expect(await dispatch([...command.name.split(' '), '--help'], io)).toBe(0);
			expect(io.out()).toBe(help);
		}
	});
});

describe('dispatch', () => {
	it('says what to do for a wrong command line, exits with 2, and prints nothing else', async () => {
		for (const argv of [['frobnicate'], ['node', 'frob'], ['task', 'show'], ['token', 'create', '--ttl', '5']]) {
			const io = testIo(empty());
			expect(await dispatch(argv, io), argv.join(' ')).toBe(2);
			expect(io.err(), argv.join(' ')).toMatch(/^gpuaas: .*--help\n$/);
			expect(io.out()).toBe('');
		}
	});

	it('run ends with 125 for whatever is ours, so that it cannot be taken for the exit code of the program', async () => {
		for (const argv of [['run'], ['run', '--frob', '--', 'x'], ['run', '--', 'true']]) {
			expect(await dispatch(argv, testIo(empty())), argv.join(' ')).toBe(125);
		}
	});

	it.each([
		[['--help']],
		[['node', '--help']],
		[['health', '--help']],
		...VERBS.map((verb) => [[verb.name, '--help']]),
	])('%j fits a terminal of 80 columns, and is not cut for a file', async (argv) => {
		const narrow = testIo({}, '', { stdout: true });
		Object.assign(narrow.stdout, { columns: 80 });
		const file = testIo();
		for (const io of [narrow, file]) expect(await dispatch(argv, io)).toBe(0);
		const words = (text: string) => text.replaceAll(/\s+/g, ' ');
		expect(words(narrow.out())).toBe(words(file.out()));
		// Command lines stay whole, to be copied.
		const lines = narrow.out().split('\n');
		for (const line of lines.filter((text) => !/^(Usage:| +)(.*\|.*)?gpuaas /.test(text)))
			expect(line.length, line).toBeLessThanOrEqual(80);
	});

	it('takes labels to set and to remove, and says which it does not understand', async () => {
		for (const change of ['rack', '=r3', '=-']) {
			const io = testIo(empty());
			expect(await dispatch(['node', 'label', 'gpu-07', change], io)).toBe(2);
			expect(io.err()).toContain('is neither K=V, which sets a label, nor K-, which removes one');
		}
	});

	it.each([
		[['nodes'], 'did you mean node? See: gpuaas --help'],
		[['rnu'], 'did you mean run? See: gpuaas --help'],
		[['node', 'lst'], 'did you mean node list? See: gpuaas node --help'],
		[['task', 'log'], 'did you mean task logs? See: gpuaas task --help'],
		[['drain'], 'did you mean node drain? See: gpuaas --help'],
		[['completio'], 'did you mean completion? See: gpuaas --help'],
		[['comp'], 'did you mean completion? See: gpuaas --help'],
		[['task', 'list', '--limt', '3'], 'there is no option --limt, did you mean --limit?; see: gpuaas task list --help'],
		[['run', '-x', '--', 'true'], 'there is no option -x; see: gpuaas run --help'],
	])('suggests what %j was meant to be', async (argv, said) => {
		const io = testIo();
		await dispatch(argv, io);
		expect(io.err()).toContain(said);
	});

	it('says of a file that was named and that cannot be used what is wrong with it', async () => {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-cli-'));
		for (const [file, problem] of [
			[join(folder, 'absent'), `gpuaas: ${join(folder, 'absent')}: there is no such file or folder (ENOENT)`],
			[folder, 'a file is needed (EISDIR)'],
		] as const) {
			const io = testIo(empty());
			expect(await dispatch(['login', 'https://cp.example', '--ca', file, '--key-file', file], io)).toBe(1);
			expect(io.err()).toContain(problem);
		}
	});

	it('answers an error as one JSON document when JSON was asked for', async () => {
		const io = testIo(empty());
		expect(await dispatch(['whoami', '--json'], io)).toBe(1);
		expect(JSON.parse(io.out())).toMatchObject({ error: { code: 'FAILED_PRECONDITION', reason: 'CONFIG_INVALID' } });
		expect(io.err()).toBe('');
	});

	it('lets nothing of a document drive the terminal that it is read in', async () => {
		const io = testIo(empty());
		expect(await dispatch(['\u009b31mnod', '--json'], io)).toBe(2);
		expect(io.out()).toContain('\\u009b31mnod');
		expect(io.out()).not.toContain('\u009b');
		const shown = testIo();
		await printJson(shown, { title: '\u202egnp.sh\u009b' });
		expect(shown.out()).toBe('{"title":"\\u202egnp.sh\\u009b"}\n');
	});

	it.each([
		['shell gpu-07 --json', 255, 'gpuaas exec --json'],
		['exec gpu-07 --tty --json -- htop', 255, '--json goes without --tty'],
		['terminal replay ID --json', 2, 'gpuaas terminal export ID -o -'],
	])('says of %s, which shows no document, what a program uses instead', async (line, exit, instead) => {
		const io = testIo(empty());
		expect(await dispatch(line.split(' '), io)).toBe(exit);
		expect(JSON.parse(io.out())).toMatchObject({
			error: { code: 'INVALID_ARGUMENT', message: expect.stringContaining(instead) },
		});
	});

	it.each([
		['exec gpu-07 ls', 255, 'the program comes after --, as in: -- ls;'],
		['exec gpu-07 ls -l', 255, 'there is no option -l; those of the program go after --;'],
		['exec gpu-07 --', 255, 'the program is missing: put it after --;'],
		['run -n gpu-07 hostname it;s', 125, "the program comes after --, as in: -- hostname 'it;s';"],
		['node show -l', 2, 'there is no option -l; see'],
	])('says of %s where a program goes', async (line, exit, said) => {
		const io = testIo(empty());
		expect(await dispatch(line.split(' '), io)).toBe(exit);
		expect(io.err()).toContain(`gpuaas: ${said}`);
	});

	it('leaves words after -- alone', async () => {
		const io = testIo(empty());
		await dispatch(['run', '--', 'prog', '--help', '--json'], io);
		expect(io.err()).toContain('no control plane is known here');
	});

	it('finds the longest verb', async () => {
		const io = testIo();
		await dispatch(['task', 'receipt', 'verify', '--help'], io);
		expect(io.out()).toContain('gpuaas task receipt verify');
	});
});

describe('parsing', () => {
	const command = {
		name: 'x',
		summary: 'x',
		options: { env: { type: 'string', multiple: true, help: '' }, on: { type: 'boolean', help: '' } },
		examples: [],
		run: async () => 0,
	} as const;

	it('keeps repeated options in order and splits at --', () => {
		const args = parseCommandLine(command, ['--env', 'a=1', 'p', '--env=b=2', '--on', '--', '--env', 'c']);
		expect(args.texts('env')).toEqual(['a=1', 'b=2']);
		expect(args.flag('on')).toBe(true);
		expect(args.positionals).toEqual(['p']);
		expect(args.rest).toEqual(['--env', 'c']);
	});

	it('reads durations with their unit and refuses those without', () => {
		expect(durationMs(command, 't', '90s')).toBe(90_000);
		expect(durationMs(command, 't', '10m')).toBe(600_000);
		expect(() => durationMs(command, 't', '90')).toThrow('not a duration');
	});
});

describe('printable', () => {
	it('shows control characters instead of sending them', () => {
		expect(printable('a\u001b[31mb\tc\nd\u0007\u009b')).toBe('a\\x1b[31mb\tc\nd\\x07\\x9b');
	});

	it('shows what would turn the direction of a text around', () => {
		expect(printable('rm \u202egnp.x\u2066é漢')).toBe('rm \\u202egnp.x\\u2066é漢');
	});
});
