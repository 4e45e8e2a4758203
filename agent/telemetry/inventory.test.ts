import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import {
	type Inventory,
	InventorySchema,
	InventoryChangeKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { readMachineFacts } from '../platform/machine-facts.ts';
import { buildInventory, type InventoryInputs } from './inventory.ts';
import { diffInventories } from './inventory-diff.ts';
import { gpu, MACHINE } from './inventory-fixture.ts';
import { parseVpdSerial } from './inventory-parts.ts';

const driver = { driver: '570', nvml: '12.570', cuda: 12080, isSimulated: true, missing: [] };

function build(overrides: Partial<InventoryInputs> = {}): Inventory {
	return buildInventory({
		nowMs: 1000,
		bootId: 'boot-1',
		procRoot: '/nonexistent',
		sysRoot: '/nonexistent',
		machine: MACHINE,
		gpus: { kind: 'read', gpus: [gpu(0), gpu(1)], driver, source: 'nvml' },
		former: undefined,
		...overrides,
	});
}

describe('an inventory', () => {
	it('has the parts with their serials, placeholders left out, and says what it could not read', () => {
		const inventory = build();
		expect(inventory).toMatchObject({
			simulated: true,
			bootId: 'boot-1',
			board: { serial: 'S1', boardVendor: '', boardSerial: 'B1' },
			driver: { nvidiaDriver: '570', cuda: 12080, source: 'nvml' },
			gaps: [],
		});
		expect(inventory.cpus.map(({ socket, cores, threads }) => [socket, cores, threads])).toEqual([
			[0, 48, 96],
			[1, 48, 96],
		]);
		expect(inventory.memory).toMatchObject([{ slot: 'DIMM_A1', serial: 'D1', bytes: 68_719_476_736n }]);
		expect(inventory.gpus.map(({ uuid, serial }) => [uuid, serial])).toEqual([
			['GPU-0', 'S0'],
			['GPU-1', 'S1'],
		]);
		expect(build({ machine: undefined }).gaps).toEqual(['board, cpu, memory: the firmware tables could not be read']);
	});

	it('has one digest for the same parts, whenever and in whichever boot they are read', () => {
		const { digest } = build();
		expect(digest).toMatch(/^[0-9a-f]{64}$/);
		expect(build({ nowMs: 9000, bootId: 'boot-2' }).digest).toBe(digest);
		const read = { kind: 'read', driver, source: 'nvml' } as const;
		expect(build({ gpus: { ...read, gpus: [gpu(0)] } }).digest).not.toBe(digest);
		expect(build({ gpus: { ...read, gpus: [gpu(0), { ...gpu(1), vbios: '97' }] } }).digest).not.toBe(digest);
	});

	it('keeps what it knew while a driver or the firmware is silent: silence is no removal', () => {
		const former = build();
		const silent = build({ former, machine: undefined, gpus: { kind: 'silent', why: 'the driver does not answer' } });
		expect(silent.digest).toBe(former.digest);
		expect(silent.gaps).toContain('gpu: the driver does not answer');
		// No hardware at all is not silence.
		expect(build({ former, gpus: { kind: 'none' } }).gpus).toEqual([]);
	});
});

describe('what changed', () => {
	it('is a part that came or went, and each field of one that stayed', () => {
		const before = build();
		const gpus = { kind: 'read', driver: { ...driver, driver: '575' }, source: 'nvml' } as const;
		const memory = MACHINE.memory.map((module) => ({ ...module, serial: 'D2' }));
		const after = build({ gpus: { ...gpus, gpus: [gpu(1), gpu(2)] }, machine: { ...MACHINE, memory } });
		const changes = diffInventories(before, after);
		expect(
			changes.map(({ part, id, kind, field, before: was, after: is }) => [part, id, kind, field, was, is]),
		).toEqual([
			['gpu', 'GPU-0', Kind.REMOVED, '', '', ''],
			['gpu', 'GPU-2', Kind.ADDED, '', '', ''],
			['memory', 'DIMM_A1', Kind.CHANGED, 'serial', 'D1', 'D2'],
			['driver', '', Kind.CHANGED, 'nvidiaDriver', '570', '575'],
		]);
		expect(diffInventories(after, after)).toEqual([]);
	});

	it('is bounded', () => {
		const many = create(InventorySchema, {
			slices: Array.from({ length: 3000 }, (_, index) => ({ uuid: `MIG-${index}` })),
		});
		expect(diffInventories(create(InventorySchema), many)).toHaveLength(1024);
	});
});

describe('vital product data', () => {
	const resource = (tag: number, body: string) =>
		Buffer.concat([Buffer.from([tag, body.length, 0]), Buffer.from(body, 'latin1')]);

	it('gives the serial of its read-only part', () => {
		const data = Buffer.concat([
			resource(0x82, 'ConnectX-7'),
			resource(0x90, 'PN\x04MCX7SN\x06MT2342'),
			Buffer.from([0x78]),
		]);
		expect(parseVpdSerial(data)).toBe('MT2342');
	});

	it('that is cut off or nonsense gives none, and ends', () => {
		expect(parseVpdSerial(Buffer.from([0x82, 0xff]))).toBe('');
		expect(parseVpdSerial(Buffer.from([0x90, 0xff, 0xff, 0x53, 0x4e, 0xff]))).toBe('');
		expect(parseVpdSerial(Buffer.alloc(4096))).toBe('');
	});
});

it('the firmware of this machine is read by a child that ends', async () => {
	const facts = await readMachineFacts();
	expect(facts?.cpu.threads).toBeGreaterThan(0);
	expect(facts?.os).not.toBe('');
});
