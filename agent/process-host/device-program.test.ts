import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { DeviceRule } from '../platform/device-rules.ts';
import { assembleDeviceProgram } from './device-program.ts';

/**
 * The program against the meaning of the rules, by a machine of our own for the eight instructions that it is made of
 * (RFC 9669). What the kernel does with it is in devices.test.ts.
 */
function run(program: Buffer, access: number, type: number, major: number, minor: number): number {
	const context = [((access << 16) | type) >>> 0, major, minor];
	const registers: number[] = Array(11).fill(Number.NaN);
	const CONTEXT_ADDRESS = -1;
	registers[1] = CONTEXT_ADDRESS;
	const get = (register: number) => registers[register] ?? Number.NaN;
	for (let at = 0; ; at += 1) {
		const code = program.readUInt8(at * 8);
		const registerPair = program.readUInt8(at * 8 + 1);
		const [target, source] = [registerPair & 15, registerPair >> 4];
		const offset = program.readInt16LE(at * 8 + 2);
		const constant = program.readInt32LE(at * 8 + 4);
		if (code === 0x61) {
			expect(get(source)).toBe(CONTEXT_ADDRESS);
			registers[target] = context[offset / 4] ?? Number.NaN;
		} else if (code === 0x54) registers[target] = get(target) & constant;
		else if (code === 0x74) registers[target] = get(target) >>> constant;
		else if (code === 0xbc) registers[target] = get(source);
		else if (code === 0xb7) registers[target] = constant;
		else if (code === 0x55) at += get(target) === constant ? 0 : offset;
		else if (code === 0x5d) at += get(target) === get(source) ? 0 : offset;
		else if (code === 0x95) return get(0);
		else throw new Error(`instruction ${code.toString(16)}`);
	}
}

const MKNOD = 1;
const BITS = { r: 2, w: 4, rw: 6 } as const;
const rule: fc.Arbitrary<DeviceRule> = fc.record({
	type: fc.constantFrom('b', 'c'),
	major: fc.integer({ min: 0, max: 5 }),
	minor: fc.oneof(fc.constant('*' as const), fc.integer({ min: 0, max: 3 })),
	access: fc.constantFrom('r', 'w', 'rw'),
});

test('a program opens what one of its rules opens, and nothing else', () => {
	fc.assert(
		fc.property(
			fc.array(rule, { maxLength: 12 }),
			fc.integer({ min: 1, max: 7 }),
			fc.constantFrom('b', 'c'),
			fc.integer({ min: 0, max: 6 }),
			fc.integer({ min: 0, max: 4 }),
			(rules, access, type, major, minor) => {
				const isOpen = rules.some(
					(each) =>
						each.type === type &&
						each.major === major &&
						(each.minor === '*' || each.minor === minor) &&
						(access & ~BITS[each.access]) === 0,
				);
				expect(run(assembleDeviceProgram(rules), access, type === 'b' ? 1 : 2, major, minor)).toBe(isOpen ? 1 : 0);
			},
		),
	);
});

test('without rules everything is closed; nobody makes device files', () => {
	expect(run(assembleDeviceProgram([]), 2, 2, 1, 3)).toBe(0);
	const all = assembleDeviceProgram([{ type: 'c', major: 1, minor: '*', access: 'rw' }]);
	expect(run(all, 6, 2, 1, 0xf_ffff)).toBe(1);
	expect(run(all, MKNOD, 2, 1, 3)).toBe(0);
});
