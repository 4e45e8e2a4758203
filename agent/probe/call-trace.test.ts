import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FileTrace, readTrace } from './call-trace.ts';

it('says which call of which GPU the probe is in', () => {
	const folder = mkdtempSync(join(tmpdir(), 'trace-'));
	const path = join(folder, 'call');
	{
		using trace = new FileTrace(path);
		expect(readTrace(path)).toBeUndefined();
		trace.gpu = 3;
		trace.enter('nvmlInit_v2');
		expect(readTrace(path)).toBe('nvmlInit_v2 (GPU 3)');
	}
	rmSync(folder, { recursive: true });
});

it.each([
	['full', '/dev/full'],
	['read-only', '/proc/version'],
	['gone', '/nonexistent/call'],
])('keeps nobody from the driver where the disk is %s', (_, path) => {
	using trace = new FileTrace(path);
	expect(() => trace.enter('nvmlInit_v2')).not.toThrow();
});
