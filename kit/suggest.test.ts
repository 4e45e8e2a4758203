import { expect, test } from 'vitest';
import { nearest } from './suggest.ts';

const names = ['run', 'node', 'node list', 'selector', 'gateway.lease_ttl'];

test.each([
	['rnu', ['run']],
	['ndoe', ['node']],
	['node lst', ['node list']],
	['selctor', ['selector']],
	['gateway.leese_tll', ['gateway.lease_ttl']],
])('%s was meant to be %j', (wrong, meant) => expect(nearest(wrong, names)).toEqual(meant));

test.each([['gpu'], ['frobnicate'], ['']])('of %j nobody knows what it was meant to be', (wrong) => {
	expect(nearest(wrong, names)).toEqual([]);
});

test('the nearest comes first, and no more than were asked for', () => {
	expect(nearest('nodes', ['nodules', 'node', 'nodess'], 2)).toEqual(['node', 'nodess']);
});
