import { expect, test } from 'vitest';
import { loaderArgs } from './loader-args.ts';

test('only our own loader is carried over', () => {
	expect(loaderArgs(['--inspect', '--import', '/lib/gpuaas/packaging/strip-types.js', '-r', 'x'])).toEqual([
		'--disable-warning=ExperimentalWarning',
		'--import',
		'/lib/gpuaas/packaging/strip-types.js',
	]);
	expect(loaderArgs(['--import', '/elsewhere/hook.js'])).toEqual([]);
	expect(loaderArgs([])).toEqual([]);
	expect(loaderArgs()).toEqual([]);
});
