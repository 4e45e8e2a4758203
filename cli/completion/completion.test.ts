import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { dispatch } from '../dispatch.ts';
import { testIo } from '../test-io.ts';
import { VERBS } from '../verbs.ts';
import { OPTIONS } from './options.ts';

async function script(shell: string): Promise<string> {
	const io = testIo();
	expect(await dispatch(['completion', shell], io)).toBe(0);
	return io.out();
}

/** What a real bash offers at the last word, which may be empty. */
async function offered(...words: string[]): Promise<string[]> {
	const program = `
eval "$1"; shift
COMP_WORDS=(gpuaas "$@"); COMP_CWORD=$#
_gpuaas
printf '%s\\n' "\${COMPREPLY[@]}"`;
	const out = execFileSync('bash', ['-u', '-c', program, 'test', await script('bash'), ...words], { encoding: 'utf8' });
	return out.split('\n').filter((line) => line !== '');
}

describe('completion in a real bash', () => {
	it('offers verbs, their sub-verbs, and theirs', async () => {
		expect(await offered('')).toEqual(VERBS.map((verb) => verb.name));
		expect(await offered('dep')).toEqual(['department']);
		expect(await offered('node', 'un')).toEqual(['uncordon', 'unassign', 'unlock']);
		expect(await offered('task', 'receipt', '')).toEqual(['verify']);
		expect(await offered('health', 'policy', '')).toEqual(['show', 'test']);
		expect(await offered('completion', '')).toEqual(['bash', 'zsh', 'fish']);
	});

	it('offers the options of the verb that is there, and those of every verb', async () => {
		expect(await offered('node', 'drain', 'gpu-07', '--')).toEqual([
			...['--reason', '--deadline', '--wait'],
			...['--help', '--json', '--approval', '--context'],
		]);
		expect(await offered('run', '--max')).toEqual(['--max-attempts']);
		expect(await offered('task', 'receipt', 'verify', '--c')).toEqual(['--ca', '--context']);
		expect(await offered('up', '--con'), 'up uses no context').toEqual([]);
		expect(await offered('shell', '--js'), 'a shell is no document').toEqual([]);
		expect(await offered('exec', '--js')).toEqual(['--json']);
	});

	it('offers nothing of its own where a name or a file is meant, and after --', async () => {
		expect(await offered('node', 'show', '')).toEqual([]);
		expect(await offered('run', '-n', '')).toEqual([]);
		expect(await offered('run', '--', '--ma')).toEqual([]);
		expect(await offered('frobnicate', '')).toEqual([]);
	});
});

describe('completion', () => {
	it('knows every verb with its options', async () => {
		const known: Record<string, string> = {};
		for (const verb of VERBS) {
			for (const command of (await verb.load()).commands) {
				const own = Object.keys(command.options ?? {});
				const marks = [...(command.isLocal === true ? ['!'] : []), ...(command.noJson === undefined ? [] : ['-'])];
				known[command.name] = [...own, ...marks].join(' ');
			}
		}
		expect(OPTIONS).toEqual(known);
	});

	it.each(['zsh', 'fish'])('gives %s the same words', async (shell) => {
		const text = await script(shell);
		for (const verb of VERBS) expect(text).toContain(verb.name);
		for (const option of ['--max-attempts', '--deadline', '--token-file']) expect(text).toContain(option);
	});
});
