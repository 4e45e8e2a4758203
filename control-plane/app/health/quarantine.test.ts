import { describe, expect, it } from 'vitest';
import type { HealthEvidenceRow } from '../../store/port/node-health.ts';
import {
	type Findings,
	isBreakerOpen,
	type Judged,
	QUARANTINE_LIMITS_DEFAULT,
	quarantineCap,
	stepQuarantine,
} from './quarantine.ts';

const LIMITS = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 20, nodesMax: 5, attemptsMax: 2, attemptsWithinMs: 1000 };
const FLEET = { gpuNodes: 100, quarantined: 0 };
const WELL: Findings = { isReal: false, reason: '', loadCleared: [] };
const BAD: Findings = { isReal: true, reason: 'xid xid:79', loadCleared: [] };
const row = (patch: Partial<Judged> = {}): Judged => ({
	state: 'UNHEALTHY',
	schedulable: false,
	gpus: 8,
	quarantinedAtMs: null,
	quarantineReason: '',
	quarantines: [],
	...patch,
});
const well = (patch: Partial<Judged> = {}) =>
	row({ state: 'HEALTHY', schedulable: true, quarantinedAtMs: 100, ...patch });
const evidence = (clearing: string, atMs = 200): HealthEvidenceRow => ({
	...{ id: 'e', nodeId: 'n', clearing, kind: 'node', subjectId: '', subjectIndex: 0 },
	...{ taskId: '', reason: '', createdBy: '', atMs },
});
interface Asked {
	readonly findings?: Findings;
	readonly fleet?: typeof FLEET;
	readonly domain?: typeof FLEET;
	readonly seen?: readonly HealthEvidenceRow[];
	readonly nowMs?: number;
}
const step = (judged: Judged, { findings = BAD, fleet = FLEET, domain, seen = [], nowMs = 300 }: Asked = {}) =>
	stepQuarantine(
		judged,
		findings,
		{ fleet, domain },
		{ evidence: seen, subjects: new Set(['gpu/GPU-5/0']) },
		nowMs,
		LIMITS,
	);

describe('a GPU node that is UNHEALTHY', () => {
	it('goes into quarantine, and one without GPUs or milder does not', () => {
		expect(step(row())).toEqual({
			kind: 'enters',
			quarantine: { quarantinedAtMs: 300, quarantineReason: 'xid xid:79', quarantines: [300] },
		});
		expect(step(row({ gpus: 0 })).kind).toBe('stays');
		for (const state of ['HEALTHY', 'DEGRADED', 'UNKNOWN']) expect(step(row({ state })).kind).toBe('stays');
	});

	it('does not where too many are there: by share, by number; one always may', () => {
		expect(quarantineCap({ gpuNodes: 10, quarantined: 0 }, LIMITS)).toBe(2);
		expect(quarantineCap({ gpuNodes: 3, quarantined: 0 }, LIMITS)).toBe(1);
		expect(quarantineCap({ gpuNodes: 10_000, quarantined: 0 }, LIMITS)).toBe(5);
		expect(step(row(), { fleet: { gpuNodes: 10, quarantined: 1 } }).kind).toBe('enters');
		expect(step(row(), { fleet: { gpuNodes: 10, quarantined: 2 } }).kind).toBe('breaker');
		expect(isBreakerOpen({ gpuNodes: 10_000, quarantined: 5 }, LIMITS)).toBe(true);
	});

	it('nor where too many of its fault domain are there, while there is room in others', () => {
		expect(step(row(), { domain: { gpuNodes: 8, quarantined: 3 } }).kind).toBe('enters');
		expect(step(row(), { domain: { gpuNodes: 8, quarantined: 4 } })).toEqual({ kind: 'breaker', of: 'domain' });
		expect(step(row(), { domain: { gpuNodes: 1, quarantined: 0 } }).kind).toBe('enters');
		const full = { gpuNodes: 10, quarantined: 2 };
		expect(step(row(), { fleet: full, domain: { gpuNodes: 8, quarantined: 0 } })).toEqual({
			kind: 'breaker',
			of: 'fleet',
		});
		// A drill takes nobody's room.
		const drill = { ...BAD, isReal: false };
		expect(step(row(), { findings: drill, domain: { gpuNodes: 8, quarantined: 8 } }).kind).toBe('enters');
	});
});

describe('return to service', () => {
	it('needs evidence of after it went there, not silence and not a verdict that is well', () => {
		expect(step(well(), { findings: WELL }).kind).toBe('stays');
		expect(step(well(), { findings: WELL, seen: [evidence('diagnostic_passed', 99)] }).kind).toBe('stays');
		expect(step(well(), { findings: WELL, seen: [evidence('gpu_reset')] }).kind).toBe('stays');
		for (const by of ['diagnostic_passed', 'serviced'])
			expect(step(well(), { findings: WELL, seen: [evidence(by)] })).toMatchObject({ kind: 'returns', by });
		const loaded = { ...WELL, loadCleared: [{ key: 'gpu/GPU-5/0', atMs: 200 }] };
		expect(step(well(), { findings: loaded })).toMatchObject({ kind: 'returns', by: 'clean_load' });
	});

	it('is not earned by what is shown of another thing, or was shown before', () => {
		const other = (clearing: string) => ({ ...evidence(clearing), kind: 'gpu', subjectId: 'GPU-2' });
		for (const by of ['diagnostic_passed', 'serviced'])
			expect(step(well(), { findings: WELL, seen: [other(by)] }).kind).toBe('stays');
		for (const cleared of [
			{ key: 'gpu/GPU-2/0', atMs: 200 },
			{ key: 'gpu/GPU-5/0', atMs: 99 },
		])
			expect(step(well(), { findings: { ...WELL, loadCleared: [cleared] } }).kind).toBe('stays');
		const same = { ...evidence('diagnostic_passed'), kind: 'gpu', subjectId: 'GPU-5' };
		expect(step(well(), { findings: WELL, seen: [same] }).kind).toBe('returns');
	});

	it('waits for the verdict, whatever evidence there is', () => {
		const seen = [evidence('serviced')];
		expect(step(row({ quarantinedAtMs: 100 }), { seen }).kind).toBe('stays');
		expect(step(row({ state: 'UNKNOWN', quarantinedAtMs: 100 }), { seen }).kind).toBe('stays');
	});

	it('needs a repair after too many attempts within the window', () => {
		const again = well({ quarantines: [10, 20, 30] });
		expect(step(again, { findings: WELL, seen: [evidence('diagnostic_passed')] }).kind).toBe('stays');
		expect(step(again, { findings: { ...WELL, loadCleared: [{ key: 'gpu/GPU-5/0', atMs: 200 }] } }).kind).toBe('stays');
		expect(step(again, { findings: WELL, seen: [evidence('serviced')] }).kind).toBe('returns');
		const later = { findings: WELL, seen: [evidence('diagnostic_passed', 1100)], nowMs: 1200 };
		expect(step(again, later)).toMatchObject({ kind: 'returns', quarantine: { quarantines: [] } });
	});
});

describe('a drill', () => {
	const drill = { isReal: false, reason: 'xid xid:79', loadCleared: [] };

	it('counts for no attempt, is not stopped by the breaker, and ends with its verdict', () => {
		const entered = step(row(), { findings: drill, fleet: { gpuNodes: 10, quarantined: 9 } });
		expect(entered).toMatchObject({
			kind: 'enters',
			quarantine: { quarantineReason: 'simulated: xid xid:79', quarantines: [] },
		});
		const over = well({ quarantineReason: 'simulated: xid xid:79' });
		expect(step(over, { findings: WELL }).kind).toBe('returns');
	});

	it('that turns real has to be earned back', () => {
		const turned = step(row({ quarantinedAtMs: 100, quarantineReason: 'simulated: x' }));
		expect(turned).toMatchObject({
			kind: 'enters',
			quarantine: { quarantinedAtMs: 300, quarantineReason: 'xid xid:79', quarantines: [300] },
		});
	});
});
