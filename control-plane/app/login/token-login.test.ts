import { expect, test } from 'vitest';
import { LOGIN_DEFAULT } from './settings.ts';
import { assuranceOf } from './token-login.ts';

const login = { ...LOGIN_DEFAULT, stepUpAcr: ['gold', 'platinum'], stepUpMaxAgeMs: 300_000 };
const token = { issuer: 'https://id.example', acr: 'gold', authenticatedAtMs: 1_000_000, keysFresh: true };
const until = (patch: Partial<typeof token> | { authenticatedAtMs: null }) =>
	assuranceOf({ ...token, ...patch }, login).strongUntilMs;

test('a login is strong by its class, from when the person proved it, for as long as is configured', () => {
	expect(until({})).toBe(1_300_000);
	expect(until({ acr: 'platinum' })).toBe(1_300_000);
	// Looked up, never compared: what merely looks higher is unknown.
	for (const acr of ['', 'gold ', 'GOLD', 'diamond', '2']) expect(until({ acr }), acr).toBe(0);
	expect(until({ authenticatedAtMs: null })).toBe(0);
});

test('a login is not strong while the provider’s keys can’t be asked for', () => {
	expect(until({ keysFresh: false })).toBe(0);
});
