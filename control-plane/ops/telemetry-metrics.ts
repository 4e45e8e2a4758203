import type { Registry } from '../../kit/exposition.ts';
import type { Telemetry } from '../app/telemetry/telemetry.ts';

/** What the control plane says about the telemetry that it takes in: how much, how old, and what it refused and why. */
export function registerTelemetry(registry: Registry, telemetry: Telemetry): void {
	const { ingest, directory, latest, rings, writer, rollups, facts } = telemetry;
	const gauge = (name: string, help: string, read: () => number) =>
		registry.collect({ name, type: 'gauge', help }, (emit) => emit(read()));
	const counter = (name: string, help: string, read: () => number) =>
		registry.collect({ name, type: 'counter', help }, (emit) => emit(read()));
	gauge('gpuaas_telemetry_nodes', 'Nodes whose newest sample is kept here.', () => latest.size);
	gauge('gpuaas_telemetry_nodes_stale', 'Those whose newest sample is too old to be shown.', () => {
		let stale = 0;
		for (const sample of latest.all()) if (latest.isStale(sample)) stale += 1;
		return stale;
	});
	gauge(
		'gpuaas_telemetry_directory_nodes',
		'Nodes that are not retired, as telemetry knows them.',
		() => directory.size,
	);
	counter('gpuaas_telemetry_frames_total', 'Frames that were accepted.', () => ingest.accepted);
	registry.collect(
		{
			name: 'gpuaas_telemetry_refused_total',
			type: 'counter',
			help: 'What was left out of telemetry: whole frames, rows or single values, by reason.',
			labelNames: ['what', 'reason'],
		},
		(emit) => {
			for (const [key, count] of ingest.refused) {
				const [what = '', reason = ''] = key.split('/');
				emit(count, what, reason);
			}
		},
	);
	registry.collect(
		{
			name: 'gpuaas_agent_facts_refused_total',
			type: 'counter',
			help: 'Facts of agents that left no row because their node sent too many, by kind; gpuaas node why says which node.',
			labelNames: ['kind'],
		},
		(emit) => {
			for (const kind of ['audit', 'health', 'inventory'] as const) emit(facts.totals.get(kind) ?? 0, kind);
		},
	);
	const unanswered = 'Questions to telemetry rings of agents that got no answer in time.';
	counter('gpuaas_telemetry_ring_unanswered_total', unanswered, () => rings.unanswered);
	if (writer === undefined || rollups === undefined) return;
	counter('gpuaas_telemetry_history_dropped_total', 'Chunks of history that were not written.', () => writer.dropped);
}
