import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dispatch } from '../dispatch.ts';
import { testIo } from '../test-io.ts';

const gpu = { kind: 'gpu', id: 'GPU-a', index: 0 };
const at = (seconds: number) => new Date(seconds * 1000).toISOString();
const sample = (seconds: number, values: Record<string, number> = {}, more = {}) => ({
	at: at(seconds),
	custody: 'platform',
	sample: { parts: [{ ...gpu, values }], ...more },
});
const xid = (seconds: number, code: number, custody = 'platform', node = '') => ({
	at: at(seconds),
	custody,
	node,
	fact: {
		kind: 'HEALTH_FACT_KIND_XID',
		subject: { kind: 'HEALTH_SUBJECT_KIND_GPU', id: 'GPU-a' },
		source: 'HEALTH_SOURCE_KMSG',
		observedAt: at(seconds),
		code: `xid:${code}`,
		raw: `NVRM: Xid ${code}\u001b[2J`,
		count: 1,
	},
});

function file(lines: readonly unknown[]): string {
	const path = join(mkdtempSync(join(tmpdir(), 'gpuaas-health-')), 'facts.ndjson');
	writeFileSync(path, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
	return path;
}

async function run(...argv: readonly string[]) {
	const io = testIo();
	const exit = await dispatch(['health', 'policy', ...argv], io);
	return { exit, out: io.out(), err: io.err() };
}

describe('gpuaas health policy test', () => {
	it('prints each change of a verdict, also what silence changed between two lines', async () => {
		const path = file([sample(0), xid(1, 46), sample(2, { recovery_action: 2 }), { at: at(300) }]);
		const { exit, out } = await run('test', path, '--json');
		expect(exit).toBe(0);
		const changes = out
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line));
		const ofGpu = changes.filter(({ subject }) => subject.kind === 'gpu');
		expect(ofGpu.map(({ at: time, state, actions }) => [time, state, actions.join(' ')])).toEqual([
			[at(0), 'HEALTHY', 'NONE'],
			[at(1), 'UNHEALTHY', 'DRAIN RESET_GPU'],
			[at(2), 'UNHEALTHY', 'DRAIN REBOOT_NODE'],
			[at(47), 'UNHEALTHY', 'DRAIN REBOOT_NODE'],
		]);
		expect(ofGpu[1]).toMatchObject({
			custody: 'platform',
			schedulable: false,
			confidence: 'observed',
			evidence: [{ source: 'kmsg', observedAt: at(1) }],
		});
	});

	it('says what was said in whose custody, and what is simulated, and sends no control characters', async () => {
		const path = file([sample(0, {}, { simulated: true }), xid(1, 79, 'tenant')]);
		const { out } = await run('test', path, '--facts-only');
		expect(out).toMatch(/gpu GPU-a {2}HEALTHY {2}NONE {2}\[simulated\]/);
		expect(out).toMatch(/gpu GPU-a {2}UNHEALTHY .* \(xid:79\) {2}\[said in tenant custody: decides nothing\]/);
		expect(out).not.toContain('\u001b');
	});

	it('takes what the platform did: cleared, removed', async () => {
		const clearing = { at: at(2), custody: 'platform', clearing: { ...gpu, clearing: 'gpu_reset' } };
		const { out } = await run('test', file([sample(0), xid(1, 46), clearing, xid(3, 79)]));
		expect(out).toMatch(/UNHEALTHY -> HEALTHY {2}NONE {2}\[cleared by gpu_reset\]/);
		const removed = { at: at(4), custody: 'platform', removed: gpu };
		const gone = await run('test', file([sample(0), xid(3, 79), removed]));
		expect(gone.out.trim().split('\n').at(-1)).toMatch(/node {2}UNHEALTHY -> HEALTHY/);
	});

	it('keeps nodes apart', async () => {
		const { out } = await run('test', file([xid(5, 79, 'platform', 'n1'), xid(1, 31, 'platform', 'n2')]));
		expect(out).toMatch(/n1 {2}gpu GPU-a {2}UNHEALTHY/);
		expect(out).toMatch(/n2 {2}gpu GPU-a {2}UNKNOWN.*xid:31/);
		expect(out).not.toMatch(/n2 .*(UNHEALTHY|xid:79)/);
	});

	it.each([
		['{', 'line 1 is no JSON'],
		['[]', 'line 1 has the line that is no JSON object'],
		[{}, 'line 1 lacks "at"'],
		[{ at: at(0), fact: {} }, 'line 1 lacks "custody"'],
		[{ ...xid(0, 1), fact: { kind: 'HEALTH_FACT_KIND_NONE' } }, 'line 1 has a "fact" that is no HealthFact'],
		[{ ...sample(0), sample: { parts: [{ kind: 'gpu' }] } }, 'line 1 names a gpu without "id"'],
		[{ ...sample(0), sample: { parts: [{ ...gpu, values: { a: 'x' } }] } }, 'the value "a", which is no number'],
		['', 'is empty'],
	])('refuses %j with the line and what is wrong with it', async (line, message) => {
		const { exit, err } = await run('test', file([line]));
		expect([exit, err]).toEqual([1, expect.stringContaining(message)]);
	});

	it('refuses lines that are not in order, and a file that is not there', async () => {
		expect((await run('test', file([sample(5), sample(1)]))).err).toContain('line 2 is older');
		expect((await run('test', '/nowhere/facts.ndjson')).err).toContain('can not be read');
	});
});

describe('gpuaas health policy show', () => {
	it('prints JSON that it takes back, and what a file changes counts', async () => {
		const document = JSON.parse((await run('show', '--json')).out);
		document.version = 'mine';
		document.fleets = { edge: { xids: { 31: 'reset' } } };
		const policy = file([document]);
		const shown = await run('show', '--policy', policy);
		expect([shown.exit, shown.err]).toEqual([0, '']);
		expect(shown.out).toMatch(/^policy mine: /);
		expect(shown.out).toMatch(/^xid app +8 11 13 25 31-32 39-41 60 /m);
		const facts = file([xid(1, 31)]);
		expect((await run('test', facts, '--policy', policy, '--facts-only')).out).not.toContain('UNHEALTHY');
		expect((await run('test', facts, '--policy', policy, '--facts-only', '--fleet', 'edge')).out).toContain(
			'UNHEALTHY',
		);
		const { exit, err } = await run('show', '--policy', file(['{}']));
		expect([exit, err]).toEqual([1, expect.stringContaining('lacks the field "xidClasses"')]);
	});
});
