import { monitorEventLoopDelay } from 'node:perf_hooks';
import { messageOf } from '../../kit/error.ts';
import type { Emit, Registry } from '../../kit/exposition.ts';
import type { AppDeps } from '../app/deps.ts';
import { type FleetFacts, readFleetFacts } from '../app/system/fleet-facts.ts';
import { checkHealth, type HealthFinding } from '../app/system/health.ts';
import type { Telemetry } from '../app/telemetry/telemetry.ts';
import { registerTelemetry } from './telemetry-metrics.ts';

/**
 * What the control plane says about itself. Facts of the store are read before each page; one that can't be read is
 * left out of it: an old value would look like a new one.
 */
export class OpsMetrics implements Disposable {
	readonly #deps: AppDeps;
	readonly #delay = monitorEventLoopDelay({ resolution: 20 });
	#facts: FleetFacts | undefined;
	#health: readonly HealthFinding[] = [];
	#refreshing: Promise<void> | undefined;

	constructor(deps: AppDeps, registry: Registry, telemetry: Telemetry) {
		this.#deps = deps;
		this.#delay.enable();
		this.#registerProcess(registry);
		this.#registerFleet(registry, telemetry);
	}

	/** Reads what the next page shows. Callers at once share one look. Never rejects. */
	refresh(): Promise<void> {
		this.#refreshing ??= this.#read().finally(() => {
			this.#refreshing = undefined;
		});
		return this.#refreshing;
	}

	[Symbol.dispose](): void {
		this.#delay.disable();
	}

	async #read(): Promise<void> {
		const { log } = this.#deps;
		this.#health = await checkHealth(this.#deps);
		try {
			this.#facts = await readFleetFacts(this.#deps);
		} catch (error) {
			this.#facts = undefined;
			log.warn('metrics of the store are left out', { why: messageOf(error) });
		}
	}

	#registerProcess(registry: Registry): void {
		const { version, replicaId } = this.#deps;
		registry.collect(
			{ name: 'gpuaas_build_info', type: 'gauge', help: 'Always 1.', labelNames: ['version', 'replica'] },
			(emit) => emit(1, version, replicaId),
		);
		registry.collect(
			{ name: 'process_cpu_seconds_total', type: 'counter', help: 'CPU time of this process.' },
			(emit) => {
				const { user, system } = process.cpuUsage();
				emit((user + system) / 1e6);
			},
		);
		registry.collect(
			{ name: 'process_resident_memory_bytes', type: 'gauge', help: 'Resident memory of this process.' },
			(emit) => emit(process.memoryUsage.rss()),
		);
		registry.collect(
			{
				name: 'gpuaas_eventloop_delay_seconds',
				type: 'gauge',
				help: 'How late timers fired since the last page.',
				labelNames: ['percentile'],
			},
			(emit) => {
				for (const percentile of [50, 99, 100]) emit(seconds(this.#delay.percentile(percentile)), String(percentile));
				this.#delay.reset();
			},
		);
	}

	#registerFleet(registry: Registry, telemetry: Telemetry): void {
		const gauge = (name: string, help: string, labelNames: readonly string[], callback: (emit: Emit) => void) =>
			registry.collect({ name, type: 'gauge', help, labelNames }, callback);
		gauge('gpuaas_ready', 'Whether each dependency is well.', ['check'], (emit) => {
			for (const { name, ok } of this.#health) emit(ok ? 1 : 0, name);
		});
		gauge(
			'gpuaas_to_see_to',
			'Whether a check is well and will not stay so unless somebody sees to it.',
			['check'],
			(emit) => {
				for (const { name, toSeeTo } of this.#health) emit(toSeeTo === undefined ? 0 : 1, name);
			},
		);
		gauge(
			'gpuaas_ca_remaining_seconds',
			'Until the CA that issues now ends, and all that it issued.',
			['ca'],
			(emit) => {
				const { authority, clock } = this.#deps;
				for (const [ca, endMs] of Object.entries(authority.issuersEndMs())) emit((endMs - clock.now()) / 1000, ca);
			},
		);
		gauge('gpuaas_sessions', 'Agents that are connected to this replica.', [], (emit) => {
			let count = 0;
			for (const _ of this.#deps.sessions.connected()) count += 1;
			emit(count);
		});
		gauge('gpuaas_nodes', 'Nodes that are not retired.', [], (emit) => {
			if (this.#facts !== undefined) emit(this.#facts.nodes);
		});
		gauge('gpuaas_tasks', 'Open tasks by state.', ['state'], (emit) => {
			if (this.#facts === undefined) return;
			for (const state of ['queued', 'leased', 'running', 'cancelling'] as const)
				emit(this.#facts.tasksByState[state] ?? 0, state);
		});
		// Pages name no tenant.
		const quota = (name: string, help: string, read: (total: FleetFacts['quotas'][number]) => number) =>
			gauge(name, help, ['kind'], (emit) => {
				for (const total of this.#facts?.quotas ?? []) emit(read(total), total.kind);
			});
		quota('gpuaas_quota_used', 'What all organizations have of a kind that is counted.', ({ used }) => used);
		quota('gpuaas_quota_reserved', 'What is promised to what is being made.', ({ reserved }) => reserved);
		quota('gpuaas_quota_organizations_full', 'Organizations that have all they may have.', ({ full }) => full);
		gauge('gpuaas_store_check_seconds', 'Time of one commit, tried for this page.', [], (emit) => {
			if (this.#facts !== undefined) emit(this.#facts.storeSeconds);
		});
		gauge('gpuaas_audit_head_size', 'Records that the newest signed head covers.', [], (emit) => {
			if (this.#facts?.auditHead !== undefined) emit(this.#facts.auditHead.size);
		});
		gauge('gpuaas_audit_head_age_seconds', 'Age of the newest signed head.', [], (emit) => {
			if (this.#facts?.auditHead !== undefined) emit(this.#facts.auditHead.ageSeconds);
		});
		registerTelemetry(registry, telemetry);
	}
}

function seconds(nanoseconds: number): number {
	return Number.isFinite(nanoseconds) ? nanoseconds / 1e9 : 0;
}
