import { fromBinary } from '@bufbuild/protobuf';
import {
	type Inventory,
	type InventoryGpu,
	InventorySchema,
	type InventorySlice,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';

/** What the ids in a node's frames stand for: from its newest inventory, kept in memory for labels and views. */
export interface NodeIdentities {
	/** As frames name it: the first 16 digits. */
	readonly digest: string;
	readonly simulated: boolean;
	/** Empty: none. */
	readonly driverVersion: string;
	readonly gpus: ReadonlyMap<string, GpuIdentity>;
	readonly slices: ReadonlyMap<string, SliceIdentity>;
	readonly nics: ReadonlySet<string>;
	readonly disks: ReadonlySet<string>;
}

export type GpuIdentity = Pick<
	InventoryGpu,
	'uuid' | 'index' | 'minor' | 'pciBusId' | 'name' | 'serial' | 'migEnabled' | 'memoryBytes'
>;
export type SliceIdentity = Pick<
	InventorySlice,
	'uuid' | 'gpuUuid' | 'profile' | 'gpuInstance' | 'computeInstance' | 'memoryBytes' | 'index'
>;

/** Binary telemetry.v1.Inventory. */
export function identitiesOf(bytes: Uint8Array): NodeIdentities {
	const inventory = fromBinary(InventorySchema, bytes);
	return Object.freeze({
		digest: inventory.digest.slice(0, 16),
		simulated: inventory.simulated,
		driverVersion: inventory.driver?.nvidiaDriver ?? '',
		gpus: new Map(inventory.gpus.map((gpu) => [gpu.uuid, gpuIdentity(gpu)])),
		slices: new Map(inventory.slices.map((slice) => [slice.uuid, sliceIdentity(slice)])),
		nics: new Set(inventory.nics.map(({ device }) => device)),
		disks: new Set(inventory.disks.map(({ id }) => id)),
	});
}

/** Whether the inventory has the thing that a row of this part names. */
export function hasId(identities: NodeIdentities, part: TelemetryPart, id: string): boolean {
	switch (part) {
		case 'host':
			return true;
		case 'gpu':
		case 'gpuSlow':
		case 'nvlink':
			return identities.gpus.has(id);
		case 'slice':
			return identities.slices.has(id);
		case 'ibPort':
			return identities.nics.has(id);
		case 'disk':
			return identities.disks.has(id);
	}
}

/** Only what is used: whole inventories of a fleet would be a hundred megabytes. */
function gpuIdentity({
	uuid,
	index,
	minor,
	pciBusId,
	name,
	serial,
	migEnabled,
	memoryBytes,
}: Inventory['gpus'][number]): GpuIdentity {
	return Object.freeze({ uuid, index, minor, pciBusId, name, serial, migEnabled, memoryBytes });
}

function sliceIdentity({
	uuid,
	gpuUuid,
	profile,
	gpuInstance,
	computeInstance,
	memoryBytes,
	index,
}: InventorySlice): SliceIdentity {
	return Object.freeze({ uuid, gpuUuid, profile, gpuInstance, computeInstance, memoryBytes, index });
}
