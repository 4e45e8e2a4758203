import { expect, test } from 'vitest';
import { assertCidrs, isCovered, isWithin } from './cidr.ts';

test('an address is inside or outside of its networks', () => {
	const office = ['10.0.0.0/8', '2001:db8::/32'];
	for (const inside of ['10.1.2.3', '::ffff:10.1.2.3', '::FFFF:a01:203', '2001:db8::1'])
		expect(isWithin(office, inside), inside).toBe(true);
	for (const outside of ['11.0.0.1', '2001:db9::1', '::ffff:11.0.0.1', '::ffff:b00:1', '', 'localhost'])
		expect(isWithin(office, outside), outside).toBe(false);
	expect(isWithin([], '10.0.0.1')).toBe(false);
});

test('a network is inside of another, or not', () => {
	const office = ['10.0.0.0/8', '2001:db8::/32'];
	for (const inside of ['10.0.0.0/8', '10.1.2.0/24', '10.9.9.9/32', '2001:db8:1::/48'])
		expect(isCovered(office, inside), inside).toBe(true);
	for (const outside of ['0.0.0.0/0', '10.0.0.0/7', '11.0.0.0/24', '2001:db8::/31', '::/0', 'x', ''])
		expect(isCovered(office, outside), outside).toBe(false);
	expect(isCovered([], '10.0.0.0/8')).toBe(false);
});

test('what is no network is refused', () => {
	assertCidrs(['0.0.0.0/0', '::/0', '192.0.2.1/32']);
	for (const bad of ['10.0.0.0', '10.0.0.0/33', '::/129', '10.0.0/8', 'x/8', '10.0.0.0/-1', ''])
		expect(() => assertCidrs([bad]), bad).toThrow('is not a network');
});
