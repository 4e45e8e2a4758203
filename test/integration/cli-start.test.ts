import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

/** What the command reads from disk before it answers: time is measured by the benchmark, its cause is seen here. */
const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-cli-start-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Says each module that the process loads, on standard error. */
const LISTENER = `
import { writeSync } from 'node:fs';
import { registerHooks } from 'node:module';
registerHooks({
	load(url, context, next) {
		writeSync(2, \`loaded \${url}\\n\`);
		return next(url, context);
	},
});
`;

function modulesOf(...argv: readonly string[]): { readonly status: number | null; readonly loaded: readonly string[] } {
	const listener = join(folder, 'listener.mjs');
	writeFileSync(listener, LISTENER);
	const args = ['--import', listener, join(root, 'cli', 'main.ts'), ...argv];
	const { status, stderr } = spawnSync(process.execPath, args, { env: {}, encoding: 'utf8', timeout: 60_000 });
	const loaded = stderr.split('\n').filter((line) => line.startsWith('loaded file:'));
	return { status, loaded: loaded.map((line) => line.slice(line.indexOf(root) + root.length + 1)) };
}

test.each([
	['version', ['version']],
	['completion', ['completion', 'bash']],
	['the overview', ['--help']],
])('%s loads its own verb alone, and no package', (name, argv) => {
	const { status, loaded } = modulesOf(...argv);
	expect(status).toBe(0);
	expect(loaded).toContain('cli/dispatch.ts');
	const own = name === 'the overview' ? [] : [`cli/verbs/${name}.ts`];
	expect(loaded.filter((path) => path.startsWith('cli/verbs/'))).toEqual(own);
	expect(loaded.filter((path) => path.startsWith('node_modules/') || path.startsWith('proto/'))).toEqual([]);
});

test('a verb that talks to the control plane loads itself and what it needs, and no other verb', () => {
	const { loaded } = modulesOf('whoami', '--help');
	expect(loaded.filter((path) => path.startsWith('cli/verbs/'))).toEqual(['cli/verbs/whoami.ts']);
});
