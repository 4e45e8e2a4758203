import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NO_KOFFI } from '../probe/findings.ts';
import { gpuReader } from './gpus.ts';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpus-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A program that leaves a line each time it is started. */
function smi(body: string): { readonly program: string; starts(): number } {
	const program = join(folder, 'nvidia-smi');
	const log = join(folder, 'log');
	writeFileSync(log, '');
	writeFileSync(program, `#!/bin/sh\necho "$@" >> ${log}\n${body}\n`);
	chmodSync(program, 0o755);
	return { program, starts: () => readFileSync(log, 'utf8').split('-q -x\n').length - 1 };
}

const fault = { code: NO_KOFFI, message: 'no koffi for this platform' };
const probe = { driver: undefined, fault, state: 'unavailable', inventory: async () => undefined } as const;

test('without koffi nvidia-smi is asked once, however often the inventory is read', async () => {
	const uuid = 'GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
	const { program, starts } = smi(
		`echo '<driver_version>570.1</driver_version><gpu id="1"><uuid>${uuid}</uuid></gpu>'`,
	);
	const read = gpuReader(probe, program);
	const inventories = [await read(), ...(await Promise.all([read(), read()]))];
	for (const inventory of inventories)
		expect(inventory).toMatchObject({
			kind: 'read',
			source: 'nvidia-smi',
			gpus: [{ uuid }],
			driver: { driver: '570.1' },
		});
	expect(starts()).toBe(1);
});

test('one that fails is not asked again, either: the inventory says why it knows no GPU', async () => {
	const { program, starts } = smi('exit 9');
	const read = gpuReader(probe, program);
	for (let turn = 0; turn < 3; turn += 1) expect(await read()).toEqual({ kind: 'silent', why: fault.message });
	expect(starts()).toBe(1);
});

test('it is never asked where another fault keeps the driver away, nor while it hangs or is on its way', async () => {
	const { program, starts } = smi('exit 0');
	const ask = (more: object) => gpuReader({ ...probe, ...more } as typeof probe, program)();
	expect(await ask({ fault: { code: 'library', message: 'no library' } })).toEqual({
		kind: 'silent',
		why: 'no library',
	});
	expect(await ask({ fault: undefined, state: 'hung' })).toMatchObject({ kind: 'silent' });
	expect(await ask({ fault: undefined, state: 'starting' })).toBeUndefined();
	expect(await gpuReader(undefined, program)()).toEqual({ kind: 'none' });
	expect(starts()).toBe(0);
});
