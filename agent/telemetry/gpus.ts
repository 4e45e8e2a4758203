import { join } from 'node:path';
import type { Clock } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { HealthSource, HealthFactKind as Kind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { NO_KOFFI, PROBE_LIMITS_DEFAULT, type ProbeFinding, type ProbeLimits } from '../probe/findings.ts';
import { findNvidiaHardware } from '../probe/hardware.ts';
import { ProbeKeeper } from '../probe/keeper.ts';
import { askNvidiaSmi } from '../probe/nvidia-smi.ts';
import { PidFile } from '../probe/pid-file.ts';
import { probeStarter } from '../probe/probe-process.ts';
import { describeEvidence } from '../probe/process-evidence.ts';
import type { HealthFacts } from './health-facts.ts';
import type { GpuInputs } from './inventory.ts';

/** The probe as telemetry uses it, where there is something to probe; its findings become health facts. */
export interface GpuSettings {
	/** auto: when the host has NVIDIA hardware; on: also when none is seen; off: never. */
	readonly mode: 'auto' | 'on' | 'off';
	readonly library: string;
	/** Private folder of the agent for the probe's small files. */
	readonly folder: string;
	readonly limits?: Partial<ProbeLimits>;
	/** Report the processes on each GPU. */
	readonly processes?: boolean;
	/** Of the probe, and NVIDIA's program: others than those of this installation. */
	readonly programs?: { readonly probe: string; readonly nvidiaSmi: string };
}

export interface GpuDeps {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly facts: HealthFacts;
}

/** Undefined: no NVIDIA hardware here, or it was turned off: nothing is started. */
export function openGpus(deps: GpuDeps, settings: GpuSettings, root = ''): ProbeKeeper | undefined {
	const { clock, rng, log, facts } = deps;
	if (settings.mode === 'off') return undefined;
	if (settings.mode === 'auto') {
		const { gpus, kernelDriver } = findNvidiaHardware(root);
		if (gpus.length === 0 && kernelDriver === '') {
			log.info('no NVIDIA hardware on this host: no GPU probe is started');
			return undefined;
		}
	}
	const tracePath = join(settings.folder, 'call');
	const compileCache = join(settings.folder, 'compile-cache');
	const main = settings.programs === undefined ? {} : { main: settings.programs.probe };
	return new ProbeKeeper({
		clock,
		rng,
		log,
		limits: { ...PROBE_LIMITS_DEFAULT, ...settings.limits },
		start: probeStarter({ library: settings.library, tracePath, compileCache, ...main }),
		pidFile: new PidFile(join(settings.folder, 'pid.json')),
		tracePath,
		processes: settings.processes ?? false,
		onFinding: (finding) => reportFinding(facts, finding),
	});
}

type ProbeView = Pick<ProbeKeeper, 'driver' | 'fault' | 'state' | 'inventory'>;

/** For the inventory; what it returns resolves with undefined while the probe is on its way. */
export function gpuReader(probe: ProbeView | undefined, program = 'nvidia-smi'): () => Promise<GpuInputs | undefined> {
	let bySmi: Promise<GpuInputs | undefined> | undefined;
	return async () => {
		if (probe === undefined) return { kind: 'none' };
		const { driver, fault, state } = probe;
		if (driver !== undefined) {
			const inventory = await probe.inventory();
			if (inventory !== undefined) return { kind: 'read', gpus: inventory.gpus, driver, source: 'nvml' };
		}
		if (fault?.code === NO_KOFFI) {
			// Once, whatever comes of it: each start of it opens the driver anew.
			bySmi ??= readBySmi(program);
			return (await bySmi) ?? { kind: 'silent', why: fault.message };
		}
		if (fault !== undefined) return { kind: 'silent', why: fault.message };
		return state === 'hung' ? { kind: 'silent', why: 'the driver does not answer' } : undefined;
	};
}

/** This platform has no way to the driver's library: its own program is asked, and values there are none. */
async function readBySmi(program: string): Promise<GpuInputs | undefined> {
	const read = await askNvidiaSmi(program);
	if (read === undefined) return undefined;
	const { driver, cuda, gpus } = read;
	return {
		kind: 'read',
		gpus,
		driver: { driver, nvml: '', cuda, isSimulated: false, missing: [] },
		source: 'nvidia-smi',
	};
}

const TROUBLED = { name: 'probe', isBad: true } as const;
const ANSWERS = { name: 'probe', isBad: false } as const;

/** The driver answered: what an agent before this one said of it is over, and this one's probe had no trouble to end. */
export function reportAnswer(facts: HealthFacts): void {
	if (facts.wasBad(TROUBLED.name))
		facts.report({ kind: Kind.PROBE_RECOVERED, source: HealthSource.AGENT, state: ANSWERS });
}

function reportFinding(facts: HealthFacts, finding: ProbeFinding): void {
	const source = HealthSource.AGENT;
	const seconds = (ms: number) => Math.round(ms / 100) / 10;
	switch (finding.kind) {
		case 'slow': {
			const raw = `${finding.call} has not returned after ${seconds(finding.waitedMs)} s`;
			facts.report({ kind: Kind.PROBE_SLOW, source, raw, after: finding.waitedMs / 1000, state: TROUBLED });
			return;
		}
		case 'hung': {
			const { call, waitedMs, evidence, isInherited } = finding;
			const who = isInherited ? 'a probe of the agent before this one' : 'the probe';
			const raw = `${call} has not returned after ${seconds(waitedMs)} s; ${who}: ${describeEvidence(evidence)}`;
			facts.report({
				kind: Kind.PROBE_HUNG,
				source,
				code: `state:${evidence.state}`,
				raw,
				after: waitedMs / 1000,
				isOngoing: isInherited,
				state: TROUBLED,
			});
			return;
		}
		case 'unavailable':
			facts.report({ kind: Kind.PROBE_UNAVAILABLE, source, code: finding.code, raw: finding.message, state: TROUBLED });
			return;
		case 'recovered':
			facts.report({ kind: Kind.PROBE_RECOVERED, source, after: finding.afterMs / 1000, state: ANSWERS });
	}
}
