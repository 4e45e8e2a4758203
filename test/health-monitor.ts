import { HealthMonitor, type MonitorDeps } from '../control-plane/app/health/monitor.ts';
import type { UseCaseDeps } from '../control-plane/app/use-case.ts';
import { DEFAULT_POLICY } from '../health/default-policy.ts';

/** What a health monitor is built on, from what an API world has. */
export function monitorDeps(deps: UseCaseDeps, over: Partial<MonitorDeps> = {}): MonitorDeps {
	return { ...deps, quarantine: deps.limits.quarantine, policy: DEFAULT_POLICY, fleetLabel: 'gpuaas.fleet', ...over };
}

/** One that follows nothing: for pages that need one. */
export function idleMonitor(deps: UseCaseDeps): HealthMonitor {
	return new HealthMonitor(monitorDeps(deps));
}
