import { assert } from '../../../kit/assert.ts';
import { CURRENT_SCHEMA, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';

/**
 * What history keeps beyond the agent's ring: what people ask about a day later. A number never changes its meaning:
 * files on disk name metrics by it. Counters are kept as their rate a second.
 */
export interface RollupMetric {
	readonly id: number;
	readonly part: TelemetryPart;
	readonly key: string;
	/** In the part's table of the current schema, and of every older one that has the key. */
	readonly position: number;
	readonly isRate: boolean;
}

const KEPT: readonly (readonly [id: number, part: TelemetryPart, key: string])[] = [
	[1, 'gpu', 'utilisation.gpu'],
	[2, 'gpu', 'memory.used'],
	[3, 'gpu', 'power.usage'],
	[4, 'gpu', 'temperature.gpu'],
	[5, 'gpu', 'temperature.memory'],
	[6, 'gpu', 'clock.sm'],
	[7, 'gpu', 'gpm.graphics'],
	[8, 'gpu', 'gpm.tensor'],
	[9, 'gpu', 'gpm.dram'],
	[10, 'gpu', 'ecc.volatile.corrected'],
	[20, 'slice', 'memory.used'],
	[21, 'slice', 'gpm.graphics'],
	[22, 'slice', 'gpm.tensor'],
	[23, 'slice', 'gpm.dram'],
	[40, 'host', 'load.1'],
	[41, 'host', 'memory.available'],
	[42, 'host', 'cpu.user'],
	[43, 'host', 'cpu.system'],
	[44, 'host', 'network.received'],
	[45, 'host', 'network.sent'],
	[46, 'host', 'agent.rss'],
];

export const ROLLUP_METRICS: readonly RollupMetric[] = Object.freeze(
	KEPT.map(([id, part, key]) => {
		const position = CURRENT_SCHEMA[part].findIndex((metric) => metric.key === key);
		const metric = CURRENT_SCHEMA[part][position];
		assert(metric !== undefined, `${part} has a metric ${key}`);
		return Object.freeze({ id, part, key, position, isRate: metric.type === 'counter' });
	}),
);

export const ROLLUP_PARTS: readonly TelemetryPart[] = ['host', 'gpu', 'slice'];

const BY_PART = new Map(ROLLUP_PARTS.map((part) => [part, ROLLUP_METRICS.filter((metric) => metric.part === part)]));

export function rollupMetricsOf(part: TelemetryPart): readonly RollupMetric[] {
	return BY_PART.get(part) ?? [];
}
