import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hostInterfaces } from './management.ts';

/** Tables as firmware writes them (DSP0134 7.43, DSP0270): put together here, byte for byte. */
const structure = (type: number, body: Buffer, strings = '\0\0') =>
	Buffer.concat([Buffer.from([type, 4 + body.length, 0x2a, 0]), body, Buffer.from(strings, 'latin1')]);
const END = structure(127, Buffer.alloc(0));
const BOARD = structure(2, Buffer.from([1, 2, 3]), 'Vendor\0Board\0\0');

const padded = (bytes: readonly number[]) => Buffer.concat([Buffer.from(bytes), Buffer.alloc(16 - bytes.length)]);
interface Redfish {
	readonly format: number;
	readonly host: readonly number[];
	readonly hostMask: readonly number[];
	readonly service: readonly number[];
	readonly serviceMask: readonly number[];
}
const V4: Redfish = {
	format: 1,
	host: [172, 31, 7, 9],
	hostMask: [255, 255, 255, 0],
	service: [172, 31, 7, 1],
	serviceMask: [255, 255, 255, 0],
};

function redfish({ format, host, hostMask, service, serviceMask }: Redfish): Buffer {
	return Buffer.concat([
		Buffer.alloc(16, 0xab),
		Buffer.from([1, format]),
		padded(host),
		padded(hostMask),
		Buffer.from([1, format]),
		padded(service),
		padded(serviceMask),
		Buffer.from([0xbb, 1, 0, 0, 0, 0, 4]),
		Buffer.from('bmc\0'),
	]);
}

/** A protocol is its type, the length of its data, the data. */
const protocol = (type: number, data: Buffer) => Buffer.concat([Buffer.from([type, data.length]), data]);
const USB = Buffer.from([2, 0x6b, 0x04, 0xb0, 0xff, 2, 3]);

function network(device: Buffer, ...protocols: readonly Buffer[]): Buffer {
	return structure(
		42,
		Buffer.concat([Buffer.from([0x40, device.length]), device, Buffer.from([protocols.length]), ...protocols]),
	);
}

const ranges = (...parts: readonly Buffer[]) => hostInterfaces(Buffer.concat(parts)).flatMap((each) => each.ranges);

describe('the table of the firmware', () => {
	test('tells where the controller is, and the link to it', () => {
		const found = hostInterfaces(Buffer.concat([BOARD, network(USB, protocol(4, redfish(V4))), END]));
		expect(found).toEqual([
			{ ranges: ['172.31.7.1', '172.31.7.0/24', '172.31.7.0/24'], mac: undefined, usb: '046b:ffb0' },
		]);
	});

	test('has addresses of both families, several interfaces and protocols, and others beside them', () => {
		const v6: Redfish = {
			format: 2,
			host: [0xfd, 1, 0, 2, ...Array(11).fill(0), 9],
			hostMask: [...Array(8).fill(255)],
			service: [0xfd, 1, 0, 2, ...Array(11).fill(0), 1],
			serviceMask: [...Array(8).fill(255)],
		};
		const mac = Buffer.from([0x0a, 1, 2, 3, 4, 5]);
		const usb2 = Buffer.concat([Buffer.from([4, 17, 0x6b, 0x04, 0xb0, 0xff, 0]), mac, Buffer.alloc(4)]);
		const pci2 = Buffer.concat([Buffer.from([5, 20, 1, 2, 3, 4, 5, 6, 7, 8]), mac, Buffer.alloc(4)]);
		const kcs = structure(42, Buffer.from([2, 1, 0, 0]));
		const found = hostInterfaces(
			Buffer.concat([
				kcs,
				network(usb2, protocol(2, Buffer.from([1, 2])), protocol(4, redfish(v6))),
				network(pci2, protocol(4, redfish(V4)), protocol(4, redfish({ ...V4, service: [10, 0, 0, 8] }))),
				END,
			]),
		);
		expect(found).toHaveLength(2);
		expect(found[0]).toMatchObject({ mac: '0a:01:02:03:04:05', usb: '046b:ffb0' });
		expect(found[0]?.ranges.slice(0, 2)).toEqual(['fd01:2:0:0:0:0:0:1', 'fd01:2:0:0:0:0:0:0/64']);
		expect(found[1]).toMatchObject({ mac: '0a:01:02:03:04:05', usb: undefined });
		expect(found[1]?.ranges).toContain('10.0.0.8');
	});

	test('closes nothing by what makes no sense: no address, no mask, everything', () => {
		const one = (more: Partial<Redfish>) => ranges(network(USB, protocol(4, redfish({ ...V4, ...more }))), END);
		expect(one({ format: 0 })).toEqual([]);
		expect(one({ format: 9 })).toEqual([]);
		expect(one({ service: [0, 0, 0, 0], host: [0, 0, 0, 0] })).toEqual([]);
		for (const mask of [
			[0, 0, 0, 0],
			[255, 0, 255, 0],
			[128, 0, 0, 0],
		])
			expect(one({ serviceMask: mask, hostMask: mask })).toEqual(['172.31.7.1']);
	});

	test('is not read past its end or the ends of its parts', () => {
		const whole = Buffer.concat([BOARD, network(USB, protocol(4, redfish(V4))), END]);
		const full = hostInterfaces(whole);
		for (let length = 0; length < whole.length; length += 1) {
			const found = hostInterfaces(whole.subarray(0, length));
			expect([[], full]).toContainEqual(found);
		}
		// Each byte of the structure that is a length, too large.
		const lying = Buffer.from(whole);
		const at = BOARD.length;
		for (const where of [at + 1, at + 5, at + 6 + USB.length + 2]) {
			const was = lying.readUInt8(where);
			lying.writeUInt8(255, where);
			expect(hostInterfaces(lying).flatMap((each) => each.ranges)).toEqual([]);
			lying.writeUInt8(was, where);
		}
		// A structure behind the end of the table.
		expect(ranges(END, network(USB, protocol(4, redfish(V4))))).toEqual([]);
	});

	test('may be anything at all', () => {
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 400 }), fc.uint8Array({ maxLength: 200 }), (bytes, body) => {
				const framed = Buffer.concat([Buffer.from([42, 4 + body.length, 0, 0, 0x40]), body, bytes]);
				for (const table of [Buffer.from(bytes), framed])
					for (const { ranges: found } of hostInterfaces(table)) expect(found.length).toBeLessThanOrEqual(3 * 255);
			}),
		);
	});
});
