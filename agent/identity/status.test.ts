import { describe, expect, it } from 'vitest';
import { durationText, identityStatus } from './status.ts';

const HOUR_MS = 3_600_000;
const NOT_AFTER_MS = 1_800_000_000_000;
const credential = {
	serial: 'ab',
	chainPem: '',
	keyPem: '',
	leafDer: new Uint8Array(),
	issuerKeyId: '',
	notBeforeMs: NOT_AFTER_MS - 24 * HOUR_MS,
	notAfterMs: NOT_AFTER_MS,
};
const identity = { credential: () => credential };
const calm = { clockOffsetMs: null, isRecovering: false, lastError: '' };

describe('identityStatus', () => {
	it.each([
		[-5 * HOUR_MS, calm, 'valid', 'certificate valid for 5 h more'],
		[3 * HOUR_MS, { ...calm, isRecovering: true }, 'expired', 'certificate expired 3 h ago, recovering'],
		[0, calm, 'expired', 'certificate expired 0 s ago, will recover'],
		[
			90_000,
			{ ...calm, lastError: 'no route' },
			'expired',
			'certificate expired 1 min ago, will recover (last try: no route)',
		],
		[-25 * HOUR_MS, calm, 'not_yet_valid', "certificate is valid only in 1 h: this host's clock is behind; set it"],
	])('at %i ms from the end', (fromEndMs, facts, state, message) => {
		const status = identityStatus(identity, NOT_AFTER_MS + fromEndMs, facts);
		expect(status).toMatchObject({ state, message, clockMessage: '' });
	});

	it('judges by the control plane, and names a wrong clock with its offset', () => {
		const nowMs = NOT_AFTER_MS + HOUR_MS;
		const ahead = identityStatus(identity, nowMs, { ...calm, clockOffsetMs: -3 * HOUR_MS });
		expect(ahead).toMatchObject({ state: 'valid', clockMessage: expect.stringContaining('3 h ahead of the control') });
		const behind = identityStatus(identity, nowMs - 2 * HOUR_MS, { ...calm, clockOffsetMs: 2 * HOUR_MS });
		expect(behind).toMatchObject({ state: 'expired', clockMessage: expect.stringContaining('2 h behind the control') });
		expect(identityStatus(identity, 0, { ...calm, clockOffsetMs: 29_000 }).clockMessage).toBe('');
	});
});

describe('durationText', () => {
	it.each([
		[59_999, '59 s'],
		[60_000, '1 min'],
		[HOUR_MS, '1 h'],
		[49 * HOUR_MS, '2 d'],
	])('%i ms', (ms, text) => {
		expect(durationText(ms)).toBe(text);
	});
});
