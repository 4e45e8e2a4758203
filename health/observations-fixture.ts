import type { ClearingObservation, HealthObservation, SampleObservation } from './observation.ts';
import { NODE, type Subject } from './verdict.ts';

/** For tests: observations with the usual values. */
export const GPU: Subject = Object.freeze({ kind: 'gpu', id: 'GPU-a', index: 0 });

export function factAt(atMs: number, over: Partial<HealthObservation> & { readonly fact: string }): HealthObservation {
	return {
		kind: 'fact',
		atMs,
		observedAtMs: atMs,
		custody: 'platform',
		simulated: false,
		bootId: 'boot-1',
		subject: GPU,
		part: '',
		code: '',
		source: 'nvml',
		raw: '',
		before: 0,
		after: 0,
		count: 1,
		isOngoing: false,
		...over,
	};
}

export function xidAt(atMs: number, code: number, over: Partial<HealthObservation> = {}): HealthObservation {
	return factAt(atMs, { fact: 'XID', code: `xid:${code}`, source: 'kmsg', raw: `NVRM: Xid: ${code},`, ...over });
}

export function sampleAt(
	atMs: number,
	values: Readonly<Record<string, number>> = {},
	over: Partial<SampleObservation> = {},
): SampleObservation {
	const parts = [{ subject: GPU, values }];
	return { kind: 'sample', atMs, custody: 'platform', simulated: false, bootId: '', parts, ...over };
}

export function clearingAt(atMs: number, clearing: ClearingObservation['clearing'], subject = NODE) {
	return { kind: 'clearing', atMs, custody: 'platform', simulated: false, bootId: '', subject, clearing } as const;
}
