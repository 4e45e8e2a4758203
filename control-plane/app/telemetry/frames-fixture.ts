import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	type Inventory,
	InventorySchema,
	type PartSample,
	PartSampleSchema,
	ProbeState,
	type TelemetryFrame,
	TelemetryFrameSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA, SCHEMA_NUMBER, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';

/**
 * *Simulated* nodes for tests and benches: what an agent of this version would send of a host with GPUs of a model. Values
 * are made up and within range; which of them are absent follows the hardware: A100 has no GPM, MIG has no utilisation.
 */
export type FixtureModel = 'A100' | 'H100' | 'H100 MIG';

export interface FixtureOptions {
	readonly model?: FixtureModel;
	readonly gpus?: number;
	/** Tells nodes apart in GPU ids. */
	readonly node?: number;
}

const NAMES: Readonly<Record<FixtureModel, string>> = {
	A100: 'NVIDIA A100-SXM4-80GB',
	H100: 'NVIDIA H100 80GB HBM3',
	'H100 MIG': 'NVIDIA H100 80GB HBM3',
};
const SLICES_PER_GPU = 2;
export const FIXTURE_DIGEST = '0123456789abcdef'.repeat(4);

const gpuUuid = (node: number, gpu: number) =>
	`GPU-${String(node).padStart(8, '0')}-0000-4000-8000-${String(gpu).padStart(12, '0')}`;
const sliceUuid = (node: number, gpu: number, slice: number) => gpuUuid(node, gpu).replace('GPU-', `MIG-${slice}`);

export function fixtureInventory({ model = 'H100', gpus = 8, node = 0 }: FixtureOptions = {}): Inventory {
	const isMig = model === 'H100 MIG';
	const each = Array.from({ length: gpus }, (_, gpu) => gpu);
	return create(InventorySchema, {
		digest: FIXTURE_DIGEST,
		simulated: true,
		driver: { nvidiaDriver: '570.86.15', cuda: 12_080, source: 'nvml' },
		gpus: each.map((gpu) => ({
			uuid: gpuUuid(node, gpu),
			index: gpu,
			minor: gpu,
			name: NAMES[model],
			serial: `165${node}${gpu}`,
			pciBusId: `00000000:${(0x1b + gpu).toString(16).toUpperCase()}:00.0`,
			memoryBytes: 85_899_345_920n,
			migEnabled: isMig,
		})),
		slices: !isMig
			? []
			: each.flatMap((gpu) =>
					Array.from({ length: SLICES_PER_GPU }, (_, slice) => ({
						uuid: sliceUuid(node, gpu, slice),
						gpuUuid: gpuUuid(node, gpu),
						profile: '3g.40gb',
						gpuInstance: slice + 1,
						index: slice,
					})),
				),
	});
}

export interface FixtureFrameOptions extends FixtureOptions {
	readonly atMs: number;
	readonly hasSlow?: boolean;
	/** Moves values that move. */
	readonly tick?: number;
}

export function fixtureFrame(options: FixtureFrameOptions): TelemetryFrame {
	const { model = 'H100', gpus = 8, node = 0, atMs, hasSlow = true, tick = 0 } = options;
	const isMig = model === 'H100 MIG';
	const each = Array.from({ length: gpus }, (_, gpu) => gpu);
	const row = (part: TelemetryPart, id: string, seed: number): PartSample =>
		create(PartSampleSchema, { id, values: valuesOf(part, model, seed + tick) });
	return create(TelemetryFrameSchema, {
		schema: SCHEMA_NUMBER,
		at: timestampFromMs(atMs),
		values: valuesOf('host', model, tick),
		gpus: each.map((gpu) => row('gpu', gpuUuid(node, gpu), gpu)),
		slices: isMig
			? each.flatMap((gpu) => [0, 1].map((slice) => row('slice', sliceUuid(node, gpu, slice), gpu + slice)))
			: [],
		hasSlow,
		gpusSlow: hasSlow ? each.map((gpu) => row('gpuSlow', gpuUuid(node, gpu), gpu)) : [],
		probe: ProbeState.RUNNING,
		simulated: true,
		inventory: FIXTURE_DIGEST.slice(0, 16),
	});
}

function valuesOf(part: TelemetryPart, model: FixtureModel, seed: number): number[] {
	return CURRENT_SCHEMA[part].map(({ key, unit, type, max }, index) => {
		if (key.startsWith('gpm.') && (model === 'A100' || (part === 'gpu' && model === 'H100 MIG'))) return Number.NaN;
		if (key.startsWith('utilisation.') && model === 'H100 MIG') return Number.NaN;
		if (key.startsWith('remap') && model === 'H100 MIG') return Number.NaN;
		if (type === 'counter') return index * 1000 + seed * 10;
		return Math.min(max, (EXAMPLES[unit] ?? 0) * (1 + (seed % 7) / 20));
	});
}

const EXAMPLES: Readonly<Record<string, number>> = {
	seconds: 0.004,
	bytes: 41_943_040_000,
	bytes_per_second: 12_500_000_000,
	hertz: 1_410_000_000,
	watts: 431.5,
	joules: 1e6,
	celsius: 51,
	ratio: 0.55,
	count: 0,
	bool: 0,
	state: 0,
	bitmask: 0,
};
