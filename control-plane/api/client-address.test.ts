import { expect, test } from 'vitest';
import { clientAddress } from './client-address.ts';

const PROXIES = ['10.0.0.0/8', '2001:db8::/32'];
const of = (socket: string, forwarded?: string, proxies: readonly string[] = PROXIES) =>
	clientAddress(socket, forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }, proxies);

test('a proxy of ours says who called, and what the caller wrote before it counts for nothing', () => {
	expect(of('10.0.0.1', '192.0.2.7')).toBe('192.0.2.7');
	expect(of('10.0.0.1', '203.0.113.9, 192.0.2.7')).toBe('192.0.2.7');
	expect(of('10.0.0.1', '203.0.113.9, 192.0.2.7, 10.0.0.2')).toBe('192.0.2.7');
	expect(of('2001:db8::1', '2001:db9::7')).toBe('2001:db9::7');
	expect(of('::ffff:10.0.0.1', '192.0.2.7')).toBe('192.0.2.7');
});

test('anybody else’s header is not looked at', () => {
	expect(of('192.0.2.1', '10.0.0.9')).toBe('192.0.2.1');
	expect(of('10.0.0.1', '192.0.2.7', [])).toBe('10.0.0.1');
});

test('what is no address leaves the last that is known', () => {
	expect(of('10.0.0.1')).toBe('10.0.0.1');
	expect(of('10.0.0.1', 'unknown')).toBe('10.0.0.1');
	expect(of('10.0.0.1', '192.0.2.7, evil, 10.0.0.3')).toBe('10.0.0.3');
	expect(of('10.0.0.1', '10.0.0.2, 10.0.0.3')).toBe('10.0.0.2');
});
