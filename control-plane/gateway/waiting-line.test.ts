import { expect, test } from 'vitest';
import { addressGroup } from '../../kit/address-group.ts';
import { type Origin, WaitingLine } from './waiting-line.ts';

/** A group with one address in it. */
const alone = (group: string): Origin => ({ group, address: group });
/** One of several in a group. */
const of = (group: string, address: string): Origin => ({ group, address });

function taken(line: WaitingLine<string>, mayGo = (_group: string) => true): string[] {
	const order: string[] = [];
	for (let next = line.next(mayGo); next !== undefined; next = line.next(mayGo)) {
		line.take(...next);
		order.push(next[1]);
	}
	return order;
}

test('addresses take turns, each in its own order', () => {
	const line = new WaitingLine<string>(100);
	for (const one of ['a1', 'a2', 'a3', 'b1', 'c1', 'b2']) expect(line.add(alone(one[0] ?? ''), one)).toBeUndefined();
	expect(line.length).toBe(6);
	expect(taken(line)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
	expect([line.length, [...line]]).toEqual([0, []]);
});

test('an address that may not go keeps its place, and the others go past it', () => {
	const line = new WaitingLine<string>(100);
	for (const one of ['a1', 'a2', 'b1']) line.add(alone(one[0] ?? ''), one);
	expect(taken(line, (group) => group !== 'a')).toEqual(['b1']);
	expect(taken(line)).toEqual(['a1', 'a2']);
});

test('a full line takes from whoever has most, newest first, and from nobody for one of theirs', () => {
	const line = new WaitingLine<string>(4);
	for (const one of ['a1', 'a2', 'a3', 'a4']) line.add(alone('a'), one);
	expect(line.add(alone('a'), 'a5')).toBe('a5');
	expect(line.add(alone('b'), 'b1')).toBe('a4');
	expect(line.add(alone('b'), 'b2')).toBe('a3');
	// Two each: nobody has more to give.
	expect(line.add(alone('b'), 'b3')).toBe('b3');
	expect(line.add(alone('c'), 'c1')).toBe('a2');
	expect(line.length).toBe(4);
	expect(taken(line)).toEqual(['a1', 'b1', 'c1', 'b2']);
});

test('a full line takes from whoever has most, whoever came first', () => {
	const line = new WaitingLine<string>(4);
	for (const one of ['a1', 'b1', 'b2', 'b3']) line.add(alone(one[0] ?? ''), one);
	expect(line.add(alone('c'), 'c1')).toBe('b3');
	expect(taken(line)).toEqual(['a1', 'b1', 'c1', 'b2']);
});

test('who leaves the line is gone from it, and who was never in it changes nothing', () => {
	const line = new WaitingLine<string>(4);
	line.add(alone('a'), 'a1');
	line.delete(alone('a'), 'a2');
	line.delete(alone('b'), 'a1');
	expect(line.length).toBe(1);
	line.delete(alone('a'), 'a1');
	expect([line.length, line.next(() => true)]).toEqual([0, undefined]);
});

test('the addresses of a group take turns in those of the group', () => {
	const line = new WaitingLine<string>(100);
	for (const one of ['x1', 'x2', 'x3', 'y1', 'y2']) line.add(of('g', one[0] ?? ''), one);
	for (const one of ['z1', 'z2']) line.add(alone('z'), one);
	expect(taken(line)).toEqual(['x1', 'z1', 'y1', 'z2', 'x2', 'y2', 'x3']);
	expect(line.length).toBe(0);
});

test('one address of a full group gives way to its neighbours', () => {
	const line = new WaitingLine<string>(4);
	for (const one of ['x1', 'x2', 'x3', 'x4']) line.add(of('g', 'x'), one);
	expect(line.add(of('g', 'x'), 'x5')).toBe('x5');
	expect(line.add(of('g', 'y'), 'y1')).toBe('x4');
	expect(line.add(of('g', 'y'), 'y2')).toBe('x3');
	expect(line.add(of('g', 'y'), 'y3')).toBe('y3');
	expect(line.add(alone('z'), 'z1')).toBe('x2');
	expect(taken(line)).toEqual(['x1', 'z1', 'y1', 'y2']);
});

test.each([
	['192.0.2.7', '192.0.2.7'],
	['::ffff:192.0.2.7', '192.0.2.7'],
	['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
	['2001:0db8:0001:0002::9', '2001:db8:1:2::/64'],
	['2001:db8::1', '2001:db8:0:0::/64'],
	['::1', '0:0:0:0::/64'],
	['fe80::1%eth0', 'fe80:0:0:0::/64'],
	['2001:db8:1:2:3::', '2001:db8:1:2::/64'],
	['', ''],
])('%s counts with %s', (address, group) => {
	expect(addressGroup(address)).toBe(group);
});
