import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { TimestampSchema, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { NodeEntry } from '../../control-plane/app/telemetry/directory.ts';
import { fixtureFrame, fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { identitiesOf } from '../../control-plane/app/telemetry/identities.ts';
import { systemClock } from '../../kit/clock.ts';
import {
	InventorySchema,
	type TelemetryFrame,
	TelemetryFrameSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/** *Simulated* nodes with 8 H100 each, as rows of the bench that measure telemetry see them. */
export const GPUS = 8;
const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: GPUS }));
const identities = identitiesOf(inventory);

export function nodeIds(count: number): string[] {
	return Array.from({ length: count }, (_, index) => `01930000-0000-7000-8000-${index.toString(16).padStart(12, '0')}`);
}

/** A directory that knows these nodes without a store. */
export function directoryOf(ids: readonly string[]) {
	const entries = new Map(ids.map((id): [string, NodeEntry] => [id, entryOf(id)]));
	return { get: (id: string) => entries.get(id), onChange: () => () => {} };
}

function entryOf(id: string): NodeEntry {
	const node = {
		id,
		name: `gpu-${id.slice(-6)}`,
		hostname: `gpu-${id.slice(-6)}`,
		generation: 1,
		labels: {},
		bootId: 'boot',
	};
	return { node: { ...node, custody: 'platform' }, assignments: [], identities };
}

/** As it comes over the link: one frame in four has what is measured less often. */
export function frameBytes(): readonly Uint8Array[] {
	return [0, 1, 2, 3].map((tick) =>
		toBinary(TelemetryFrameSchema, fixtureFrame({ atMs: systemClock.now(), gpus: GPUS, tick, hasSlow: tick === 0 })),
	);
}

export function decode(bytes: Uint8Array): TelemetryFrame {
	const frame = fromBinary(TelemetryFrameSchema, bytes);
	frame.at = create(TimestampSchema, timestampFromMs(systemClock.now()));
	return frame;
}
