import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemRng } from '../kit/ids.ts';
import { silentLogger } from '../kit/log.ts';
import { Scope } from '../kit/scope.ts';
import { VirtualClock } from '../kit/virtual-clock.ts';
import type { AgentConfig } from './config.ts';
import { MemoryJournal } from './journal/memory.ts';
import { readPlatformFacts } from './platform/facts.ts';
import { writeStatus } from './reporting.ts';
import { foldersOf } from './settings.ts';
import { readAgentStatus, statusText } from './status.ts';

const WARNING = /PID 1 of its container/;

function partsOf(clock: VirtualClock, pid: number, state: () => object): Parameters<typeof writeStatus>[2] {
	const nowMs = clock.now();
	const identity = { credential: () => ({ notBeforeMs: nowMs, notAfterMs: nowMs + 3_600_000 }) };
	return {
		control: { state },
		identity,
		renewal: { facts: () => ({ clockOffsetMs: null, isRecovering: false, lastError: '' }) },
		journal: new MemoryJournal(),
		telemetry: undefined,
		devices: { isolation: 'off', mechanism: undefined, leaks: () => [] },
		facts: readPlatformFacts('', pid),
	} as unknown as Parameters<typeof writeStatus>[2];
}

test.each([
	[1, true],
	[2, false],
])('of an agent with pid %i: whether nothing outlives it is there (%s)', async (pid, isThere) => {
	const data = mkdtempSync(join(tmpdir(), 'gpuaas-status-'));
	const config = { core: { data } } as AgentConfig;
	const clock = new VirtualClock();
	const scope = new Scope(() => {});
	try {
		const before = await readAgentStatus(config, clock, systemRng);
		expect(before.survivalMessage).toBe('');
		const parts = partsOf(clock, pid, () => ({ phase: 'connected', gateway: 'a:1' }));
		const warned: string[] = [];
		const log = { ...silentLogger, warn: (message: string) => void warned.push(message) };
		const deps = { config, clock, log } as unknown as Parameters<typeof writeStatus>[0];
		writeStatus(deps, foldersOf(config), parts, scope);
		// At start, before anything else happens.
		expect(warned.some((line) => WARNING.test(line))).toBe(isThere);
		clock.advance(5000);
		await expect.poll(async () => (await readAgentStatus(config, clock, systemRng)).link?.phase).toBe('connected');
		const status = await readAgentStatus(config, clock, systemRng);
		expect(WARNING.test(status.survivalMessage)).toBe(isThere);
		expect(WARNING.test(statusText(status))).toBe(isThere);
	} finally {
		await scope[Symbol.asyncDispose]();
		rmSync(data, { recursive: true, force: true });
	}
});

test('a status that is still being written when the next is due is not written over', async () => {
	const data = mkdtempSync(join(tmpdir(), 'gpuaas-status-'));
	const config = { core: { data } } as AgentConfig;
	const clock = new VirtualClock();
	const scope = new Scope(() => {});
	try {
		let asked = 0;
		const parts = partsOf(clock, 2, () => {
			asked += 1;
			return { phase: 'connected', gateway: `a:${asked}` };
		});
		const deps = { config, clock, log: silentLogger } as unknown as Parameters<typeof writeStatus>[0];
		writeStatus(deps, foldersOf(config), parts, scope);
		clock.advance(5000);
		const ofOne = asked;
		clock.advance(10_000);
		expect(asked).toBe(ofOne);
		await expect
			.poll(async () => {
				clock.advance(5000);
				return asked;
			})
			.toBeGreaterThan(ofOne);
	} finally {
		await scope[Symbol.asyncDispose]();
		rmSync(data, { recursive: true, force: true });
	}
});
