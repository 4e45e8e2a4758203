import { createHash } from 'node:crypto';
import { arch } from 'node:os';
import { clone, create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	type Inventory,
	type InventoryGpuSchema,
	InventorySchema,
	type InventorySliceSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { MachineFacts } from '../platform/machine-facts.ts';
import type { GpuIdentity, OpenedDriver, SliceIdentity } from '../probe/protocol.ts';
import { readBmc, readDisks, readKernel, readMicrocode, readNics } from './inventory-parts.ts';

/** What this node consists of. Its digest stands for it: two inventories with one digest are of the same parts. */
export interface InventoryInputs {
	readonly nowMs: number;
	readonly bootId: string;
	readonly procRoot: string;
	readonly sysRoot: string;
	/** Undefined: the child that reads them failed. */
	readonly machine: MachineFacts | undefined;
	readonly gpus: GpuInputs;
	/** What was known before: stays where it can't be read now, or silence would look like removal. */
	readonly former: Inventory | undefined;
}

export type GpuInputs =
	| { readonly kind: 'none' }
	| {
			readonly kind: 'read';
			readonly gpus: readonly GpuIdentity[];
			readonly driver: OpenedDriver;
			readonly source: 'nvml' | 'nvidia-smi';
	  }
	| { readonly kind: 'silent'; readonly why: string };

export function buildInventory(inputs: InventoryInputs): Inventory {
	const { nowMs, bootId, machine, gpus, former, procRoot, sysRoot } = inputs;
	const inventory = create(InventorySchema, {
		board: { ...cut(machine?.board ?? former?.board ?? {}), ...readBmc(sysRoot) },
		cpus: machine === undefined ? (former?.cpus ?? []) : cpusOf(machine, readMicrocode(procRoot)),
		memory: machine === undefined ? (former?.memory ?? []) : memoryOf(machine),
		disks: readDisks(sysRoot),
		nics: readNics(sysRoot),
		driver: { kernel: readKernel(), os: machine?.os ?? former?.driver?.os ?? '', architecture: arch(), source: 'none' },
		gaps: gapsOf(inputs),
	});
	if (gpus.kind === 'read') {
		inventory.gpus = create(InventorySchema, { gpus: gpus.gpus.map(gpuOf) }).gpus;
		inventory.slices = create(InventorySchema, {
			slices: gpus.gpus.flatMap(({ slices }) => slices.map(sliceOf)),
		}).slices;
		inventory.simulated = gpus.driver.isSimulated;
		if (inventory.driver !== undefined) {
			inventory.driver.nvidiaDriver = gpus.driver.driver;
			inventory.driver.nvml = gpus.driver.nvml;
			inventory.driver.cuda = gpus.driver.cuda;
			inventory.driver.source = gpus.source;
		}
	} else if (gpus.kind === 'silent' && former !== undefined) {
		inventory.gpus = former.gpus;
		inventory.slices = former.slices;
		inventory.simulated = former.simulated;
		if (former.driver !== undefined && inventory.driver !== undefined) {
			const { nvidiaDriver, nvml, cuda, source } = former.driver;
			Object.assign(inventory.driver, { nvidiaDriver, nvml, cuda, source });
		}
	}
	inventory.digest = digestOf(inventory);
	inventory.takenAt = timestampFromMs(nowMs);
	inventory.bootId = bootId;
	return inventory;
}

/** Over what it consists of: neither when nor in which boot it was read, nor what could not be. */
export function digestOf(inventory: Inventory): string {
	const parts = clone(InventorySchema, inventory);
	parts.digest = '';
	parts.bootId = '';
	delete parts.takenAt;
	parts.gaps = [];
	return createHash('sha256').update(toBinary(InventorySchema, parts)).digest('hex');
}

function gapsOf({ machine, gpus }: InventoryInputs): string[] {
	const gaps: string[] = [];
	if (machine === undefined) gaps.push('board, cpu, memory: the firmware tables could not be read');
	else if (machine.memory.length === 0) gaps.push('memory: no modules are listed (dmidecode as root lists them)');
	if (gpus.kind === 'silent') gaps.push(`gpu: ${gpus.why}`.slice(0, 256));
	return gaps;
}

function cpusOf({ cpu }: MachineFacts, microcode: string) {
	return Array.from({ length: Math.min(64, cpu.sockets) }, (_, socket) => ({
		model: cpu.model.slice(0, 128),
		socket,
		cores: Math.floor(cpu.cores / cpu.sockets),
		threads: Math.floor(cpu.threads / cpu.sockets),
		microcode: microcode.slice(0, 32),
	}));
}

function memoryOf({ memory }: MachineFacts) {
	return memory
		.filter(({ bytes }) => bytes > 0)
		.slice(0, 256)
		.map(({ bytes, speedMts, ...texts }) => ({
			...cut(texts, 64),
			kind: texts.kind.slice(0, 32),
			bytes: BigInt(bytes),
			speedMts: Math.max(0, Math.round(speedMts)),
		}));
}

function gpuOf(gpu: GpuIdentity): MessageInitShape<typeof InventoryGpuSchema> {
	const { cudaCapability, isMig, hasGpm, slices: _, memoryBytes, ...rest } = gpu;
	return {
		...rest,
		memoryBytes: BigInt(memoryBytes),
		cudaCapabilityMajor: cudaCapability[0],
		cudaCapabilityMinor: cudaCapability[1],
		migEnabled: isMig,
		gpmSupported: hasGpm,
	};
}

function sliceOf(slice: SliceIdentity): MessageInitShape<typeof InventorySliceSchema> {
	const known = (value: number) => (Number.isNaN(value) ? 0 : value);
	return {
		uuid: slice.uuid,
		gpuUuid: slice.gpuUuid,
		profile: slice.profile.slice(0, 64),
		gpuInstance: known(slice.gpuInstance),
		computeInstance: known(slice.computeInstance),
		memoryBytes: BigInt(known(slice.memoryBytes)),
		multiprocessors: known(slice.multiprocessors),
		index: slice.index,
	};
}

/** Firmware fills its tables as it likes; placeholders and overlong texts are cut to what the contract takes. */
function cut<T extends object>(texts: T, lengthMax = 128): T {
	return Object.fromEntries(
		Object.entries(texts).map(([key, value]) => [
			key,
			typeof value === 'string' ? meaningful(value).slice(0, lengthMax) : value,
		]),
	) as T;
}

/** systeminformation writes a dash where there is nothing. */
function meaningful(value: string): string {
	return /^(-|none|not specified|to be filled by o\.?e\.?m\.?)$/i.test(value) ? '' : value;
}
